//! Weights of a Hugging Face folder: safetensors, in one file or many.
//!
//! Opening reads and checks the headers only. A tensor is read by mapping its bytes for the length of one call, so the
//! process never holds more of a model than what somebody asked for, whatever the model's size.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use memmap2::{Mmap, MmapOptions};
use serde_json::Value;

use super::convert;
use super::edits::{TensorBytes, TensorCut, TensorEdit, TensorEdits};
use super::header::{self, HeaderTensor, TensorInfo};
use super::json::JsonFile;
use crate::error::{Error, Result};

/// The file of a model that is stored whole.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The file that says which shard has which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The tensors of a model on disk.
#[derive(Debug, Clone)]
pub struct Weights {
    root: PathBuf,
    /// By the names that the files have.
    tensors: BTreeMap<String, HeaderTensor>,
    /// Names in the files of tensors that go by another one here.
    aliases: BTreeMap<String, String>,
    /// Tensors that are read otherwise than they lie in the files; their shapes above are what they are read as.
    edits: TensorEdits,
    /// Pieces of tensors that go by names of their own here.
    pieces: BTreeMap<String, TensorInfo>,
}

impl Weights {
    /// Reads the headers of a model's weights: `model.safetensors`, or else the shards that
    /// `model.safetensors.index.json` names. No tensor is read.
    ///
    /// # Errors
    /// [`Error::Mistake`] naming file and tensor when there are no weights, a shard or a tensor that the index names is
    /// missing, or a header contradicts its file or itself.
    pub fn open(root: &Path) -> Result<Self> {
        let single = root.join(SINGLE_FILE);
        let index = root.join(INDEX_FILE);
        if single.is_file() {
            Ok(Self::of(root, header::read(&single)?))
        } else if index.is_file() {
            Self::open_shards(root, &index)
        } else {
            Err(no_weights(root))
        }
    }

    fn open_shards(root: &Path, index_path: &Path) -> Result<Self> {
        let index = JsonFile::read(index_path)?;
        let Some(Value::Object(map)) = index.get("weight_map") else {
            return Err(
                index.wrong("the key `weight_map` is missing: accepted is an object from tensor to file")
            );
        };
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, file) in map {
            match file.as_str() {
                // A shard lies beside its index: a path could name any file of the machine.
                Some(file) if !file.is_empty() && !file.contains(['/', '\\']) && file != ".." => {
                    shards.entry(file).or_default().push(tensor);
                }
                _ => return Err(index.unexpected(&format!("weight_map.{tensor}"), file, "a file name")),
            }
        }
        // What counts is what the shards hold. Which tensor is in which one an index says wrong now and then, also of
        // tensors that nobody needs.
        let mut tensors = BTreeMap::new();
        for (file, named) in shards {
            let path = root.join(file);
            if !path.is_file() {
                return Err(index.wrong(&format!(
                    "the shard {file} is named but not there (for `{}` and {} more): every shard has to lie in {}",
                    named[0],
                    named.len() - 1,
                    root.display()
                )));
            }
            tensors.extend(header::read(&path)?);
        }
        Ok(Self::of(root, tensors))
    }

    fn of(root: &Path, tensors: BTreeMap<String, HeaderTensor>) -> Self {
        let (aliases, pieces, edits) = (BTreeMap::new(), BTreeMap::new(), TensorEdits::new());
        Self { root: root.to_path_buf(), tensors, aliases, pieces, edits }
    }

    /// Lets a tensor of the files be found by another name.
    pub(super) fn alias(&mut self, name: String, stored: String) {
        self.aliases.insert(name, stored);
    }

    /// Lets piece `index` of a tensor of the files, which is cut along its first dimension, be found by a name of its own.
    ///
    /// # Errors
    /// As [`Self::required`].
    pub(super) fn name_piece(&mut self, name: String, tensor: &str, index: usize) -> Result<()> {
        let mut info = self.required(tensor)?.clone();
        let bytes =
            (info.bytes.end - info.bytes.start) / info.shape.first().map_or(1, |pieces| *pieces as u64);
        info.bytes.start += index as u64 * bytes;
        info.bytes.end = info.bytes.start + bytes;
        info.shape.remove(0);
        self.pieces.insert(name, info);
        Ok(())
    }

    /// The name that the files have for a tensor.
    pub fn stored_name<'a>(&'a self, name: &'a str) -> &'a str {
        if self.tensors.contains_key(name) {
            name
        } else {
            self.aliases.get(name).map_or(name, String::as_str)
        }
    }

    /// Reads only some rows and columns of a matrix, or some elements of a vector, from now on.
    ///
    /// # Errors
    /// As [`Self::required`].
    pub(super) fn cut(
        &mut self,
        name: &str,
        rows: Option<Vec<usize>>,
        columns: Option<Vec<usize>>,
    ) -> Result<()> {
        let mut info = self.required(name)?.clone();
        let width = info.shape.get(1).copied().unwrap_or(1);
        if let (Some(rows), Some(size)) = (&rows, info.shape.first_mut()) {
            *size = rows.len();
        }
        if let (Some(columns), Some(size)) = (&columns, info.shape.get_mut(1)) {
            *size = columns.len();
        }
        let cut = TensorCut { width, rows: rows.map(Into::into), columns: columns.map(Into::into) };
        self.edit(name, info, TensorEdit::Cut(cut));
        Ok(())
    }

    /// Reads these values under the name of a tensor from now on, whether the files have it or not. It counts as one of the
    /// file that `beside` is in.
    ///
    /// # Errors
    /// As [`Self::required`]; values that are no numbers.
    pub(super) fn put(&mut self, name: &str, beside: &str, values: &Tensor) -> Result<()> {
        let mut bytes = Vec::new();
        let flat = values.flatten_all()?;
        flat.write_bytes(&mut bytes).map_err(|e| Error::failure(format!("cannot make `{name}`: {e}")))?;
        let (dtype, shape) = (values.dtype(), values.dims().to_vec());
        let info = TensorInfo { dtype, shape, ..self.required(beside)?.clone() };
        self.edit(name, info, TensorEdit::Values(bytes.into()));
        Ok(())
    }

    fn edit(&mut self, name: &str, info: TensorInfo, edit: TensorEdit) {
        let stored = self.stored_name(name).to_owned();
        self.tensors.insert(stored.clone(), HeaderTensor::Known(info));
        self.edits.insert(stored, edit);
    }

    /// Whether a tensor is read otherwise than it lies in the files.
    pub(crate) fn is_edited(&self, name: &str) -> bool {
        self.edits.contains_key(self.stored_name(name))
    }

    /// Names of tensors whose values are given, as the files would have them.
    pub(crate) fn given(&self) -> impl Iterator<Item = &str> {
        let given = self.edits.iter().filter(|(_, edit)| matches!(edit, TensorEdit::Values(_)));
        given.map(|(name, _)| name.as_str())
    }

    fn data(&self, name: &str, info: &TensorInfo) -> Result<TensorBytes> {
        let edit = self.edits.get(self.stored_name(name));
        TensorBytes::of(edit, info.dtype.size_in_bytes(), || map(name, info))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Names of all tensors as the files have them, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Where a tensor is and what it is made of; `None` where there is none that can be read.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.required(name).ok()
    }

    /// Whether there is such a tensor, of whatever it is made.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(self.stored_name(name))
    }

    /// Reads a tensor, converted to `dtype`, onto `device`.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such tensor, it holds NaN or infinite values, or its file was changed since
    /// it was opened; [`Error::Io`] when it cannot be read; [`Error::Tensor`] when the device has no room.
    pub fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let info = self.required(name)?;
        let map = self.data(name, info)?;
        let shape = info.shape.clone();
        let tensor = if device.is_cpu() {
            let pieces: Vec<&[u8]> = map.chunks(convert::PIECE_BYTES).collect();
            convert::tensor(&pieces, info.dtype, shape, dtype, device)?
        } else {
            convert::onto_device(&map, info.dtype, shape, dtype, device)?
        };
        tensor.ok_or_else(|| not_finite(name, info))
    }

    /// Reads rows of a matrix, converted to `dtype`, onto `device`: `[ids, columns]`. Only these rows are read.
    ///
    /// # Errors
    /// As [`Self::tensor`]; also [`Error::Mistake`] when it is no matrix or a row is beyond its last.
    pub fn rows(&self, name: &str, ids: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
        let info = self.required(name)?;
        let &[rows, columns] = info.shape.as_slice() else {
            return Err(Error::mistake(format!(
                "{}: `{name}` has the shape {:?}: accepted is a matrix",
                info.file.display(),
                info.shape
            )));
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
            return Err(Error::mistake(format!(
                "{}: token {id} has no row in `{name}`, which has {rows}: tokenizer and weights are of different models",
                info.file.display()
            )));
        }
        let map = self.data(name, info)?;
        let width = columns * info.dtype.size_in_bytes();
        let pieces: Vec<&[u8]> = ids.iter().map(|id| &map[*id as usize * width..][..width]).collect();
        convert::tensor(&pieces, info.dtype, vec![ids.len(), columns], dtype, device)?
            .ok_or_else(|| not_finite(name, info))
    }

    /// Lends the raw little-endian bytes of a tensor for one call.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such tensor or its file was changed since it was opened; [`Error::Io`] when it
    /// cannot be read.
    pub fn bytes<R>(&self, name: &str, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let info = self.required(name)?;
        Ok(f(&self.data(name, info)?))
    }

    /// Where a tensor is and what it is made of.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such tensor, or it is made of something other than F32, F16 or BF16.
    pub fn required(&self, name: &str) -> Result<&TensorInfo> {
        if let Some(piece) = self.pieces.get(name) {
            return Ok(piece);
        }
        match self.tensors.get(self.stored_name(name)) {
            Some(HeaderTensor::Known(info)) => Ok(info),
            Some(HeaderTensor::Foreign { dtype, file }) => Err(Error::mistake(format!(
                "{}: `{name}` is made of {dtype}: accepted are F32, F16 and BF16",
                file.display()
            ))),
            None => {
                Err(Error::mistake(format!("{}: the weights have no tensor `{name}`", self.root.display())))
            }
        }
    }
}

fn not_finite(name: &str, info: &TensorInfo) -> Error {
    Error::mistake(format!(
        "{}: `{name}` holds NaN or infinite weights: accepted are finite numbers",
        info.file.display()
    ))
}

fn no_weights(root: &Path) -> Error {
    let other = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "tf_model.h5"]
        .into_iter()
        .find(|file| root.join(file).exists())
        .map_or(String::new(), |file| format!(" (found {file}, which is not read: convert it first)"));
    Error::mistake(format!(
        "{}: no weights{other}: accepted are {SINGLE_FILE}, or {INDEX_FILE} and its shards",
        root.display()
    ))
}

/// Maps the bytes of one tensor and nothing else.
fn map(name: &str, info: &TensorInfo) -> Result<Mmap> {
    let file = File::open(&info.file).map_err(|e| Error::io("cannot open", &info.file, e))?;
    let length = file.metadata().map_err(|e| Error::io("cannot read", &info.file, e))?.len();
    if length < info.bytes.end {
        return Err(Error::mistake(format!(
            "{}: `{name}` ends at byte {} but the file now has {length}: it was changed while in use",
            info.file.display(),
            info.bytes.end
        )));
    }
    let size = (info.bytes.end - info.bytes.start) as usize;
    let mut options = MmapOptions::new();
    options.offset(info.bytes.start).len(size);
    // SAFETY: the map is read-only and the range lies within the file, checked just above, so reading it is sound as
    // long as nobody shortens or rewrites the file during this call. No mapping can rule that out; model files are
    // written once, and the map lives only until the tensor is converted.
    #[allow(unsafe_code)]
    let mapped = unsafe { options.map(&file) };
    mapped.map_err(|e| Error::io("cannot map", &info.file, e))
}
