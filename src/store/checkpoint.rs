//! Checkpoints: each pruned block in a file of its own, and the hidden states that a resumed run goes on with.
//!
//! A cell's folder holds `block-0000.safetensors`, `block-0001.safetensors`, … and at most one `states.safetensors`;
//! [`answers`] has what else there may be.
//! A file counts only when it is whole: a torn or damaged one is treated as not there, so that a resumed run
//! makes it anew.

pub mod answers;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

pub use super::atomic::write_atomically;
use super::container::{self, Content, Contents, Data, Entry, Unreadable};
use crate::error::{Error, Result};

const MASK: &str = ".mask";
const WEIGHT: &str = ".weight";
const BLOCK_KEY: &str = "block";

/// What pruning made of a module's weight.
#[derive(Debug, Clone)]
pub enum PrunedWeight {
    /// The weights that stay are the source's own.
    Mask {
        /// The weight's shape, `[out, in]`.
        shape: [usize; 2],
        /// One bit a weight, 1 where it stays: row-major, the most significant bit of a byte first, rows not padded.
        bits: Vec<u8>,
    },
    /// New values `[out, in]` in the source's dtype (f32, f16 or bf16).
    Values(Tensor),
}

/// Hidden states by name.
pub type States = Vec<(String, Tensor)>;

/// Packs one bit a weight, the first in the most significant bit of the first byte; the last byte is filled up
/// with zeroes.
pub fn pack_mask(kept: impl IntoIterator<Item = bool>) -> Vec<u8> {
    let mut bits = Vec::new();
    for (i, keep) in kept.into_iter().enumerate() {
        if i % 8 == 0 {
            bits.push(0);
        }
        if let (true, Some(last)) = (keep, bits.last_mut()) {
            *last |= 0x80 >> (i % 8);
        }
    }
    bits
}

/// Weights of one task: whole bytes of a mask.
const MASK_TASK: usize = 1 << 16;

/// The mask of weights: which of them are not zero, as [`pack_mask`] packs it, on all cores.
pub fn mask_of(weights: &[f32]) -> Vec<u8> {
    let mut bits = vec![0u8; weights.len().div_ceil(8)];
    bits.par_chunks_mut(MASK_TASK / 8).zip(weights.par_chunks(MASK_TASK)).for_each(|(bits, weights)| {
        for (byte, weights) in bits.iter_mut().zip(weights.chunks(8)) {
            for (i, w) in weights.iter().enumerate() {
                *byte |= u8::from(*w != 0.0) << (7 - i);
            }
        }
    });
    bits
}

/// Zeroes the weights that a mask does not keep, on all cores.
pub fn apply_mask(weights: &mut [f32], bits: &[u8]) {
    weights.par_chunks_mut(MASK_TASK).zip(bits.par_chunks(MASK_TASK / 8)).for_each(|(weights, bits)| {
        for (weights, byte) in weights.chunks_mut(8).zip(bits) {
            for (i, w) in weights.iter_mut().enumerate() {
                if byte & (0x80 >> i) == 0 {
                    *w = 0.0;
                }
            }
        }
    });
}

/// The first `count` bits of what [`pack_mask`] packed.
pub fn unpack_mask(bits: &[u8], count: usize) -> impl Iterator<Item = bool> + '_ {
    bits.iter().flat_map(|byte| (0..8).map(move |i| byte & (0x80 >> i) != 0)).take(count)
}

/// Where a block's checkpoint lies in a cell's folder.
pub fn block_path(dir: &Path, block: usize) -> PathBuf {
    dir.join(format!("block-{block:04}.safetensors"))
}

fn states_path(dir: &Path) -> PathBuf {
    dir.join("states.safetensors")
}

/// Writes a pruned block, atomically; returns the file's length in bytes.
///
/// Modules go by their paths within the block, and tensors are named as in the model: `self_attn.q_proj.weight` holds new values, `self_attn.q_proj.mask` the packed
/// bits of a mask, whose shape is in the header's metadata as `self_attn.q_proj.shape`: `576,1536`.
///
/// # Errors
/// [`Error::Failure`] when the disk is full, or when the weights make no sense: a mask that does not fit its shape,
/// a module that is there twice, a dtype other than f32, f16 and bf16. [`Error::Io`] when writing fails otherwise.
pub fn write_block<S: AsRef<str>>(dir: &Path, block: usize, modules: &[(S, PrunedWeight)]) -> Result<u64> {
    let mut metadata = vec![(BLOCK_KEY.to_owned(), block.to_string())];
    let mut entries = Vec::with_capacity(modules.len());
    for (module, weight) in modules {
        let module = module.as_ref();
        entries.push(match weight {
            PrunedWeight::Values(tensor) => {
                Entry { name: format!("{module}{WEIGHT}"), data: Data::Values(tensor) }
            }
            PrunedWeight::Mask { shape: [rows, columns], bits } => {
                if bits.len() != (rows * columns).div_ceil(8) {
                    let found = bits.len();
                    return Err(Error::failure(format!(
                        "block {block}: {found} bytes of mask do not fit {module}, {rows} by {columns}"
                    )));
                }
                metadata.push((format!("{module}.shape"), format!("{rows},{columns}")));
                Entry { name: format!("{module}{MASK}"), data: Data::Bytes(bits) }
            }
        });
    }
    container::write(&block_path(dir, block), &entries, &metadata)
}

/// Reads a block that [`write_block`] wrote: its modules in the order in which they were given, values on `device`.
///
/// # Errors
/// [`Error::Failure`] when the file is missing or damaged, [`Error::Io`] when reading fails otherwise.
pub fn read_block(dir: &Path, block: usize, device: &Device) -> Result<Vec<(String, PrunedWeight)>> {
    let path = block_path(dir, block);
    let broken = |why: &str| unreadable(&path, Unreadable::Broken(why.into()));
    let Contents { entries, metadata } = container::read(&path).map_err(|e| unreadable(&path, e))?;
    if metadata.get(BLOCK_KEY) != Some(&block.to_string()) {
        return Err(broken("it belongs to another block"));
    }
    let mut modules = Vec::with_capacity(entries.len());
    for (name, content) in entries {
        let (module, weight) = match content {
            Content::Values(tensor) => {
                (name.strip_suffix(WEIGHT), PrunedWeight::Values(tensor.to_device(device)?))
            }
            Content::Bytes(bits) => {
                let module = name.strip_suffix(MASK);
                let shape = module.and_then(|m| metadata.get(&format!("{m}.shape")));
                let shape =
                    shape.and_then(|s| parse_shape(s)).ok_or_else(|| broken("a mask has no shape"))?;
                if shape[0].checked_mul(shape[1]).is_none_or(|n| n.div_ceil(8) != bits.len()) {
                    return Err(broken("a mask does not fit its shape"));
                }
                (module, PrunedWeight::Mask { shape, bits })
            }
        };
        let module = module.ok_or_else(|| broken(&format!("`{name}` is no module")))?.to_owned();
        modules.push((module, weight));
    }
    Ok(modules)
}

fn parse_shape(text: &str) -> Option<[usize; 2]> {
    let (rows, columns) = text.split_once(',')?;
    Some([rows.parse().ok()?, columns.parse().ok()?])
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

/// Writes the hidden states after `block` blocks in place of those that were there.
///
/// # Errors
/// As [`write_block`].
pub fn write_states(dir: &Path, block: usize, states: &[(String, Tensor)]) -> Result<()> {
    let entries: Vec<_> = states
        .iter()
        .map(|(name, tensor)| Entry { name: name.clone(), data: Data::Values(tensor) })
        .collect();
    container::write(&states_path(dir), &entries, &[(BLOCK_KEY.to_owned(), block.to_string())])?;
    Ok(())
}

/// The block number and the hidden states that [`write_states`] wrote last, on `device`; `None` when there are none
/// or when they are damaged.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Tensor`] when the device has no room for it.
pub fn read_states(dir: &Path, device: &Device) -> Result<Option<(usize, States)>> {
    let path = states_path(dir);
    let Contents { entries, metadata } = match container::read(&path) {
        Ok(contents) => contents,
        Err(Unreadable::Missing | Unreadable::Broken(_)) => return Ok(None),
        Err(e) => return Err(unreadable(&path, e)),
    };
    let Some(block) = metadata.get(BLOCK_KEY).and_then(|b| b.parse().ok()) else { return Ok(None) };
    let mut states = Vec::with_capacity(entries.len());
    for (name, content) in entries {
        let Content::Values(tensor) = content else { return Ok(None) };
        states.push((name, tensor.to_device(device)?));
    }
    Ok(Some((block, states)))
}

/// Removes the hidden states, if there are any.
///
/// # Errors
/// [`Error::Io`] when they are there and cannot be removed.
pub fn remove_states(dir: &Path) -> Result<()> {
    let path = states_path(dir);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", &path, e)),
        _ => Ok(()),
    }
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
