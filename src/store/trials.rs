//! Losses of models with some blocks left out, in the folder of a cell that chooses by them, until it has chosen.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::remove_file;
use super::json::{read_json, write_json};
use crate::error::Result;

/// A model that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// Blocks that were gone before, in the order in which they were chosen.
    pub removed: Vec<usize>,
    /// The block that it was without besides.
    pub candidate: usize,
    /// Mean negative log-likelihood, in nats a token.
    pub loss: f64,
}

fn path(cell_folder: &Path) -> PathBuf {
    cell_folder.join("trials.json")
}

/// What an earlier run tried; nothing where that is damaged.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read(cell_folder: &Path) -> Result<Vec<Trial>> {
    Ok(read_json(&path(cell_folder))?.unwrap_or_default())
}

/// Keeps what was tried.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(cell_folder: &Path, trials: &[Trial]) -> Result<()> {
    write_json(&path(cell_folder), &trials)
}

/// Removes what was tried, if it is there.
///
/// # Errors
/// A file that is there and cannot be removed.
pub(crate) fn remove(cell_folder: &Path) -> Result<()> {
    remove_file(&path(cell_folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_read_back_as_they_were_and_damaged_ones_count_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let cell = dir.path().join("cell");
        assert_eq!(read(&cell).unwrap(), []);
        let trials = [0.1 + 0.2, 1.0 / 3.0].map(|loss| Trial { removed: vec![4, 2], candidate: 3, loss });
        write(&cell, &trials).unwrap();
        assert_eq!(read(&cell).unwrap(), trials);
        std::fs::write(path(&cell), "[{").unwrap();
        assert_eq!(read(&cell).unwrap(), []);
        remove(&cell).unwrap();
        remove(&cell).unwrap();
        assert_eq!(std::fs::read_dir(&cell).unwrap().count(), 0);
    }
}
