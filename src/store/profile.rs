//! The profile that an allocation chose for a cell, beside its checkpoints: the cell keeps it when it is resumed, and a
//! user can give it to another study.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::methods::Profile;

fn path(cell_folder: &Path) -> PathBuf {
    cell_folder.join("profile.txt")
}

/// The profile that an earlier run chose for a cell of a model of so many blocks; `None` where there is none, or it is
/// damaged.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read(cell_folder: &Path, blocks: usize) -> Result<Option<Profile>> {
    Ok(text(cell_folder)?.and_then(|_| Profile::read(&path(cell_folder), blocks).ok()))
}

/// The same as it is written.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn text(cell_folder: &Path) -> Result<Option<String>> {
    let path = path(cell_folder);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("cannot read", &path, e)),
    }
}

/// Keeps the profile of a cell.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(cell_folder: &Path, text: &str) -> Result<()> {
    write_atomically(&path(cell_folder), |file| file.write_all(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_back_and_a_damaged_one_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let cell = dir.path().join("cell");
        assert_eq!(read(&cell, 2).unwrap(), None);
        write(&cell, "# of a cell\n0.9\n1.1\n").unwrap();
        assert!(read(&cell, 2).unwrap().is_some());
        assert_eq!(text(&cell).unwrap().as_deref(), Some("# of a cell\n0.9\n1.1\n"));
        assert_eq!(read(&cell, 3).unwrap(), None, "of another model");
        write(&cell, "0.9\nx\n").unwrap();
        assert_eq!(read(&cell, 2).unwrap(), None);
    }
}
