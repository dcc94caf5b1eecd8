//! The operations of a decoder block on tensors.
//!
//! On the host in `f32` each is one fused loop of [`crate::kernels`]; anywhere else it is put together from candle's
//! operations. Both ways give the same numbers up to rounding, which the tests hold.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Shape, Storage, Tensor, bail};

use super::batch::Batch;
use crate::error::{Error, Result};
use crate::kernels::attention::{self, Heads};
use crate::kernels::{elementwise, matmul};

/// Whether the fused loops of the host apply.
fn is_fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The elements of a contiguous `f32` tensor on the host.
fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        (CpuStorage::F32(_), None) => bail!("a contiguous tensor is needed"),
        _ => bail!("an f32 tensor is needed"),
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
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = if is_fused(x) { fused::product(x, weight)? } else { composed::product(x, weight)? };
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}

/// `residual + x · weightᵀ + bias`, without a pass of its own for the sum.
pub fn linear_add(residual: &Tensor, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = if is_fused(x) {
        fused::product_add(residual, x, weight)?
    } else {
        composed::product_add(residual, x, weight)?
    };
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if is_fused(x) { fused::rms_norm(x, weight, eps) } else { composed::rms_norm(x, weight, eps) }
}

/// `silu(gate) · up`.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if is_fused(gate) { fused::silu_mul(gate, up) } else { composed::silu_mul(gate, up) }
}

/// Cosines and sines of the rotary embedding, `[positions, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct RopeTable {
    pub(super) cos: Arc<Vec<f32>>,
    pub(super) sin: Arc<Vec<f32>>,
    pub(super) half: usize,
}

/// Rotates every head of `x` (`[n, heads · dim]`) by its row's position in the batch.
pub fn rope(x: &Tensor, table: &RopeTable, batch: &Batch, heads: usize) -> Result<Tensor> {
    if is_fused(x) { fused::rope(x, table, batch, heads) } else { composed::rope(x, table, batch, heads) }
}

/// Causal attention of a ragged batch: `q` is `[n, heads · dim]`, `k` and `v` are `[rows, key heads · dim]`.
pub fn causal_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &[attention::Segment],
    heads: Heads,
) -> Result<Tensor> {
    if is_fused(q) {
        fused::causal_attention(q, k, v, segments, heads)
    } else {
        composed::causal_attention(q, k, v, segments, heads)
    }
}

/// One loop of [`crate::kernels`] an operation, for `f32` on the host.
mod fused {
    use super::{
        Attention, Batch, Heads, Product, ProductAdd, Result, RmsNorm, RopeTable, Rotate, SiluMul, Tensor,
        attention,
    };

    pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op2_no_bwd(weight, &Product)?)
    }

    pub(super) fn product_add(residual: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op3_no_bwd(weight, &residual.contiguous()?, &ProductAdd)?)
    }

    pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op2_no_bwd(weight, &RmsNorm(eps))?)
    }

    pub(super) fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        Ok(gate.apply_op2_no_bwd(up, &SiluMul)?)
    }

    pub(super) fn rope(x: &Tensor, table: &RopeTable, batch: &Batch, heads: usize) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op1_no_bwd(&Rotate { table, batch, heads })?)
    }

    pub(super) fn causal_attention(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        segments: &[attention::Segment],
        heads: Heads,
    ) -> Result<Tensor> {
        let attention = Attention { segments, heads };
        Ok(q.contiguous()?.apply_op3_no_bwd(&k.contiguous()?, &v.contiguous()?, &attention)?)
    }
}

/// candle's operations put together, for any device and precision.
mod composed {
    use super::{Batch, DType, Heads, Result, RopeTable, Tensor, attention};

    pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&weight.t()?)?)
    }

    pub(super) fn product_add(residual: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok((product(x, weight)? + residual)?)
    }

    pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(&x.contiguous()?, weight, eps as f32)?)
    }

    pub(super) fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        Ok((candle_nn::ops::silu(gate)? * up)?)
    }

    pub(super) fn rope(x: &Tensor, table: &RopeTable, batch: &Batch, heads: usize) -> Result<Tensor> {
        let (n, width) = x.dims2()?;
        let at = |values: &[f32]| -> Result<Tensor> {
            let rows = values.len() / table.half;
            let all = Tensor::from_slice(values, (rows, table.half), x.device())?.to_dtype(x.dtype())?;
            let positions = Tensor::from_slice(batch.positions(), n, x.device())?;
            Ok(all.index_select(&positions, 0)?)
        };
        let by_head = x.reshape((n, heads, width / heads))?.transpose(0, 1)?.unsqueeze(0)?.contiguous()?;
        let rotated = candle_nn::rotary_emb::rope(&by_head, &at(&table.cos)?, &at(&table.sin)?)?;
        Ok(rotated.squeeze(0)?.transpose(0, 1)?.reshape((n, width))?)
    }

    pub(super) fn causal_attention(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        segments: &[attention::Segment],
        heads: Heads,
    ) -> Result<Tensor> {
        let mut out = Vec::new();
        for group in same_shape(segments) {
            out.push(attend(q, k, v, group, heads)?);
        }
        Ok(Tensor::cat(&out, 0)?)
    }

    /// Runs of neighbouring segments of equal shape whose rows follow each other evenly, so that one batched product
    /// serves them all.
    fn same_shape(segments: &[attention::Segment]) -> Vec<&[attention::Segment]> {
        segments
            .chunk_by(|a, b| {
                a.queries == b.queries
                    && a.keys == b.keys
                    && b.query_row == a.query_row + a.queries
                    && b.key_row == a.key_row + a.keys
            })
            .collect()
    }

    /// Attention of segments of one shape, scores in `f32`.
    fn attend(q: &Tensor, k: &Tensor, v: &Tensor, group: &[attention::Segment], h: Heads) -> Result<Tensor> {
        let (first, b) = (group[0], group.len());
        let (t, s) = (first.queries, first.keys);
        let split = |x: &Tensor, row: usize, rows: usize, heads: usize| -> Result<Tensor> {
            let x = x.narrow(0, row, b * rows)?.reshape((b, rows, heads, h.dim))?;
            Ok(x.transpose(1, 2)?.contiguous()?)
        };
        let q = split(q, first.query_row, t, h.query)?;
        let repeat = |x: Tensor| -> Result<Tensor> {
            let groups = h.query / h.key;
            let x = x.unsqueeze(2)?.expand((b, h.key, groups, s, h.dim))?;
            Ok(x.contiguous()?.reshape((b, h.query, s, h.dim))?)
        };
        let k = repeat(split(k, first.key_row, s, h.key)?)?;
        let v = repeat(split(v, first.key_row, s, h.key)?)?;
        let scores =
            (q.matmul(&k.transpose(2, 3)?.contiguous()?)?.to_dtype(DType::F32)? / (h.dim as f64).sqrt())?;
        let mask: Vec<f32> = (0..t)
            .flat_map(|i| {
                let position = s - t + i;
                (0..s).map(move |j| {
                    let seen = j <= position && h.window.is_none_or(|w| position - j < w);
                    if seen { 0.0 } else { f32::NEG_INFINITY }
                })
            })
            .collect();
        let mask = Tensor::from_vec(mask, (1, 1, t, s), q.device())?;
        let weights = candle_nn::ops::softmax_last_dim(&scores.broadcast_add(&mask)?)?.to_dtype(v.dtype())?;
        let out = weights.matmul(&v)?.transpose(1, 2)?.contiguous()?;
        Ok(out.reshape((b * t, h.query * h.dim))?)
    }
}

struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (n, inner) = x_layout.shape().dims2()?;
        let (outer, _) = w_layout.shape().dims2()?;
        let mut out = vec![0f32; n * outer];
        let (x, w) = (elements(x, x_layout)?, elements(w, w_layout)?);
        matmul::linear(&mut out, x, w, inner, false, matmul::parallel());
        Ok((CpuStorage::F32(out), (n, outer).into()))
    }
}

struct ProductAdd;

impl CustomOp3 for ProductAdd {
    fn name(&self) -> &'static str {
        "linear-add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, inner) = x_layout.shape().dims2()?;
        let mut out = elements(residual, residual_layout)?.to_vec();
        let (x, w) = (elements(x, x_layout)?, elements(w, w_layout)?);
        matmul::linear(&mut out, x, w, inner, true, matmul::parallel());
        Ok((CpuStorage::F32(out), residual_layout.shape().clone()))
    }
}

struct RmsNorm(f64);

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = elements(x, x_layout)?;
        let mut out = vec![0f32; x.len()];
        elementwise::rms_norm(&mut out, x, elements(w, w_layout)?, self.0);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

struct SiluMul;

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let gate = elements(gate, gate_layout)?;
        let mut out = vec![0f32; gate.len()];
        elementwise::silu_mul(&mut out, gate, elements(up, up_layout)?);
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }
}

struct Rotate<'a> {
    table: &'a RopeTable,
    batch: &'a Batch,
    heads: usize,
}

impl CustomOp1 for Rotate<'_> {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        let mut out = vec![0f32; x.len()];
        let (cos, sin) = (&self.table.cos, &self.table.sin);
        elementwise::rope(&mut out, x, self.batch.positions(), cos, sin, self.heads);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

struct Attention<'a> {
    segments: &'a [attention::Segment],
    heads: Heads,
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (q, k, v) = (elements(q, q_layout)?, elements(k, k_layout)?, elements(v, v_layout)?);
        let out = attention::causal(q, k, v, self.segments, self.heads);
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::model::batch::Sequence;
    use crate::model::{Architecture, Block, ModelFolder, Synthetic, head};

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
            prop_assert!(apart(&fused::product(&x, &weight).unwrap(), &product) < 1e-4);
            let sum = composed::product_add(&residual, &x, &weight).unwrap();
            prop_assert!(apart(&fused::product_add(&residual, &x, &weight).unwrap(), &sum) < 1e-4);
            let biased = sum.broadcast_add(&bias).unwrap();
            prop_assert!(apart(&linear_add(&residual, &x, &weight, Some(&bias)).unwrap(), &biased) < 1e-4);
            // A transposed view is not contiguous.
            let view = random.tensor((inner, n)).t().unwrap();
            let product = composed::product(&view.contiguous().unwrap(), &weight).unwrap();
            prop_assert!(apart(&linear(&view, &weight, None).unwrap(), &product) < 1e-4);
        }

        #[test]
        fn fused_norms_and_activations_equal_composed_ones(n in 1usize..60, width in 1usize..90, seed in any::<u64>()) {
            let mut random = Random::new(seed);
            let (x, up, weight) = (random.tensor((n, width)), random.tensor((n, width)), random.tensor(width));
            for eps in [1e-5, 1e-1] {
                let norm = composed::rms_norm(&x, &weight, eps).unwrap();
                prop_assert!(apart(&fused::rms_norm(&x, &weight, eps).unwrap(), &norm) < 1e-4);
            }
            let gated = composed::silu_mul(&x, &up).unwrap();
            prop_assert!(apart(&fused::silu_mul(&x, &up).unwrap(), &gated) < 1e-5);
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
            let table = RopeTable {
                cos: random.tensor(capacity * half).to_vec1().unwrap().into(),
                sin: random.tensor(capacity * half).to_vec1().unwrap().into(),
                half,
            };
            let q = random.tensor((batch.rows(), heads.query * heads.dim));
            let k = random.tensor((lengths.len() * capacity, heads.key * heads.dim));
            let v = random.tensor((lengths.len() * capacity, heads.key * heads.dim));
            let rotated = composed::rope(&q, &table, &batch, heads.query).unwrap();
            prop_assert!(apart(&fused::rope(&q, &table, &batch, heads.query).unwrap(), &rotated) < 1e-5);
            let segments = batch.segments(Some(capacity));
            let attended = composed::causal_attention(&q, &k, &v, &segments, heads).unwrap();
            prop_assert!(apart(&fused::causal_attention(&q, &k, &v, &segments, heads).unwrap(), &attended) < 1e-4);
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
