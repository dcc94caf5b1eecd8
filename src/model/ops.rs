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
fn fused(x: &Tensor) -> bool {
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
    let y =
        if fused(x) { x.contiguous()?.apply_op2_no_bwd(weight, &Product)? } else { x.matmul(&weight.t()?)? };
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}

/// `residual + x · weightᵀ + bias`, without a pass of its own for the sum.
pub fn linear_add(residual: &Tensor, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = if fused(x) {
        x.contiguous()?.apply_op3_no_bwd(weight, &residual.contiguous()?, &ProductAdd)?
    } else {
        (x.matmul(&weight.t()?)? + residual)?
    };
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    Ok(if fused(&x) {
        x.apply_op2_no_bwd(weight, &RmsNorm(eps))?
    } else {
        candle_nn::ops::rms_norm(&x, weight, eps as f32)?
    })
}

/// `silu(gate) · up`.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok(if fused(gate) { gate.apply_op2_no_bwd(up, &SiluMul)? } else { (candle_nn::ops::silu(gate)? * up)? })
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
    let x = x.contiguous()?;
    if fused(&x) {
        return Ok(x.apply_op1_no_bwd(&Rotate { table, batch, heads })?);
    }
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

/// Causal attention of a ragged batch: `q` is `[n, heads · dim]`, `k` and `v` are `[rows, key heads · dim]`.
pub fn causal_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &[attention::Segment],
    heads: Heads,
) -> Result<Tensor> {
    if fused(q) {
        return Ok(q.contiguous()?.apply_op3_no_bwd(
            &k.contiguous()?,
            &v.contiguous()?,
            &Attention { segments, heads },
        )?);
    }
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

/// Attention of segments of one shape by candle's operations, scores in `f32`.
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
