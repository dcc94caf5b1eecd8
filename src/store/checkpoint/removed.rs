//! The parts of a model that a cell has removed: chosen once, and found here by everything behind that.
//!
//! Blocks are found by their checkpoints. A block without some experts still gets its checkpoint when it is done, so
//! experts have a file of their own, which is written before the first block.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::super::atomic::write_atomically;
use super::dropped_blocks;
use crate::error::{Error, Result};
use crate::model::RemovedParts;

const FILE: &str = "removed-experts.json";

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Keeps which experts of every block a cell removes.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write_experts(dir: &Path, experts: &[Vec<usize>]) -> Result<()> {
    let path = path(dir);
    let json = serde_json::to_vec(experts)
        .map_err(|e| Error::failure(format!("cannot make {}: {e}", path.display())))?;
    write_atomically(&path, |file| file.write_all(&json))
}

/// The experts of each of so many blocks that a cell has removed; `None` where nothing is kept of that, or it is damaged.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read_experts(dir: &Path, blocks: usize) -> Result<Option<Vec<Vec<usize>>>> {
    let path = path(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("cannot read", &path, e)),
    };
    let experts = serde_json::from_slice::<Vec<Vec<usize>>>(&bytes).ok();
    Ok(experts.filter(|experts| experts.len() == blocks))
}

/// Everything that a cell has removed of a model of so many blocks.
///
/// # Errors
/// A file that cannot be read.
pub fn removed_parts(dir: &Path, blocks: usize) -> Result<RemovedParts> {
    let experts = read_experts(dir, blocks)?.unwrap_or_default();
    Ok(RemovedParts { blocks: dropped_blocks(dir, blocks)?, experts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_read_back_as_they_were_and_a_damaged_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(removed_parts(dir.path(), 2).unwrap(), RemovedParts::default());
        let experts = vec![vec![1, 3], vec![0, 2]];
        write_experts(dir.path(), &experts).unwrap();
        assert_eq!(removed_parts(dir.path(), 2).unwrap().experts, experts);
        assert_eq!(read_experts(dir.path(), 3).unwrap(), None, "of another model");
        let whole = fs::read(path(dir.path())).unwrap();
        fs::write(path(dir.path()), &whole[..whole.len() / 2]).unwrap();
        assert_eq!(read_experts(dir.path(), 2).unwrap(), None);
    }
}
