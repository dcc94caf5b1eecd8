//! Findings on their way from the files of claims into the store.

use super::claims::{CellWork, Recorded};
use crate::engine::finding::Finding;
use crate::engine::ledger::Ledger;
use crate::error::Result;
use crate::results::{Answer, CellState};
use crate::store::checkpoint;

/// A cell, or the base, whose findings are read.
#[derive(Debug)]
pub(crate) struct FollowedCell {
    /// Its place in the study; `None` is the base.
    pub position: Option<usize>,
    pub work: CellWork,
    /// The newest claim that was seen; 0 before the first.
    pub claim: u32,
    /// Whether somebody computes it, as far as is known.
    pub is_running: bool,
    recorded: Recorded,
}

impl FollowedCell {
    /// A cell of the study or its base, with what an earlier ledger has read already.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn new(ledger: &Ledger, position: Option<usize>) -> Result<Self> {
        let work = CellWork::of(&ledger.folder(ledger.id(position).as_deref()));
        let recorded = work.recorded()?;
        Ok(Self { position, work, claim: 0, is_running: false, recorded })
    }

    /// Reads what was found out since it was last read, and keeps it; `true` where there was progress. Of a claim that is
    /// not the newest counts only what stays true whoever continues.
    ///
    /// # Errors
    /// A store that cannot be written, or findings that cannot be read.
    pub fn read(&mut self, ledger: &mut Ledger) -> Result<bool> {
        if ledger.state(self.position) == CellState::Done {
            // What comes behind the last finding is said a second time.
            return Ok(false);
        }
        let newest = self.claim;
        let latest = self.findings(newest)?;
        // A worker that does not know yet that it has lost its claim may finish a block, which the next one then finds on
        // the disk. So what it says of that block is read after what the next one says, and recorded before.
        for older in 1..newest {
            let (findings, to) = self.findings(older)?;
            let mut lasting = Vec::new();
            for finding in findings {
                lasting.extend(self.lasting(ledger, finding)?);
            }
            self.record(ledger, (older, to), lasting)?;
        }
        let is_progress = latest.0.iter().any(Finding::is_progress);
        self.record(ledger, (newest, latest.1), latest.0)?;
        Ok(is_progress)
    }

    /// What counts of a finding where another worker has taken the cell over since: what may be on the disk, and answers
    /// that nobody else has given. Another one's may have been compared with the base already.
    fn lasting(&self, ledger: &Ledger, finding: Finding) -> Result<Option<Finding>> {
        Ok(match finding {
            Finding::Module { .. } | Finding::Disagreements { .. } => Some(finding),
            Finding::Answers { mut answers } => {
                let id = ledger.id(self.position);
                let known = ledger.store.answers(ledger.study, id.as_deref())?;
                let is_known = |answer: &Answer| {
                    known.iter().any(|known| known.task == answer.task && known.record == answer.record)
                };
                answers.retain(|answer| !is_known(answer));
                (!answers.is_empty()).then_some(Finding::Answers { answers })
            }
            Finding::Warning { .. }
            | Finding::Checkpoint { .. }
            | Finding::Seconds { .. }
            | Finding::Measured { .. }
            | Finding::Scored { .. }
            | Finding::Done { .. } => None,
        })
    }

    /// What was found out under a claim and is not recorded, and how far that goes.
    fn findings(&self, claim: u32) -> Result<(Vec<Finding>, u64)> {
        self.work.findings(claim, self.recorded.get(&claim).copied().unwrap_or(0))
    }

    fn record(&mut self, ledger: &mut Ledger, (claim, to): (u32, u64), findings: Vec<Finding>) -> Result<()> {
        ledger.record_all(self.position, findings)?;
        if to > self.recorded.get(&claim).copied().unwrap_or(0) {
            self.recorded.insert(claim, to);
            self.work.put_recorded(&self.recorded)?;
        }
        Ok(())
    }

    /// Reads all that was found out, whoever has claimed the cell meanwhile.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_all(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.claim = self.work.newest()?;
        if self.claim > 0 {
            self.read(ledger)?;
        }
        Ok(())
    }

    /// The cell is done: states that a resumed run would start from are not needed any more.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn tidy(&self, ledger: &Ledger) -> Result<()> {
        match ledger.id(self.position) {
            Some(id) => checkpoint::remove_states(&ledger.folder(Some(&id))),
            // Cells are compared with the base's.
            None => Ok(()),
        }
    }
}
