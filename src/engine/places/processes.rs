//! Workers on this machine: processes of this program that the ledger starts, and starts again.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::folder::PlacesFolder;
use super::identity::ProcessIdentity;
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
    started: Vec<StartedWorker>,
    own: ProcessIdentity,
    /// Deaths since there was last any progress.
    deaths: usize,
}

impl WorkerProcesses {
    /// None yet.
    ///
    /// # Errors
    /// A program that cannot tell where it is.
    pub fn new(folder: &PlacesFolder, wanted: usize, threads: usize) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::Io {
            context: "cannot find the program to start workers of".into(),
            source: e,
        })?;
        Ok(Self {
            folder: folder.clone(),
            program,
            wanted,
            threads,
            started: Vec::new(),
            own: ProcessIdentity::own(),
            deaths: 0,
        })
    }

    /// Whether one of them is this process.
    pub fn has(&self, worker: &ProcessIdentity) -> bool {
        worker.machine == self.own.machine
            && self.started.iter().any(|started| started.child.id() == worker.process)
    }

    pub fn is_empty(&self) -> bool {
        self.started.is_empty()
    }

    /// There was progress: who died since then died of something else.
    pub fn forgive(&mut self) {
        self.deaths = 0;
    }

    /// Notices which have ended; returns what to say of those that did not end well.
    ///
    /// # Errors
    /// Workers that die again and again, with the last word of one.
    pub fn reap(&mut self) -> Result<Vec<String>> {
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

    fn last_words(&self, number: usize, status: ExitStatus) -> String {
        let log = std::fs::read_to_string(self.folder.log(number)).unwrap_or_default();
        match log.lines().rev().find_map(|line| line.strip_prefix("error: ")) {
            Some(error) if status.code().is_some() => error.to_owned(),
            _ => format!("ended ({status})"),
        }
    }

    /// Starts workers until there are as many as are wanted, with `others` that somebody else started, and as can be of use.
    ///
    /// # Errors
    /// A process that cannot be started.
    pub fn fill(&mut self, cells: usize, others: usize) -> Result<()> {
        while self.started.len() + others < self.wanted.min(cells) {
            // Of one more than there are, one is free.
            let mut numbers = 1..=self.started.len() + 1;
            let free = numbers.find(|number| self.started.iter().all(|worker| worker.number != *number));
            self.start(free.unwrap_or(1))?;
        }
        Ok(())
    }

    fn start(&mut self, number: usize) -> Result<()> {
        let path = self.folder.log(number);
        let cannot = |e| Error::io("cannot write", &path, e);
        let log = OpenOptions::new().create(true).append(true).open(&path).map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command.arg("worker").arg(self.folder.study_folder());
        command.args(["--threads", &self.threads.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // What the terminal sends to this process is for the ledger to pass on: workers finish their blocks.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|e| Error::io("cannot start a worker of", &self.program, e))?;
        self.started.push(StartedWorker { child, number });
        Ok(())
    }
}
