//! The engine's mouth: events, progress and the wish to stop, in one place for all who work.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::control::Control;
use super::costs::Sizes;
use super::event::{Event, Phase};
use super::progress::Tracker;
use crate::error::Result;
use crate::hub::{Download, DownloadWatcher};
use crate::methods::Procedure;
use crate::study::Parameters;

/// Tells the client what happens, and hears whether to continue.
pub(super) struct Reporter {
    events: mpsc::Sender<Event>,
    /// Progress and times.
    pub tracker: Tracker,
    control: Arc<Control>,
    /// What cells of the current study cost.
    sizes: Option<Box<Sizes>>,
    /// The state of the queue that the tracker knows.
    queue: u64,
    began: Instant,
    /// Seconds in which everything waited for the client.
    paused: f64,
}

impl Reporter {
    pub fn new(events: mpsc::Sender<Event>, tracker: Tracker, control: Arc<Control>) -> Self {
        let began = Instant::now();
        Self { events, tracker, control, sizes: None, queue: 0, began, paused: 0.0 }
    }

    /// A study of these sizes begins.
    pub fn study(&mut self, sizes: &Sizes) {
        self.sizes = Some(Box::new(sizes.clone()));
        self.follow_queue();
    }

    /// Seconds since the engine began, pauses left out.
    pub fn clock(&self) -> f64 {
        self.began.elapsed().as_secs_f64() - self.paused
    }

    /// Tells the tracker of cells that came or went since it was last told.
    pub fn follow_queue(&mut self) {
        let (queue, recipes) = self.control.waiting();
        self.queue = queue;
        let Some(sizes) = &self.sizes else { return };
        // A recipe that is none is refused when its turn comes, and costs nothing.
        let procedures = recipes.iter().filter_map(|recipe| Procedure::of(recipe, &Parameters::new()).ok());
        let amounts = procedures.flat_map(|procedure| sizes.cell(&procedure, 0, 0));
        self.tracker.waiting(&amounts.collect());
    }

    /// Sends an event; waits while the client is behind. A client that is gone hears nothing.
    pub fn event(&self, event: Event) {
        let _ = self.events.blocking_send(event);
    }

    /// A phase begins: an event, and progress of `total` steps.
    pub fn phase(&mut self, cell: Option<&str>, phase: Phase, total: u64, unit: &'static str) {
        self.event(Event::Phase { cell: cell.map(str::to_string), phase });
        self.tracker.phase(cell, phase, total, unit);
    }

    /// Something that a person should know.
    pub fn warn(&self, cell: Option<&str>, message: impl Into<String>) {
        self.event(Event::Warning { cell: cell.map(str::to_string), message: message.into() });
    }

    /// Waits while paused.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] when the current work is to end.
    pub fn check(&mut self) -> Result<()> {
        if self.control.queue() != self.queue {
            self.follow_queue();
        }
        if self.control.paused() {
            self.tracker.paused(true);
            let began = Instant::now();
            let result = self.control.check();
            self.paused += began.elapsed().as_secs_f64();
            self.tracker.paused(false);
            return result;
        }
        self.control.check()
    }

    /// The same, also ending when work was to end after the current block.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`].
    pub fn boundary(&mut self) -> Result<()> {
        self.check()?;
        self.control.boundary()
    }

    /// Where events go, for a thread of its own.
    pub fn sender(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }

    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }
}

impl DownloadWatcher for Reporter {
    fn downloaded(&mut self, download: Download) {
        self.tracker.step_of(download.done_bytes, download.total_bytes);
    }

    fn go_on(&mut self) -> Result<()> {
        self.boundary()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::super::event::{Command, Progress};
    use super::*;
    use crate::model::{ModelFolder, Synthetic};
    use crate::study::{CellSpec, ScoredPositions};

    fn cell(sparsity: f64) -> CellSpec {
        let recipe = format!("magnitude@{sparsity}").parse().unwrap();
        CellSpec { recipe, calibration: None, seed: 0 }
    }

    #[test]
    fn cells_that_are_added_and_withdrawn_change_the_time_left_at_the_next_check() {
        let folder = tempfile::tempdir().unwrap();
        Synthetic::default().write(folder.path()).unwrap();
        let config = ModelFolder::open(folder.path()).unwrap().config;
        let sizes = Sizes {
            modules: config.select_modules(&["*".into()]).unwrap(),
            blocks: (0, config.blocks),
            config,
            seq_len: 32,
            calibration_windows: 4,
            evaluation_windows: 8,
            choice_tokens: 0,
            choice_rows: 0,
            prompts: 0,
            prompt_tokens: 0,
            answer_tokens: 0,
            longest_text: 0,
            scored: ScoredPositions::All,
            disagreement: true,
            batch_tokens: 256,
            batch_prompts: 4,
            compute_bytes: 4,
            disk_bytes: 4,
            on_host: true,
            states_on_device: true,
            held_experts: usize::MAX,
            host_slower: 1.0,
        };
        let (publish, progress) = watch::channel(Progress::default());
        let control = Arc::new(Control::default());
        let mut reporter = Reporter::new(mpsc::channel(8).0, Tracker::new(publish), control.clone());
        let left = || progress.borrow().eta_seconds.unwrap();
        control.fill(vec![cell(0.01)]);
        reporter.study(&sizes);
        let one = left();
        assert!(one > 0.0);
        control.obey(Command::AddCell(cell(0.02)));
        control.obey(Command::AddCell(cell(0.02)));
        reporter.check().unwrap();
        assert!((left() / one - 2.0).abs() < 1e-9);
        control.obey(Command::CancelCell(cell(0.01).id()));
        reporter.check().unwrap();
        assert!((left() / one - 1.0).abs() < 1e-9);
        control.take_cell().unwrap();
        reporter.check().unwrap();
        assert!(left() < one * 1e-9, "what runs is no part of the queue");
    }
}
