//! Norms, rotary embedding and the gated activation, row by row.

use rayon::prelude::*;

use super::{math, simd};

/// Rows that one task takes: enough to be worth a task, few enough that every core gets some.
fn rows_per_task(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads() * 4).max(1)
}

/// Root-mean-square norm of every row: `out = x / sqrt(mean(x²) + eps) · weight`.
/// `x` and `out` are `[n, width]`, `weight` is `[width]`.
pub fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], eps: f64) {
    let width = weight.len();
    let task = rows_per_task(x.len() / width) * width;
    out.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(out, x)| {
        simd(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let mean = math::sum_of_squares(x) / width as f64;
                    let scale = (1.0 / (mean + eps).sqrt()) as f32;
                    for ((o, &v), &w) in out.iter_mut().zip(x).zip(weight) {
                        *o = v * scale * w;
                    }
                }
            },
        );
    });
}

/// `out = silu(gate) · up`, element by element, where `silu(g) = g / (1 + e^-g)`.
pub fn silu_mul(out: &mut [f32], gate: &[f32], up: &[f32]) {
    const TASK: usize = 16 * 1024;
    out.par_chunks_mut(TASK).zip(gate.par_chunks(TASK)).zip(up.par_chunks(TASK)).for_each(
        |((out, gate), up)| {
            simd(
                #[inline(always)]
                || {
                    for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                        *o = g / (1.0 + math::exp(-g)) * u;
                    }
                },
            );
        },
    );
}

/// Adds a row to every row: `x` is `[n, width]`, `bias` is `[width]`.
pub fn add_bias(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (v, b) in row.iter_mut().zip(bias) {
            *v += b;
        }
    }
}

/// Rotary position embedding in the two-halves form of Hugging Face's Llama.
///
/// `x` and `out` are `[n, heads · dim]`; row `i` stands at `positions[i]`; `cos` and `sin` are `[positions, dim / 2]`.
pub fn rope(out: &mut [f32], x: &[f32], positions: &[u32], cos: &[f32], sin: &[f32], heads: usize) {
    if positions.is_empty() {
        return;
    }
    let width = x.len() / positions.len();
    let (dim, half) = (width / heads, width / heads / 2);
    let rows = rows_per_task(positions.len());
    let tasks = out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width));
    tasks.zip(positions.par_chunks(rows)).for_each(|((out, x), positions)| {
        simd(
            #[inline(always)]
            || {
                let lines = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(positions);
                for ((out, x), &position) in lines {
                    let at = position as usize * half;
                    let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
                    for (out, x) in out.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                        let (out_low, out_high) = out.split_at_mut(half);
                        let (low, high) = x.split_at(half);
                        for i in 0..half {
                            out_low[i] = low[i] * cos[i] - high[i] * sin[i];
                            out_high[i] = high[i] * cos[i] + low[i] * sin[i];
                        }
                    }
                }
            },
        );
    });
}
