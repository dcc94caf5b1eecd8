//! What workers of an earlier run left, for a run without workers.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use super::claims::CellClaim;
use super::folder::{PlacesFolder, StopRequest, WorkerStatus};
use super::identity::ProcessIdentity;
use super::liveness::HeartbeatObserver;
use super::record::FollowedCell;
use crate::engine::Reporter;
use crate::engine::ledger::Ledger;
use crate::engine::session::Session;
use crate::error::Result;
use crate::results::CellState;
use crate::store::remove_unfinished;

/// A worker elsewhere whose heartbeat stands still for so long has gone.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Stops workers that still compute cells of the study, and takes over what they found out. This process computes alone
/// from then on.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) when the run is to end before the workers have; files or a store that
/// cannot be used.
pub(crate) fn settle(session: &mut Session, reporter: &mut Reporter) -> Result<()> {
    let folder = PlacesFolder::new(&session.ledger.study_folder());
    if !folder.exists() {
        return Ok(());
    }
    let mut observer = HeartbeatObserver::new(PATIENCE);
    let mut is_asked = false;
    loop {
        let living = living_workers(&folder, folder.statuses()?, &mut observer)?;
        let Some(first) = living.first() else { break };
        if !is_asked {
            folder.ask_to_stop(StopRequest::Now)?;
            reporter.warn(
                None,
                format!(
                    "workers of an earlier run still compute this study ({} of them, such as {}): they are asked to \
                     stop, and this run continues alone",
                    living.len(),
                    first.describe()
                ),
            );
            is_asked = true;
        }
        reporter.boundary()?;
        sleep(Duration::from_millis(100));
    }
    for position in all_positions(&session.ledger) {
        let mut cell = FollowedCell::new(&session.ledger, position)?;
        if !cell.work.exists() {
            continue;
        }
        if session.ledger.state(position) != CellState::Done {
            cell.read_all(&mut session.ledger)?;
            if session.ledger.state(position) == CellState::Done {
                cell.tidy(&session.ledger)?;
            }
        }
        cell.work.remove()?;
        remove_unfinished(&session.ledger.folder(session.ledger.id(position).as_deref()));
    }
    folder.remove()
}

/// The base and the cells of a study, as places in it.
pub(crate) fn all_positions(ledger: &Ledger) -> impl Iterator<Item = Option<usize>> + use<> {
    std::iter::once(None).chain((0..ledger.cells.len()).map(Some))
}

/// The workers of a study that have not gone.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn living_workers(
    folder: &PlacesFolder,
    statuses: BTreeMap<String, WorkerStatus>,
    observer: &mut HeartbeatObserver,
) -> Result<Vec<ProcessIdentity>> {
    let mut living = Vec::new();
    for (worker, status) in statuses {
        let claim = CellClaim { worker, identity: status.identity };
        if !observer.has_gone(folder, &claim)? {
            living.push(claim.identity);
        }
    }
    Ok(living)
}
