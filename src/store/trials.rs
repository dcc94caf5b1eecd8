//! Losses of models with some blocks left out, beside the base of their study: what one cell has tried no other one tries
//! again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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

/// Where the trials of a calibration set lie; `key` is the set's within the study.
pub(crate) fn path(base_folder: &Path, key: &str) -> PathBuf {
    base_folder.join(format!("trials-{key}.json"))
}

/// What was tried before; nothing where that is damaged.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<Trial>> {
    Ok(read_json(path)?.unwrap_or_default())
}

/// Keeps what was tried, beside what another process has kept since.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn add(path: &Path, tried: &[Trial]) -> Result<()> {
    let mut all = read(path)?;
    let is_new = |trial: &&Trial| {
        !all.iter().any(|known| known.removed == trial.removed && known.candidate == trial.candidate)
    };
    let new: Vec<Trial> = tried.iter().filter(is_new).cloned().collect();
    all.extend(new);
    write_json(path, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_read_back_once_each_and_damaged_ones_count_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir.path().join("base"), "c4-1");
        assert_eq!(read(&path).unwrap(), []);
        let trials = [0.1 + 0.2, 1.0 / 3.0].map(|loss| Trial { removed: vec![4, 2], candidate: 3, loss });
        let other = Trial { removed: vec![4], ..trials[0].clone() };
        add(&path, &trials[..1]).unwrap();
        add(&path, &[trials[1].clone(), other.clone()]).unwrap();
        assert_eq!(
            read(&path).unwrap(),
            [trials[0].clone(), other],
            "the first of two that are the same stays"
        );
        std::fs::write(&path, "[{").unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }
}
