//! One repository of the hub: what is in it, its files in the cache, and what its errors mean to a person.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, Progress, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFError, HFRepositorySync, HFResult, RepoType, RepoTypeDataset, RepoTypeModel};
use serde_json::Value;

use super::{Download, DownloadWatcher, Hub};
use crate::error::{Error, Result};
use crate::interrupt::{GoOn, interruptible, sleep};
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};

/// The branch that is used.
const BRANCH: &str = "main";

/// Repositories that say which commit their branch is at.
pub(super) trait Branch: RepoType {
    fn commit(remote: &HFRepositorySync<Self>) -> HFResult<Option<String>>;
}

impl Branch for RepoTypeModel {
    fn commit(remote: &HFRepositorySync<Self>) -> HFResult<Option<String>> {
        Ok(remote.info().revision(BRANCH).send()?.sha)
    }
}

impl Branch for RepoTypeDataset {
    fn commit(remote: &HFRepositorySync<Self>) -> HFResult<Option<String>> {
        Ok(remote.info().revision(BRANCH).send()?.sha)
    }
}

/// What is in a repository at one commit.
pub(super) struct Listing {
    commit: String,
    /// Files and their sizes in bytes.
    pub(super) files: BTreeMap<String, u64>,
}

/// Where something was found.
pub(super) enum Found {
    /// At this path; the hub was not asked or did not answer.
    InCache(PathBuf),
    /// On the hub.
    OnHub(Listing),
}

/// One repository: the remote side and its folder in the cache.
pub(super) struct Repo<'a, T: Branch> {
    pub(super) hub: &'a Hub,
    pub(super) remote: HFRepositorySync<T>,
    pub(super) id: String,
    /// `model` or `data set`, for messages.
    pub(super) kind: &'static str,
    pub(super) folder: PathBuf,
}

impl<T: Branch> Repo<'_, T> {
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
    ) -> Result<Found> {
        if self.hub.settings.offline {
            let why = "the network is switched off (offline, by option or HF_HUB_OFFLINE)";
            return cached.map(Found::InCache).ok_or_else(|| Error::Offline(self.not_cached(why)));
        }
        let (remote, folder) = (self.remote.clone(), folder.to_string());
        let listing = interruptible(&mut || watcher.go_on(), move |_| Ok(listing(&remote, &folder)))?;
        match (listing, cached) {
            (Ok(listing), _) => Ok(Found::OnHub(listing)),
            (Err(error), Some(path)) if is_unreachable(&error) => Ok(Found::InCache(path)),
            (Err(error), _) => Err(self.explain(error)),
        }
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
        report: &mut Report<'_>,
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
            let range = done..(done + self.hub.settings.piece_bytes.max(1)).min(total);
            match self.piece(commit, file, range.clone(), total, report)? {
                Ok(bytes) => {
                    part.write_all(&bytes).map_err(cannot)?;
                    done = range.end;
                    failures = 0;
                }
                Err(error) if is_unreachable(&error) && failures < self.hub.settings.retries => {
                    let delay = self.hub.settings.retry_delay * 2_u32.pow(failures.min(6) as u32);
                    sleep(delay, &mut || report(None))?;
                    failures += 1;
                }
                Err(error) if is_unreachable(&error) => {
                    return Err(Error::failure(format!(
                        "the download of {file} of {} broke off after {done} of {total} bytes ({}); what is there is \
                         kept: run the same again to go on",
                        self.id,
                        root_cause(&error)
                    )));
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
        part.sync_all().map_err(cannot)
    }

    /// One piece of a file. The client reports progress from threads of its own; here it becomes calls on this one.
    fn piece(
        &self,
        commit: &str,
        file: &str,
        range: Range<u64>,
        total: u64,
        report: &mut Report<'_>,
    ) -> Result<HFResult<Vec<u8>>> {
        let (sender, received) = mpsc::channel();
        let (wanted, start) = (range.end - range.start, range.start);
        let (remote, commit, name) = (self.remote.clone(), commit.to_string(), file.to_string());
        let asked = range.clone();
        let download = move || {
            let file = remote.download_file_to_bytes().filename(&name).revision(&commit);
            file.range(asked).progress(Progress::new(Relay(sender))).send()
        };
        let mut told = || {
            let bytes = received.try_iter().last();
            report(bytes.map(|bytes| (start + bytes).min(range.end)))
        };
        let bytes = match interruptible(&mut told, move |_| Ok(download()))? {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        Ok(if bytes.len() as u64 == wanted {
            Ok(bytes.to_vec())
        } else if bytes.len() as u64 == total {
            // A server that does not know ranges sends everything.
            Ok(bytes[range.start as usize..range.end as usize].to_vec())
        } else {
            Err(HFError::malformed_response(format!(
                "asked for bytes {} to {} of {file} and got {}",
                range.start,
                range.end,
                bytes.len()
            )))
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
        Error::mistake(format!("the {} {} on {} {what}", self.kind, self.id, self.hub.endpoint))
    }

    fn not_cached(&self, why: &str) -> String {
        format!(
            "the {} {} is not (or not whole) in the cache {}, and {why}: accepted are a folder, an id that the cache \
             has (HF_HOME says where it is), or any id once {} can be reached",
            self.kind,
            self.id,
            self.hub.cache.display(),
            self.hub.endpoint
        )
    }

    fn explain(&self, error: HFError) -> Error {
        let (kind, id, endpoint) = (self.kind, &self.id, &self.hub.endpoint);
        match error {
            HFError::AuthRequired { context } | HFError::Forbidden { context } => {
                let word = context.server_message.unwrap_or_else(|| context.status.to_string());
                Error::mistake(format!(
                    "{endpoint} refuses access to the {kind} {id} ({word}): it is gated, private or not there; accept \
                     its terms on its page if it has some, and set HF_TOKEN to a token that may read it"
                ))
            }
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => Error::mistake(format!(
                "there is no {kind} {id} with a branch {BRANCH} on {endpoint}: accepted are a folder or an id such as \
                 organisation/name (a private one needs HF_TOKEN)"
            )),
            HFError::EntryNotFound { path, .. } => self.wrong(&format!("has no {path}")),
            HFError::Io(e) => Error::io("cannot use the cache", &self.hub.cache, e),
            error if is_unreachable(&error) => {
                let why = format!("{endpoint} cannot be reached ({})", root_cause(&error));
                Error::mistake(self.not_cached(&why))
            }
            error => Error::failure(format!("the {kind} {id} cannot be fetched from {endpoint}: {error}")),
        }
    }
}

/// Hears how many bytes of a file are there, where that is news, and says whether to go on.
type Report<'a> = dyn FnMut(Option<u64>) -> Result<()> + 'a;

/// What a repository has in a folder, at the commit that its branch is at.
fn listing<T: Branch>(remote: &HFRepositorySync<T>, folder: &str) -> HFResult<Listing> {
    let commit = T::commit(remote)?
        .filter(|commit| !commit.is_empty() && commit.chars().all(|c| c.is_ascii_hexdigit()))
        .ok_or_else(|| HFError::malformed_response("no commit in what the hub says of the repository"))?;
    let path = Some(folder.to_string()).filter(|folder| !folder.is_empty());
    let entries = remote.list_tree().revision(commit.as_str()).maybe_path_in_repo(path).send()?;
    let files = entries
        .into_iter()
        .filter_map(|entry| match entry {
            RepoTreeEntry::File { path, size, .. } => Some((path, size)),
            RepoTreeEntry::Directory { .. } => None,
        })
        .collect();
    Ok(Listing { commit, files })
}

/// Sends the bytes of the piece in hand to the thread that waits for it.
struct Relay(mpsc::Sender<u64>);

impl ProgressHandler for Relay {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Download(DownloadEvent::Progress { files }) = event {
            for file in files {
                // Nobody listens any more when the piece is complete.
                let _ = self.0.send(file.bytes_completed);
            }
        }
    }
}

/// Whether an error is the network's or the server's passing trouble, so that the cache or a later try may help.
fn is_unreachable(error: &HFError) -> bool {
    match error {
        HFError::Request { .. } | HFError::RateLimited { .. } => true,
        HFError::Http { context } => context.status.is_server_error(),
        _ => false,
    }
}

/// The innermost word on what went wrong; the outer ones repeat the address.
fn root_cause(error: &HFError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

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
