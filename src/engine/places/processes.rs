//! Workers on this machine: processes of this program that the ledger starts, and starts again.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::folder::{PlacesFolder, StopRequest};
use super::identity::ProcessIdentity;
use super::starter::{WaitingWork, WorkerStarter};
use crate::engine::event::PlaceActivity;
use crate::error::{Error, Result};

/// Exit code of a worker that was asked to stop.
const STOPPED: i32 = 130;

/// So many deaths for each worker, without progress between them, are enough. A cell that kills its workers has failed
/// before that.
const PATIENCE: usize = 6;

/// A worker that this process started.
#[derive(Debug)]
struct StartedWorker {
    child: Child,
    number: usize,
}

/// The workers that this process started.
#[derive(Debug)]
pub(crate) struct WorkerProcesses {
    folder: PlacesFolder,
    program: PathBuf,
    /// How many there are to be, and with how many threads each.
    wanted: usize,
    threads: usize,
    /// Their devices, in turn; empty for the study's own.
    devices: Vec<String>,
    started: Vec<StartedWorker>,
    own: ProcessIdentity,
    /// Deaths since there was last any progress.
    deaths: usize,
}

impl WorkerProcesses {
    /// None yet of the `wanted`, who share `threads`.
    ///
    /// # Errors
    /// A program that cannot tell where it is.
    pub fn new(folder: &PlacesFolder, wanted: usize, threads: usize, devices: Vec<String>) -> Result<Self> {
        Ok(Self {
            folder: folder.clone(),
            program: own_program()?,
            wanted,
            threads: (threads / wanted.max(1)).max(1),
            devices,
            started: Vec::new(),
            own: ProcessIdentity::own(),
            deaths: 0,
        })
    }

    fn last_words(&self, number: usize, status: ExitStatus) -> String {
        let log = std::fs::read_to_string(self.folder.log(number)).unwrap_or_default();
        match log.lines().rev().find_map(|line| line.strip_prefix("error: ")) {
            Some(error) if status.code().is_some() => error.to_owned(),
            _ => format!("ended ({status})"),
        }
    }

    fn start(&mut self, number: usize) -> Result<()> {
        let path = self.folder.log(number);
        let cannot = |e| Error::io("cannot write", &path, e);
        let log = OpenOptions::new().create(true).append(true).open(&path).map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command.arg("worker").arg(self.folder.study_folder());
        command.args(["--threads", &self.threads.to_string()]);
        if !self.devices.is_empty() {
            command.args(["--device", &self.devices[(number - 1) % self.devices.len()]]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // What the terminal sends to this process is for the ledger to pass on: workers finish their blocks.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|e| Error::io("cannot start a worker of", &self.program, e))?;
        self.started.push(StartedWorker { child, number });
        Ok(())
    }
}

impl WorkerStarter for WorkerProcesses {
    fn has(&self, worker: &ProcessIdentity) -> bool {
        worker.machine == self.own.machine
            && self.started.iter().any(|started| started.child.id() == worker.process)
    }

    fn is_empty(&self) -> bool {
        self.started.is_empty()
    }

    fn forgive(&mut self) {
        self.deaths = 0;
    }

    fn reap(&mut self) -> Result<Vec<String>> {
        let mut said = Vec::new();
        let mut left = Vec::new();
        for mut worker in std::mem::take(&mut self.started) {
            match worker.child.try_wait() {
                Ok(None) => left.push(worker),
                Ok(Some(status)) if status.success() || status.code() == Some(STOPPED) => {}
                Ok(Some(status)) => {
                    self.deaths += 1;
                    said.push(format!(
                        "worker {}: {}",
                        worker.number,
                        self.last_words(worker.number, status)
                    ));
                }
                Err(e) => return Err(Error::Io { context: "cannot ask after a worker".into(), source: e }),
            }
        }
        self.started = left;
        match said.last() {
            Some(last) if self.deaths >= PATIENCE * self.wanted => Err(Error::failure(format!(
                "workers end before there is any progress, {} of them so far; {last}",
                self.deaths
            ))),
            _ => Ok(said),
        }
    }

    fn fill(&mut self, work: &WaitingWork, others: usize) -> Result<()> {
        while self.started.len() + others < self.wanted.min(work.cells) {
            // Of one more than there are, one is free.
            let mut numbers = 1..=self.started.len() + 1;
            let free = numbers.find(|number| self.started.iter().all(|worker| worker.number != *number));
            self.start(free.unwrap_or(1))?;
        }
        Ok(())
    }

    // They read it in the folder.
    fn stop(&mut self, _: StopRequest) {}

    fn queued(&self) -> Vec<PlaceActivity> {
        Vec::new()
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn full_look(&self) -> Duration {
        Duration::ZERO
    }
}

/// This program, to start workers of.
///
/// # Errors
/// A program that cannot tell where it is.
pub(super) fn own_program() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|e| Error::Io { context: "cannot find the program to start workers of".into(), source: e })
}
