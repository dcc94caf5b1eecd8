//! Whether the worker that holds a claim is still there, as one observer sees it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::claims::{CellClaim, CellWork, ClaimEnd};
use super::folder::PlacesFolder;
use crate::error::Result;

/// What can be done with a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellAvailability {
    /// Nobody computes it; the next claim has this number.
    Free(u32),
    /// Somebody computes it, under this claim.
    Taken(u32),
    /// It was computed, or failed, under this claim.
    Ended(u32),
}

/// Watches heartbeats. A worker of this machine has gone when its process has ended; one of another machine when its
/// heartbeat has not moved for as long as this observer's own clock says: clocks of machines differ.
#[derive(Debug)]
pub(crate) struct HeartbeatObserver {
    patience: Duration,
    seen: HashMap<String, (Option<u64>, Instant)>,
}

impl HeartbeatObserver {
    pub fn new(patience: Duration) -> Self {
        Self { patience, seen: HashMap::new() }
    }

    /// Whether the holder of a claim has gone without a word.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn has_gone(&mut self, folder: &PlacesFolder, claim: &CellClaim) -> Result<bool> {
        if claim.identity.has_ended() == Some(true) {
            return Ok(true);
        }
        let beat = folder.status(&claim.worker)?.map(|status| status.beat);
        let now = Instant::now();
        let (known, since) = self.seen.entry(claim.worker.clone()).or_insert((beat, now));
        if *known != beat {
            (*known, *since) = (beat, now);
        }
        Ok(now.duration_since(*since) > self.patience)
    }

    /// What can be done with a cell.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn availability(&mut self, folder: &PlacesFolder, work: &CellWork) -> Result<CellAvailability> {
        let newest = work.newest()?;
        let free = CellAvailability::Free(newest + 1);
        if newest == 0 {
            return Ok(free);
        }
        Ok(match work.end(newest)? {
            Some(ClaimEnd::Done | ClaimEnd::Failed { .. }) => CellAvailability::Ended(newest),
            Some(_) => free,
            None => match work.claim(newest)? {
                Some(claim) if self.has_gone(folder, &claim)? => free,
                // One that cannot be read is being written.
                _ => CellAvailability::Taken(newest),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::WorkerStatus;
    use super::super::identity::ProcessIdentity;
    use super::*;

    fn status(beat: u64) -> WorkerStatus {
        WorkerStatus {
            identity: ProcessIdentity::own(),
            device: "cpu".into(),
            beat,
            cell: None,
            claim: 0,
            phase: None,
            done: 0,
            total: 0,
            unit: String::new(),
            tokens_per_second: 0.0,
            left_seconds: None,
            since: 0,
        }
    }

    #[test]
    fn a_worker_elsewhere_has_gone_when_its_heartbeat_stands_still() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = PlacesFolder::new(temporary.path());
        std::fs::create_dir_all(temporary.path().join("places/workers")).unwrap();
        let elsewhere = ProcessIdentity { machine: "another".into(), ..ProcessIdentity::own() };
        let claim = CellClaim { worker: "w".into(), identity: elsewhere };
        let mut observer = HeartbeatObserver::new(Duration::from_millis(300));
        for beat in 1..=4 {
            folder.put_status("w", &status(beat)).unwrap();
            assert!(!observer.has_gone(&folder, &claim).unwrap(), "its heart beats");
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_millis(400));
        assert!(observer.has_gone(&folder, &claim).unwrap());
        folder.put_status("w", &status(5)).unwrap();
        assert!(!observer.has_gone(&folder, &claim).unwrap(), "it was only slow");
    }

    #[test]
    fn a_cell_is_free_taken_or_ended_by_its_newest_claim() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = PlacesFolder::new(temporary.path());
        let cell = temporary.path().join("cell");
        std::fs::create_dir_all(cell.join("work")).unwrap();
        let work = CellWork::of(&cell);
        let mut observer = HeartbeatObserver::new(Duration::from_mins(1));
        let mut now = || observer.availability(&folder, &work).unwrap();
        let own = CellClaim { worker: "w".into(), identity: ProcessIdentity::own() };
        assert_eq!(now(), CellAvailability::Free(1));
        assert!(work.try_claim(1, &own).unwrap());
        assert_eq!(now(), CellAvailability::Taken(1));
        work.put_end(1, &ClaimEnd::Stopped).unwrap();
        assert_eq!(now(), CellAvailability::Free(2));
        let ended = ProcessIdentity { began: own.identity.began + 1, ..own.identity.clone() };
        assert!(work.try_claim(2, &CellClaim { worker: "dead".into(), identity: ended }).unwrap());
        if cfg!(target_os = "linux") {
            assert_eq!(now(), CellAvailability::Free(3), "its process has ended");
        }
        assert!(work.try_claim(3, &own).unwrap());
        work.put_end(3, &ClaimEnd::Failed { message: "no".into(), of_storage: false }).unwrap();
        assert_eq!(now(), CellAvailability::Ended(3));
    }
}
