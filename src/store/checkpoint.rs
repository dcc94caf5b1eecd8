//! Checkpoints: each pruned block in a file of its own, and the hidden states that a resumed run starts from.
//!
//! A cell's folder holds `block-0000.safetensors`, `block-0001.safetensors`, … and at most one `states.safetensors`;
//! [`answers`], [`positions`] and [`removed`] have what else there may be.
//! A file counts only when it is whole: a torn or damaged one is treated as not there, so that a resumed run
//! writes it again.

pub(crate) mod answers;
pub(crate) mod block_file;
pub mod positions;
pub mod removed;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::atomic::remove_file;
pub use super::atomic::write_atomically;
use super::container::{self, Contents, Data, NamedTensor, TensorContent, Unreadable};
pub use super::stored::Stored;
use super::stored::is_dropped;
use crate::error::{Error, Result};

const BLOCK_KEY: &str = "block";

/// Hidden states by name.
pub(crate) type States = Vec<(String, Tensor)>;

/// Where a block's checkpoint lies in a cell's folder.
pub fn block_path(dir: &Path, block: usize) -> PathBuf {
    dir.join(format!("block-{block:04}.safetensors"))
}

/// Where the hidden states of a cell or the base lie in its folder.
pub(crate) fn states_path(dir: &Path) -> PathBuf {
    dir.join("states.safetensors")
}

/// Writes a compressed block, atomically; returns the file's length in bytes. [`Stored`] says how each module lies in it.
///
/// # Errors
/// [`Error::Failure`] when the disk is full, or when the weights make no sense: a mask that does not fit its shape,
/// a module that is there twice, a dtype other than f32, f16 and bf16. [`Error::Io`] when writing fails otherwise.
pub fn write_block<S: AsRef<str>>(dir: &Path, block: usize, modules: &[(S, Stored)]) -> Result<u64> {
    let mut metadata = vec![(BLOCK_KEY.to_owned(), block.to_string())];
    let mut entries = Vec::with_capacity(modules.len());
    for (module, stored) in modules {
        let own = stored.entries(module.as_ref(), &mut metadata);
        entries.extend(own.map_err(|e| Error::failure(format!("block {block}: {e}")))?);
    }
    container::write(&block_path(dir, block), &entries, &metadata)
}

/// Reads a block that [`write_block`] wrote: its modules in the order in which they were given, values on `device`.
///
/// # Errors
/// [`Error::Failure`] when the file is missing or damaged, [`Error::Io`] when reading fails otherwise.
pub fn read_block(dir: &Path, block: usize, device: &Device) -> Result<Vec<(String, Stored)>> {
    let path = block_path(dir, block);
    let Contents { entries, metadata } = container::read(&path).map_err(|e| unreadable(&path, e))?;
    if metadata.get(BLOCK_KEY) != Some(&block.to_string()) {
        return Err(broken(&path, "it belongs to another block"));
    }
    Stored::from_entries(entries, &metadata, device).map_err(|why| broken(&path, &why))
}

/// How many whole blocks there are without a gap from block 0. Every one is read and its checksum tested; a broken
/// file counts as not there.
///
/// # Errors
/// [`Error::Io`] when a file cannot be read, for instance for lack of permission.
pub fn blocks_done(dir: &Path) -> Result<usize> {
    let mut block = 0;
    loop {
        let path = block_path(dir, block);
        match container::verify(&path) {
            Ok(()) => block += 1,
            Err(Unreadable::Missing | Unreadable::Broken(_)) => return Ok(block),
            Err(e) => return Err(unreadable(&path, e)),
        }
    }
}

/// The blocks that a cell has removed, of `blocks` of its model, in ascending order.
///
/// # Errors
/// [`Error::Io`] when a file cannot be read.
pub fn dropped_blocks(dir: &Path, blocks: usize) -> Result<Vec<usize>> {
    let mut dropped = Vec::new();
    for block in 0..blocks {
        let path = block_path(dir, block);
        match container::names(&path) {
            Ok(names) if names.iter().any(|name| is_dropped(name)) => dropped.push(block),
            // What is damaged is found out when it is read.
            Ok(_) | Err(Unreadable::Missing | Unreadable::Broken(_)) => {}
            Err(e) => return Err(unreadable(&path, e)),
        }
    }
    Ok(dropped)
}

/// Writes the hidden states after `block` blocks into a file, in place of those that were there. `goes_on` is asked between
/// tensors; where it says no, the old ones stay.
///
/// # Errors
/// As [`write_block`]; that `goes_on` said no.
pub(crate) fn write_states(
    path: &Path,
    block: usize,
    states: &[(String, Tensor)],
    goes_on: &dyn Fn() -> bool,
) -> Result<()> {
    let entries: Vec<_> = states
        .iter()
        .map(|(name, tensor)| NamedTensor { name: name.clone(), data: Data::Values(tensor.clone()) })
        .collect();
    let metadata = [(BLOCK_KEY.to_owned(), block.to_string())];
    container::write_while(path, &entries, &metadata, goes_on)?;
    Ok(())
}

/// The block number and the hidden states that [`write_states`] wrote last into a file, on `device`; `None` when there are
/// none or when they are damaged.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Tensor`] when the device has no room for it.
pub(crate) fn read_states(path: &Path, device: &Device) -> Result<Option<(usize, States)>> {
    let Contents { entries, metadata } = match container::read(path) {
        Ok(contents) => contents,
        Err(Unreadable::Missing | Unreadable::Broken(_)) => return Ok(None),
        Err(e) => return Err(unreadable(path, e)),
    };
    let Some(block) = metadata.get(BLOCK_KEY).and_then(|b| b.parse().ok()) else { return Ok(None) };
    let mut states = Vec::with_capacity(entries.len());
    for (name, content) in entries {
        let TensorContent::Values(tensor) = content else { return Ok(None) };
        states.push((name, tensor.to_device(device)?));
    }
    Ok(Some((block, states)))
}

/// Removes the hidden states of a cell or the base from its folder, if there are any.
///
/// # Errors
/// [`Error::Io`] when they are there and cannot be removed.
pub(crate) fn remove_states(dir: &Path) -> Result<()> {
    remove_file(&states_path(dir))
}

fn broken(path: &Path, why: &str) -> Error {
    unreadable(path, Unreadable::Broken(why.into()))
}

fn unreadable(path: &Path, why: Unreadable) -> Error {
    match why {
        Unreadable::Missing => Error::failure(format!("the checkpoint {} is missing", path.display())),
        Unreadable::Broken(why) => {
            Error::failure(format!("the checkpoint {} is damaged: {why}", path.display()))
        }
        Unreadable::Io(e) => Error::io("cannot read", path, e),
    }
}

#[cfg(test)]
mod tests;
