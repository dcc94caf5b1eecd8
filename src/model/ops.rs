//! The operations of a decoder block on rows of hidden states.
//!
//! On the host in `f32` each is one fused loop of [`crate::kernels`] over buffers that are used again and again;
//! anywhere else it is put together from candle's operations. Both ways give the same numbers up to rounding, which
//! the tests hold.

mod composed;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};

use super::batch::Batch;
use crate::error::{Error, Result};
use crate::kernels::attention::{self, Heads};
use crate::kernels::scratch::Buffer;
use crate::kernels::sparse::{self, Packed};
use crate::kernels::{elementwise, matmul};

/// Queries of a sequence whose scores live at the same time on a device, in every head.
pub const DEVICE_QUERIES: usize = composed::TILE;

/// Rows of activations, `[n, width]`.
#[derive(Debug)]
pub enum Rows {
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

impl Rows {
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
pub fn with_elements<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
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
pub fn linear(x: &Rows, weight: &Tensor, bias: Option<&Tensor>) -> Result<Rows> {
    let (outer, inner) = weight.dims2()?;
    match x {
        Rows::Host { data, .. } => {
            let mut out = Buffer::take(data.len() / inner * outer);
            with_elements(weight, |w| matmul::linear(&mut out, data, w, inner, false, matmul::parallel()))?;
            biased(Rows::Host { data: out, width: outer }, bias)
        }
        Rows::Device(x) => biased(Rows::Device(composed::product(x, weight)?), bias),
    }
}

/// `residual + x · weightᵀ + bias`, in place of the residual.
///
/// # Errors
/// A tensor operation that fails.
pub fn linear_add(residual: Rows, x: &Rows, weight: &Tensor, bias: Option<&Tensor>) -> Result<Rows> {
    let (_, inner) = weight.dims2()?;
    match (residual, x) {
        (Rows::Host { data: mut out, width }, Rows::Host { data, .. }) => {
            with_elements(weight, |w| matmul::linear(&mut out, data, w, inner, true, matmul::parallel()))?;
            biased(Rows::Host { data: out, width }, bias)
        }
        (Rows::Device(residual), Rows::Device(x)) => {
            biased(Rows::Device(composed::product_add(&residual, x, weight)?), bias)
        }
        _ => Err(mixed()),
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
    residual: Option<Rows>,
    x: &Rows,
    weight: &Packed,
    bias: Option<&Tensor>,
) -> Result<Rows> {
    let Rows::Host { data: x, width: inner } = x else { return Err(mixed()) };
    let outer = weight.rows();
    let accumulate = residual.is_some();
    let mut out = match residual {
        Some(Rows::Host { data, .. }) => data,
        Some(Rows::Device(_)) => return Err(mixed()),
        None => Buffer::take(x.len() / inner * outer),
    };
    sparse::linear(&mut out, x, weight, accumulate);
    biased(Rows::Host { data: out, width: outer }, bias)
}

fn biased(y: Rows, bias: Option<&Tensor>) -> Result<Rows> {
    let Some(bias) = bias else { return Ok(y) };
    match y {
        Rows::Host { mut data, width } => {
            with_elements(bias, |bias| elementwise::add_bias(&mut data, bias))?;
            Ok(Rows::Host { data, width })
        }
        Rows::Device(y) => Ok(Rows::Device(y.broadcast_add(bias)?)),
    }
}

/// `x / sqrt(mean(x²) + eps) · weight` over every row; a weight shorter than a row normalises the row piece by piece.
///
/// # Errors
/// A tensor operation that fails.
pub fn rms_norm(x: &Rows, weight: &Tensor, eps: f64) -> Result<Rows> {
    match x {
        Rows::Host { data, width } => {
            let mut out = Buffer::take(data.len());
            with_elements(weight, |weight| elementwise::rms_norm(&mut out, data, weight, eps))?;
            Ok(Rows::Host { data: out, width: *width })
        }
        Rows::Device(x) => {
            let pieces = x.reshape(((), weight.dims1()?))?;
            Ok(Rows::Device(composed::rms_norm(&pieces, weight, eps)?.reshape(x.shape())?))
        }
    }
}

/// `silu(gate) · up`.
///
/// # Errors
/// A tensor operation that fails.
pub fn silu_mul(gate: &Rows, up: &Rows) -> Result<Rows> {
    match (gate, up) {
        (Rows::Host { data: gate, width }, Rows::Host { data: up, .. }) => {
            let mut out = Buffer::take(gate.len());
            elementwise::silu_mul(&mut out, gate, up);
            Ok(Rows::Host { data: out, width: *width })
        }
        (Rows::Device(gate), Rows::Device(up)) => Ok(Rows::Device(composed::silu_mul(gate, up)?)),
        _ => Err(mixed()),
    }
}

/// Cosines and sines of the rotary embedding, `[positions, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct RopeTable {
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
    half: usize,
    /// The same on the device that asked last.
    on_device: Arc<Mutex<Option<(Tensor, Tensor)>>>,
}

impl RopeTable {
    /// Of cosines and sines, position after position, `half` of each a position.
    pub(super) fn of(cos: Vec<f32>, sin: Vec<f32>, half: usize) -> Self {
        Self { cos: cos.into(), sin: sin.into(), half, on_device: Arc::default() }
    }

    /// Cosines and sines, `[positions, half]`, on a device.
    fn on(&self, device: &Device, dtype: DType) -> Result<(Tensor, Tensor)> {
        let mut kept = self.on_device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cos, sin)) = &*kept
            && cos.device().same_device(device)
            && cos.dtype() == dtype
        {
            return Ok((cos.clone(), sin.clone()));
        }
        let put = |values: &[f32]| {
            let rows = values.len() / self.half.max(1);
            Tensor::from_slice(values, (rows, self.half), device)?.to_dtype(dtype)
        };
        Ok(kept.insert((put(&self.cos)?, put(&self.sin)?)).clone())
    }
}

/// Rotates every head of `x` (`[n, heads · dim]`) by its row's position in the batch.
///
/// # Errors
/// A tensor operation that fails.
pub fn rope(x: &Rows, table: &RopeTable, batch: &Batch, heads: usize) -> Result<Rows> {
    match x {
        Rows::Host { data, width } => {
            let mut out = Buffer::take(data.len());
            elementwise::rope(&mut out, data, batch.positions(), &table.cos, &table.sin, heads);
            Ok(Rows::Host { data: out, width: *width })
        }
        Rows::Device(x) => Ok(Rows::Device(composed::rope(x, table, batch, heads)?)),
    }
}

/// Causal attention of a ragged batch: `q` is `[n, heads · dim]`, `k` and `v` are `[n, key heads · dim]`.
///
/// # Errors
/// A tensor operation that fails.
pub fn causal_attention(
    q: &Rows,
    k: &Rows,
    v: &Rows,
    segments: &[attention::Segment],
    heads: Heads,
) -> Result<Rows> {
    match (q, k, v) {
        (Rows::Host { .. }, Rows::Host { data: k, .. }, Rows::Host { data: v, .. }) => {
            attend_host(q, k, v, segments, heads)
        }
        (Rows::Device(q), Rows::Device(k), Rows::Device(v)) => {
            Ok(Rows::Device(composed::causal_attention(q, k, v, segments, heads)?))
        }
        _ => Err(mixed()),
    }
}

/// The same with keys and values that lie in a cache on the host.
pub(super) fn attend_host(
    q: &Rows,
    k: &[f32],
    v: &[f32],
    segments: &[attention::Segment],
    heads: Heads,
) -> Result<Rows> {
    let Rows::Host { data: q, width } = q else { return Err(mixed()) };
    let mut out = Buffer::take(q.len());
    attention::causal(&mut out, q, k, v, segments, heads);
    Ok(Rows::Host { data: out, width: *width })
}

/// The same with keys and values that lie in a cache on a device.
pub(super) fn attend_device(
    q: &Rows,
    k: &Tensor,
    v: &Tensor,
    segments: &[attention::Segment],
    heads: Heads,
) -> Result<Rows> {
    let Rows::Device(q) = q else { return Err(mixed()) };
    Ok(Rows::Device(composed::causal_attention(q, k, v, segments, heads)?))
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
    use crate::model::{Architecture, Block, ModelFolder, Synthetic, head};

    /// One operation on the host, as a tensor.
    fn tensor_of(rows: Result<Rows>) -> Tensor {
        rows.unwrap().into_tensor().unwrap()
    }

    fn host(x: &Tensor) -> Rows {
        let rows = Rows::of(x).unwrap();
        assert!(matches!(rows, Rows::Host { .. }));
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
            let gated = composed::silu_mul(&x, &up).unwrap();
            prop_assert!(apart(&tensor_of(silu_mul(&host(&x), &host(&up))), &gated) < 1e-5);
        }

        #[test]
        fn fused_rotation_and_attention_equal_composed_ones(
            lengths in prop::collection::vec((1usize..80, 0usize..20), 1..5), spare in 0usize..3,
            key_heads in 1usize..3, groups in 1usize..4, half in 1usize..9,
            window in prop::option::of(1usize..40), seed in any::<u64>(),
        ) {
            let mut random = Random::new(seed);
            let heads = Heads { query: key_heads * groups, key: key_heads, dim: 2 * half, window };
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
            let heads = Heads { query: 4, key: 2, dim: 6, window };
            let q = random.tensor((batch.rows(), heads.query * heads.dim));
            let k = random.tensor((3 * capacity, heads.key * heads.dim));
            let v = random.tensor((3 * capacity, heads.key * heads.dim));
            let segments = batch.segments(Some(capacity));
            let device = composed::causal_attention(&q, &k, &v, &segments, heads).unwrap();
            let host = tensor_of(causal_attention(&host(&q), &host(&k), &host(&v), &segments, heads));
            assert!(apart(&host, &device) < 1e-4);
        }
    }

    #[test]
    fn a_block_in_half_precision_does_nearly_what_it_does_in_f32() {
        for architecture in Architecture::ALL {
            let dir = tempfile::tempdir().unwrap();
            Synthetic::tiny(architecture).write(dir.path()).unwrap();
            let folder = ModelFolder::open(dir.path()).unwrap();
            let tokens: Vec<u32> = (0..2 * 24).map(|i| (i * 37 + 5) % 258).collect();
            let (batch, table) = (Batch::windows(2, 24), RopeTable::new(&folder.config, 24));
            let run = |dtype| {
                let x = head::embed(&folder, &tokens, dtype, &Device::Cpu).unwrap();
                let block = Block::load(&folder, 1, dtype, &Device::Cpu).unwrap();
                block.forward(&x, &batch, &table, None).unwrap()
            };
            let exact = run(DType::F32);
            for (dtype, tolerance) in [(DType::F16, 0.003), (DType::BF16, 0.02)] {
                let other = run(dtype);
                assert_eq!(other.dtype(), dtype);
                let size =
                    |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
                let error = (other.to_dtype(DType::F32).unwrap() - &exact).unwrap();
                let share = size(&error) / size(&exact);
                assert!(share < tolerance, "{architecture} in {dtype:?}: {share}");
            }
        }
    }
}
