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

/// Rotary position embedding in the two-halves form of Hugging Face's Llama.
///
/// `x` and `out` are `[n, heads · dim]`; row `i` stands at `positions[i]`; `cos` and `sin` are `[positions, dim / 2]`.
pub(crate) fn rope(out: &mut [f32], x: &[f32], positions: &[u32], cos: &[f32], sin: &[f32], heads: usize) {
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
            rope(&mut out, &x, &positions, &table(f64::cos), &table(f64::sin), heads);
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
        rope(&mut [], &[], &[], &[1.0], &[0.0], 2);
    }
}
