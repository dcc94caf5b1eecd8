//! Who starts workers.

use std::time::Duration;

use super::folder::StopRequest;
use super::identity::ProcessIdentity;
use crate::engine::event::PlaceActivity;
use crate::error::Result;

/// The work that is left for workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WaitingWork {
    /// The base is not measured yet, and a worker has to.
    pub base: bool,
    /// Cells that wait or are computed.
    pub cells: usize,
    /// Jobs of workers that wait for a cell, and that are of no use where there are more of them than cells.
    pub idle_jobs: Vec<String>,
}

/// Starts workers, and asks after those it has started.
pub(crate) trait WorkerStarter {
    /// Whether it started this worker.
    fn has(&self, worker: &ProcessIdentity) -> bool;

    /// Whether none of those it started is left.
    fn is_empty(&self) -> bool;

    /// There was progress: who died since then died of something else.
    fn forgive(&mut self);

    /// Notices which have ended; returns what to say of those that did not end well.
    ///
    /// # Errors
    /// Workers that die again and again, with the last word of one.
    fn reap(&mut self) -> Result<Vec<String>>;

    /// Starts workers until there are as many as are wanted, with `others` that somebody else started, and as can be of use.
    ///
    /// # Errors
    /// A worker that cannot be started.
    fn fill(&mut self, work: &WaitingWork, others: usize) -> Result<()>;

    /// The study is to stop. Workers read that in its folder; this is for those that have not begun.
    fn stop(&mut self, how: StopRequest);

    /// Those that were asked for and do not run yet.
    fn queued(&self) -> Vec<PlaceActivity>;

    /// How long the ledger waits before it looks again.
    fn tick(&self) -> Duration;

    /// How often the ledger looks at every cell for a claim. Between that it looks at cells that workers name.
    fn full_look(&self) -> Duration;
}
