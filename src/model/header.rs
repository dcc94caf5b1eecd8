//! The header of a safetensors file, read without its data and believed in nothing.
//!
//! A file is: eight bytes, little-endian, that say how long the header is; the header, a JSON object from tensor to
//! dtype, shape and offsets into the data; the data, without holes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Longest header that is read, in bytes; the format's own limit.
const LONGEST: u64 = 100_000_000;
/// Bytes that hold the header's length.
const PREFIX: u64 = 8;

/// Where a tensor is and what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// `F32`, `F16` or `BF16`.
    pub dtype: DType,
    /// Sizes; a Linear's weight is `[out, in]`.
    pub shape: Vec<usize>,
    /// The file it is in.
    pub file: PathBuf,
    /// Its bytes, from the start of that file.
    pub bytes: Range<u64>,
}

impl TensorInfo {
    /// Elements in all.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub(super) enum HeaderTensor {
    /// One that can be read.
    Known(TensorInfo),
    /// One of another dtype. Such buffers may lie beside the weights, unused: only asking for one is a mistake.
    Foreign {
        /// Its dtype, as the file spells it.
        dtype: String,
        /// The file it is in.
        file: PathBuf,
    },
}

// Messages about a header that makes no sense name this type.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Reads and checks the header of one file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, HeaderTensor>> {
    let mut file = File::open(path).map_err(|e| Error::io("cannot open", path, e))?;
    let length = file.metadata().map_err(|e| Error::io("cannot read", path, e))?.len();
    if length < PREFIX {
        return Err(wrong(path, &format!("has {length} bytes: a safetensors file has at least {PREFIX}")));
    }
    let mut prefix = [0; PREFIX as usize];
    file.read_exact(&mut prefix).map_err(|e| Error::io("cannot read", path, e))?;
    let header = u64::from_le_bytes(prefix);
    let most = LONGEST.min(length - PREFIX);
    if header > most {
        return Err(wrong(
            path,
            &format!(
                "says that its header has {header} bytes, but it can have {most} at most: the file is truncated or no \
                 safetensors file"
            ),
        ));
    }
    let mut json = vec![0; header as usize];
    file.read_exact(&mut json).map_err(|e| Error::io("cannot read", path, e))?;
    parse(path, &json, length)
}

fn parse(path: &Path, json: &[u8], length: u64) -> Result<BTreeMap<String, HeaderTensor>> {
    let header: Map<String, Value> = serde_json::from_slice(json)
        .map_err(|e| wrong(path, &format!("its header is not the JSON object of a safetensors file: {e}")))?;
    let start = PREFIX + json.len() as u64;
    let mut entries = Vec::with_capacity(header.len());
    for (name, value) in header {
        if name != "__metadata__" {
            let entry = Entry::deserialize(value)
                .map_err(|e| wrong(path, &format!("the header's entry of `{name}` makes no sense: {e}")))?;
            entries.push((name, entry));
        }
    }
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let data = length - start;
    let mut end = 0;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        end = check_offsets(path, &name, &entry, end, data)?;
        tensors.insert(name.clone(), stored(path, &name, &entry, start)?);
    }
    if end == data {
        Ok(tensors)
    } else {
        Err(wrong(
            path,
            &format!("has {data} bytes of data, but its tensors fill {end}: the file is corrupt"),
        ))
    }
}

/// Says where the next tensor has to begin.
fn check_offsets(path: &Path, name: &str, entry: &Entry, expected: u64, data: u64) -> Result<u64> {
    let (from, to) = entry.data_offsets;
    if to < from {
        return Err(wrong(
            path,
            &format!("`{name}` begins at byte {from} of the data and ends at {to}, before that"),
        ));
    }
    if to > data {
        return Err(wrong(
            path,
            &format!(
                "`{name}` ends at byte {to} of the data, but there are {data}: the file is truncated or corrupt"
            ),
        ));
    }
    if from != expected {
        let how = if from < expected { "overlaps another tensor" } else { "leaves a hole" };
        return Err(wrong(
            path,
            &format!("`{name}` begins at byte {from} of the data, not at {expected}: it {how}"),
        ));
    }
    Ok(to)
}

fn stored(path: &Path, name: &str, entry: &Entry, start: u64) -> Result<HeaderTensor> {
    let (from, to) = entry.data_offsets;
    let dtype = match entry.dtype.as_str() {
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        other => return Ok(HeaderTensor::Foreign { dtype: other.to_string(), file: path.to_path_buf() }),
    };
    let size = entry.shape.iter().try_fold(dtype.size_in_bytes() as u64, |size, n| size.checked_mul(*n));
    if size != Some(to - from) {
        return Err(wrong(
            path,
            &format!(
                "`{name}` has {} bytes, but {:?} of {} need {}",
                to - from,
                entry.shape,
                entry.dtype,
                match size {
                    Some(size) => size.to_string(),
                    None => "more than there can be".to_string(),
                }
            ),
        ));
    }
    Ok(HeaderTensor::Known(TensorInfo {
        dtype,
        shape: entry.shape.iter().map(|n| *n as usize).collect(),
        file: path.to_path_buf(),
        bytes: start + from..start + to,
    }))
}

fn wrong(path: &Path, what: &str) -> Error {
    Error::mistake(format!("{}: {what}", path.display()))
}
