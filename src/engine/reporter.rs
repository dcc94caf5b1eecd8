//! The engine's mouth: events, progress and the wish to stop, in one place for all who work.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::control::Control;
use super::event::{Event, Phase};
use super::progress::Tracker;
use crate::error::Result;

/// Tells the client what happens, and hears whether to go on.
pub(super) struct Reporter {
    events: mpsc::Sender<Event>,
    /// Progress and times.
    pub tracker: Tracker,
    control: Arc<Control>,
}

impl Reporter {
    pub fn new(events: mpsc::Sender<Event>, tracker: Tracker, control: Arc<Control>) -> Self {
        Self { events, tracker, control }
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

    /// Bytes of a download.
    pub fn downloaded(&mut self, done: u64, total: u64) {
        self.tracker.step_of(done, total);
    }

    /// Something that a person should know.
    pub fn warn(&self, cell: Option<&str>, message: impl Into<String>) {
        self.event(Event::Warning { cell: cell.map(str::to_string), message: message.into() });
    }

    /// Waits while paused.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] when the work in hand is to end.
    pub fn check(&mut self) -> Result<()> {
        if self.control.paused() {
            self.tracker.paused(true);
        }
        let result = self.control.check();
        self.tracker.paused(false);
        result
    }

    /// The same, also ending where work was to end after the block in hand.
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

    /// The shared wishes.
    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }
}
