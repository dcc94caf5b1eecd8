//! Who computes a cell, and what they found out: files in the folder `work` of the cell's checkpoints.
//!
//! `order.json` is what the ledger knew of the cell when it put it on the list. Claim `n` on the cell is the file
//! `claim-n.json`, what was found out under it the lines of `findings-n.jsonl`, and how it ended `end-n.json`. Whoever
//! wants the cell creates the file of the next number, which only one can do: there is nothing to lock, and nothing to
//! remove. The newest claim counts. Whoever held an older one and still lives finds the newer one, and stops.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{names, read_json, replace_quickly, write_json};
use super::identity::ProcessIdentity;
use crate::engine::finding::Finding;
use crate::error::{Error, Result};
use crate::results::{Answer, ModuleResult, Seconds};
use crate::store::write_failed;
use crate::study::CellSpec;

/// A cell or the base, with what earlier runs left of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CellOrder {
    /// The cell; `None` is the base.
    pub cell: Option<CellSpec>,
    pub id: String,
    /// What was found out under claims up to this number is in here.
    pub known_claims: u32,
    /// Digest of the windows that it is calibrated on.
    pub calibration: Option<String>,
    pub calibration_warnings: Vec<String>,
    pub modules: Vec<ModuleResult>,
    pub answers: Vec<Answer>,
    pub seconds: Seconds,
}

/// Who computes a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CellClaim {
    /// The worker's unique name.
    pub worker: String,
    pub identity: ProcessIdentity,
}

/// How the work under a claim ended. A worker that died left nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub(crate) enum ClaimEnd {
    /// Everything was found out.
    Done,
    /// The worker was asked to stop.
    Stopped,
    /// The cell was taken off the list, or the claim was lost.
    Cancelled,
    Failed {
        message: String,
        /// Files are at fault: other cells would fail alike.
        of_storage: bool,
    },
}

/// How much of the findings of each claim the store has, in bytes.
pub(crate) type Recorded = std::collections::BTreeMap<u32, u64>;

/// The files of a cell's claims.
#[derive(Debug, Clone)]
pub(crate) struct CellWork {
    folder: PathBuf,
}

impl CellWork {
    /// Of the cell whose checkpoints are in this folder.
    pub fn of(checkpoints: &Path) -> Self {
        Self { folder: checkpoints.join("work") }
    }

    fn path(&self, kind: &str, number: u32, ending: &str) -> PathBuf {
        self.folder.join(format!("{kind}-{number:04}.{ending}"))
    }

    pub fn put_order(&self, order: &CellOrder) -> Result<()> {
        write_json(&self.folder.join("order.json"), order)
    }

    pub fn order(&self) -> Result<Option<CellOrder>> {
        read_json(&self.folder.join("order.json"))
    }

    /// The newest claim's number; 0 where nobody has claimed the cell yet.
    pub fn newest(&self) -> Result<u32> {
        let number = |name: &String| name.strip_prefix("claim-")?.strip_suffix(".json")?.parse::<u32>().ok();
        Ok(names(&self.folder)?.iter().filter_map(number).max().unwrap_or(0))
    }

    /// Whether a claim of this number exists; cheaper than asking for the newest.
    pub fn is_claimed(&self, number: u32) -> bool {
        self.path("claim", number, "json").exists()
    }

    pub fn claim(&self, number: u32) -> Result<Option<CellClaim>> {
        read_json(&self.path("claim", number, "json"))
    }

    /// Claims the cell under a number that nobody has had; `false` where somebody was faster.
    pub fn try_claim(&self, number: u32, claim: &CellClaim) -> Result<bool> {
        let path = self.path("claim", number, "json");
        let own = self.folder.join(format!(".claim-{}", claim.worker));
        replace_quickly(&own, claim)?;
        let linked = fs::hard_link(&own, &path);
        let _ = fs::remove_file(&own);
        match linked {
            Ok(()) => Ok(true),
            // A file server may do what it was asked for and then lose its answer: what is there tells.
            Err(_) if path.exists() => Ok(self.claim(number)?.as_ref() == Some(claim)),
            // File systems without links.
            Err(_) => match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let text = serde_json::to_vec(claim)
                        .map_err(|e| Error::failure(format!("cannot make {}: {e}", path.display())))?;
                    file.write_all(&text).map_err(|e| write_failed(&path, e))?;
                    Ok(true)
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(e) => Err(write_failed(&path, e)),
            },
        }
    }

    pub fn put_end(&self, number: u32, end: &ClaimEnd) -> Result<()> {
        write_json(&self.path("end", number, "json"), end)
    }

    pub fn end(&self, number: u32) -> Result<Option<ClaimEnd>> {
        read_json(&self.path("end", number, "json"))
    }

    pub fn findings_path(&self, number: u32) -> PathBuf {
        self.path("findings", number, "jsonl")
    }

    /// What was found out under a claim from byte `from` on, and where the next finding begins. A line that is not
    /// complete is still being written, or never will be.
    pub fn findings(&self, number: u32, from: u64) -> Result<(Vec<Finding>, u64)> {
        let path = self.findings_path(number);
        let cannot = |e| Error::io("cannot read", &path, e);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok((Vec::new(), from)),
            Err(e) => return Err(cannot(e)),
        };
        file.seek(SeekFrom::Start(from)).map_err(cannot)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(cannot)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read = |line: &[u8]| {
            serde_json::from_slice(line)
                .map_err(|e| Error::failure(format!("{} has a line that is damaged: {e}", path.display())))
        };
        Ok((lines.map(read).collect::<Result<_>>()?, from + whole as u64))
    }

    /// How much of the findings the store has.
    pub fn recorded(&self) -> Result<Recorded> {
        Ok(read_json(&self.folder.join("recorded.json"))?.unwrap_or_default())
    }

    /// Keeps it. Where it is lost, findings are recorded a second time, which changes nothing.
    pub fn put_recorded(&self, recorded: &Recorded) -> Result<()> {
        replace_quickly(&self.folder.join("recorded.json"), recorded)
    }

    pub fn exists(&self) -> bool {
        self.folder.exists()
    }

    /// Removes the files; the order first, without which nobody claims the cell.
    pub fn remove(&self) -> Result<()> {
        let _ = fs::remove_file(self.folder.join("order.json"));
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", &self.folder, e)),
            _ => Ok(()),
        }
    }
}

/// The findings of one claim, as they are made.
#[derive(Debug)]
pub(crate) struct FindingsWriter {
    file: File,
    path: PathBuf,
    /// Bytes of the lines that are whole.
    length: u64,
}

impl FindingsWriter {
    pub fn create(work: &CellWork, number: u32) -> Result<Self> {
        let path = work.findings_path(number);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        Ok(Self { file: file.map_err(|e| write_failed(&path, e))?, path, length: 0 })
    }

    /// Appends one. What comes before a block's checkpoint is on the disk before the checkpoint is, since a block that is
    /// there is not computed again.
    pub fn append(&mut self, finding: &Finding) -> Result<()> {
        let mut line = serde_json::to_vec(finding)
            .map_err(|e| Error::failure(format!("cannot make {}: {e}", self.path.display())))?;
        line.push(b'\n');
        let can_wait = matches!(finding, Finding::Module { .. } | Finding::Warning { .. });
        let written =
            self.file.write_all(&line).and_then(|()| if can_wait { Ok(()) } else { self.file.sync_data() });
        match written {
            Ok(()) => self.length += line.len() as u64,
            // The next line must not stand behind a part of this one.
            Err(_) => self.take_back()?,
        }
        written.map_err(|e| write_failed(&self.path, e))
    }

    /// Removes what follows the last whole line.
    fn take_back(&self) -> Result<()> {
        self.file.set_len(self.length).map_err(|e| Error::io("cannot shorten", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(worker: &str) -> CellClaim {
        CellClaim { worker: worker.into(), identity: ProcessIdentity::own() }
    }

    fn work(folder: &tempfile::TempDir) -> CellWork {
        let work = CellWork::of(folder.path());
        fs::create_dir_all(&work.folder).unwrap();
        work
    }

    #[test]
    fn of_many_who_want_a_cell_at_once_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let work = work(&folder);
        for number in 1..=20 {
            let got: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|n| {
                        scope.spawn({
                            let work = &work;
                            move || work.try_claim(number, &claim(&format!("w{n}"))).unwrap()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
            });
            assert_eq!(got, 1);
            assert_eq!(work.newest().unwrap(), number);
        }
        assert!(!work.is_claimed(21) && work.is_claimed(20));
        let left = names(&work.folder).unwrap();
        assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    }

    #[test]
    fn findings_are_read_from_where_reading_ended_and_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let work = work(&folder);
        assert_eq!(work.findings(1, 0).unwrap().0.len(), 0, "there is no file yet");
        let mut writer = FindingsWriter::create(&work, 1).unwrap();
        let warning = |n: usize| Finding::Warning { message: format!("{n}\nof two lines") };
        writer.append(&warning(1)).unwrap();
        writer.append(&Finding::Done { peak_rss_bytes: 7 }).unwrap();
        let (first, end) = work.findings(1, 0).unwrap();
        assert_eq!(first, [warning(1), Finding::Done { peak_rss_bytes: 7 }]);
        writer.file.write_all(b"{\"finding\":\"done\",\"peak").unwrap();
        assert_eq!(work.findings(1, end).unwrap(), (Vec::new(), end));
        writer.file.write_all(b"_rss_bytes\":8}\n").unwrap();
        let (rest, last) = work.findings(1, end).unwrap();
        assert_eq!(rest, [Finding::Done { peak_rss_bytes: 8 }]);
        assert!(last > end);
        assert!(FindingsWriter::create(&work, 1).is_err(), "a claim has one writer");
    }

    #[test]
    fn what_a_full_disk_tore_off_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let work = work(&folder);
        let mut writer = FindingsWriter::create(&work, 1).unwrap();
        let done = |peak_rss_bytes| Finding::Done { peak_rss_bytes };
        writer.append(&done(7)).unwrap();
        writer.file.write_all(b"{\"finding\":\"done\",\"peak").unwrap();
        writer.take_back().unwrap();
        writer.append(&done(8)).unwrap();
        assert_eq!(work.findings(1, 0).unwrap().0, [done(7), done(8)]);
    }
}
