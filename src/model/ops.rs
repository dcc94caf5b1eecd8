//! The operations of a decoder block on rows of hidden states.
//!
//! On the host in `f32` each is one fused loop of [`crate::kernels`] over buffers that are used again and again;
//! anywhere else it is put together from candle's operations. Both ways give the same numbers up to rounding, which
//! the tests hold.

mod composed;

use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};

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
    pub(super) fn len(&self) -> Result<usize> {
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

/// `silu(gate) · up`.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn silu_mul(gate: &Activations, up: &Activations) -> Result<Activations> {
    match (gate, up) {
        (Activations::Host { data: gate, width }, Activations::Host { data: up, .. }) => {
            let mut out = Buffer::take(gate.len());
            elementwise::silu_mul(&mut out, gate, up);
            Ok(Activations::Host { data: out, width: *width })
        }
        (Activations::Device(gate), Activations::Device(up)) => {
            Ok(Activations::Device(composed::silu_mul(gate, up)?))
        }
        _ => Err(mixed()),
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
            elementwise::rope(&mut out, data, batch.positions(), &table.cos, &table.sin, heads);
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

/// Causal attention of a ragged batch: `q` is `[n, heads · dim]`, `k` and `v` are `[n, key heads · dim]`.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn causal_attention(
    q: &Activations,
    k: &Activations,
    v: &Activations,
    segments: &[attention::Segment],
    heads: AttentionShape,
) -> Result<Activations> {
    match (q, k, v) {
        (Activations::Host { .. }, Activations::Host { data: k, .. }, Activations::Host { data: v, .. }) => {
            attend_host(q, k, v, segments, heads)
        }
        (Activations::Device(q), Activations::Device(k), Activations::Device(v)) => {
            Ok(Activations::Device(composed::causal_attention(q, k, v, segments, heads)?))
        }
        _ => Err(mixed()),
    }
}

/// The same with keys and values that lie in a cache on the host.
pub(super) fn attend_host(
    q: &Activations,
    k: &[f32],
    v: &[f32],
    segments: &[attention::Segment],
    heads: AttentionShape,
) -> Result<Activations> {
    let Activations::Host { data: q, width } = q else { return Err(mixed()) };
    let mut out = Buffer::take(q.len());
    attention::causal(&mut out, q, k, v, segments, heads);
    Ok(Activations::Host { data: out, width: *width })
}

/// The same with keys and values that lie in a cache on a device.
pub(super) fn attend_device(
    q: &Activations,
    k: &Tensor,
    v: &Tensor,
    segments: &[attention::Segment],
    heads: AttentionShape,
) -> Result<Activations> {
    let Activations::Device(q) = q else { return Err(mixed()) };
    Ok(Activations::Device(composed::causal_attention(q, k, v, segments, heads)?))
}

pub(super) fn mixed() -> Error {
    Error::failure("activations of one block are partly on the host and partly on a device")
}

#[cfg(test)]
mod tests {
    use candle_core::Shape;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::model::batch::Sequence;

    /// One operation on the host, as a tensor.
    fn tensor_of(rows: Result<Activations>) -> Tensor {
        rows.unwrap().into_tensor().unwrap()
    }

    fn host(x: &Tensor) -> Activations {
        let rows = Activations::of(x).unwrap();
        assert!(matches!(rows, Activations::Host { .. }));
        rows
    }

    struct Random(rand_chacha::ChaCha8Rng);

    impl Random {
        fn new(seed: u64) -> Self {
            Self(rand_chacha::ChaCha8Rng::seed_from_u64(seed))
        }

        fn tensor<S: Into<Shape>>(&mut self, shape: S) -> Tensor {
            let shape = shape.into();
            let values = (0..shape.elem_count()).map(|_| self.0.random_range(-2f32..2.0)).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        }
    }

    /// Greatest distance of two elements.
    fn apart(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.shape(), b.shape());
        let values =
            |x: &Tensor| x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn fused_products_equal_composed_ones(
            n in 1usize..40, inner in 1usize..70, outer in 1usize..40, seed in any::<u64>(),
        ) {
            let mut random = Random::new(seed);
            let (x, weight) = (random.tensor((n, inner)), random.tensor((outer, inner)));
            let (bias, residual) = (random.tensor(outer), random.tensor((n, outer)));
            let product = composed::product(&x, &weight).unwrap();
            prop_assert!(apart(&tensor_of(linear(&host(&x), &weight, None)), &product) < 1e-4);
            let sum = composed::product_add(&residual, &x, &weight).unwrap();
            prop_assert!(apart(&tensor_of(linear_add(host(&residual), &host(&x), &weight, None)), &sum) < 1e-4);
            let biased = sum.broadcast_add(&bias).unwrap();
            prop_assert!(apart(&tensor_of(linear_add(host(&residual), &host(&x), &weight, Some(&bias))), &biased) < 1e-4);
            // A transposed view is not contiguous.
            let view = random.tensor((inner, n)).t().unwrap();
            let product = composed::product(&view.contiguous().unwrap(), &weight).unwrap();
            prop_assert!(apart(&tensor_of(linear(&host(&view), &weight, None)), &product) < 1e-4);
        }

        #[test]
        fn packed_products_equal_composed_ones(
            n in 1usize..90, inner in 1usize..200, outer in 1usize..40, seed in any::<u64>(),
        ) {
            let mut random = Random::new(seed);
            let (x, residual, bias) =
                (random.tensor((n, inner)), random.tensor((n, outer)), random.tensor(outer));
            let weight = random.tensor((outer, inner)).relu().unwrap();
            let Some(packed) = pack(&weight).unwrap() else { return Ok(()) };
            let product = composed::product(&x, &weight).unwrap();
            let got = tensor_of(linear_packed(None, &host(&x), &packed, None));
            prop_assert!(apart(&got, &product) < 1e-3);
            let sum = composed::product_add(&residual, &x, &weight).unwrap().broadcast_add(&bias).unwrap();
            let got = tensor_of(linear_packed(Some(host(&residual)), &host(&x), &packed, Some(&bias)));
            prop_assert!(apart(&got, &sum) < 1e-3);
        }

        #[test]
        fn fused_norms_and_activations_equal_composed_ones(n in 1usize..60, width in 1usize..90, seed in any::<u64>()) {
            let mut random = Random::new(seed);
            let (x, up, weight) = (random.tensor((n, width)), random.tensor((n, width)), random.tensor(width));
            for eps in [1e-5, 1e-1] {
                let norm = composed::rms_norm(&x, &weight, eps).unwrap();
                prop_assert!(apart(&tensor_of(rms_norm(&host(&x), &weight, eps)), &norm) < 1e-4);
            }
            for factor in [1.0, -0.37] {
                let sum = (&x + (&up * factor).unwrap()).unwrap();
                prop_assert!(apart(&tensor_of(add(host(&x), &host(&up), factor)), &sum) < 1e-5);
                let device = add(Activations::Device(x.clone()), &Activations::Device(up.clone()), factor);
                prop_assert!(apart(&tensor_of(device), &sum) < 1e-6);
                let scaled = (&x * factor).unwrap();
                prop_assert!(apart(&tensor_of(scale(host(&x), factor)), &scaled) < 1e-6);
                prop_assert!(apart(&tensor_of(scale(Activations::Device(x.clone()), factor)), &scaled) < 1e-6);
            }
            let gated = composed::silu_mul(&x, &up).unwrap();
            prop_assert!(apart(&tensor_of(silu_mul(&host(&x), &host(&up))), &gated) < 1e-5);
        }

        #[test]
        fn fused_rotation_and_attention_equal_composed_ones(
            lengths in prop::collection::vec((1usize..80, 0usize..20), 1..5), spare in 0usize..3,
            key_heads in 1usize..3, groups in 1usize..4, half in 1usize..9,
            window in prop::option::of(1usize..40), scale in prop::option::of(0.01f64..1.0), seed in any::<u64>(),
        ) {
            let mut random = Random::new(seed);
            let heads = AttentionShape { query: key_heads * groups, key: key_heads, dim: 2 * half, window, scale };
            let sequence = |(slot, &(new, past)): (usize, &(usize, usize))| Sequence { slot, past, new };
            let batch = Batch::new(lengths.iter().enumerate().map(sequence).collect());
            let capacity = lengths.iter().map(|(new, past)| new + past).max().unwrap() + spare;
            let angles = random.tensor((2, capacity * half)).to_vec2().unwrap();
            let table = RopeTable::of(angles[0].clone(), angles[1].clone(), half);
            let q = random.tensor((batch.rows(), heads.query * heads.dim));
            let k = random.tensor((lengths.len() * capacity, heads.key * heads.dim));
            let v = random.tensor((lengths.len() * capacity, heads.key * heads.dim));
            let rotated = composed::rope(&q, &table, &batch, heads.query).unwrap();
            prop_assert!(apart(&tensor_of(rope(&host(&q), &table, &batch, heads.query)), &rotated) < 1e-5);
            let segments = batch.segments(Some(capacity));
            let attended = composed::causal_attention(&q, &k, &v, &segments, heads).unwrap();
            prop_assert!(apart(&tensor_of(causal_attention(&host(&q), &host(&k), &host(&v), &segments, heads)), &attended) < 1e-4);
        }
    }

    #[test]
    fn attention_of_more_queries_than_live_at_the_same_time_equals_the_fused_one() {
        let mut random = Random::new(3);
        let sequence = |slot, past, new| Sequence { slot, past, new };
        let long = DEVICE_QUERIES + 70;
        let batch = Batch::new(vec![sequence(0, 30, long), sequence(1, 0, long), sequence(2, 5, 9)]);
        let capacity = long + 30;
        for window in [None, Some(200)] {
            let heads = AttentionShape { query: 4, key: 2, dim: 6, window, scale: None };
            let q = random.tensor((batch.rows(), heads.query * heads.dim));
            let k = random.tensor((3 * capacity, heads.key * heads.dim));
            let v = random.tensor((3 * capacity, heads.key * heads.dim));
            let segments = batch.segments(Some(capacity));
            let device = composed::causal_attention(&q, &k, &v, &segments, heads).unwrap();
            let host = tensor_of(causal_attention(&host(&q), &host(&k), &host(&v), &segments, heads));
            assert!(apart(&host, &device) < 1e-4);
        }
    }
}
