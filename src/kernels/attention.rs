//! Causal attention with grouped heads, tile by tile: scores above the diagonal are never computed.

use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::matmul::{rows, rows_mut};
use super::{math, simd};

/// Queries that share one tile of scores.
const TILE: usize = 64;

/// One sequence of a ragged batch. Its last `queries` positions are asked about, all its `keys` positions answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// First row of the sequence's queries.
    pub query_row: usize,
    /// How many queries it has.
    pub queries: usize,
    /// First row of its keys and values.
    pub key_row: usize,
    /// How many keys it has, `≥ queries`.
    pub keys: usize,
}

/// Shape of the heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; each serves `query / key` query heads.
    pub key: usize,
    /// Width of a head.
    pub dim: usize,
    /// Keys that a query sees at most, counting itself.
    pub window: Option<usize>,
    /// What scores are multiplied by; `None` is `1 / √dim`.
    pub scale: Option<f64>,
    /// Scores `s` become `cap · tanh(s / cap)` after that.
    pub softcap: Option<f64>,
}

/// `softmax(softcap(scale · q·kᵀ) + causal mask) · v` for every sequence and head.
///
/// `q` and `out` are `[rows, query heads · dim]`; `k` and `v` are `[rows, key heads · dim]`, already rotated.
/// Segments must not overlap and must come in the order of their rows; rows of no segment are left alone. `sinks` is one
/// more score for every query head, which takes part in the softmax and has no value.
pub(crate) fn causal(
    out: &mut [f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    segments: &[Segment],
    heads: AttentionShape,
    sinks: Option<&[f32]>,
) {
    let width = heads.query * heads.dim;
    let mut tiles = Vec::new();
    for segment in segments {
        for first in (0..segment.queries).step_by(TILE) {
            tiles.push((*segment, first, TILE.min(segment.queries - first)));
        }
    }
    let mut pieces: Vec<&mut [f32]> = Vec::with_capacity(tiles.len());
    let (mut rest, mut row) = (out, 0);
    for (segment, first, len) in &tiles {
        let start = segment.query_row + first;
        let (_, tail) = rest.split_at_mut((start - row) * width);
        let (piece, tail) = tail.split_at_mut(len * width);
        pieces.push(piece);
        (rest, row) = (tail, start + len);
    }
    tiles.into_par_iter().zip(pieces).for_each_init(Vec::new, |scores, ((segment, first, len), out)| {
        for head in 0..heads.query {
            let sink = sinks.map(|sinks| sinks[head]);
            tile(out, scores, (q, k, v), segment, (first, len), heads, (head, sink));
        }
    });
}

/// One tile of queries of one head.
fn tile(
    out: &mut [f32],
    scores: &mut Vec<f32>,
    (q, k, v): (&[f32], &[f32], &[f32]),
    segment: Segment,
    (first, len): (usize, usize),
    heads: AttentionShape,
    (head, sink): (usize, Option<f32>),
) {
    let (width, key_width) = (heads.query * heads.dim, heads.key * heads.dim);
    let key_head = head * heads.key / heads.query;
    // Position of the tile's first query, and the keys that any of its queries sees.
    let position = segment.keys - segment.queries + first;
    let keys_end = position + len;
    let keys_start = heads.window.map_or(0, |w| (position + 1).saturating_sub(w));
    let keys = keys_end - keys_start;
    scores.clear();
    scores.resize(len * keys, 0.0);

    let q_at = (segment.query_row + first) * width + head * heads.dim;
    let k_at = (segment.key_row + keys_start) * key_width + key_head * heads.dim;
    let queries = rows(&q[q_at..], len, heads.dim, width);
    let key_rows = rows(&k[k_at..], keys, heads.dim, key_width);
    let value_rows = rows(&v[k_at..], keys, heads.dim, key_width);
    let scale = heads.scale.map_or_else(|| 1.0 / (heads.dim as f32).sqrt(), |scale| scale as f32);
    faer::linalg::matmul::matmul(
        MatMut::from_row_major_slice_mut(scores, len, keys),
        Accum::Replace,
        queries,
        key_rows.transpose(),
        scale,
        Par::Seq,
    );
    simd(
        #[inline(always)]
        || {
            if let Some(cap) = heads.softcap {
                math::softcap(scores, cap as f32);
            }
            for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
                let visible = position + i + 1 - keys_start;
                let hidden = heads.window.map_or(0, |w| visible.saturating_sub(w));
                row[..hidden].fill(0.0);
                row[visible..].fill(0.0);
                softmax(&mut row[hidden..visible], sink);
            }
        },
    );
    let out = &mut out[head * heads.dim..];
    faer::linalg::matmul::matmul(
        rows_mut(out, len, heads.dim, width),
        Accum::Replace,
        MatRef::from_row_major_slice(scores, len, keys),
        value_rows,
        1.0,
        Par::Seq,
    );
}

/// Softmax in place, of a row that may have one more score.
#[inline(always)]
fn softmax(row: &mut [f32], sink: Option<f32>) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (whole, rest) = row.as_chunks::<16>();
    for chunk in whole {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    let max = lanes.iter().chain(rest).copied().fold(sink.unwrap_or(f32::NEG_INFINITY), f32::max);
    let mut sums = [0f32; 16];
    let (whole, rest) = row.as_chunks_mut::<16>();
    for chunk in whole {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *v = math::exp(*v - max);
            *sum += *v;
        }
    }
    for (sum, v) in sums.iter_mut().zip(rest) {
        *v = math::exp(*v - max);
        *sum += *v;
    }
    let of_sink = sink.map_or(0.0, |sink| math::exp(sink - max));
    let scale = 1.0 / (sums.iter().sum::<f32>() + of_sink);
    for v in row {
        *v *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Attention as its definition says, in f64.
    fn definition(
        (q, k, v): (&[f32], &[f32], &[f32]),
        segments: &[Segment],
        h: AttentionShape,
        sinks: Option<&[f32]>,
    ) -> Vec<f64> {
        let (qw, kw) = (h.query * h.dim, h.key * h.dim);
        let mut out = vec![0f64; q.len()];
        for s in segments {
            for i in 0..s.queries {
                let position = s.keys - s.queries + i;
                for head in 0..h.query {
                    let key_head = head / (h.query / h.key);
                    let seen = |j: usize| j <= position && h.window.is_none_or(|w| position - j < w);
                    let dot = |j: usize| -> f64 {
                        (0..h.dim)
                            .map(|d| {
                                let a = q[(s.query_row + i) * qw + head * h.dim + d];
                                let b = k[(s.key_row + j) * kw + key_head * h.dim + d];
                                f64::from(a) * f64::from(b)
                            })
                            .sum::<f64>()
                            * h.scale.unwrap_or(1.0 / (h.dim as f64).sqrt())
                    };
                    let dot = |j: usize| h.softcap.map_or(dot(j), |cap| cap * (dot(j) / cap).tanh());
                    let weights: Vec<f64> =
                        (0..s.keys).map(|j| if seen(j) { dot(j).exp() } else { 0.0 }).collect();
                    let of_sink = sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                    let total: f64 = weights.iter().sum::<f64>() + of_sink;
                    for d in 0..h.dim {
                        out[(s.query_row + i) * qw + head * h.dim + d] = (0..s.keys)
                            .map(|j| {
                                let value = v[(s.key_row + j) * kw + key_head * h.dim + d];
                                weights[j] / total * f64::from(value)
                            })
                            .sum();
                    }
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn tiles_agree_with_the_definition(
            lengths in prop::collection::vec((1usize..90, 0usize..70), 1..4),
            key_heads in 1usize..3, groups in 1usize..4, dim in 1usize..5,
            window in prop::option::of(1usize..80),
            scale in prop::option::of(0.01f64..1.0), softcap in prop::option::of(0.5f64..9.0), has_sinks: bool,
            seed in any::<u64>(),
        ) {
            use rand::{Rng, SeedableRng};
            let heads = AttentionShape { query: key_heads * groups, key: key_heads, dim: dim * 2, window, scale, softcap };
            let (mut segments, mut rows, mut key_rows) = (Vec::new(), 0, 0);
            for (queries, past) in lengths {
                let keys = queries + past;
                segments.push(Segment { query_row: rows, queries, key_row: key_rows, keys });
                rows += queries;
                key_rows += keys + 3;
            }
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-2f32..2.0)).collect() };
            let q = random(rows * heads.query * heads.dim);
            let k = random(key_rows * heads.key * heads.dim);
            let v = random(key_rows * heads.key * heads.dim);
            let sinks = has_sinks.then(|| random(heads.query));
            let sinks = sinks.as_deref();
            let truth = definition((&q, &k, &v), &segments, heads, sinks);
            let mut out = vec![0.0; q.len()];
            causal(&mut out, &q, &k, &v, &segments, heads, sinks);
            for (got, want) in out.iter().zip(truth) {
                prop_assert!((f64::from(*got) - want).abs() < 2e-5, "{got} {want}");
            }
        }
    }
}
