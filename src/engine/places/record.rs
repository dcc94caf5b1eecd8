//! Findings on their way from the files of claims into the store.

use super::claims::{CellWork, Recorded};
use crate::engine::finding::Finding;
use crate::engine::ledger::Ledger;
use crate::error::Result;
use crate::store::checkpoint;

/// A cell whose findings are read.
#[derive(Debug)]
pub(crate) struct FollowedCell {
    /// Its place in the study.
    pub position: usize,
    pub work: CellWork,
    /// The newest claim that was seen; 0 before the first.
    pub claim: u32,
    /// Whether somebody computes it, as far as is known.
    pub is_running: bool,
    recorded: Recorded,
}

impl FollowedCell {
    /// A cell of the study, with what an earlier ledger has read already.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn new(ledger: &Ledger, position: usize) -> Result<Self> {
        let work = CellWork::of(&ledger.folder(Some(&ledger.cells[position].id)));
        let recorded = work.recorded()?;
        Ok(Self { position, work, claim: 0, is_running: false, recorded })
    }

    /// Reads what was found out under a claim since it was last read, and keeps it; `true` where there was progress. Of a
    /// claim that is not the newest counts only what stays true whoever continues.
    ///
    /// # Errors
    /// A store that cannot be written, or findings that cannot be read.
    pub fn read(&mut self, ledger: &mut Ledger, claim: u32, is_newest: bool) -> Result<bool> {
        let from = self.recorded.get(&claim).copied().unwrap_or(0);
        let (findings, to) = self.work.findings(claim, from)?;
        let is_progress = findings.iter().any(Finding::is_progress);
        for finding in findings {
            if is_newest || stays_true(&finding) {
                ledger.record(Some(self.position), finding)?;
            }
        }
        if to > from {
            self.recorded.insert(claim, to);
            self.work.put_recorded(&self.recorded)?;
        }
        Ok(is_progress)
    }

    /// Reads all that was found out under any claim, the newest last.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_all(&mut self, ledger: &mut Ledger) -> Result<()> {
        let newest = self.work.newest()?;
        for claim in 1..=newest {
            self.read(ledger, claim, claim == newest)?;
        }
        self.claim = newest;
        Ok(())
    }

    /// The cell is done: states that a resumed run would start from are not needed any more.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn tidy(&self, ledger: &Ledger) -> Result<()> {
        checkpoint::remove_states(&ledger.folder(Some(&ledger.cells[self.position].id)))
    }
}

/// Whether a finding counts also where another worker has taken the cell over since: what is on the disk, and answers.
fn stays_true(finding: &Finding) -> bool {
    matches!(finding, Finding::Module { .. } | Finding::Answers { .. } | Finding::Disagreements { .. })
}
