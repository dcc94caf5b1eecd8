//! What ledger and workers share of a study: files in the study's folder, in which its cells' checkpoints lie too.
//!
//! `places/` holds what all cells have in common: the study, the list of waiting cells, a request to stop, and a status
//! file for each worker. What belongs to a cell is in its own folder (see [`super::claims`]). Every file has one writer,
//! and is replaced whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::identity::ProcessIdentity;
use crate::engine::event::Phase;
use crate::error::{Error, Result};
use crate::store::checkpoint::write_atomically;
use crate::store::write_failed;
use crate::study::{StudyContent, StudySpec};

/// Grows when older workers would misunderstand the files.
pub(crate) const FORMAT: u32 = 2;

/// What the base is called among the ids of cells: its folder.
pub(crate) const BASE: &str = "base";

/// What a worker has to know of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SharedStudy {
    pub format: u32,
    /// Version of the program that wrote it: others may compute other numbers.
    pub version: String,
    pub spec: StudySpec,
    pub content: StudyContent,
    /// The folder that relative paths of the study begin in.
    pub working_folder: PathBuf,
    pub offline: bool,
    /// Most bytes of a block's experts that a worker holds at the same time; `None` depends on its machine.
    pub held_experts: Option<usize>,
    /// How often a worker's heart beats.
    pub beat_milliseconds: u64,
    /// A worker whose heartbeat has stopped for so many seconds is taken to be gone.
    pub patience_seconds: u64,
}

/// The cells that are to be computed, in their order, with those that are being computed. A worker whose cell is not among
/// them any more stops computing it. Where workers measure the base, [`BASE`] is the first of them, and no other is
/// computed before it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingList {
    pub paused: bool,
    /// More may come: whoever has nothing to do waits.
    #[serde(default)]
    pub more: bool,
    pub cells: Vec<String>,
}

/// What a worker is doing: its heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerStatus {
    pub identity: ProcessIdentity,
    pub device: String,
    /// Grows with every heartbeat.
    pub beat: u64,
    /// The cell that it computes.
    pub cell: Option<String>,
    /// The claim under which it does so.
    pub claim: u32,
    pub phase: Option<Phase>,
    /// Steps of the phase that are done, and all of them; what a step is.
    pub done: u64,
    pub total: u64,
    pub unit: String,
    pub tokens_per_second: f64,
    /// Seconds that are left of the cell, as far as the worker can tell.
    pub left_seconds: Option<f64>,
    /// Seconds since the epoch, when it began the cell.
    pub since: u64,
}

/// A ledger, as others see it that share a folder with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LedgerClaim {
    pub identity: ProcessIdentity,
    pub beat: u64,
}

/// How workers are asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopRequest {
    AfterBlock,
    Now,
}

/// The folder of a study.
#[derive(Debug, Clone)]
pub(crate) struct PlacesFolder {
    study: PathBuf,
}

impl PlacesFolder {
    pub fn new(study: &Path) -> Self {
        Self { study: study.to_path_buf() }
    }

    /// The folder of the study itself.
    pub fn study_folder(&self) -> &Path {
        &self.study
    }

    /// Folder of a cell's checkpoints, or of the base's.
    pub fn checkpoints(&self, cell: Option<&str>) -> PathBuf {
        self.study.join(cell.unwrap_or(BASE))
    }

    fn own(&self, name: &str) -> PathBuf {
        self.study.join("places").join(name)
    }

    fn workers(&self) -> PathBuf {
        self.own("workers")
    }

    /// What a worker that the ledger started says on its way.
    pub fn log(&self, number: usize) -> PathBuf {
        self.own(&format!("worker-{number}.log"))
    }

    /// Whether workers were ever started on the study, and their files are still there.
    pub fn exists(&self) -> bool {
        self.own("study.json").exists()
    }

    /// Makes the folder for a study that workers are to compute.
    pub fn create(&self) -> Result<()> {
        let workers = self.workers();
        fs::create_dir_all(&workers).map_err(|e| Error::io("cannot create", &workers, e))
    }

    /// Lets workers join, and takes back a request to stop.
    pub fn open(&self, study: &SharedStudy) -> Result<()> {
        self.take_back_stop()?;
        write_json(&self.own("study.json"), study)
    }

    /// The study, for a worker.
    ///
    /// # Errors
    /// [`Error::Mistake`] where the folder is not that of a study with workers, or of another version of the program.
    pub fn shared_study(&self) -> Result<SharedStudy> {
        let path = self.own("study.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::mistake(format!(
                    "{} is not the folder of a study that workers can join: {} is missing; accepted is a folder such \
                     as studies.d/study-1 of a study that was started with --workers",
                    self.study.display(),
                    path.display()
                )));
            }
            Err(e) => return Err(Error::io("cannot read", &path, e)),
        };
        let found: SharedStudy = serde_json::from_slice(&text)
            .map_err(|e| Error::mistake(format!("{} cannot be understood: {e}", path.display())))?;
        let own = env!("CARGO_PKG_VERSION");
        if found.format != FORMAT || found.version != own {
            return Err(Error::mistake(format!(
                "{} was written by secateur {}, and this is secateur {own}; accepted is the same version",
                path.display(),
                found.version
            )));
        }
        Ok(found)
    }

    pub fn put_waiting(&self, waiting: &WaitingList) -> Result<()> {
        write_json(&self.own("queue.json"), waiting)
    }

    /// The waiting cells; `None` where there is no study any more.
    pub fn waiting(&self) -> Result<Option<WaitingList>> {
        read_json(&self.own("queue.json"))
    }

    /// The ledger that follows the study, or followed it last.
    pub fn ledger(&self) -> Result<Option<LedgerClaim>> {
        read_json(&self.own("ledger.json"))
    }

    pub fn put_ledger(&self, claim: &LedgerClaim) -> Result<()> {
        replace_quickly(&self.own("ledger.json"), claim)
    }

    fn stop_path(&self) -> PathBuf {
        self.own("stop")
    }

    pub fn ask_to_stop(&self, how: StopRequest) -> Result<()> {
        let word = if how == StopRequest::Now { "now\n" } else { "after block\n" };
        write_atomically(&self.stop_path(), |file| file.write_all(word.as_bytes()))
    }

    pub fn take_back_stop(&self) -> Result<()> {
        remove(&self.stop_path())
    }

    /// What is asked of all workers. Any file of this name is a request; one that says `now` is urgent.
    pub fn stop(&self) -> Option<StopRequest> {
        let text = fs::read_to_string(self.stop_path()).ok()?;
        Some(if text.trim() == "now" { StopRequest::Now } else { StopRequest::AfterBlock })
    }

    /// Replaces a worker's status. It need not outlive a power cut.
    pub fn put_status(&self, worker: &str, status: &WorkerStatus) -> Result<()> {
        replace_quickly(&self.workers().join(format!("{worker}.json")), status)
    }

    pub fn remove_status(&self, worker: &str) -> Result<()> {
        remove(&self.workers().join(format!("{worker}.json")))
    }

    pub fn status(&self, worker: &str) -> Result<Option<WorkerStatus>> {
        read_json(&self.workers().join(format!("{worker}.json")))
    }

    /// All workers that have said something, by name.
    pub fn statuses(&self) -> Result<BTreeMap<String, WorkerStatus>> {
        let mut found = BTreeMap::new();
        for name in names(&self.workers())? {
            let Some(worker) = name.strip_suffix(".json").filter(|name| !name.starts_with('.')) else {
                continue;
            };
            if let Some(status) = self.status(worker)? {
                found.insert(worker.to_owned(), status);
            }
        }
        Ok(found)
    }

    /// Removes what ledger and workers shared, checkpoints excepted.
    pub fn remove(&self) -> Result<()> {
        // Without the study no worker begins.
        remove(&self.own("study.json"))?;
        let folder = self.study.join("places");
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", &folder, e)),
            _ => Ok(()),
        }
    }
}

/// The names in a folder; none where it is not there.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let cannot = |e| Error::io("cannot read", folder, e);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(cannot(e)),
    };
    entries.map(|entry| Ok(entry.map_err(cannot)?.file_name().to_string_lossy().into_owned())).collect()
}

/// Writes a file of JSON that survives a power cut.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = to_json(path, value)?;
    write_atomically(path, |file| file.write_all(&json))
}

/// Writes one that is there whole or not at all, and may be lost with the machine.
pub(crate) fn replace_quickly(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = to_json(path, value)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&part, &json).and_then(|()| fs::rename(&part, path));
    written.map_err(|e| write_failed(path, e))
}

fn to_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec(value)
        .map_err(|e| Error::failure(format!("cannot make {}: {e}", path.display())))?;
    json.push(b'\n');
    Ok(json)
}

/// Reads a file of JSON; `None` where it is not there, or not whole.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("cannot read", path, e)),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", path, e)),
        _ => Ok(()),
    }
}
