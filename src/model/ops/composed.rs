//! candle's operations put together, for any device and precision.

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};

use crate::error::Result;
use crate::kernels::activation::{ActivationFunction, SHARPNESS};
use crate::kernels::attention::{self, AttentionShape};
use crate::kernels::device;
use crate::model::batch::Batch;
use crate::model::rope::RopeTable;

pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}

pub(super) fn product_add(residual: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let product = product(x, weight)?;
    match device::rows::add(&product, residual)? {
        Some(sum) => Ok(sum),
        None => Ok((product + residual)?),
    }
}

/// In the precision of the weight: one that is one more than its file says is kept in `f32`, or it would be rounded twice.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if x.dtype() != weight.dtype() {
        let normed = rms_norm(&x.to_dtype(weight.dtype())?, weight, eps)?;
        return Ok(normed.to_dtype(x.dtype())?);
    }
    match device::rows::rms_norm(x, weight, eps)? {
        Some(normed) => Ok(normed),
        None => Ok(candle_nn::ops::rms_norm(&x.contiguous()?, weight, eps as f32)?),
    }
}

/// In `f32` up to the weight, which has as many elements as a row; the row is normalised in pieces.
pub(super) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    piece: usize,
    eps: f64,
) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let by_piece = x.reshape((n, width / piece, piece))?.to_dtype(DType::F32)?;
    let centred = by_piece.broadcast_sub(&by_piece.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.reshape((n, width))?;
    let scaled = normed.to_dtype(x.dtype())?.broadcast_mul(weight)?;
    Ok(match bias {
        Some(bias) => scaled.broadcast_add(bias)?,
        None => scaled,
    })
}

/// GELU in `f32`: candle would round its many steps one by one.
pub(super) fn activate(x: &Tensor, function: ActivationFunction) -> Result<Tensor> {
    let exact = || x.to_dtype(DType::F32);
    Ok(match function {
        ActivationFunction::Silu => candle_nn::ops::silu(x)?,
        ActivationFunction::Gelu => exact()?.gelu_erf()?.to_dtype(x.dtype())?,
        ActivationFunction::GeluTanh => exact()?.gelu()?.to_dtype(x.dtype())?,
        ActivationFunction::Relu => x.relu()?,
    })
}

/// In `f32`, as above.
pub(super) fn clamped_gated(gate: &Tensor, up: &Tensor, limit: f64) -> Result<Tensor> {
    let dtype = gate.dtype();
    let gate = gate.to_dtype(DType::F32)?.minimum(limit)?;
    let up = up.to_dtype(DType::F32)?.clamp(-limit, limit)?;
    let sigmoid = candle_nn::ops::sigmoid(&(&gate * f64::from(SHARPNESS))?)?;
    Ok(((gate * sigmoid)? * (up + 1.0)?)?.to_dtype(dtype)?)
}

pub(super) fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    Ok(((x / cap)?.tanh()? * cap)?)
}

pub(super) fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match device::rows::silu_mul(gate, up)? {
        Some(product) => Ok(product),
        None => Ok((candle_nn::ops::silu(gate)? * up)?),
    }
}

pub(super) fn rope(x: &Tensor, table: &RopeTable, batch: &Batch, heads: usize) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let (cos, sin) = table.on(x.device(), x.dtype())?;
    if !table.neighbours
        && let Some(rotated) =
            device::rows::rotate(x, batch.positions(), (&cos, &sin), (heads, table.turned()))?
    {
        return Ok(rotated);
    }
    let positions = Tensor::from_slice(batch.positions(), n, x.device())?;
    let at = |table: &Tensor| table.index_select(&positions, 0);
    let (dim, turned) = (width / heads, table.turned());
    let by_head = x.reshape((1, n, heads, dim))?;
    let part = if turned == dim { by_head.clone() } else { by_head.narrow(3, 0, turned)?.contiguous()? };
    let rotated = if table.neighbours {
        let by_head = part.transpose(1, 2)?.contiguous()?;
        candle_nn::rotary_emb::rope_i(&by_head, &at(&cos)?, &at(&sin)?)?.transpose(1, 2)?.contiguous()?
    } else {
        candle_nn::rotary_emb::rope_thd(&part, &at(&cos)?, &at(&sin)?)?
    };
    if turned == dim {
        return Ok(rotated.reshape((n, width))?);
    }
    let rest = by_head.narrow(3, turned, dim - turned)?;
    Ok(Tensor::cat(&[&rotated, &rest], 3)?.reshape((n, width))?)
}

pub(super) fn causal_attention(
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    segments: &[attention::Segment],
    heads: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Tensor> {
    let mut out = Vec::new();
    for group in alike(segments) {
        out.push(match device::attention::causal(q, (k, v), group, heads, sinks)? {
            Some(attended) => attended,
            None => attend(q, (k, v), group, heads, sinks)?,
        });
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// Runs of neighbouring segments with equally many queries, which one batched product serves: windows of a text, or all
/// prompts that wait for their next token.
fn alike(segments: &[attention::Segment]) -> Vec<&[attention::Segment]> {
    segments.chunk_by(|a, b| a.queries == b.queries && b.query_row == a.query_row + a.queries).collect()
}

/// Queries of a sequence whose scores live at the same time; keys behind the last of them are left out.
pub(super) const TILE: usize = 512;

/// Attention of such a run, scores in `f32`. Where it has keys of different lengths, the shorter ones are filled up with
/// keys that no query sees.
fn attend(
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    group: &[attention::Segment],
    h: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Tensor> {
    let (first, b) = (group[0], group.len());
    let (t, s) = (first.queries, group.iter().map(|g| g.keys).max().unwrap_or(0));
    let shared = h.query / h.key;
    let q = q.narrow(0, first.query_row, b * t)?.reshape((b, t, h.key, shared, h.dim))?;
    let rows = KeyRows::of(group, s, k)?;
    let split = |x: &Tensor| -> Result<Tensor> {
        Ok(rows.take(x)?.reshape((b, s, h.key, h.dim))?.transpose(1, 2)?.contiguous()?)
    };
    let (k, v) = (split(k)?, split(v)?);
    let mut tiles = Vec::new();
    for start in (0..t).step_by(TILE) {
        let len = TILE.min(t - start);
        let seen = s - t + start + len;
        // Query heads that share a key head lie below each other, so that keys and values are never repeated.
        let q =
            q.narrow(1, start, len)?.permute((0, 2, 3, 1, 4))?.reshape((b, h.key, shared * len, h.dim))?;
        let scores = q.matmul(&k.narrow(2, 0, seen)?.t()?)?.to_dtype(DType::F32)?;
        let mask = mask(group, start..start + len, seen, h, scores.device())?;
        let scores = match h.scale {
            Some(scale) => scores * scale,
            None => scores / (h.dim as f64).sqrt(),
        };
        let scores = match h.softcap {
            Some(cap) => softcap(&scores?, cap)?,
            None => scores?,
        };
        let scores = scores.reshape((b, h.query, len * seen))?;
        // The fewer dimensions, the less arithmetic for finding elements.
        let scores = match mask.dim(0)? {
            1 => scores.reshape((b * h.query, len * seen))?.broadcast_add(&mask)?,
            _ => scores.broadcast_add(&mask.unsqueeze(1)?)?,
        };
        let scores = scores.reshape((b, h.key, shared * len, seen))?;
        let weights = softmax(&scores, sinks, shared)?.to_dtype(v.dtype())?;
        let out = weights.matmul(&v.narrow(2, 0, seen)?)?.reshape((b, h.key, shared, len, h.dim))?;
        tiles.push(out.permute((0, 3, 1, 2, 4))?.reshape((b, len, h.query * h.dim))?);
    }
    let out = if tiles.len() == 1 { tiles.remove(0) } else { Tensor::cat(&tiles, 1)? };
    Ok(out.reshape((b * t, h.query * h.dim))?)
}

/// Softmax of scores `[segments, key heads, shared · queries, keys]`, in which every query head's sink takes part where
/// there are some.
fn softmax(scores: &Tensor, sinks: Option<&Tensor>, shared: usize) -> Result<Tensor> {
    let Some(sinks) = sinks else { return Ok(candle_nn::ops::softmax_last_dim(scores)?) };
    let (b, heads, queries, keys) = scores.dims4()?;
    let sinks = sinks.to_dtype(scores.dtype())?.reshape((1, heads, shared, 1))?;
    let column = sinks.broadcast_as((b, heads, shared, queries / shared))?.contiguous()?;
    let all = Tensor::cat(&[scores, &column.reshape((b, heads, queries, 1))?], 3)?;
    Ok(candle_nn::ops::softmax_last_dim(&all)?.narrow(3, 0, keys)?.contiguous()?)
}

/// Which rows the keys and values of a run of segments are, as many of each.
enum KeyRows {
    /// The first one and their number: they lie one after the other.
    Range(usize, usize),
    /// Their numbers.
    List(Tensor),
}

impl KeyRows {
    fn of(group: &[attention::Segment], each: usize, keys: &Tensor) -> Result<Self> {
        let first = group[0].key_row;
        if group.iter().enumerate().all(|(i, g)| g.keys == each && g.key_row == first + i * each) {
            return Ok(Self::Range(first, group.len() * each));
        }
        let rows = |g: &attention::Segment| {
            let (first, last) = (g.key_row, g.keys - 1);
            (0..each).map(move |j| (first + j.min(last)) as u32)
        };
        let rows: Vec<u32> = group.iter().flat_map(rows).collect();
        Ok(Self::List(Tensor::from_vec(rows, group.len() * each, keys.device())?))
    }

    fn take(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Range(first, count) => x.narrow(0, *first, *count)?,
            Self::List(rows) => x.index_select(rows, 0)?,
        })
    }
}

/// 0 where a query sees a key and −∞ where it does not, `[segments or 1, queries · keys]`; made on the device, since it
/// is as large as a head's scores.
fn mask(
    group: &[attention::Segment],
    queries: Range<usize>,
    keys: usize,
    h: AttentionShape,
    device: &Device,
) -> Result<Tensor> {
    let one = group.iter().all(|g| g.keys == group[0].keys);
    let group = if one { &group[..1] } else { group };
    let (b, t) = (group.len(), queries.len());
    let positions = group.iter().flat_map(|g| queries.clone().map(|i| (g.keys - g.queries + i) as u32));
    let positions = Tensor::from_vec(positions.collect(), (b, t, 1), device)?;
    let end = keys as u32;
    let mut seen = Tensor::arange(0, end, device)?.broadcast_le(&positions)?;
    if let Some(window) = h.window {
        let window = window as u32;
        let near = Tensor::arange(window, window + end, device)?.broadcast_gt(&positions)?;
        seen = (seen * near)?;
    }
    let of = |value: f32| Tensor::new(value, device)?.broadcast_as(seen.shape());
    Ok(seen.where_cond(&of(0.0)?, &of(f32::NEG_INFINITY)?)?.reshape((b, t * keys))?)
}
