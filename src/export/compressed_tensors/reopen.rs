//! Reading what was written, bit by bit as the format's description has it, and by none of the code that wrote it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::renumber::TensorNames;
use crate::model::weights::SINGLE_FILE;
use crate::model::{Block, ModelFolder};

/// Most bytes that a header may have.
const LARGEST_HEADER: u64 = 100_000_000;

/// An exported model that is read tensor by tensor.
pub(super) struct Reopened<'a> {
    file: TensorFile,
    source: &'a ModelFolder,
    /// What the source's tensors are called here.
    names: TensorNames,
    scheme: CodeScheme,
}

/// How `config.json` says that codes are to be read.
#[derive(Debug, Clone, Copy)]
struct CodeScheme {
    bits: usize,
    symmetric: bool,
    /// Columns of a row that share a scale; `None` is all of them.
    group: Option<u64>,
}

impl CodeScheme {
    /// Of `quantization_config`; `None` where it is not what is read here.
    fn of(config: &Value) -> Option<Self> {
        let weights = &config["config_groups"]["group_0"]["weights"];
        let known = config["quant_method"] == "compressed-tensors"
            && config["format"] == "pack-quantized"
            && config["config_groups"].as_object()?.len() == 1
            && weights["type"] == "int";
        let group = match weights["strategy"].as_str()? {
            "group" => Some(weights["group_size"].as_u64().filter(|size| *size > 0)?),
            "channel" => None,
            _ => return None,
        };
        let bits = weights["num_bits"].as_u64().filter(|bits| (1..=8).contains(bits))? as usize;
        known.then_some(Self { bits, symmetric: weights["symmetric"].as_bool()?, group })
    }

    /// Groups of a row; `None` where they do not fill it.
    fn groups(self, columns: usize) -> Option<usize> {
        let size = self.group.unwrap_or(columns as u64);
        (size > 0 && (columns as u64).is_multiple_of(size)).then(|| (columns as u64 / size) as usize)
    }
}

impl<'a> Reopened<'a> {
    /// Opens the folder, in which every tensor that is not quantised has to be the source's.
    ///
    /// # Errors
    /// What is missing or makes no sense.
    pub fn open(folder: &Path, source: &'a ModelFolder) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("cannot read", &path, e))?;
        let wrong = || Error::mistake(format!("{}: no quantization_config as it should be", path.display()));
        let config: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
        let scheme = CodeScheme::of(&config["quantization_config"]).ok_or_else(wrong)?;
        let file = TensorFile::open(&folder.join(SINGLE_FILE))?;
        let mut read = Self { file, source, names: TensorNames::of(source)?, scheme };
        read.compare_with_source()?;
        Ok(read)
    }

    /// Compares every tensor that is not quantised with the source's, byte for byte.
    fn compare_with_source(&mut self) -> Result<()> {
        for name in self.source.weights.names() {
            let stored = self.source.weights.stored_name(name);
            let Some(stored) = self.names.new_name(stored).map(Cow::into_owned) else { continue };
            let packed = stored.strip_suffix("weight").map(|module| format!("{module}weight_packed"));
            let is_packed = packed.is_some_and(|packed| self.file.entries.contains_key(&packed));
            // Buffers of other dtypes are no part of the model that is computed with.
            if is_packed || self.source.weights.info(name).is_none() {
                continue;
            }
            let written = self.file.bytes(&stored)?;
            if !self.source.weights.bytes(name, |own| own == written)? {
                return Err(Error::failure(format!("`{stored}` is not that of the source")));
            }
        }
        Ok(())
    }

    /// A block as it is computed with.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape.
    pub fn load(&mut self, block: usize) -> Result<Block> {
        let folder = self.source;
        let mut loaded = Block::load(folder, block, DType::F32, &Device::Cpu)?;
        for (id, module) in folder.config.layout(block).modules() {
            let weight = module.weight();
            let name = self.names.new_name(folder.weights.stored_name(&weight));
            let gone = || Error::failure(format!("`{weight}` belongs to a block that is left out"));
            let name = name.ok_or_else(gone)?.into_owned();
            let prefix = name.strip_suffix("weight").unwrap_or(&name);
            let (rows, columns) = module.shape;
            let values = if self.file.entries.contains_key(&name) {
                self.file.floats(&name, &[rows, columns])?
            } else {
                self.unpacked(prefix, rows, columns)?
            };
            loaded.set_weight(id, Tensor::from_vec(values, (rows, columns), &Device::Cpu)?);
        }
        Ok(loaded)
    }

    fn unpacked(&mut self, prefix: &str, rows: usize, columns: usize) -> Result<Vec<f32>> {
        let CodeScheme { bits, symmetric, .. } = self.scheme;
        let words = |count: usize| (count * bits).div_ceil(32);
        let row_words = words(columns);
        let packed = self.file.words(&format!("{prefix}weight_packed"), &[rows, row_words])?;
        let shape = self.file.raw(&format!("{prefix}weight_shape"), "I64", &[2])?;
        let groups = self
            .scheme
            .groups(columns)
            .filter(|_| shape == [(rows as i64).to_le_bytes(), (columns as i64).to_le_bytes()].concat());
        let groups = groups.ok_or_else(|| {
            Error::mistake(format!(
                "the groups or the shape of {prefix}weight do not fit {rows} by {columns}"
            ))
        })?;
        let scales = self.file.floats(&format!("{prefix}weight_scale"), &[rows, groups])?;
        let zero_words = if symmetric {
            Vec::new()
        } else {
            self.file.words(&format!("{prefix}weight_zero_point"), &[words(rows), groups])?
        };
        let middle = 1i32 << (bits - 1);
        let zero = |row: usize, group: usize| {
            if symmetric {
                return 0;
            }
            let at = |word: usize| zero_words.get(word * groups + group).copied().unwrap_or_default();
            number(row, bits, at) - middle
        };
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let own = &packed[row * row_words..(row + 1) * row_words];
            for column in 0..columns {
                let group = column / (columns / groups);
                let code = number(column, bits, |word| own.get(word).copied().unwrap_or_default()) - middle;
                values.push((code - zero(row, group)) as f32 * scales[row * groups + group]);
            }
        }
        Ok(values)
    }
}

/// The number at a place of a string of bits that is cut into words, lowest bits first.
fn number(place: usize, bits: usize, word: impl Fn(usize) -> u32) -> i32 {
    let mut found = 0;
    for bit in 0..bits {
        let at = place * bits + bit;
        found |= i32::from((word(at / 32) >> (at % 32)) & 1 == 1) << bit;
    }
    found
}

/// A safetensors file of which single tensors are read.
struct TensorFile {
    path: PathBuf,
    file: File,
    /// Where the data begin.
    data: u64,
    /// Dtype, shape, and place of the data.
    entries: HashMap<String, (String, Vec<usize>, [u64; 2])>,
}

impl TensorFile {
    fn open(path: &Path) -> Result<Self> {
        let cannot = |e| Error::io("cannot read", path, e);
        let damaged = || Error::mistake(format!("{}: it is damaged", path.display()));
        let mut file = File::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(cannot)?;
        let header = u64::from_le_bytes(prefix);
        if header > LARGEST_HEADER.min(length.saturating_sub(8)) {
            return Err(damaged());
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(cannot)?;
        let header: HashMap<String, Value> = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let data = 8 + text.len() as u64;
        let mut entries = HashMap::new();
        for (name, entry) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
            let read = || -> Option<(String, Vec<usize>, [u64; 2])> {
                let dtype = entry["dtype"].as_str()?.to_owned();
                let shape = entry["shape"].as_array()?.iter().map(|n| Some(n.as_u64()? as usize));
                let shape: Vec<usize> = shape.collect::<Option<_>>()?;
                let place = [entry["data_offsets"][0].as_u64()?, entry["data_offsets"][1].as_u64()?];
                let elements = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
                let bytes = place[1].checked_sub(place[0])?;
                let fits = match dtype.as_str() {
                    "I64" => elements.checked_mul(8)? as u64 == bytes,
                    "I32" | "F32" => elements.checked_mul(4)? as u64 == bytes,
                    "F16" | "BF16" => elements.checked_mul(2)? as u64 == bytes,
                    // Read by nobody here.
                    _ => true,
                };
                (fits && place[1] <= length - data).then_some((dtype, shape, place))
            };
            entries.insert(name, read().ok_or_else(damaged)?);
        }
        // As the library wants it: data of one tensor behind that of the other, from the first byte to the last.
        let mut places: Vec<[u64; 2]> = entries.values().map(|(.., place)| *place).collect();
        places.sort_unstable();
        let end = places.iter().try_fold(0, |end, [from, to]| (*from == end).then_some(*to));
        if end != Some(length - data) {
            return Err(damaged());
        }
        Ok(Self { path: path.to_path_buf(), file, data, entries })
    }

    fn entry(&self, name: &str) -> Result<&(String, Vec<usize>, [u64; 2])> {
        let missing = || Error::mistake(format!("{}: `{name}` is missing", self.path.display()));
        self.entries.get(name).ok_or_else(missing)
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let [from, to] = self.entry(name)?.2;
        let mut bytes = vec![0; (to - from) as usize];
        let read =
            self.file.seek(SeekFrom::Start(self.data + from)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|e| Error::io("cannot read", &self.path, e))?;
        Ok(bytes)
    }

    /// The bytes of a tensor that has to be of a dtype and a shape.
    fn raw(&mut self, name: &str, dtype: &str, shape: &[usize]) -> Result<Vec<u8>> {
        let (found, found_shape, _) = self.entry(name)?;
        if found != dtype || found_shape != shape {
            return Err(Error::mistake(format!(
                "`{name}` is {found_shape:?} of {found}, not {shape:?} of {dtype}"
            )));
        }
        self.bytes(name)
    }

    fn words(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        let bytes = self.raw(name, "I32", shape)?;
        Ok(bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let dtype = self.entry(name)?.0.clone();
        let bytes = self.raw(name, &dtype, shape)?;
        Ok(match dtype.as_str() {
            "F16" => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            "BF16" => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            "F32" => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            other => return Err(Error::mistake(format!("`{name}` has dtype {other}"))),
        })
    }
}
