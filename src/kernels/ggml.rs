//! The number formats of ggml: their blocks, and which of them llama.cpp gives to which matrix.
//!
//! A row of a matrix is cut into blocks of 32 or 256 values; a block holds its values as small integers with a scale, and
//! with some types a minimum. The k-quants are candle's; bytes of the types with 32 values are those of ggml
//! itself. Types, sizes and codes are ggml's (`ggml.h`), the mixtures are those of llama.cpp's quantiser.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Values that one task quantises, about.
const TASK: usize = 1 << 16;

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as ggml names them")]
pub enum GgmlType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl GgmlType {
    fn dtype(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Bf16 => GgmlDType::BF16,
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q2K => GgmlDType::Q2K,
            Self::Q3K => GgmlDType::Q3K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
        }
    }

    /// The number that stands for it in a file.
    pub fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Values of a block.
    pub fn block_values(self) -> usize {
        self.dtype().block_size()
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.dtype().type_size()
    }

    /// Bytes of a row of so many values, which must be whole blocks.
    pub fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_values() * self.block_bytes()
    }

    /// This type, or what llama.cpp takes where rows of so many values are no whole blocks.
    #[must_use]
    pub fn fitting(self, columns: usize) -> Self {
        if columns.is_multiple_of(self.block_values()) {
            return self;
        }
        let other = match self {
            Self::Q2K | Self::Q3K => Self::Q4_0,
            Self::Q4K => Self::Q5_0,
            Self::Q5K => Self::Q5_1,
            Self::Q6K => Self::Q8_0,
            _ => Self::F16,
        };
        other.fitting(columns)
    }
}

/// Quantises a row-major matrix whose rows have `columns` values, on all cores: its bytes, row after row.
///
/// # Errors
/// [`Error::Failure`] for rows that are no whole blocks, and for values that the type cannot hold.
pub fn quantise(kind: GgmlType, values: &[f32], columns: usize) -> Result<Vec<u8>> {
    if !columns.is_multiple_of(kind.block_values()) || columns == 0 || !values.len().is_multiple_of(columns) {
        return Err(Error::failure(format!("rows of {columns} values are no whole blocks of {kind:?}")));
    }
    let row = kind.row_bytes(columns);
    let rows = (TASK / columns).max(1);
    let mut bytes = vec![0; values.len() / columns * row];
    bytes
        .par_chunks_mut(rows * row)
        .zip(values.par_chunks(rows * columns))
        .try_for_each(|(bytes, values)| quantise_rows(kind, values, columns, bytes))?;
    Ok(bytes)
}

fn quantise_rows(kind: GgmlType, values: &[f32], columns: usize, bytes: &mut [u8]) -> Result<()> {
    match kind {
        GgmlType::F32 => fill(bytes, values, f32::to_le_bytes),
        GgmlType::Bf16 => fill(bytes, values, |v| bf16::from_f32(v).to_le_bytes()),
        GgmlType::F16 => {
            if let Some(large) = values.iter().find(|v| f16::from_f32(**v).is_infinite()) {
                return Err(Error::failure(format!(
                    "a weight of {large} is beyond f16, which ends at 65504"
                )));
            }
            fill(bytes, values, |v| f16::from_f32(v).to_le_bytes());
        }
        _ => {
            let matrix = Tensor::from_slice(values, (values.len() / columns, columns), &Device::Cpu)?;
            bytes.copy_from_slice(&QTensor::quantize(&matrix, kind.dtype())?.data()?);
        }
    }
    Ok(())
}

fn fill<const N: usize>(bytes: &mut [u8], values: &[f32], encode: impl Fn(f32) -> [u8; N]) {
    for (bytes, value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *bytes = encode(*value);
    }
}

/// The values that bytes stand for, on all cores.
///
/// # Errors
/// [`Error::Failure`] for bytes that are no whole blocks.
pub fn dequantise(kind: GgmlType, bytes: &[u8]) -> Result<Vec<f32>> {
    let (block, size) = (kind.block_values(), kind.block_bytes());
    if !bytes.len().is_multiple_of(size) {
        return Err(Error::failure(format!("{} bytes are no whole blocks of {kind:?}", bytes.len())));
    }
    let blocks = (TASK / block).max(1);
    let mut values = vec![0.0; bytes.len() / size * block];
    values.par_chunks_mut(blocks * block).zip(bytes.par_chunks(blocks * size)).try_for_each(
        |(values, bytes)| -> Result<()> {
            let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, kind.dtype())?;
            let tensor = QTensor::new(storage, values.len())?.dequantize(&Device::Cpu)?;
            values.copy_from_slice(&tensor.to_vec1::<f32>()?);
            Ok(())
        },
    )?;
    Ok(values)
}

/// The values of a row-major matrix as they are after quantising.
///
/// # Errors
/// As [`quantise`].
pub fn rounded(kind: GgmlType, values: &[f32], columns: usize) -> Result<Vec<f32>> {
    dequantise(kind, &quantise(kind, values, columns)?)
}

/// What a matrix is for, as far as mixtures care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatrixKind {
    /// From tokens to hidden states, where the head is a matrix of its own.
    Embedding,
    /// From hidden states to logits; also an embedding that is the head too.
    Head,
    /// The values of attention.
    Value,
    /// What attention writes back.
    AttentionOutput,
    /// What an MLP writes back.
    Down,
    /// Any other matrix of a block.
    Other,
}

/// Where a matrix stands.
#[derive(Debug, Clone, Copy)]
pub struct MatrixPlace {
    /// What it is for.
    pub kind: MatrixKind,
    /// Its block.
    pub block: usize,
    /// Blocks of the model.
    pub blocks: usize,
    /// Query heads for every key head.
    pub queries_per_key: usize,
    /// Values of a row.
    pub columns: usize,
}

/// What a file is called after: one type for all matrices, or a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgmlMixture {
    name: &'static str,
    kind: GgmlType,
    /// The number that stands for it in `general.file_type`.
    pub file_type: u32,
    rule: MixtureRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MixtureRule {
    /// One type for everything; the head has it too.
    Plain,
    /// One type for everything but the head, as llama.cpp writes it.
    Uniform,
    Two,
    ThreeMedium,
    Small,
    Medium,
}

/// All of them.
pub const MIXTURES: &[GgmlMixture] = &[
    mixture("f32", GgmlType::F32, 0, MixtureRule::Plain),
    mixture("f16", GgmlType::F16, 1, MixtureRule::Plain),
    mixture("bf16", GgmlType::Bf16, 32, MixtureRule::Plain),
    mixture("q8_0", GgmlType::Q8_0, 7, MixtureRule::Plain),
    mixture("q6_k", GgmlType::Q6K, 18, MixtureRule::Uniform),
    mixture("q5_k_m", GgmlType::Q5K, 17, MixtureRule::Medium),
    mixture("q5_k", GgmlType::Q5K, 16, MixtureRule::Uniform),
    mixture("q5_1", GgmlType::Q5_1, 9, MixtureRule::Uniform),
    mixture("q5_0", GgmlType::Q5_0, 8, MixtureRule::Uniform),
    mixture("q4_k_m", GgmlType::Q4K, 15, MixtureRule::Medium),
    mixture("q4_k_s", GgmlType::Q4K, 14, MixtureRule::Small),
    mixture("q4_k", GgmlType::Q4K, 14, MixtureRule::Uniform),
    mixture("q4_1", GgmlType::Q4_1, 3, MixtureRule::Uniform),
    mixture("q4_0", GgmlType::Q4_0, 2, MixtureRule::Uniform),
    mixture("q3_k_m", GgmlType::Q3K, 12, MixtureRule::ThreeMedium),
    mixture("q3_k", GgmlType::Q3K, 11, MixtureRule::Uniform),
    mixture("q2_k", GgmlType::Q2K, 10, MixtureRule::Two),
];

const fn mixture(name: &'static str, kind: GgmlType, file_type: u32, rule: MixtureRule) -> GgmlMixture {
    GgmlMixture { name, kind, file_type, rule }
}

impl GgmlMixture {
    /// `q4_k_m`
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The type of most matrices.
    pub(crate) fn kind(self) -> GgmlType {
        self.kind
    }

    /// The one that stores floats in a type.
    pub(crate) fn of_floats(kind: GgmlType) -> Option<Self> {
        MIXTURES.iter().copied().find(|m| m.rule == MixtureRule::Plain && m.kind == kind)
    }

    /// Whether values are stored as floats of at least 16 bits.
    pub fn is_float(self) -> bool {
        matches!(self.kind, GgmlType::F32 | GgmlType::F16 | GgmlType::Bf16)
    }

    /// All names with commas between.
    pub fn names() -> String {
        MIXTURES.iter().map(|m| m.name).collect::<Vec<_>>().join(", ")
    }

    /// The type of a matrix, where rows fit; llama.cpp's choice of types that get more bits.
    pub fn type_of(self, place: &MatrixPlace) -> GgmlType {
        self.wanted(place).fitting(place.columns)
    }

    fn wanted(self, place: &MatrixPlace) -> GgmlType {
        let &MatrixPlace { kind, block, blocks, queries_per_key, .. } = place;
        let early = block < blocks / 8;
        let more_bits = early || block >= 7 * blocks / 8 || (block - blocks / 8) % 3 == 2;
        match (self.rule, kind) {
            (MixtureRule::Plain, _) => self.kind,
            (_, MatrixKind::Head) => GgmlType::Q6K,
            (MixtureRule::Two, MatrixKind::Value) if queries_per_key >= 4 => GgmlType::Q4K,
            (MixtureRule::Two, MatrixKind::Value | MatrixKind::Down | MatrixKind::AttentionOutput) => {
                GgmlType::Q3K
            }
            (MixtureRule::ThreeMedium, MatrixKind::Value) if block < 2 => GgmlType::Q5K,
            (MixtureRule::ThreeMedium, MatrixKind::Down) if block < blocks / 16 => GgmlType::Q5K,
            (
                MixtureRule::ThreeMedium,
                MatrixKind::Value | MatrixKind::Down | MatrixKind::AttentionOutput,
            ) => GgmlType::Q4K,
            (MixtureRule::Small, MatrixKind::Value) if block < 4 => GgmlType::Q5K,
            (MixtureRule::Small, MatrixKind::Down) if early => GgmlType::Q5K,
            (MixtureRule::Medium, MatrixKind::Value | MatrixKind::Down) if more_bits => GgmlType::Q6K,
            _ => self.kind,
        }
    }
}

impl fmt::Display for GgmlMixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for GgmlMixture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wanted = text.to_ascii_lowercase();
        MIXTURES
            .iter()
            .copied()
            .find(|m| m.name == wanted)
            .ok_or_else(|| Error::mistake(format!("unknown type `{text}`: accepted are {}", Self::names())))
    }
}

#[cfg(test)]
mod tests;
