//! What is kept of answers on the way: the base's keys and values of the prompts, which every cell's answers are held
//! against, and the hidden states of answers that wait to be.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::super::container::{self, Contents, Data, NamedTensor, TensorContent, Unreadable};
use super::{States, unreadable};
use crate::error::{Error, Result};

/// Where the base keeps one block's keys and values of the prompts of a batch: the `task`-th task's records from
/// `first` on.
pub(crate) fn prompts_path(dir: &Path, task: usize, first: usize, block: usize) -> PathBuf {
    dir.join(format!("prompts-{task:02}-{first:06}-{block:04}.safetensors"))
}

/// Where a cell keeps the hidden states of a batch of answers.
pub(crate) fn answer_states_path(dir: &Path, task: usize, first: usize) -> PathBuf {
    dir.join(format!("said-{task:02}-{first:06}.safetensors"))
}

/// Writes named matrices, atomically.
///
/// # Errors
/// [`Error::Failure`] when the disk is full, [`Error::Io`] when writing fails otherwise.
pub(crate) fn write_rows(path: &Path, rows: &[(String, Tensor)]) -> Result<()> {
    let entries: Vec<_> = rows
        .iter()
        .map(|(name, rows)| NamedTensor { name: name.clone(), data: Data::Values(rows.clone()) })
        .collect();
    container::write(path, &entries, &[]).map(drop)
}

/// What [`write_rows`] wrote, on the host; `None` where there is none, or it is damaged.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
pub(crate) fn read_rows(path: &Path) -> Result<Option<States>> {
    let Contents { entries, .. } = match container::read(path) {
        Ok(contents) => contents,
        Err(Unreadable::Missing | Unreadable::Broken(_)) => return Ok(None),
        Err(e) => return Err(unreadable(path, e)),
    };
    let mut rows = Vec::with_capacity(entries.len());
    for (name, content) in entries {
        let TensorContent::Values(tensor) = content else { return Ok(None) };
        rows.push((name, tensor.to_device(&Device::Cpu)?));
    }
    Ok(Some(rows))
}

/// Removes a file of rows, if it is there.
///
/// # Errors
/// [`Error::Io`] when it is there and cannot be removed.
pub(crate) fn remove_rows(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", path, e)),
        _ => Ok(()),
    }
}
