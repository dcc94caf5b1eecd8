//! candle's operations put together, for any device and precision.

use candle_core::{DType, Tensor};

use super::{Batch, RopeTable};
use crate::error::Result;
use crate::kernels::attention::{self, Heads};

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
