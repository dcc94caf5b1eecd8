//! Activation functions of MLPs, element by element.

use rayon::prelude::*;

use super::{math, simd};

/// Elements that one task takes.
const TASK: usize = 16 * 1024;

/// What an MLP applies between its linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationFunction {
    /// `x / (1 + e^-x)`
    Silu,
    /// `½x(1 + erf(x / √2))`
    Gelu,
    /// `½x(1 + tanh(√(2/π)(x + 0.044715x³)))`
    GeluTanh,
    /// `max(x, 0)`
    Relu,
}

/// `f(x)`, in place.
pub(crate) fn apply(x: &mut [f32], function: ActivationFunction) {
    match function {
        ActivationFunction::Silu => each(x, silu),
        ActivationFunction::Gelu => each(x, gelu),
        ActivationFunction::GeluTanh => each(x, gelu_tanh),
        ActivationFunction::Relu => each(x, relu),
    }
}

/// `out = f(gate) · up`
pub(crate) fn gated(out: &mut [f32], gate: &[f32], up: &[f32], function: ActivationFunction) {
    match function {
        ActivationFunction::Silu => super::elementwise::silu_mul(out, gate, up),
        ActivationFunction::Gelu => each_product(out, gate, up, gelu),
        ActivationFunction::GeluTanh => each_product(out, gate, up, gelu_tanh),
        ActivationFunction::Relu => each_product(out, gate, up, relu),
    }
}

/// How fast the gate of [`clamped_gated`] opens.
pub(crate) const SHARPNESS: f32 = 1.702;

/// `out = g · sigmoid(1.702 · g) · (u + 1)`, with a gate `g` of at most `limit` and `u` between `-limit` and `limit`.
pub(crate) fn clamped_gated(out: &mut [f32], gate: &[f32], up: &[f32], limit: f32) {
    out.par_chunks_mut(TASK).zip(gate.par_chunks(TASK)).zip(up.par_chunks(TASK)).for_each(
        |((out, gate), up)| {
            simd(
                #[inline(always)]
                || {
                    for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                        // Unlike `min`, this keeps NaN.
                        let g = if g > limit { limit } else { g };
                        *o = silu_of(g, SHARPNESS * g) * (u.clamp(-limit, limit) + 1.0);
                    }
                },
            );
        },
    );
}

/// `x · sigmoid(gate)`, in place of `x`.
pub(crate) fn times_sigmoid(x: &mut [f32], gate: &[f32]) {
    x.par_chunks_mut(TASK).zip(gate.par_chunks(TASK)).for_each(|(x, gate)| {
        simd(
            #[inline(always)]
            || {
                for (v, &g) in x.iter_mut().zip(gate) {
                    *v = silu_of(*v, g);
                }
            },
        );
    });
}

fn each(x: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    x.par_chunks_mut(TASK).for_each(|x| {
        simd(
            #[inline(always)]
            || {
                for v in x {
                    *v = f(*v);
                }
            },
        );
    });
}

fn each_product(out: &mut [f32], gate: &[f32], up: &[f32], f: impl Fn(f32) -> f32 + Sync) {
    out.par_chunks_mut(TASK).zip(gate.par_chunks(TASK)).zip(up.par_chunks(TASK)).for_each(
        |((out, gate), up)| {
            simd(
                #[inline(always)]
                || {
                    for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                        *o = f(g) * u;
                    }
                },
            );
        },
    );
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + math::exp(-x))
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    // Unlike `max`, this keeps NaN.
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    /// 2·√(2/π): half of one plus a hyperbolic tangent is a sigmoid of twice its argument.
    const TWICE: f32 = 1.595_769;
    silu_of(x, TWICE * (x + 0.044_715 * x * x * x))
}

#[inline(always)]
fn silu_of(x: f32, argument: f32) -> f32 {
    x / (1.0 + math::exp(-argument))
}

/// The tail of the normal distribution on either side is `½ erfc(|x|/√2)`, here by the rational approximation 7.1.26 of
/// Abramowitz and Stegun, whose error is below 1.5e-7.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1_f32.mul_add(z, 1.0);
    let p = t.mul_add(1.061_405_4, -1.453_152);
    let p = p.mul_add(t, 1.421_413_8);
    let p = p.mul_add(t, -0.284_496_72);
    let p = p.mul_add(t, 0.254_829_6);
    let tail = 0.5 * p * t * math::exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ActivationFunction; 4] = [
        ActivationFunction::Silu,
        ActivationFunction::Gelu,
        ActivationFunction::GeluTanh,
        ActivationFunction::Relu,
    ];

    /// The error function by a series of positive terms, in f64.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn definition(x: f64, function: ActivationFunction) -> f64 {
        match function {
            ActivationFunction::Silu => x / (1.0 + (-x).exp()),
            ActivationFunction::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
            ActivationFunction::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            ActivationFunction::Relu => x.max(0.0),
        }
    }

    #[test]
    fn activations_are_as_defined_alone_and_gated() {
        let x: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 150.0).collect();
        let up: Vec<f32> = x.iter().map(|v| 1.5 - v / 8.0).collect();
        for function in ALL {
            let mut alone = x.clone();
            apply(&mut alone, function);
            let mut out = vec![f32::NAN; x.len()];
            gated(&mut out, &x, &up, function);
            for (((alone, out), x), up) in alone.iter().zip(&out).zip(&x).zip(&up) {
                let want = definition(f64::from(*x), function);
                assert!((f64::from(*alone) - want).abs() < 2e-6, "{function:?} {x}: {alone} {want}");
                let want = want * f64::from(*up);
                assert!((f64::from(*out) - want).abs() < 4e-6, "{function:?} {x}: {out} {want}");
            }
        }
    }

    #[test]
    fn a_sigmoid_lets_through_what_it_should() {
        let mut x = [2.0, -3.0, 4.0];
        times_sigmoid(&mut x, &[0.0, 50.0, -50.0]);
        assert!(x.iter().zip([1.0, -3.0, 0.0]).all(|(got, want)| (got - want).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn clamped_gates_are_as_defined() {
        let x: Vec<f32> = (-600..=600).map(|i| i as f32 / 100.0).collect();
        let up: Vec<f32> = x.iter().map(|v| 1.5 - v).collect();
        let mut out = vec![f32::NAN; x.len()];
        clamped_gated(&mut out, &x, &up, 3.0);
        for ((out, x), up) in out.iter().zip(&x).zip(&up) {
            let (gate, up) = (f64::from(*x).min(3.0), f64::from(*up).clamp(-3.0, 3.0));
            let want = gate / (1.0 + (-1.702 * gate).exp()) * (up + 1.0);
            assert!((f64::from(*out) - want).abs() < 1e-5, "{x} {up}: {out} {want}");
        }
    }

    #[test]
    fn extreme_and_broken_numbers_stay_what_they_are() {
        for function in ALL {
            let mut x = [-1e30, -200.0, 0.0, 200.0, 1e30, f32::NAN];
            apply(&mut x, function);
            assert!(x[0].abs() < 1e-5 && x[1].abs() < 1e-30, "{function:?} {x:?}");
            assert_eq!(x[2..5], [0.0, 200.0, 1e30], "{function:?}");
            assert!(x[5].is_nan(), "{function:?}");
        }
    }
}
