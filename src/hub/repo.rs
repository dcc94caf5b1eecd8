//! One repository of the hub: what is in it, its files in the cache, and what its errors mean to a person.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::remote::{BRANCH, Remote, RemoteError};
use super::settings::HubSettings;
use super::watcher::{Download, DownloadWatcher};
use crate::error::{Error, Result};
use crate::interrupt::{GoOn, interruptible, sleep};
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};

/// What is in a repository at one commit.
pub(super) struct Listing {
    commit: String,
    /// Files and their sizes in bytes.
    pub(super) files: BTreeMap<String, u64>,
}

/// Where something was found.
pub(super) enum Located {
    /// At this path; the hub was not asked or did not answer.
    InCache(PathBuf),
    /// On the hub.
    OnHub(Listing),
}

/// One repository: the remote side and its folder in the cache.
pub(super) struct Repo<'a> {
    pub(super) remote: Remote,
    pub(super) settings: &'a HubSettings,
    pub(super) cache: &'a Path,
    pub(super) folder: PathBuf,
}

impl Repo<'_> {
    fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    fn branch(&self) -> PathBuf {
        self.folder.join("refs").join(BRANCH)
    }

    /// The snapshot that the branch had when it was last looked at.
    pub(super) fn cached(&self) -> Option<PathBuf> {
        let commit = std::fs::read_to_string(self.branch()).ok()?;
        Some(self.snapshot(commit.trim())).filter(|folder| folder.is_dir())
    }

    /// What the hub has in a folder of the repository, or what the cache has when the hub cannot be asked.
    pub(super) fn find(
        &self,
        cached: Option<PathBuf>,
        folder: &str,
        watcher: &mut dyn DownloadWatcher,
    ) -> Result<Located> {
        if self.settings.offline {
            let why = "the network is switched off (offline, by option or HF_HUB_OFFLINE)";
            return cached.map(Located::InCache).ok_or_else(|| Error::Offline(self.not_cached(why)));
        }
        match (self.listing(folder, watcher)?, cached) {
            (Ok(listing), _) => Ok(Located::OnHub(listing)),
            (Err(error), Some(path)) if error.unreachable().is_some() => Ok(Located::InCache(path)),
            (Err(error), _) => Err(self.explain(error)),
        }
    }

    /// What the repository has in a folder, at the commit that its branch is at.
    fn listing(
        &self,
        folder: &str,
        watcher: &mut dyn DownloadWatcher,
    ) -> Result<Result<Listing, RemoteError>> {
        let mut failures = 0;
        loop {
            let (remote, folder) = (self.remote.clone(), folder.to_string());
            let ask = move || {
                let commit = remote.commit()?;
                let files = remote.files(&commit, &folder)?;
                Ok(Listing { commit, files })
            };
            match interruptible(&mut || watcher.go_on(), move |_| Ok(ask()))? {
                // Without a network the cache need not wait.
                Err(RemoteError::Broken(_)) if failures < self.settings.retries => {
                    sleep(self.delay(failures), &mut || watcher.go_on())?;
                    failures += 1;
                }
                answer => return Ok(answer),
            }
        }
    }

    /// How long to wait before asking again.
    fn delay(&self, failures: usize) -> Duration {
        self.settings.retry_delay * 2_u32.pow(failures.min(6) as u32)
    }

    /// The files of a model's weights; fetches the index of a model in shards to know.
    pub(super) fn weights(
        &self,
        listing: &Listing,
        watcher: &mut dyn DownloadWatcher,
    ) -> Result<Vec<String>> {
        if listing.files.contains_key(SINGLE_FILE) {
            return Ok(vec![SINGLE_FILE.to_string()]);
        }
        if !listing.files.contains_key(INDEX_FILE) {
            return Err(self.wrong(&format!(
                "has no safetensors weights: accepted are {SINGLE_FILE}, or {INDEX_FILE} and its shards"
            )));
        }
        let index = self.fetch(listing, INDEX_FILE, watcher)?;
        let shards = shards(&index).ok_or_else(|| {
            self.wrong(&format!(
                "{INDEX_FILE} is broken: accepted is a `weight_map` from tensor to file name"
            ))
        })?;
        match shards.iter().find(|shard| !listing.files.contains_key(*shard)) {
            Some(shard) => Err(self.wrong(&format!("{INDEX_FILE} names {shard}, which is not there"))),
            None => Ok(shards),
        }
    }

    /// Brings one file into the snapshot, unless it is there already.
    pub(super) fn fetch(
        &self,
        listing: &Listing,
        file: &str,
        watcher: &mut dyn DownloadWatcher,
    ) -> Result<PathBuf> {
        let target = self.snapshot(&listing.commit).join(file);
        let total_bytes = listing.files.get(file).copied().unwrap_or(0);
        let mut report = |done_bytes: Option<u64>| {
            if let Some(done_bytes) = done_bytes {
                watcher.downloaded(Download { file: file.to_string(), done_bytes, total_bytes });
            }
            watcher.go_on()
        };
        if !target.is_file() {
            // A commit never changes, so what is left of an earlier attempt at it is good.
            let name = format!("{}-{}.incomplete", listing.commit, file.replace('/', "--"));
            let partial = self.folder.join("blobs").join(name);
            let mut part = open_partial(&partial, &mut || report(None))?;
            if !target.is_file() {
                self.complete(&listing.commit, file, (&mut part, &partial), total_bytes, &mut report)?;
                make_parent(&target)?;
                std::fs::rename(&partial, &target).map_err(|e| Error::io("cannot write", &target, e))?;
            }
        }
        report(Some(total_bytes))?;
        Ok(target)
    }

    /// Downloads what a partial file lacks, piece by piece.
    fn complete(
        &self,
        commit: &str,
        file: &str,
        (part, path): (&mut File, &Path),
        total: u64,
        report: &mut OnProgress<'_>,
    ) -> Result<()> {
        let cannot = |e| Error::io("cannot write", path, e);
        let mut done = part.seek(SeekFrom::End(0)).map_err(cannot)?;
        if done > total {
            part.set_len(0).map_err(cannot)?;
            done = part.seek(SeekFrom::Start(0)).map_err(cannot)?;
        }
        let mut failures = 0;
        while done < total {
            report(Some(done))?;
            let range = done..(done + self.settings.piece_bytes.max(1)).min(total);
            match self.piece(commit, file, range.clone(), report)? {
                Ok(bytes) => {
                    part.write_all(&bytes).map_err(cannot)?;
                    done = range.end;
                    failures = 0;
                }
                Err(error) => match error.unreachable() {
                    Some(_) if failures < self.settings.retries => {
                        sleep(self.delay(failures), &mut || report(None))?;
                        failures += 1;
                    }
                    Some(why) => {
                        return Err(Error::failure(format!(
                            "the download of {file} of {} stopped after {done} of {total} bytes ({why}); what is there \
                             is kept: run the same again to resume",
                            self.remote.id
                        )));
                    }
                    None => return Err(self.explain(error)),
                },
            }
        }
        part.sync_all().map_err(cannot)
    }

    /// One piece of a file. It is read on another thread, which reports to this one.
    fn piece(
        &self,
        commit: &str,
        file: &str,
        range: Range<u64>,
        report: &mut OnProgress<'_>,
    ) -> Result<Result<Vec<u8>, RemoteError>> {
        let (sender, received) = mpsc::channel();
        let (remote, commit, file) = (self.remote.clone(), commit.to_string(), file.to_string());
        let start = range.start;
        let mut told = || report(received.try_iter().last().map(|bytes: u64| start + bytes));
        interruptible(&mut told, move |abandoned| {
            let mut progress = |bytes| sender.send(bytes).is_ok() && abandoned.check().is_ok();
            Ok(remote.read(&commit, &file, range, &mut progress))
        })
    }

    /// Everything is there: the branch may point to it.
    pub(super) fn finish(&self, listing: &Listing) -> Result<PathBuf> {
        let branch = self.branch();
        make_parent(&branch)?;
        std::fs::write(&branch, &listing.commit).map_err(|e| Error::io("cannot write", &branch, e))?;
        Ok(self.snapshot(&listing.commit))
    }

    pub(super) fn wrong(&self, what: &str) -> Error {
        Error::mistake(format!(
            "the {} {} on {} {what}",
            self.remote.kind.name(),
            self.remote.id,
            self.remote.server.endpoint
        ))
    }

    fn not_cached(&self, why: &str) -> String {
        format!(
            "the {} {} is not (or not whole) in the cache {}, and {why}: accepted are a folder, an id that the cache \
             has (HF_HOME says where it is), or any id once {} can be reached",
            self.remote.kind.name(),
            self.remote.id,
            self.cache.display(),
            self.remote.server.endpoint
        )
    }

    fn explain(&self, error: RemoteError) -> Error {
        let (kind, id, endpoint) = (self.remote.kind.name(), &self.remote.id, &self.remote.server.endpoint);
        match error {
            RemoteError::Refused(word) => Error::mistake(format!(
                "{endpoint} refuses access to the {kind} {id} ({word}): it is gated, private or not there; accept its \
                 terms on its page if it has some, and set HF_TOKEN to a token that may read it"
            )),
            RemoteError::NoRepository => Error::mistake(format!(
                "there is no {kind} {id} with a branch {BRANCH} on {endpoint}: accepted are a folder or an id such as \
                 organisation/name (a private one needs HF_TOKEN)"
            )),
            RemoteError::NoFile(path) => self.wrong(&format!("has no {path}")),
            RemoteError::NoConnection(why) | RemoteError::Broken(why) => {
                Error::mistake(self.not_cached(&format!("{endpoint} cannot be reached ({why})")))
            }
            RemoteError::Odd(why) => {
                Error::failure(format!("the {kind} {id} cannot be fetched from {endpoint}: {why}"))
            }
        }
    }
}

/// Hears how many bytes of a file are there, where that is news, and says whether to go on.
type OnProgress<'a> = dyn FnMut(Option<u64>) -> Result<()> + 'a;

/// The shards that an index names, each once; `None` when it cannot be read or names something that is no file name.
pub(super) fn shards(index: &Path) -> Option<Vec<String>> {
    let index: Value = serde_json::from_slice(&std::fs::read(index).ok()?).ok()?;
    let mut files: Vec<String> = Vec::new();
    for file in index.get("weight_map")?.as_object()?.values() {
        let file = file.as_str().filter(|file| !file.contains(['/', '\\']) && !file.starts_with('.'))?;
        if !files.iter().any(|known| known == file) {
            files.push(file.to_string());
        }
    }
    Some(files)
}

/// Opens the partial file of a download, and waits while another process is at it.
fn open_partial(path: &Path, go_on: &mut GoOn<'_>) -> Result<File> {
    make_parent(path)?;
    let cannot = |e| Error::io("cannot write", path, e);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(cannot)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(100), go_on)?,
            Err(TryLockError::Error(e)) => return Err(cannot(e)),
        }
    }
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(|e| Error::io("cannot make", parent, e))
}
