//! Reading the source's weights from the beginning of a file to its end.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// What a header says besides its tensors.
const METADATA: &str = "__metadata__";

/// Bytes of a tensor that are in memory at once; a multiple of every element's size.
pub(super) const CHUNK: usize = 1 << 20;

/// A tensor as a file's header lists it.
#[derive(Debug, Clone)]
pub(super) struct SourceTensor {
    pub name: String,
    /// As the file spells it: `BF16`.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Length of its data.
    pub bytes: u64,
}

impl SourceTensor {
    /// Its dtype, of a tensor that a model computes with.
    ///
    /// # Errors
    /// [`Error::Mistake`] for anything but f32, f16 and bf16.
    pub fn float(&self) -> Result<DType> {
        match self.dtype.as_str() {
            "F32" => Ok(DType::F32),
            "F16" => Ok(DType::F16),
            "BF16" => Ok(DType::BF16),
            other => {
                Err(Error::mistake(format!("{} is of {other}: accepted are F32, F16 and BF16", self.name)))
            }
        }
    }
}

/// The same as JSON has it.
#[derive(Deserialize)]
struct SourceEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// A safetensors file that is read from its beginning to its end.
pub(super) struct SourceFile {
    path: PathBuf,
    file: File,
    /// The header and its length, as they stand in the file.
    pub head: Vec<u8>,
    /// In the order of their data.
    pub tensors: Vec<SourceTensor>,
    buffer: Vec<u8>,
}

impl SourceFile {
    /// Reads the header. It was checked when the model was opened; what does not hold any more was changed since.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = |e| Error::io("cannot read", path, e);
        let changed = || Error::mistake(format!("{}: it was changed while in use", path.display()));
        let mut file = File::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(cannot)?;
        let header = u64::from_le_bytes(prefix);
        if header > length.saturating_sub(8) {
            return Err(changed());
        }
        let mut head = prefix.to_vec();
        head.resize(8 + header as usize, 0);
        file.read_exact(&mut head[8..]).map_err(cannot)?;

        let mut json: Map<String, Value> = serde_json::from_slice(&head[8..]).map_err(|_| changed())?;
        json.remove(METADATA);
        let mut entries = json
            .into_iter()
            .map(|(name, value)| Ok((name, SourceEntry::deserialize(value).map_err(|_| changed())?)))
            .collect::<Result<Vec<_>>>()?;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        let mut tensors = Vec::with_capacity(entries.len());
        for (name, SourceEntry { dtype, shape, data_offsets: (from, to) }) in entries {
            if from != end || to < from {
                return Err(changed());
            }
            end = to;
            tensors.push(SourceTensor { name, dtype, shape, bytes: to - from });
        }
        if head.len() as u64 + end != length {
            return Err(changed());
        }
        Ok(Self { path: path.to_path_buf(), file, head, tensors, buffer: Vec::new() })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header, and its length before it, of a file with some of these tensors, by new names, in the order of their
    /// data. All else that the header says stays.
    pub fn head_of<'a>(&self, tensors: impl Iterator<Item = (&'a SourceTensor, String)>) -> Result<Vec<u8>> {
        let changed = || Error::mistake(format!("{}: it was changed while in use", self.path.display()));
        let before: Map<String, Value> = serde_json::from_slice(&self.head[8..]).map_err(|_| changed())?;
        let mut header = Map::new();
        header.extend(before.get_key_value(METADATA).map(|(key, value)| (key.clone(), value.clone())));
        let mut start = 0;
        for (SourceTensor { dtype, shape, bytes, .. }, name) in tensors {
            let end = start + bytes;
            header.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
            start = end;
        }
        let mut text = Value::Object(header).to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        Ok([&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat())
    }

    /// Hands the next `count` bytes on in pieces of at most [`CHUNK`], which may be changed on the way.
    pub fn pass(&mut self, count: u64, mut f: impl FnMut(&mut [u8]) -> Result<()>) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let n = left.min(CHUNK as u64);
            self.buffer.resize(n as usize, 0);
            self.file.read_exact(&mut self.buffer).map_err(|e| Error::io("cannot read", &self.path, e))?;
            f(&mut self.buffer)?;
            left -= n;
        }
        Ok(())
    }

    pub fn skip(&mut self, count: u64) -> Result<()> {
        self.file.seek_relative(count as i64).map_err(|e| Error::io("cannot read", &self.path, e))
    }
}
