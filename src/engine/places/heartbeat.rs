//! The heartbeat of a worker: a thread that tells what the worker does, and hears what it is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::claims::CellWork;
use super::folder::{PlacesFolder, StopRequest, WorkerStatus};
use super::identity::ProcessIdentity;
use crate::engine::control::Control;
use crate::engine::event::{Command, Progress};
use crate::error::{Error, Result};

/// The cell that a worker computes.
#[derive(Debug, Clone)]
pub(crate) struct CurrentCell {
    pub id: String,
    pub claim: u32,
    pub since: u64,
}

impl CurrentCell {
    /// Begun now.
    pub fn new(id: &str, claim: u32) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { id: id.to_owned(), claim, since }
    }
}

/// What the heartbeat and the worker share.
#[derive(Debug)]
struct Shared {
    folder: PlacesFolder,
    worker: String,
    identity: ProcessIdentity,
    device: String,
    control: Arc<Control>,
    progress: watch::Receiver<Progress>,
    current: Mutex<Option<CurrentCell>>,
    /// How often it beats, and looks for requests.
    interval: Duration,
    over: AtomicBool,
}

/// A beating heart; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Of the worker of this name, whose requests go to `control`.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(
        folder: &PlacesFolder,
        (worker, identity, device): (&str, &ProcessIdentity, &str),
        interval: Duration,
        control: Arc<Control>,
        progress: watch::Receiver<Progress>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            folder: folder.clone(),
            worker: worker.to_owned(),
            identity: identity.clone(),
            device: device.to_owned(),
            control,
            progress,
            current: Mutex::new(None),
            interval,
            over: AtomicBool::new(false),
        });
        let beating = shared.clone();
        let thread = thread::Builder::new().name("heartbeat".into()).spawn(move || beating.run());
        let thread =
            thread.map_err(|e| Error::failure(format!("cannot start the heartbeat's thread: {e}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The worker computes this cell now, or none; told at once.
    pub fn computes(&self, current: Option<CurrentCell>) {
        *self.shared.current() = current;
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        // Whoever still reads it sees that the heart has stopped.
        let _ = self.shared.folder.remove_status(&self.shared.worker);
    }
}

impl Shared {
    fn current(&self) -> std::sync::MutexGuard<'_, Option<CurrentCell>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut beat = 0;
        let mut paused = false;
        while !self.over.load(Ordering::Relaxed) {
            beat += 1;
            let current = self.current().clone();
            // A folder that cannot be written now may be there again at the next beat. If not, the worker finds out.
            let _ = self.folder.put_status(&self.worker, &self.status(beat, current.as_ref()));
            self.hear(current.as_ref(), &mut paused);
            thread::park_timeout(self.interval);
        }
    }

    fn status(&self, beat: u64, current: Option<&CurrentCell>) -> WorkerStatus {
        let progress = self.progress.borrow().clone();
        WorkerStatus {
            identity: self.identity.clone(),
            device: self.device.clone(),
            beat,
            cell: current.map(|cell| cell.id.clone()),
            claim: current.map_or(0, |cell| cell.claim),
            phase: progress.phase,
            done: progress.done,
            total: progress.total,
            unit: progress.unit.to_owned(),
            tokens_per_second: progress.tokens_per_second,
            left_seconds: current.and(progress.eta_seconds),
            since: current.map_or(0, |cell| cell.since),
        }
    }

    /// Passes on what the worker is asked.
    fn hear(&self, current: Option<&CurrentCell>, paused: &mut bool) {
        if let Some(stop) = self.folder.stop() {
            self.control.obey(Command::Shutdown { after_block: stop == StopRequest::AfterBlock });
        }
        // A list that cannot be read now says nothing.
        let Ok(waiting) = self.folder.waiting() else { return };
        let Some(waiting) = waiting else {
            // The study is gone. A list that was being replaced is there at the second look.
            if !self.folder.exists() {
                self.control.obey(Command::Shutdown { after_block: false });
            }
            return;
        };
        if waiting.paused != *paused {
            *paused = waiting.paused;
            self.control.obey(if *paused { Command::Pause } else { Command::Unpause });
        }
        if let Some(cell) = current {
            let work = CellWork::of(&self.folder.checkpoints(Some(&cell.id)));
            if !waiting.cells.contains(&cell.id) || work.is_claimed(cell.claim + 1) {
                self.control.obey(Command::CancelCell(cell.id.clone()));
            }
        }
    }
}
