//! Exponential and logarithm as straight-line code, so that loops over them vectorise.

/// `e^x` with a relative error under 2e-7 for `-87 ≤ x ≤ 88`; below it is a tiny positive number, above it is huge
/// but finite. NaN stays NaN.
///
/// Range reduction to `[-ln 2 / 2, ln 2 / 2]` and a polynomial of degree 6 (Taylor with the last coefficients
/// fitted); the power of two goes straight into the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer that then stands in the low mantissa bits.
    const ROUNDER: f32 = 12_582_912.0;
    /// The part of ln 2 that multiplies exactly, and the rest of it.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let p = r.mul_add(1.0 / 720.0, 1.0 / 120.0);
    let p = p.mul_add(r, 1.0 / 24.0);
    let p = p.mul_add(r, 1.0 / 6.0);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `ln x` for positive normal `x`, with an absolute error under 2e-7 near 1 and a relative one elsewhere.
///
/// Splits off the exponent so that the mantissa lies in `[√½, √2)`, then sums `2·atanh(f/(2+f))`.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let exponent = (x.to_bits().wrapping_sub(SQRT_HALF) as i32) >> 23;
    let mantissa = f32::from_bits(x.to_bits().wrapping_sub((exponent << 23) as u32));
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let tail = z.mul_add(2.0 / 11.0, 2.0 / 9.0);
    let tail = tail.mul_add(z, 2.0 / 7.0);
    let tail = tail.mul_add(z, 2.0 / 5.0);
    let tail = tail.mul_add(z, 2.0 / 3.0);
    let log_mantissa = s.mul_add(2.0, s * z * tail);
    (exponent as f32).mul_add(std::f32::consts::LN_2, log_mantissa)
}

/// `cap · tanh(x / cap)`, element by element, in place. The hyperbolic tangent is that of a sigmoid, whose absolute error is
/// under 3e-7.
#[inline(always)]
pub(crate) fn softcap(x: &mut [f32], cap: f32) {
    let (twice, double) = (2.0 / cap, 2.0 * cap);
    for v in x {
        *v = double / (1.0 + exp(-twice * *v)) - cap;
    }
}

/// Sum of squares of a slice: sixteen lanes in `f32`, folded into `f64` every 1024 elements.
#[inline(always)]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let mut total = 0.0;
    for piece in x.chunks(1024) {
        let mut lanes = [0f32; 16];
        let (whole, rest) = piece.as_chunks::<16>();
        for chunk in whole {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane = v.mul_add(*v, *lane);
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane = v.mul_add(*v, *lane);
        }
        total += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exp_is_the_exponential(x in -87f32..88.0) {
            let truth = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) - truth).abs() <= 4e-7 * truth);
        }

        #[test]
        fn ln_is_the_logarithm(x in 1e-37f32..1e37, near in 0.5f32..2.0) {
            for v in [x, near] {
                let truth = f64::from(v).ln();
                prop_assert!((f64::from(ln(v)) - truth).abs() <= 3e-7 * truth.abs().max(1.0));
            }
        }

        #[test]
        fn squares_are_summed(x in prop::collection::vec(-3f32..3.0, 0..5000)) {
            let truth: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            prop_assert!((sum_of_squares(&x) - truth).abs() <= 1e-5 * truth.max(1.0));
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY) > 1e38);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }
}
