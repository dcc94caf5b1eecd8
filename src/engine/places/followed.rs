//! Which ledger follows a study. The store has one writer at a time, held to that by a lock of its file; where locks do
//! not reach from one machine to another, this tells a second ledger that there is a first.

use std::time::{Duration, Instant};

use super::folder::{LedgerClaim, PlacesFolder};
use super::identity::ProcessIdentity;
use crate::engine::Reporter;
use crate::error::{Error, Result};

/// How often a ledger says that it is there.
const INTERVAL: Duration = Duration::from_secs(3);

/// A ledger of another machine that says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(12);

/// This process as the ledger of a study.
#[derive(Debug)]
pub(crate) struct OwnLedger {
    claim: LedgerClaim,
    said: Instant,
    /// Another one has taken the study over.
    pub is_lost: bool,
}

impl OwnLedger {
    /// Becomes the ledger of a study, unless it has one.
    ///
    /// # Errors
    /// [`Error::Mistake`] naming the other one; [`Error::Cancelled`] where the run is to end before that is known; a folder
    /// that cannot be used.
    pub fn claim(folder: &PlacesFolder, reporter: &mut Reporter) -> Result<Self> {
        let identity = ProcessIdentity::own();
        let other = folder.ledger()?.filter(|other| other.identity != identity);
        if let Some(other) = other
            && lives(folder, &other, reporter)?
        {
            return Err(Error::mistake(format!(
                "{} is followed by another secateur already ({}): accepted is to end that one first, or to look on with \
                 --readonly",
                folder.study_folder().display(),
                other.identity.describe()
            )));
        }
        let claim = LedgerClaim { identity, beat: 1 };
        folder.put_ledger(&claim)?;
        Ok(Self { claim, said: Instant::now(), is_lost: false })
    }

    /// Says now and then that it is there.
    ///
    /// # Errors
    /// [`Error::Mistake`] where another ledger has taken the study over, because it heard nothing of this one.
    pub fn beat(&mut self, folder: &PlacesFolder) -> Result<()> {
        if self.said.elapsed() < INTERVAL {
            return Ok(());
        }
        self.said = Instant::now();
        if let Some(other) = folder.ledger()?.filter(|other| other.identity != self.claim.identity) {
            self.is_lost = true;
            return Err(Error::mistake(format!(
                "{} has taken this study over: this run ends, and the workers go on",
                other.identity.describe()
            )));
        }
        self.claim.beat += 1;
        folder.put_ledger(&self.claim)
    }
}

/// Whether the ledger of a claim is there: its process, or on another machine its beat.
fn lives(folder: &PlacesFolder, claim: &LedgerClaim, reporter: &mut Reporter) -> Result<bool> {
    if let Some(has_ended) = claim.identity.has_ended() {
        return Ok(!has_ended);
    }
    let began = Instant::now();
    while began.elapsed() < SILENCE {
        reporter.boundary()?;
        std::thread::sleep(Duration::from_millis(200));
        match folder.ledger()? {
            None => return Ok(false),
            Some(now) if now != *claim => return Ok(true),
            Some(_) => {}
        }
    }
    Ok(false)
}
