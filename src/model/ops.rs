//! The operations of a decoder block on rows of hidden states.
//!
//! On the host in `f32` each is one fused loop of [`crate::kernels`] over buffers that are used again and again;
//! anywhere else it is put together from candle's operations. Both ways give the same numbers up to rounding, which
//! the tests hold.

mod columns;
mod composed;
mod delta;
mod gates;
mod routing;

use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};

pub(super) use self::columns::{ColumnRuns, beside, columns};
pub(super) use self::delta::{DeltaMemory, DeltaWeights, delta_net};
pub(crate) use self::gates::silu_mul;
pub(super) use self::gates::{activate, clamped_gated, gated, times_sigmoid};
pub(crate) use self::routing::row_norms;
pub(super) use self::routing::{RoutedRows, add_at_rows, route, sigmoids, zeros_like};
use super::batch::Batch;
use super::rope::RopeTable;
use crate::error::{Error, Result};
use crate::kernels::attention::{self, AttentionShape};
use crate::kernels::scratch::Buffer;
use crate::kernels::sparse::{self, Packed};
use crate::kernels::{elementwise, matmul};

/// Queries of a sequence whose scores live at the same time on a device, in every head.
pub(crate) const DEVICE_QUERIES: usize = composed::TILE;

/// Rows of activations, `[n, width]`.
#[derive(Debug)]
pub enum Activations {
    /// `f32` on the host.
    Host {
        /// Row-major elements.
        data: Buffer,
        /// Elements of a row.
        width: usize,
    },
    /// A matrix on another device or in another precision.
    Device(Tensor),
}

impl Activations {
    /// A copy of a matrix, for the operations to work on.
    ///
    /// # Errors
    /// A tensor that is no matrix.
    pub fn of(x: &Tensor) -> Result<Self> {
        let (_, width) = x.dims2()?;
        if is_fused(x) {
            let data = with_elements(x, Buffer::copy_of)?;
            return Ok(Self::Host { data, width });
        }
        Ok(Self::Device(x.contiguous()?))
    }

    /// Several matrices of one width below each other, on `device`.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn stack(parts: &[Tensor], device: &Device) -> Result<Self> {
        if !parts.iter().all(|x| is_fused(x) && device.is_cpu()) {
            let parts = parts.iter().map(|x| x.to_device(device));
            return Ok(Self::Device(Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?));
        }
        let width = parts.first().map_or(Ok(0), |x| x.dim(1))?;
        let mut data = Buffer::take(parts.iter().map(Tensor::elem_count).sum());
        let mut at = 0;
        for part in parts {
            with_elements(part, |x| data[at..at + x.len()].copy_from_slice(x))?;
            at += part.elem_count();
        }
        Ok(Self::Host { data, width })
    }

    /// The matrix as a tensor.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn into_tensor(self) -> Result<Tensor> {
        match self {
            Self::Host { data, width } => {
                let data = data.into_vec();
                let n = data.len() / width.max(1);
                Ok(Tensor::from_vec(data, (n, width), &Device::Cpu)?)
            }
            Self::Device(x) => Ok(x),
        }
    }

    /// Rows of the matrix.
    ///
    /// # Errors
    /// A tensor that is no matrix.
    pub(crate) fn len(&self) -> Result<usize> {
        match self {
            Self::Host { data, width } => Ok(data.len() / (*width).max(1)),
            Self::Device(x) => Ok(x.dims2()?.0),
        }
    }

    /// Elements of a row.
    ///
    /// # Errors
    /// A tensor that is no matrix.
    pub fn width(&self) -> Result<usize> {
        match self {
            Self::Host { width, .. } => Ok(*width),
            Self::Device(x) => Ok(x.dims2()?.1),
        }
    }
}

/// Whether the fused loops of the host apply.
fn is_fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The elements of a contiguous `f32` tensor on the host.
fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => Err(Error::failure("a contiguous f32 tensor is needed")),
    }
}

/// Lends out the elements of an `f32` tensor on the host, in row-major order.
///
/// # Errors
/// A tensor that is neither.
pub(crate) fn with_elements<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(f(elements(cpu, layout)?)),
        _ => Err(Error::failure("a tensor on the host is needed")),
    }
}

/// `x · weightᵀ + bias`: `x` is `[n, in]`, `weight` is `[out, in]`, `bias` is `[out]`.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn linear(x: &Activations, weight: &Tensor, bias: Option<&Tensor>) -> Result<Activations> {
    let (outer, inner) = weight.dims2()?;
    match x {
        Activations::Host { data, .. } => {
            let mut out = Buffer::take(data.len() / inner * outer);
            with_elements(weight, |w| matmul::linear(&mut out, data, w, inner, false, matmul::parallel()))?;
            biased(Activations::Host { data: out, width: outer }, bias)
        }
        Activations::Device(x) => biased(Activations::Device(composed::product(x, weight)?), bias),
    }
}

/// `residual + x · weightᵀ + bias`, in place of the residual.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn linear_add(
    residual: Activations,
    x: &Activations,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Activations> {
    let (_, inner) = weight.dims2()?;
    match (residual, x) {
        (Activations::Host { data: mut out, width }, Activations::Host { data, .. }) => {
            with_elements(weight, |w| matmul::linear(&mut out, data, w, inner, true, matmul::parallel()))?;
            biased(Activations::Host { data: out, width }, bias)
        }
        (Activations::Device(residual), Activations::Device(x)) => {
            biased(Activations::Device(composed::product_add(&residual, x, weight)?), bias)
        }
        _ => Err(mixed()),
    }
}

/// `residual + factor · x`, in place of the residual.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn add(residual: Activations, x: &Activations, factor: f64) -> Result<Activations> {
    match (residual, x) {
        (Activations::Host { data: mut out, width }, Activations::Host { data, .. }) => {
            elementwise::add(&mut out, data, factor as f32);
            Ok(Activations::Host { data: out, width })
        }
        (Activations::Device(residual), Activations::Device(x)) => {
            Ok(Activations::Device((residual + (x * factor)?)?))
        }
        _ => Err(mixed()),
    }
}

/// `factor · x`, in place of `x`.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn scale(x: Activations, factor: f64) -> Result<Activations> {
    match x {
        Activations::Host { mut data, width } => {
            elementwise::scale(&mut data, factor as f32);
            Ok(Activations::Host { data, width })
        }
        Activations::Device(x) => Ok(Activations::Device((x * factor)?)),
    }
}

/// The same with a factor in a tensor of one element.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn scale_by(x: Activations, factor: &Tensor) -> Result<Activations> {
    match x {
        Activations::Host { .. } => {
            let factor = with_elements(factor, |values| values.first().copied().unwrap_or(1.0))?;
            scale(x, f64::from(factor))
        }
        Activations::Device(x) => Ok(Activations::Device(x.broadcast_mul(factor)?)),
    }
}

/// A weight without its zeroes, where it has enough of them and lies on the host in `f32`.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn pack(weight: &Tensor) -> Result<Option<Packed>> {
    let (_, inner) = weight.dims2()?;
    if !is_fused(weight) {
        return Ok(None);
    }
    with_elements(weight, |w| Packed::if_worthwhile(w, inner))
}

/// `x · weightᵀ + bias`, in place of the residual and added to it where there is one, for a weight without its zeroes.
///
/// # Errors
/// Rows that are not on the host.
pub(super) fn linear_packed(
    residual: Option<Activations>,
    x: &Activations,
    weight: &Packed,
    bias: Option<&Tensor>,
) -> Result<Activations> {
    let Activations::Host { data: x, width: inner } = x else { return Err(mixed()) };
    let outer = weight.rows();
    let accumulate = residual.is_some();
    let mut out = match residual {
        Some(Activations::Host { data, .. }) => data,
        Some(Activations::Device(_)) => return Err(mixed()),
        None => Buffer::take(x.len() / inner * outer),
    };
    sparse::linear(&mut out, x, weight, accumulate);
    biased(Activations::Host { data: out, width: outer }, bias)
}

fn biased(y: Activations, bias: Option<&Tensor>) -> Result<Activations> {
    let Some(bias) = bias else { return Ok(y) };
    match y {
        Activations::Host { mut data, width } => {
            with_elements(bias, |bias| elementwise::add_bias(&mut data, bias))?;
            Ok(Activations::Host { data, width })
        }
        Activations::Device(y) => Ok(Activations::Device(y.broadcast_add(bias)?)),
    }
}

/// `x / sqrt(mean(x²) + eps) · weight` over every row; a weight shorter than a row normalises the row piece by piece.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn rms_norm(x: &Activations, weight: &Tensor, eps: f64) -> Result<Activations> {
    match x {
        Activations::Host { data, width } => {
            let mut out = Buffer::take(data.len());
            with_elements(weight, |weight| elementwise::rms_norm(&mut out, data, weight, eps))?;
            Ok(Activations::Host { data: out, width: *width })
        }
        Activations::Device(x) => {
            let pieces = x.reshape(((), weight.dims1()?))?;
            Ok(Activations::Device(composed::rms_norm(&pieces, weight, eps)?.reshape(x.shape())?))
        }
    }
}

/// The same without a weight, over every `piece` features of a row.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn unit_norm(x: &Activations, piece: usize, eps: f64) -> Result<Activations> {
    let ones = match x {
        Activations::Host { .. } => Tensor::ones(piece, DType::F32, &Device::Cpu)?,
        Activations::Device(x) => Tensor::ones(piece, x.dtype(), x.device())?,
    };
    rms_norm(x, &ones, eps)
}

/// `(x − mean) / sqrt(variance + eps) · weight + bias` over every row, or over every `piece` features of it: `weight` and
/// `bias` have as many elements as a row.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn layer_norm(
    x: &Activations,
    weight: &Tensor,
    bias: Option<&Tensor>,
    piece: usize,
    eps: f64,
) -> Result<Activations> {
    match x {
        Activations::Host { data, width } => {
            let mut out = Buffer::take(data.len());
            with_elements(weight, |weight| match bias {
                None => {
                    elementwise::layer_norm(&mut out, data, weight, None, piece, eps);
                    Ok(())
                }
                Some(bias) => with_elements(bias, |bias| {
                    elementwise::layer_norm(&mut out, data, weight, Some(bias), piece, eps);
                }),
            })??;
            Ok(Activations::Host { data: out, width: *width })
        }
        Activations::Device(x) => Ok(Activations::Device(composed::layer_norm(x, weight, bias, piece, eps)?)),
    }
}

/// `cap · tanh(x / cap)`, in place of `x`.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn softcap(x: Activations, cap: f64) -> Result<Activations> {
    match x {
        Activations::Host { mut data, width } => {
            elementwise::softcap(&mut data, cap as f32);
            Ok(Activations::Host { data, width })
        }
        Activations::Device(x) => Ok(Activations::Device(composed::softcap(&x, cap)?)),
    }
}

/// Every row times a factor of its own, in place of `x`.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn scale_rows(x: Activations, factors: &[f32]) -> Result<Activations> {
    match x {
        Activations::Host { mut data, width } => {
            elementwise::scale_rows(&mut data, factors);
            Ok(Activations::Host { data, width })
        }
        Activations::Device(x) => {
            let factors = Tensor::from_slice(factors, (factors.len(), 1), x.device())?.to_dtype(x.dtype())?;
            Ok(Activations::Device(x.broadcast_mul(&factors)?))
        }
    }
}

/// Rotates every head of `x` (`[n, heads · dim]`) by its row's position in the batch.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn rope(x: &Activations, table: &RopeTable, batch: &Batch, heads: usize) -> Result<Activations> {
    match x {
        Activations::Host { data, width } => {
            let mut out = Buffer::take(data.len());
            elementwise::rope(&mut out, data, batch.positions(), table.rotation(), heads);
            Ok(Activations::Host { data: out, width: *width })
        }
        Activations::Device(x) => Ok(Activations::Device(composed::rope(x, table, batch, heads)?)),
    }
}

/// Some rows of `x`, in this order; one may be taken several times.
///
/// # Errors
/// A tensor operation that fails.
pub(super) fn take_rows(x: &Activations, rows: &[u32]) -> Result<Activations> {
    match x {
        Activations::Host { data, width } => {
            let mut out = Buffer::take(rows.len() * width);
            for (out, &row) in out.chunks_exact_mut(*width).zip(rows) {
                out.copy_from_slice(&data[row as usize * width..][..*width]);
            }
            Ok(Activations::Host { data: out, width: *width })
        }
        Activations::Device(x) => {
            let rows = Tensor::from_slice(rows, rows.len(), x.device())?;
            Ok(Activations::Device(x.index_select(&rows, 0)?))
        }
    }
}

/// Causal attention of a ragged batch: `q` is `[n, heads · dim]`, `k` and `v` are `[n, key heads · dim]`. `sinks`, where
/// there are some, is one more score for every query head, which has no value.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn causal_attention(
    q: &Activations,
    k: &Activations,
    v: &Activations,
    segments: &[attention::Segment],
    heads: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Activations> {
    match (q, k, v) {
        (Activations::Host { .. }, Activations::Host { data: k, .. }, Activations::Host { data: v, .. }) => {
            attend_host(q, (k, v), segments, heads, sinks)
        }
        (Activations::Device(q), Activations::Device(k), Activations::Device(v)) => {
            Ok(Activations::Device(composed::causal_attention(q, (k, v), segments, heads, sinks)?))
        }
        _ => Err(mixed()),
    }
}

/// The same with keys and values that lie in a cache on the host.
pub(super) fn attend_host(
    q: &Activations,
    (k, v): (&[f32], &[f32]),
    segments: &[attention::Segment],
    heads: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Activations> {
    let Activations::Host { data: q, width } = q else { return Err(mixed()) };
    let mut out = Buffer::take(q.len());
    match sinks {
        None => attention::causal(&mut out, q, k, v, segments, heads, None),
        Some(sinks) => with_elements(sinks, |sinks| {
            attention::causal(&mut out, q, k, v, segments, heads, Some(sinks));
        })?,
    }
    Ok(Activations::Host { data: out, width: *width })
}

/// The same with keys and values that lie in a cache on a device.
pub(super) fn attend_device(
    q: &Activations,
    (k, v): (&Tensor, &Tensor),
    segments: &[attention::Segment],
    heads: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Activations> {
    let Activations::Device(q) = q else { return Err(mixed()) };
    Ok(Activations::Device(composed::causal_attention(q, (k, v), segments, heads, sinks)?))
}

pub(super) fn mixed() -> Error {
    Error::failure("activations of one block are partly on the host and partly on a device")
}

#[cfg(test)]
mod tests;
