//! A folder or a file that is there whole or not at all.
//!
//! Everything goes into a sibling, `OUT.part-PID`, which gets its name when all of it is on the disk and is removed when
//! something fails.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::store::sync_folder;

/// Exports in the making of this process, with the folders that were made for them.
static IN_THE_MAKING: Mutex<Vec<(PathBuf, Vec<PathBuf>)>> = Mutex::new(Vec::new());

/// Removes what is not finished: for a process that is asked to end in the middle of it.
pub(crate) fn remove_unfinished() {
    let mut unfinished = IN_THE_MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    for (path, made) in unfinished.drain(..) {
        remove_all(&path, &made);
    }
}

/// What an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A folder of files.
    Folder,
    /// One file.
    File,
}

/// An export in the making.
#[derive(Debug)]
pub struct PartialExport {
    kind: TargetKind,
    /// What it will be called, as the user put it.
    out: PathBuf,
    /// The same with its folders spelt out.
    target: PathBuf,
    /// What it is called meanwhile.
    path: PathBuf,
    /// Folders above it that were made for it, the deepest first.
    made: Vec<PathBuf>,
    kept: bool,
}

impl PartialExport {
    /// Begins `out`; folders above it are made where they lack.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(super) fn create(out: &Path, kind: TargetKind) -> Result<Self> {
        let target = resolve(out, kind)?;
        let cannot = |e| cannot_place(out, e);
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(cannot(ErrorKind::InvalidFilename.into()));
        };
        let mut hidden = OsString::from(name);
        hidden.push(format!(".part-{}", std::process::id()));
        let path = parent.join(hidden);
        let made = target.ancestors().skip(1).take_while(|a| !a.exists()).map(Path::to_path_buf).collect();
        // From here on whatever is made is removed again, whoever returns early.
        let part = Self { kind, out: out.to_path_buf(), target: target.clone(), path, made, kept: false };
        fs::create_dir_all(parent).map_err(cannot)?;
        let mut unfinished = IN_THE_MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.push((part.path.clone(), part.made.clone()));
        drop(unfinished);
        if part.path.exists() {
            // Left by a killed process that had the same id.
            remove(&part.path).map_err(cannot)?;
        }
        if kind == TargetKind::Folder {
            fs::create_dir(&part.path).map_err(cannot)?;
        }
        Ok(part)
    }

    /// Where it lies until it has its name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of the folder and flushes it to the disk.
    ///
    /// # Errors
    /// Those of `f`, or that the file cannot be written; see [`Output::put`].
    pub(super) fn write(&self, name: &OsStr, f: impl FnOnce(&mut Output<'_>) -> Result<()>) -> Result<()> {
        self.write_to(&self.path.join(name), f)
    }

    /// Writes the file that this is, and flushes it to the disk.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn write_file(&self, f: impl FnOnce(&mut Output<'_>) -> Result<()>) -> Result<()> {
        self.write_to(&self.path, f)
    }

    fn write_to(&self, path: &Path, f: impl FnOnce(&mut Output<'_>) -> Result<()>) -> Result<()> {
        let failed = |e| cannot_write(&self.out, e);
        let mut output = Output { file: File::create_new(path).map_err(failed)?, out: &self.out };
        f(&mut output)?;
        output.file.sync_all().map_err(failed)
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`Error::Mistake`] when somebody put something there meanwhile, otherwise that it cannot be written.
    pub(super) fn finish(self) -> Result<()> {
        let target = self.target.clone();
        self.finish_as(&target)
    }

    /// Gives it the name `OUT.unverified`, or `OUT.unverified-2` and so on where that is taken; returns it.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(super) fn finish_unverified(self) -> Result<PathBuf> {
        let named = |n: usize| {
            let mut name = self.target.clone().into_os_string();
            name.push(if n == 1 { ".unverified".into() } else { format!(".unverified-{n}") });
            PathBuf::from(name)
        };
        let free = (1..=9999).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(1));
        self.finish_as(&free)?;
        Ok(free)
    }

    fn finish_as(mut self, target: &Path) -> Result<()> {
        let failed = |e| cannot_write(&self.out, e);
        if self.kind == TargetKind::Folder {
            sync_folder(&self.path).map_err(failed)?;
        } else if target.exists() {
            // A rename would replace it.
            return Err(taken(&self.out, "is there already", self.kind));
        }
        if cfg!(not(unix)) && target.exists() {
            // It is empty. Only Unix lets a rename take its place.
            fs::remove_dir(target).map_err(failed)?;
        }
        if let Err(e) = fs::rename(&self.path, target) {
            // Somebody was there first?
            resolve(&self.out, self.kind)?;
            return Err(failed(e));
        }
        self.kept = true;
        for folder in self.target.ancestors().skip(1).take(1 + self.made.len()) {
            sync_folder(folder).map_err(failed)?;
        }
        Ok(())
    }
}

/// Removes a file, or a folder with all that is in it.
fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn remove_all(path: &Path, made: &[PathBuf]) {
    // Whatever led here is what there is to report.
    let _ = remove(path);
    for folder in made {
        let _ = fs::remove_dir(folder);
    }
}

impl Drop for PartialExport {
    fn drop(&mut self) {
        let mut unfinished = IN_THE_MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.retain(|(path, _)| *path != self.path);
        drop(unfinished);
        if !self.kept {
            remove_all(&self.path, &self.made);
        }
    }
}

/// A file in the making.
#[derive(Debug)]
pub(super) struct Output<'a> {
    file: File,
    out: &'a Path,
}

impl Output<'_> {
    /// Puts bytes behind those that are there.
    ///
    /// # Errors
    /// [`Error::Failure`] when the disk is full, [`Error::Mistake`] when the place cannot be written, [`Error::Io`]
    /// for anything else.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| cannot_write(self.out, e))
    }
}

/// The real path of an export, if one can be put there.
///
/// # Errors
/// [`Error::Mistake`] when something is there already or nothing can be written there; [`Error::Failure`] when the disk
/// is full.
pub(super) fn resolve(out: &Path, kind: TargetKind) -> Result<PathBuf> {
    let cannot = |e| cannot_place(out, e);
    // A link is followed: the folder that it points to is meant, not the link.
    let target = if out.exists() { out.canonicalize() } else { std::path::absolute(out) }.map_err(cannot)?;
    match fs::metadata(&target) {
        Ok(_) if kind == TargetKind::File => return Err(taken(out, "is there already", kind)),
        Ok(found) if !found.is_dir() => return Err(taken(out, "is there already and is no folder", kind)),
        Ok(found) => {
            if fs::read_dir(&target).map_err(cannot)?.next().is_some() {
                return Err(taken(out, "is there already and is not empty", kind));
            }
            if target.parent().is_none_or(|parent| on_another_disk(&found, parent)) {
                return Err(taken(out, "is the top of a disk, and a whole folder is put in its place", kind));
            }
        }
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(cannot(e)),
        Err(_) if target.is_symlink() => return Err(taken(out, "is a link that points nowhere", kind)),
        Err(_) => {}
    }
    // Folders that lack will be made in the deepest that is there: a nameless file shows whether that can be.
    if let Some(above) = target.ancestors().skip(1).find(|a| a.exists()) {
        tempfile::tempfile_in(above).map_err(|e| cannot_place(out, e.kind().into()))?;
    }
    Ok(target)
}

/// Whether a folder lies on another disk than the one above it: it cannot be replaced then.
fn on_another_disk(found: &fs::Metadata, parent: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        parent.metadata().is_ok_and(|above| above.dev() != found.dev())
    }
    #[cfg(not(unix))]
    {
        let _ = (found, parent);
        false
    }
}

fn taken(out: &Path, what: &str, kind: TargetKind) -> Error {
    let wanted = match kind {
        TargetKind::Folder => "a folder that is new or empty",
        TargetKind::File => "a file that is new",
    };
    Error::mistake(format!("{} {what}: an export never overwrites, so name {wanted}", out.display()))
}

/// The error for a place that no folder can be put in.
fn cannot_place(out: &Path, source: io::Error) -> Error {
    match cannot_write(out, source) {
        Error::Io { source, .. } => unwritable(out, &source),
        other => other,
    }
}

/// The error for a write that failed: a full disk is said in plain words.
fn cannot_write(out: &Path, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::failure(format!(
            "the disk that holds {} is full: the model was not exported and nothing of it was left behind",
            out.display()
        )),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            unwritable(out, &source)
        }
        _ => Error::io("cannot write", out, source),
    }
}

fn unwritable(out: &Path, source: &io::Error) -> Error {
    Error::mistake(format!("{} cannot be written ({source}): name a place that can", out.display()))
}
