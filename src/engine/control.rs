//! What the client asked for, shared between the thread that hears commands and the thread that computes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::event::{Command, RunOptions};
use crate::error::{Error, Result};
use crate::study::{CellSpec, Recipe, StudySpec};

/// A study to run.
#[derive(Debug)]
pub(super) enum Job {
    /// From its definition.
    Start(Box<StudySpec>, RunOptions),
    /// From the store.
    Resume(i64, RunOptions),
    Delete(i64),
}

/// What the computing thread is to do next.
#[derive(Debug)]
pub(super) enum Next {
    Job(Job),
    /// Run the cells that were added to the last study.
    Cells,
    Stop,
}

#[derive(Debug, Default)]
struct ControlState {
    jobs: VecDeque<Job>,
    waiting: VecDeque<CellSpec>,
    /// Grows when cells begin to wait or do not wait any more, or wait in another order.
    queue: u64,
    /// Cells that waited and were cancelled.
    withdrawn: Vec<String>,
    running: Option<String>,
    cancel_running: bool,
    /// Cells that workers compute, and those of them that were cancelled.
    elsewhere: Vec<String>,
    cancelled_elsewhere: Vec<String>,
    paused: bool,
    /// More cells may come when those that there are have been computed.
    expects_cells: bool,
    stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    AfterBlock,
    Now,
}

/// The shared state; every method takes its lock for a moment only.
#[derive(Debug, Default)]
pub(super) struct Control {
    state: Mutex<ControlState>,
    changed: Condvar,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, ControlState> {
        // No code panics while it holds the lock; a poisoned one would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a command asks for, or leaves it to the computing thread. A cell that waited and was cancelled is
    /// returned, for the client to be told.
    pub fn obey(&self, command: Command) -> Option<String> {
        let mut state = self.lock();
        let mut dropped = None;
        match command {
            Command::Start(spec, options) => state.jobs.push_back(Job::Start(spec, options)),
            Command::Resume(study, options) => state.jobs.push_back(Job::Resume(study, options)),
            Command::Delete(study) => state.jobs.push_back(Job::Delete(study)),
            Command::AddCell(cell) => {
                let known = state.waiting.contains(&cell);
                let runs =
                    state.running.as_deref() == Some(&cell.id()) || state.elsewhere.contains(&cell.id());
                if !known && !runs {
                    state.waiting.push_back(cell);
                    state.queue += 1;
                }
            }
            Command::ExpectCells(expects) => state.expects_cells = expects,
            Command::CancelCell(id) => {
                if state.running.as_deref() == Some(&id) {
                    state.cancel_running = true;
                } else if state.elsewhere.contains(&id) {
                    state.cancelled_elsewhere.push(id);
                } else if let Some(at) = state.waiting.iter().position(|c| c.id() == id) {
                    state.waiting.remove(at);
                    state.queue += 1;
                    state.withdrawn.push(id.clone());
                    dropped = Some(id);
                }
            }
            Command::Reorder(order) => {
                let place = |c: &CellSpec| order.iter().position(|id| *id == c.id()).unwrap_or(order.len());
                state.waiting.make_contiguous().sort_by_key(place);
                state.queue += 1;
            }
            Command::Pause => state.paused = true,
            Command::Unpause => state.paused = false,
            Command::Shutdown { after_block } => {
                let stop = if after_block { Stop::AfterBlock } else { Stop::Now };
                if state.stop != Some(Stop::Now) {
                    state.stop = Some(stop);
                }
                state.paused = false;
            }
        }
        drop(state);
        self.changed.notify_all();
        dropped
    }

    /// Waits for something to do. `session` says whether there is a study that added cells belong to.
    pub fn next(&self, session: bool) -> Next {
        let mut state = self.lock();
        loop {
            if state.stop.is_some() {
                return Next::Stop;
            }
            if let Some(job) = state.jobs.pop_front() {
                state.expects_cells = false;
                return Next::Job(job);
            }
            if session && !state.waiting.is_empty() {
                return Next::Cells;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Queues the cells of a new study, before those that were added while it was being understood.
    pub fn fill(&self, cells: Vec<CellSpec>) {
        let mut state = self.lock();
        let added: Vec<_> = state.waiting.drain(..).filter(|c| !cells.contains(c)).collect();
        state.waiting = cells.into_iter().chain(added).collect();
        state.withdrawn.clear();
        state.queue += 1;
    }

    /// Forgets the waiting cells: what they belonged to has failed.
    pub fn queue_nothing(&self) {
        let mut state = self.lock();
        state.waiting.clear();
        state.queue += 1;
    }

    /// The waiting cells that were cancelled since this was last asked.
    pub fn withdrawn(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().withdrawn)
    }

    /// Takes a waiting cell out of the queue, since it cannot be computed.
    pub fn refuse(&self, cell: &CellSpec) {
        let mut state = self.lock();
        state.waiting.retain(|waiting| waiting != cell);
        state.queue += 1;
    }

    /// A number that differs from an earlier one when other cells wait than then.
    pub fn queue(&self) -> u64 {
        self.lock().queue
    }

    /// Recipes of the cells that wait, and [`Self::queue`] of that moment.
    pub fn waiting(&self) -> (u64, Vec<Recipe>) {
        let state = self.lock();
        (state.queue, state.waiting.iter().map(|cell| cell.recipe.clone()).collect())
    }

    /// The next cell, which then counts as running; `None` when none waits or the engine is to stop.
    pub fn take_cell(&self) -> Option<CellSpec> {
        let mut state = self.lock();
        if state.stop.is_some() {
            return None;
        }
        let cell = state.waiting.pop_front()?;
        state.running = Some(cell.id());
        state.cancel_running = false;
        state.queue += 1;
        Some(cell)
    }

    /// No cell is running any more.
    pub fn cell_ended(&self) {
        let mut state = self.lock();
        state.running = None;
        state.cancel_running = false;
    }

    /// The waiting cells in their order, and [`Self::queue`] of that moment.
    pub fn waiting_cells(&self) -> (u64, Vec<CellSpec>) {
        let state = self.lock();
        (state.queue, state.waiting.iter().cloned().collect())
    }

    /// A worker computes this cell, which does not wait any more.
    pub fn begin_elsewhere(&self, id: &str) {
        let mut state = self.lock();
        state.waiting.retain(|cell| cell.id() != id);
        if !state.elsewhere.iter().any(|known| known == id) {
            state.elsewhere.push(id.to_owned());
        }
        state.queue += 1;
    }

    /// No worker computes this cell any more. Where it is given back, it waits again, before all others.
    pub fn end_elsewhere(&self, id: &str, given_back: Option<CellSpec>) {
        let mut state = self.lock();
        state.elsewhere.retain(|known| known != id);
        state.cancelled_elsewhere.retain(|known| known != id);
        if let Some(cell) = given_back.filter(|cell| !state.waiting.contains(cell)) {
            state.waiting.push_front(cell);
        }
        state.queue += 1;
    }

    /// Cells that workers compute and that were cancelled.
    pub fn cancelled_elsewhere(&self) -> Vec<String> {
        self.lock().cancelled_elsewhere.clone()
    }

    /// How the engine is to stop, where it is: whether the current blocks are to be finished.
    pub fn stops_after_block(&self) -> Option<bool> {
        self.lock().stop.map(|stop| stop == Stop::AfterBlock)
    }

    /// Whether more cells may come when those that there are have been computed.
    pub fn expects_cells(&self) -> bool {
        self.lock().expects_cells
    }

    /// Waits for a request, but not longer than `most`.
    pub fn wait(&self, most: std::time::Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout(state, most));
    }

    /// Whether the engine is to stop altogether.
    pub fn stopping(&self) -> bool {
        self.lock().stop.is_some()
    }

    /// Whether the current work is to end at once.
    pub fn cancelled(&self) -> bool {
        let state = self.lock();
        state.cancel_running || state.stop == Some(Stop::Now)
    }

    pub fn paused(&self) -> bool {
        self.lock().paused
    }

    /// Waits while paused; ends the current work if asked to. Called at least once per module.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        let mut state = self.lock();
        loop {
            if state.cancel_running || state.stop == Some(Stop::Now) {
                return Err(Error::Cancelled);
            }
            if !state.paused {
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Like [`Self::check`], and ends the work also if it was to end after the current block.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn boundary(&self) -> Result<()> {
        self.check()?;
        if self.lock().stop.is_some() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{Sparsity, Step};

    fn cell(percent: u32) -> CellSpec {
        CellSpec {
            recipe: Step::new("magnitude", Sparsity::Fraction(f64::from(percent) / 100.0)).into(),
            calibration: None,
            seed: 0,
        }
    }

    #[test]
    fn waiting_cells_are_reordered_and_cancelled_and_not_doubled() {
        let control = Control::default();
        control.fill(vec![cell(10), cell(20), cell(30)]);
        control.obey(Command::AddCell(cell(20)));
        control.obey(Command::Reorder(vec![cell(30).id()]));
        assert_eq!(control.obey(Command::CancelCell(cell(10).id())), Some(cell(10).id()));
        let order: Vec<_> = std::iter::from_fn(|| control.take_cell()).map(|c| c.id()).collect();
        assert_eq!(order, [cell(30).id(), cell(20).id()]);
    }

    #[test]
    fn a_running_cell_is_cancelled_alone_and_a_shutdown_ends_everything() {
        let control = Control::default();
        control.fill(vec![cell(10), cell(20)]);
        let running = control.take_cell().unwrap();
        control.obey(Command::CancelCell(running.id()));
        assert!(matches!(control.check(), Err(Error::Cancelled)));
        control.cell_ended();
        assert!(control.check().is_ok());
        control.obey(Command::Shutdown { after_block: true });
        assert!(control.check().is_ok() && control.boundary().is_err());
        assert!(control.take_cell().is_none());
        control.obey(Command::Shutdown { after_block: false });
        control.obey(Command::Shutdown { after_block: true });
        assert!(control.check().is_err(), "a softer wish does not take back a harder one");
    }

    #[test]
    fn a_cell_that_a_worker_computes_neither_waits_nor_is_doubled_and_can_be_cancelled() {
        let control = Control::default();
        control.fill(vec![cell(10), cell(20)]);
        let before = control.queue();
        control.begin_elsewhere(&cell(20).id());
        assert_ne!(control.queue(), before);
        control.obey(Command::AddCell(cell(20)));
        assert_eq!(control.waiting_cells().1, [cell(10)]);
        assert_eq!(control.obey(Command::CancelCell(cell(20).id())), None);
        assert_eq!(control.cancelled_elsewhere(), [cell(20).id()]);
        assert!(control.check().is_ok(), "what computes here goes on");
        control.end_elsewhere(&cell(20).id(), Some(cell(20)));
        assert_eq!(control.waiting_cells().1, [cell(20), cell(10)]);
        assert!(control.cancelled_elsewhere().is_empty());
    }

    #[test]
    fn a_pause_holds_until_it_is_lifted() {
        let control = std::sync::Arc::new(Control::default());
        control.obey(Command::Pause);
        let other = control.clone();
        let waiter = std::thread::spawn(move || other.check().is_ok());
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(!waiter.is_finished());
        control.obey(Command::Unpause);
        assert!(waiter.join().unwrap());
    }
}
