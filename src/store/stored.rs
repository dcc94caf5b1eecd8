//! What a checkpoint holds of a compressed matrix, and everything that can be done with it.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::container::{Data, NamedTensor, TensorContent};
use crate::error::{Error, Result};
use crate::kernels::codes::{Codes, Grid, GroupGrid};
use crate::kernels::device::{count_zeros, pack::mask_bytes};
use crate::kernels::ggml::{BlockMatrix, GgmlType};
use crate::model::convert::round_to;
use crate::results::Footprint;

const MASK: &str = ".mask";
const WEIGHT: &str = ".weight";
const SHAPE: &str = ".shape";
const CODES: &str = ".codes";
const SCALES: &str = ".scales";
const ZEROS: &str = ".zeros";
const BLOCKS: &str = ".blocks";
const FORMAT: &str = ".format";
const GRID: &str = ".grid";
/// Of modules whose block is gone: there is nothing else to keep.
const DROPPED: &str = ".dropped";
const SYMMETRIC: &str = "symmetric";
const ASYMMETRIC: &str = "asymmetric";

/// Weights of one task: whole bytes of a mask.
const MASK_TASK: usize = 1 << 16;

/// A compressed matrix as it is kept.
#[derive(Debug, Clone)]
pub enum Stored {
    /// The weights that stay are the source's own.
    Mask {
        /// The weight's shape, `[out, in]`.
        shape: [usize; 2],
        /// One bit a weight, 1 where it stays: row-major, the most significant bit of a byte first, rows not padded.
        bits: Vec<u8>,
    },
    /// New values `[out, in]` in the source's dtype (f32, f16 or bf16).
    Values(Tensor),
    /// Weights on a grid, whose scales are in the source's dtype.
    Codes(Codes),
    /// Weights in blocks of a format.
    Blocks(BlockMatrix),
    /// Nothing: the whole decoder block is gone. The shape is the source's, `[out, in]`.
    Dropped([usize; 2]),
}

impl Stored {
    /// Keeps what a method made of a matrix of dtype `source`. `weights` become the values that an export will have:
    /// new values are rounded to that dtype, so that what is measured is what is exported.
    ///
    /// # Errors
    /// A dtype other than f32, f16 and bf16.
    pub fn keep(weights: &mut [f32], shape: [usize; 2], source: DType, new_values: bool) -> Result<Self> {
        if new_values {
            return Ok(Self::Values(round_to(weights, &shape, source)?));
        }
        Ok(Self::Mask { shape, bits: mask_of(weights) })
    }

    /// [`Stored::keep`] of a matrix in `f32` on a device, of which only what is kept comes to the host: a mask now, new
    /// values when they are written. Also returns the matrix as it is computed with, in the dtype `source` on its device,
    /// and its bits.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn keep_from_device(
        weights: &Tensor,
        source: DType,
        new_values: bool,
    ) -> Result<(Self, Tensor, Footprint)> {
        let rounded = weights.to_dtype(source)?;
        let stored = if new_values {
            Self::Values(rounded.clone())
        } else {
            Self::Mask { shape: rounded.dims2()?.into(), bits: mask_bytes(&rounded)? }
        };
        let (count, zeros) = (rounded.elem_count() as u64, count_zeros(&rounded)? as u64);
        Ok((stored, rounded, footprint(count, zeros, 8 * source.size_in_bytes())))
    }

    /// The same with new values on the host.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn on_host(self) -> Result<Self> {
        Ok(match self {
            Self::Values(values) => Self::Values(values.to_device(&Device::Cpu)?),
            other => other,
        })
    }

    /// As [`Stored::keep_from_device`], of codes whose values lie on a device in `f32`, where they are computed with.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn keep_codes_from_device(codes: Codes, values: Tensor) -> Result<(Self, Tensor, Footprint)> {
        let (count, zeros) = (values.elem_count() as u64, count_zeros(&values)? as u64);
        let footprint = footprint_of_codes(&codes, count, zeros);
        Ok((Self::Codes(codes), values, footprint))
    }

    /// The shape, `[out, in]`.
    ///
    /// # Errors
    /// Values that are no matrix.
    pub fn shape(&self) -> Result<[usize; 2]> {
        match self {
            Self::Mask { shape, .. } | Self::Dropped(shape) => Ok(*shape),
            Self::Values(values) => Ok(values.dims2()?.into()),
            Self::Codes(codes) => Ok(codes.shape),
            Self::Blocks(blocks) => Ok(blocks.shape),
        }
    }

    /// Whether this is of a matrix with such a shape and such a dtype (as safetensors spells it).
    pub fn fits(&self, shape: &[usize], dtype: &str) -> bool {
        let same_dtype = match self {
            Self::Mask { .. } | Self::Codes(_) | Self::Blocks(_) | Self::Dropped(_) => true,
            Self::Values(values) => values.dtype().as_str().eq_ignore_ascii_case(dtype),
        };
        same_dtype && self.shape().is_ok_and(|own| own == shape)
    }

    /// The matrix as it is computed with, in `f32` on the host or in the source's dtype. `source` gives the source's
    /// weights in `f32` and is asked only where they are needed.
    ///
    /// # Errors
    /// What `source` says; weights of another shape.
    pub fn weights(&self, source: impl FnOnce() -> Result<Vec<f32>>) -> Result<Tensor> {
        match self {
            Self::Values(values) => Ok(values.clone()),
            Self::Mask { shape, bits } => {
                let mut weights = source()?;
                apply_mask(&mut weights, bits);
                Ok(Tensor::from_vec(weights, (shape[0], shape[1]), &Device::Cpu)?)
            }
            Self::Codes(codes) => {
                Ok(Tensor::from_vec(codes.values(), (codes.shape[0], codes.shape[1]), &Device::Cpu)?)
            }
            Self::Blocks(blocks) => {
                Ok(Tensor::from_vec(blocks.values()?, (blocks.shape[0], blocks.shape[1]), &Device::Cpu)?)
            }
            Self::Dropped(_) => Err(Error::failure("a block that was removed has no weights")),
        }
    }

    /// The same matrix, given its weights in `f32`, in the source's dtype where nothing is lost by that: half the
    /// transfer to a device.
    ///
    /// # Errors
    /// A dtype other than f32, f16 and bf16.
    pub fn for_device(&self, weights: &mut [f32], source: DType) -> Result<Tensor> {
        match self {
            Self::Values(values) => Ok(values.clone()),
            Self::Mask { shape, .. } | Self::Dropped(shape) => round_to(weights, shape, source),
            Self::Codes(Codes { shape: [rows, columns], .. })
            | Self::Blocks(BlockMatrix { shape: [rows, columns], .. }) => {
                Ok(Tensor::from_slice(weights, (*rows, *columns), &Device::Cpu)?)
            }
        }
    }

    /// The bits of the matrix `weights`, which are those that this stands for, `source_bits` each in the source.
    pub fn footprint(&self, weights: &[f32], source_bits: usize) -> Footprint {
        let zeros = weights.par_iter().with_min_len(1 << 16).filter(|w| **w == 0.0).count() as u64;
        match self {
            Self::Mask { .. } | Self::Values(_) => footprint(weights.len() as u64, zeros, source_bits),
            Self::Dropped(_) => Footprint::default(),
            Self::Codes(codes) => footprint_of_codes(codes, weights.len() as u64, zeros),
            // Zeros are values of blocks like others, whose scales nobody could leave out.
            Self::Blocks(blocks) => Footprint {
                weights: weights.len() as u64,
                zeros,
                stored_bits: blocks.bits(),
                packed_bits: blocks.bits(),
                ..Footprint::default()
            },
        }
    }

    /// How it lies in a container under the module's name: tensors, and what the header says of them.
    ///
    /// `self_attn.q_proj.weight` holds new values; `self_attn.q_proj.mask` the packed bits of a mask, whose shape is in
    /// the metadata as `self_attn.q_proj.shape`: `576,1536`. Codes are `self_attn.q_proj.codes`, packed
    /// ([`Codes::packed`]), with `.scales` and `.zeros` of their groups, and in the metadata, besides the shape,
    /// `self_attn.q_proj.grid`: `4,64,asymmetric`, that is bits and group. Blocks are `self_attn.q_proj.blocks`, as ggml
    /// has them, with `self_attn.q_proj.format`: `q4_k`. Of a module that is gone there is `self_attn.q_proj.dropped`,
    /// which is empty.
    ///
    /// # Errors
    /// [`Error::Failure`] for a mask that does not fit its shape, or a scale dtype that no model has.
    pub(super) fn entries<'a>(
        &'a self,
        module: &str,
        metadata: &mut Vec<(String, String)>,
    ) -> Result<Vec<NamedTensor<'a>>> {
        let named = |kind: &str, data| NamedTensor { name: format!("{module}{kind}"), data };
        let mut note = |kind: &str, text: String| metadata.push((format!("{module}{kind}"), text));
        match self {
            Self::Values(tensor) => Ok(vec![named(WEIGHT, Data::Values(tensor.clone()))]),
            Self::Mask { shape: [rows, columns], bits } => {
                if bits.len() != (rows * columns).div_ceil(8) {
                    let found = bits.len();
                    return Err(Error::failure(format!(
                        "{found} bytes of mask do not fit {module}, {rows} by {columns}"
                    )));
                }
                note(SHAPE, format!("{rows},{columns}"));
                Ok(vec![named(MASK, Data::Bytes(bits.into()))])
            }
            Self::Blocks(BlockMatrix { kind, shape: [rows, columns], bytes }) => {
                note(SHAPE, format!("{rows},{columns}"));
                note(FORMAT, kind.name().into());
                Ok(vec![named(BLOCKS, Data::Bytes(bytes.into()))])
            }
            Self::Dropped([rows, columns]) => {
                note(SHAPE, format!("{rows},{columns}"));
                Ok(vec![named(DROPPED, Data::Bytes(Vec::new().into()))])
            }
            Self::Codes(codes) => {
                let ([rows, columns], grid) = (codes.shape, codes.grid);
                let kind = if grid.symmetric { SYMMETRIC } else { ASYMMETRIC };
                note(SHAPE, format!("{rows},{columns}"));
                note(GRID, format!("{},{},{kind}", grid.bits, grid.group));
                let mut scales: Vec<f32> = codes.groups.iter().map(|group| group.scale).collect();
                let scales = round_to(&mut scales, &[rows, grid.groups(columns)], grid.scale_dtype)?;
                let zeros: Vec<u8> = codes.groups.iter().map(|group| group.zero).collect();
                Ok(vec![
                    named(CODES, Data::Bytes(codes.packed().into())),
                    named(SCALES, Data::Values(scales)),
                    named(ZEROS, Data::Bytes(zeros.into())),
                ])
            }
        }
    }

    /// The modules with their names, from what [`Stored::entries`] made of them.
    ///
    /// # Errors
    /// What is wrong with an entry.
    pub(super) fn from_entries(
        entries: Vec<(String, TensorContent)>,
        metadata: &HashMap<String, String>,
        device: &Device,
    ) -> std::result::Result<Vec<(String, Self)>, String> {
        let shape = |module: &str| {
            let text = metadata.get(&format!("{module}{SHAPE}"));
            text.and_then(|text| parse_shape(text)).ok_or_else(|| format!("{module} has no shape"))
        };
        let mut modules = Vec::new();
        let mut entries = entries.into_iter();
        while let Some((name, content)) = entries.next() {
            let of = |kind| name.strip_suffix(kind);
            modules.push(match content {
                TensorContent::Values(tensor) => {
                    let module = of(WEIGHT).ok_or_else(|| format!("`{name}` is no module"))?;
                    let values = tensor.to_device(device).map_err(|e| e.to_string())?;
                    (module.to_owned(), Self::Values(values))
                }
                TensorContent::Bytes(packed) => {
                    if let Some(module) = of(CODES) {
                        let grid = metadata.get(&format!("{module}{GRID}"));
                        let (scales, zeros) = (entries.next(), entries.next());
                        let codes = read_codes(module, shape(module)?, grid, packed, [scales, zeros])?;
                        (module.to_owned(), Self::Codes(codes))
                    } else if let Some(module) = of(BLOCKS) {
                        let format = metadata.get(&format!("{module}{FORMAT}"));
                        let kind = format.and_then(|name| GgmlType::of_name(name));
                        let kind =
                            kind.ok_or_else(|| format!("{module} has no format that is known here"))?;
                        let blocks =
                            BlockMatrix::new(kind, shape(module)?, packed).map_err(|e| e.to_string())?;
                        (module.to_owned(), Self::Blocks(blocks))
                    } else if let Some(module) = of(DROPPED) {
                        (module.to_owned(), Self::Dropped(shape(module)?))
                    } else {
                        let module = of(MASK).ok_or_else(|| format!("`{name}` is no module"))?;
                        let shape = shape(module)?;
                        if shape[0].checked_mul(shape[1]).is_none_or(|n| n.div_ceil(8) != packed.len()) {
                            return Err("a mask does not fit its shape".into());
                        }
                        (module.to_owned(), Self::Mask { shape, bits: packed })
                    }
                }
            });
        }
        Ok(modules)
    }
}

/// Of codes of so many weights, of which so many are zero.
fn footprint_of_codes(codes: &Codes, weights: u64, zeros: u64) -> Footprint {
    let of_codes = (weights - zeros) * u64::from(codes.grid.bits) + codes.group_bits();
    Footprint {
        weights,
        zeros,
        stored_bits: codes.bits(),
        packed_bits: weights + of_codes,
        ..Footprint::default()
    }
}

/// Codes from their entries: `others` are those of scales and zeros.
fn read_codes(
    module: &str,
    shape: [usize; 2],
    grid: Option<&String>,
    packed: Vec<u8>,
    others: [Option<(String, TensorContent)>; 2],
) -> std::result::Result<Codes, String> {
    let broken = || format!("the codes of {module} are not whole");
    let [Some((scales_name, TensorContent::Values(scales))), Some((zeros_name, TensorContent::Bytes(zeros)))] =
        others
    else {
        return Err(broken());
    };
    if scales_name != format!("{module}{SCALES}") || zeros_name != format!("{module}{ZEROS}") {
        return Err(broken());
    }
    let parts: Vec<&str> = grid.map(|text| text.split(',').collect()).unwrap_or_default();
    let (bits, group, symmetric) = match parts[..] {
        [bits, group, SYMMETRIC] => (bits, group, true),
        [bits, group, ASYMMETRIC] => (bits, group, false),
        _ => return Err(broken()),
    };
    let (Ok(bits), Ok(group)) = (bits.parse(), group.parse()) else { return Err(broken()) };
    let grid = Grid { bits, group, symmetric, scale_dtype: scales.dtype() };
    let values = scales.to_dtype(DType::F32).and_then(|s| s.flatten_all()).and_then(|s| s.to_vec1());
    let scales: Vec<f32> = values.map_err(|e| e.to_string())?;
    if scales.len() != zeros.len() {
        return Err(broken());
    }
    let groups = scales.into_iter().zip(zeros).map(|(scale, zero)| GroupGrid { scale, zero }).collect();
    Codes::of_packed(shape, grid, packed, groups).map_err(|e| e.to_string())
}

/// Whether an entry of a container is of a module that is gone.
pub(super) fn is_dropped(name: &str) -> bool {
    name.ends_with(DROPPED)
}

/// Of `count` weights of `source_bits` each, `zeros` of them zero.
pub(crate) fn footprint(count: u64, zeros: u64, source_bits: usize) -> Footprint {
    let bits = source_bits as u64;
    // Exports know no sparse format that loads anywhere: a zero is stored like any other value.
    Footprint {
        weights: count,
        zeros,
        stored_bits: count * bits,
        packed_bits: count + (count - zeros) * bits,
        ..Footprint::default()
    }
}

fn parse_shape(text: &str) -> Option<[usize; 2]> {
    let (rows, columns) = text.split_once(',')?;
    Some([rows.parse().ok()?, columns.parse().ok()?])
}

/// Packs one bit a weight, 1 where it is not zero: the first in the most significant bit of the first byte; the last
/// byte is filled up with zeros. On all cores.
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
pub(crate) fn apply_mask(weights: &mut [f32], bits: &[u8]) {
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

/// The first `count` bits of what [`mask_of`] packed.
pub(crate) fn unpack_mask(bits: &[u8], count: usize) -> impl Iterator<Item = bool> + '_ {
    bits.iter().flat_map(|byte| (0..8).map(move |i| byte & (0x80 >> i) != 0)).take(count)
}
