//! The number formats of ggml: their blocks, and which of them llama.cpp gives to which matrix.
//!
//! A row of a matrix is cut into blocks of 32 or 256 values; a block holds its values as small integers with a scale, and
//! with some types a minimum. Types, sizes and codes are ggml's (`ggml.h`), and so are the bytes, to the last one, with
//! importance and without. Reading them is candle's.

mod blocks;
mod kind;
mod mixture;
mod search;

use std::borrow::Cow;

use candle_core::Device;
use candle_core::quantized::{QStorage, QTensor};
use half::{bf16, f16};
use rayon::prelude::*;

pub use self::kind::GgmlType;
pub use self::mixture::{EndTypes, GgmlMixture, MIXTURES, MatrixKind, MatrixPlace};
use crate::error::{Error, Result};

/// Values that one task quantises, about.
const TASK: usize = 1 << 16;

/// Quantises a row-major matrix whose rows have `columns` values, on all cores: its bytes, row after row.
///
/// # Errors
/// [`Error::Failure`] for rows that are no whole blocks, and for values that the type cannot hold.
pub fn quantise(kind: GgmlType, values: &[f32], columns: usize) -> Result<Vec<u8>> {
    quantise_by_importance(kind, values, columns, None)
}

/// [`quantise`], given how much the error of each column counts: the mean square of what it is multiplied with. Only
/// proportions matter. `Q8_0` and the floats have nothing to choose and do not look at it.
///
/// # Errors
/// As [`quantise`]; importance of another number of columns.
pub fn quantise_by_importance(
    kind: GgmlType,
    values: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>> {
    if let Some(importance) = importance.filter(|importance| importance.len() != columns) {
        let found = importance.len();
        return Err(Error::failure(format!("importance of {found} columns does not fit rows of {columns}")));
    }
    if !columns.is_multiple_of(kind.block_values()) || columns == 0 || !values.len().is_multiple_of(columns) {
        return Err(Error::failure(format!("rows of {columns} values are no whole blocks of {kind:?}")));
    }
    let row = kind.row_bytes(columns);
    let rows = (TASK / columns).max(1);
    let mut bytes = vec![0; values.len() / columns * row];
    bytes
        .par_chunks_mut(rows * row)
        .zip(values.par_chunks(rows * columns))
        .try_for_each(|(bytes, values)| quantise_rows(kind, values, columns, importance, bytes))?;
    Ok(bytes)
}

fn quantise_rows(
    kind: GgmlType,
    values: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    bytes: &mut [u8],
) -> Result<()> {
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
            let rows = bytes.chunks_mut(kind.row_bytes(columns)).zip(values.chunks(columns));
            rows.for_each(|(bytes, values)| blocks::quantise_row(kind, values, importance, bytes));
        }
    }
    Ok(())
}

fn fill<const N: usize>(bytes: &mut [u8], values: &[f32], encode: impl Fn(f32) -> [u8; N]) {
    for (bytes, value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *bytes = encode(*value);
    }
}

/// A matrix in a block format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMatrix {
    /// The format of all its values.
    pub kind: GgmlType,
    /// `[out, in]`
    pub shape: [usize; 2],
    /// Its blocks, row after row.
    pub bytes: Vec<u8>,
}

impl BlockMatrix {
    /// A matrix from its bytes.
    ///
    /// # Errors
    /// [`Error::Failure`] for bytes that do not fit the shape.
    pub fn new(kind: GgmlType, shape: [usize; 2], bytes: Vec<u8>) -> Result<Self> {
        let [rows, columns] = shape;
        let is_whole = columns.is_multiple_of(kind.block_values());
        if !is_whole || rows.checked_mul(kind.row_bytes(columns)) != Some(bytes.len()) {
            let found = bytes.len();
            return Err(Error::failure(format!(
                "{found} bytes are no {rows} by {columns} matrix of {}",
                kind.name()
            )));
        }
        Ok(Self { kind, shape, bytes })
    }

    /// The values, row-major.
    ///
    /// # Errors
    /// [`Error::Failure`] for bytes that are no blocks.
    pub fn values(&self) -> Result<Vec<f32>> {
        dequantise(self.kind, &self.bytes)
    }

    /// Bits that it takes.
    pub fn bits(&self) -> u64 {
        8 * self.bytes.len() as u64
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

#[cfg(test)]
mod tests;
