//! Norms, rotary embedding and the gated activation, row by row.

use rayon::prelude::*;

use super::{math, simd};

/// Rows that one task takes: enough to be worth a task, few enough that every core gets some.
fn rows_per_task(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads() * 4).max(1)
}

/// Root-mean-square norm of every row: `out = x / sqrt(mean(x²) + eps) · weight`.
/// `x` and `out` are `[n, width]`, `weight` is `[width]`.
pub(crate) fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], eps: f64) {
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

/// Layer norm of every piece of every row: `out = (x − mean) / sqrt(variance + eps) · weight + bias`, where the variance
/// divides by the number of features.
///
/// `x` and `out` are `[n, width]`, `weight` and `bias` are `[width]`; a row is cut into pieces of `piece` features, which
/// are normalised each by itself.
pub(crate) fn layer_norm(
    out: &mut [f32],
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    piece: usize,
    eps: f64,
) {
    let width = weight.len();
    let task = rows_per_task(x.len() / width) * width;
    out.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(out, x)| {
        simd(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let pieces = out.chunks_exact_mut(piece).zip(x.chunks_exact(piece));
                    for ((out, x), weight) in pieces.zip(weight.chunks_exact(piece)) {
                        let sum: f64 = x.iter().map(|v| f64::from(*v)).sum();
                        let mean = (sum / piece as f64) as f32;
                        for (o, v) in out.iter_mut().zip(x) {
                            *o = v - mean;
                        }
                        let variance = math::sum_of_squares(out) / piece as f64;
                        let scale = (1.0 / (variance + eps).sqrt()) as f32;
                        for (o, w) in out.iter_mut().zip(weight) {
                            *o *= scale * w;
                        }
                    }
                    if let Some(bias) = bias {
                        for (o, b) in out.iter_mut().zip(bias) {
                            *o += b;
                        }
                    }
                }
            },
        );
    });
}

/// `out = silu(gate) · up`, element by element, where `silu(g) = g / (1 + e^-g)`.
pub(crate) fn silu_mul(out: &mut [f32], gate: &[f32], up: &[f32]) {
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
pub(crate) fn add_bias(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (v, b) in row.iter_mut().zip(bias) {
            *v += b;
        }
    }
}

/// Multiplies every row of `x`, `[n, width]`, by a factor of its own.
pub(crate) fn scale_rows(x: &mut [f32], factors: &[f32]) {
    let width = x.len() / factors.len().max(1);
    for (row, factor) in x.chunks_exact_mut(width.max(1)).zip(factors) {
        for v in row {
            *v *= factor;
        }
    }
}

/// `cap · tanh(x / cap)`, element by element, in place.
pub(crate) fn softcap(x: &mut [f32], cap: f32) {
    x.par_chunks_mut(ELEMENTS).for_each(|x| {
        simd(
            #[inline(always)]
            || math::softcap(x, cap),
        );
    });
}

/// Elements that one task of a simple loop takes.
const ELEMENTS: usize = 64 * 1024;

/// `out += factor · x`, element by element.
pub(crate) fn add(out: &mut [f32], x: &[f32], factor: f32) {
    out.par_chunks_mut(ELEMENTS).zip(x.par_chunks(ELEMENTS)).for_each(|(out, x)| {
        simd(
            #[inline(always)]
            || {
                for (o, v) in out.iter_mut().zip(x) {
                    *o += factor * v;
                }
            },
        );
    });
}

/// `x *= factor`, element by element.
pub(crate) fn scale(x: &mut [f32], factor: f32) {
    x.par_chunks_mut(ELEMENTS).for_each(|x| {
        for v in x {
            *v *= factor;
        }
    });
}

/// Cosines and sines of a rotary embedding for rows of heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation<'a> {
    /// `[positions, half]`
    pub cos: &'a [f32],
    /// `[positions, half]`
    pub sin: &'a [f32],
    /// Pairs of features that turn; the features behind them stay as they are.
    pub half: usize,
    /// Neighbours are a pair, `(2i, 2i + 1)`, instead of `(i, i + half)`.
    pub neighbours: bool,
}

/// Rotary position embedding: the first `2 · half` features of every head turn, in pairs.
///
/// `x` and `out` are `[n, heads · dim]`; row `i` stands at `positions[i]`.
pub(crate) fn rope(out: &mut [f32], x: &[f32], positions: &[u32], rotation: Rotation<'_>, heads: usize) {
    if positions.is_empty() {
        return;
    }
    let Rotation { cos, sin, half, neighbours } = rotation;
    let width = x.len() / positions.len();
    let dim = width / heads;
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
                        let (out, out_rest) = out.split_at_mut(2 * half);
                        let (x, x_rest) = x.split_at(2 * half);
                        if neighbours {
                            turn_neighbours(out, x, cos, sin);
                        } else {
                            turn_halves(out, x, cos, sin);
                        }
                        out_rest.copy_from_slice(x_rest);
                    }
                }
            },
        );
    });
}

#[inline(always)]
fn turn_halves(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    let (out_low, out_high) = out.split_at_mut(half);
    let (low, high) = x.split_at(half);
    for i in 0..half {
        out_low[i] = low[i] * cos[i] - high[i] * sin[i];
        out_high[i] = high[i] * cos[i] + low[i] * sin[i];
    }
}

#[inline(always)]
fn turn_neighbours(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32]) {
    let pairs = out.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0);
    for (([out_low, out_high], [low, high]), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
        *out_low = low * cos - high * sin;
        *out_high = high * cos + low * sin;
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the numbers are copies or exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `n` rows of `width` numbers, with their shape.
    fn rows() -> impl Strategy<Value = (usize, usize, Vec<f32>)> {
        (1usize..40, 1usize..70).prop_flat_map(|(n, width)| {
            (Just(n), Just(width), prop::collection::vec(-30f32..30.0, n * width))
        })
    }

    fn close(got: f32, want: f64, scale: f64) -> bool {
        (f64::from(got) - want).abs() <= 2e-6 * scale
    }

    proptest! {
        #[test]
        fn norms_are_as_defined((n, width, x) in rows(), eps in prop_oneof![Just(1e-6), Just(1e-5), Just(0.5)]) {
            let weight: Vec<f32> = (0..width).map(|j| 1.5 - j as f32 / width as f32).collect();
            let mut out = vec![f32::NAN; n * width];
            rms_norm(&mut out, &x, &weight, eps);
            for (out, x) in out.chunks(width).zip(x.chunks(width)) {
                let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / width as f64;
                for ((out, x), w) in out.iter().zip(x).zip(&weight) {
                    let want = f64::from(*x) / (mean + eps).sqrt() * f64::from(*w);
                    prop_assert!(close(*out, want, want.abs()), "{out} {want}");
                }
            }
        }

        #[test]
        fn activations_are_as_defined((_, _, gate) in rows()) {
            let up: Vec<f32> = gate.iter().rev().copied().collect();
            let mut out = vec![f32::NAN; gate.len()];
            silu_mul(&mut out, &gate, &up);
            for ((out, g), u) in out.iter().zip(&gate).zip(&up) {
                let (g, u) = (f64::from(*g), f64::from(*u));
                let want = g / (1.0 + (-g).exp()) * u;
                prop_assert!(close(*out, want, want.abs()), "{out} {want}");
            }
        }

        #[test]
        fn biases_join_every_row((_, width, x) in rows()) {
            let bias: Vec<f32> = (0..width).map(|j| j as f32).collect();
            let mut out = x.clone();
            add_bias(&mut out, &bias);
            for (i, (out, x)) in out.iter().zip(&x).enumerate() {
                prop_assert_eq!(*out, x + bias[i % width]);
            }
        }

        #[test]
        fn heads_turn_as_complex_numbers_do(
            heads in 1usize..4, half in 1usize..9, positions in prop::collection::vec(0u32..50, 1..30), seed in 1f32..9.0,
        ) {
            let (dim, angle) = (2 * half, |p: usize, i: usize| p as f64 / (1.0 + i as f64));
            let table = |f: fn(f64) -> f64| -> Vec<f32> {
                (0..50 * half).map(|at| f(angle(at / half, at % half)) as f32).collect()
            };
            let x: Vec<f32> = (0..positions.len() * heads * dim).map(|i| (i as f32 * seed).sin() * 3.0).collect();
            let mut out = vec![f32::NAN; x.len()];
            let (cos, sin) = (table(f64::cos), table(f64::sin));
            let rotation = Rotation { cos: &cos, sin: &sin, half, neighbours: false };
            rope(&mut out, &x, &positions, rotation, heads);
            for (number, (out, x)) in out.chunks(dim).zip(x.chunks(dim)).enumerate() {
                for i in 0..half {
                    let (real, imaginary) = (f64::from(x[i]), f64::from(x[half + i]));
                    let radius = real.hypot(imaginary);
                    let turned = imaginary.atan2(real) + angle(positions[number / heads] as usize, i);
                    prop_assert!(close(out[i], radius * turned.cos(), 6.0));
                    prop_assert!(close(out[half + i], radius * turned.sin(), 6.0));
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_head_turns_and_the_rest_stays() {
        let (cos, sin) = ([0.6, 0.8], [0.8, 0.6]);
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let turned = |neighbours| {
            let mut out = [f32::NAN; 6];
            rope(&mut out, &x, &[0], Rotation { cos: &cos, sin: &sin, half: 2, neighbours }, 1);
            out
        };
        let close = |a: [f32; 6], b: [f32; 6]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        // (1, 3) and (2, 4) are pairs; then (1, 2) and (3, 4).
        assert!(close(turned(false), [-1.8, -0.8, 2.6, 4.4, 5.0, 6.0]), "{:?}", turned(false));
        assert!(close(turned(true), [-1.0, 2.0, 0.0, 5.0, 5.0, 6.0]), "{:?}", turned(true));
    }

    #[test]
    fn layer_norms_are_as_defined_for_each_piece() {
        let x: Vec<f32> = (0..24).map(|i| ((i * i) as f32 * 0.7).sin() * 3.0 + 5.0).collect();
        let weight: Vec<f32> = (0..12).map(|i| 1.0 + i as f32 / 10.0).collect();
        let bias: Vec<f32> = (0..12).map(|i| i as f32 / 7.0).collect();
        for (piece, bias) in [(12, Some(&bias[..])), (4, None), (3, Some(&bias[..]))] {
            let mut out = vec![f32::NAN; 24];
            layer_norm(&mut out, &x, &weight, bias, piece, 1e-5);
            for (at, got) in out.iter().enumerate() {
                let part: Vec<f64> = x[at / piece * piece..][..piece].iter().map(|v| f64::from(*v)).collect();
                let mean = part.iter().sum::<f64>() / piece as f64;
                let variance = part.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / piece as f64;
                let want = (f64::from(x[at]) - mean) / (variance + 1e-5).sqrt() * f64::from(weight[at % 12])
                    + bias.map_or(0.0, |bias| f64::from(bias[at % 12]));
                assert!((f64::from(*got) - want).abs() < 1e-5, "{piece} {at}: {got} {want}");
            }
        }
    }

    #[test]
    fn caps_are_soft_and_rows_have_factors_of_their_own() {
        let mut x = [0.0, 1e-3, -3.0, 8.0, 1e30, -1e30];
        softcap(&mut x, 6.0);
        let want = [0.0, 1e-3, -6.0 * 0.5f64.tanh(), 6.0 * (8.0 / 6.0f64).tanh(), 6.0, -6.0];
        for (got, want) in x.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 2e-6, "{got} {want}");
        }
        let mut x = [1.0, 2.0, 3.0, 4.0];
        scale_rows(&mut x, &[2.0, 0.5]);
        assert_eq!(x, [2.0, 4.0, 1.5, 2.0]);
    }

    #[test]
    fn extreme_gates_give_no_nonsense() {
        let gate = [-1e30, -200.0, -88.0, 0.0, 88.0, 200.0, 1e30];
        let mut out = [f32::NAN; 7];
        silu_mul(&mut out, &gate, &[1.0; 7]);
        assert!(out[1].abs() < 1e-30 && out[2].abs() < 1e-30, "{out:?}");
        assert_eq!(out[3..], [0.0, 88.0, 200.0, 1e30]);
        assert!(out[0].is_finite(), "{out:?}");
    }

    #[test]
    fn broken_numbers_stay_visible() {
        let mut out = [0f32; 4];
        rms_norm(&mut out, &[1.0, f32::NAN, 2.0, 2.0], &[1.0, 1.0], 1e-6);
        assert!(out[0].is_nan() && out[1].is_nan() && !out[2].is_nan());
        silu_mul(&mut out, &[f32::NAN, 1.0, 1.0, 1.0], &[1.0; 4]);
        assert!(out[0].is_nan() && !out[1].is_nan());
    }

    #[test]
    fn no_rows_are_no_work() {
        rms_norm(&mut [], &[], &[1.0], 1e-6);
        silu_mul(&mut [], &[], &[]);
        layer_norm(&mut [], &[], &[1.0], None, 1, 1e-6);
        rope(&mut [], &[], &[], Rotation { cos: &[1.0], sin: &[0.0], half: 1, neighbours: false }, 2);
    }
}
