//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// What this process calls its unfinished files, where others may write the same ones.
static WRITER: OnceLock<String> = OnceLock::new();

/// Gives the unfinished files of this process a name of their own from now on: several may write the same file, of the same
/// content, and the last one to finish counts. What a killed process leaves behind is then overwritten by nobody.
pub(crate) fn name_writer(name: &str) {
    // Whoever was first has named the process.
    let _ = WRITER.set(name.to_owned());
}

/// Removes what killed processes with names of their own left unfinished in a folder, where it can be.
pub(crate) fn remove_unfinished(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".part") {
            // It takes room and harms nobody.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Bytes gathered before they go to the file.
const BUFFER: usize = 1 << 20;

/// Writes a file so that after a crash, a kill or a full disk either the old content or the whole new one is there.
///
/// `f` writes into a hidden file `.NAME.part` in the same folder, which is flushed to the disk and renamed; the
/// folder is flushed too, so that the name itself survives. Folders that lack are made. What a killed process left
/// behind is overwritten by the next attempt, so one path must have one writer at a time.
///
/// # Errors
/// [`Error::Failure`] when the disk is full, [`Error::Io`] for anything else; the hidden file is removed then.
pub fn write_atomically(path: &Path, f: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let failed = |e| write_failed(path, e);
    let name = path.file_name().ok_or_else(|| failed(ErrorKind::InvalidFilename.into()))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    if let Some(writer) = WRITER.get() {
        hidden.push(".");
        hidden.push(writer);
    }
    hidden.push(".part");
    let part = PartialFile { path: folder.join(hidden), kept: false };

    let mut writer = BufWriter::with_capacity(BUFFER, File::create(&part.path).map_err(failed)?);
    let written = f(&mut writer).and_then(|()| writer.flush());
    // Taken apart rather than dropped: a buffer that could not be written must not be tried again.
    let (file, _) = writer.into_parts();
    written.and_then(|()| file.sync_all()).map_err(failed)?;
    drop(file);
    part.rename(path).map_err(failed)?;
    sync_folder(folder).map_err(failed)
}

/// Removes a file, if it is there.
///
/// # Errors
/// [`Error::Io`] when it is there and cannot be removed.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", path, e)),
        _ => Ok(()),
    }
}

/// The error for a failed write to `path`: a full disk is said in plain words.
pub(crate) fn write_failed(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull(path.to_path_buf()),
        _ => Error::io("cannot write", path, source),
    }
}

/// The error for a place in which no store can be made.
pub(super) fn cannot_place(path: &Path, source: io::Error) -> Error {
    match write_failed(path, source) {
        Error::Io { source, .. } => Error::mistake(format!(
            "the store {} cannot be written: {source}; name another place with --store",
            path.display()
        )),
        other => other,
    }
}

/// Makes the names in a folder survive a power cut. Only Unix lets a folder be opened for that.
#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps, reason = "nothing can fail where nothing is done"))]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// The hidden file; removed when dropped before it got its name.
struct PartialFile {
    path: PathBuf,
    kept: bool,
}

impl PartialFile {
    fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write_atomically(&path, |w| w.write_all(b"old")).unwrap();
        let error = write_atomically(&path, |w| {
            w.write_all(b"new")?;
            Err(ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), format!("the disk that holds {} is full", path.display()));
        assert_eq!(error.exit_code(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn folders_are_made_and_what_a_killed_process_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x/y");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".a.bin.part"), b"a long torn rest").unwrap();
        write_atomically(&folder.join("a.bin"), |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(folder.join("a.bin")).unwrap(), b"new");
        assert_eq!(names(&folder), ["a.bin"]);
    }
}
