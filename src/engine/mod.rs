//! The engine: commands in, events out. Plans a study, runs its cells, cancels, resumes, estimates, reports.
//!
//! Three threads: one hears commands, one computes (with rayon's threads inside, all at lower priority than the
//! screen), one samples the machine. They share [`control::Control`] and nothing else; nothing here prints.

mod ahead;
mod allocation;
mod answer;
mod assignment;
mod calibration;
mod cell;
mod checkpointed;
mod choice_requests;
mod choices;
mod collector;
mod compressor;
mod compute;
mod contamination;
mod content;
mod control;
mod costs;
mod dense_model;
mod disagreement;
mod draft;
mod evaluate;
mod event;
mod expert_scores;
mod experts;
mod files;
mod finding;
mod gpu;
mod importance;
mod ledger;
mod leftovers;
mod measure;
mod moments;
mod options;
mod place;
mod places;
mod plan;
mod progress;
mod prompts;
mod reporter;
mod resources;
mod session;
mod snapshot;
mod speed;
mod stream;
mod structure;
mod study;
mod survey;
mod warnings;
mod weight_scores;
mod width;
mod worker;
mod written;

pub(crate) use content::of_model as model_digest;
pub(crate) use event::Absence;
pub use event::{Command, Event, Phase, PlaceActivity, RunOptions};
pub(crate) use event::{PlannedCell, Progress, ResourceEstimate, ResourceSample};
pub(crate) use importance::sums_of_squares;
pub use options::EngineOptions;
pub(crate) use places::BASE;
pub use places::{PlaceWorker, Places, SlurmChoice, WorkerOptions, WorkerOutcome, WorkerStopper};
pub(crate) use plan::Plan;
pub use plan::plan;

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use control::Control;
use progress::Tracker;
use reporter::Reporter;
use worker::Worker;

/// A running engine: commands in, events out. Dropping the command sender shuts it down after the current block.
#[derive(Debug)]
pub struct Engine {
    /// Where commands go.
    pub commands: mpsc::Sender<Command>,
    /// Where events come from, in the order in which things happened.
    pub events: mpsc::Receiver<Event>,
    /// The latest progress.
    pub progress: watch::Receiver<Progress>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts the engine's threads. The store is opened (and locked) when a study starts.
    pub fn spawn(options: EngineOptions) -> Self {
        let (commands, mut inbox) = mpsc::channel::<Command>(64);
        let (outbox, events) = mpsc::channel(1024);
        let (publish, progress) = watch::channel(Progress::default());
        let control = Arc::new(Control::default());

        // Weak, so that events end when the computing thread does, however long a client keeps its sender.
        let (ears, mouth) = (control.clone(), outbox.downgrade());
        std::thread::spawn(move || {
            while let Some(command) = inbox.blocking_recv() {
                if let (Some(cell), Some(mouth)) = (ears.obey(command), mouth.upgrade()) {
                    let state = crate::results::CellState::Cancelled;
                    let _ = mouth.blocking_send(Event::Cell { cell: Some(cell), state });
                }
            }
            ears.obey(Command::Shutdown { after_block: true });
        });
        let thread = std::thread::spawn(move || {
            telling_of_panics(&outbox.clone(), move || {
                let reporter = Reporter::new(outbox, Tracker::new(publish), control.clone());
                Worker::new(options, control, reporter).run();
            });
        });
        Self { commands, events, progress, thread }
    }

    /// Waits for the computing thread to end, which it does after [`Command::Shutdown`] or when `commands` is dropped.
    pub fn join(self) {
        drop(self.commands);
        drop(self.events);
        let _ = self.thread.join();
    }
}

/// Runs what the computing thread is there for. Work on a study has guards of its own; a panic outside of it is the end
/// of the engine, which its client hears of before the channel closes.
fn telling_of_panics(outbox: &mpsc::Sender<Event>, work: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        let message =
            format!("a defect in secateur ended the engine: {}", crate::interrupt::panic_message(&*panic));
        let _ = outbox.blocking_send(Event::failed(&crate::Error::failure(message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_computing_thread_is_told_before_the_channel_closes() {
        let (outbox, mut events) = mpsc::channel(4);
        let thread = std::thread::spawn(move || {
            telling_of_panics(&outbox.clone(), move || {
                let _ = outbox.blocking_send(Event::RankCorrelations {
                    found: crate::results::RankCorrelations::default(),
                });
                panic!("the pool is dry");
            });
        });
        assert!(matches!(events.blocking_recv(), Some(Event::RankCorrelations { .. })));
        match events.blocking_recv() {
            Some(Event::Failed { message, exit_code: 1, .. }) => assert!(message.contains("the pool is dry")),
            other => panic!("{other:?}"),
        }
        assert_eq!(events.blocking_recv(), None, "closed");
        thread.join().unwrap();
    }
}
