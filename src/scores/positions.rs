//! How far two next-token distributions lie apart, position by position, in one pass over both rows of logits.
//!
//! With `p` the base's distribution, `q` the cell's and `m = (p + q) / 2`:
//! `JS = ½ KL(p‖m) + ½ KL(q‖m)` (0 … ln 2 nats), `KL = Σ p ln(p / q)`.

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;

use super::window::Position;
use crate::error::Result;
use crate::kernels::device::rows::{self, Compared};
use crate::kernels::{math, simd};
use crate::model::Activations;

/// Elements summed in `f32` lanes before they join an `f64`.
const TILE: usize = 1024;
const LANES: usize = 16;

/// Measures every row of the cell's logits (`[n, vocabulary]`) against its target and, where `with_base`, against the
/// row of the base's logits that stands `n` rows further down (`[2n, vocabulary]`).
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn measure(
    logits: &Activations,
    with_base: bool,
    targets: &[Option<u32>],
) -> Result<Vec<Position>> {
    let n = targets.len();
    match logits {
        Activations::Host { data, width } => {
            let (cell, base) = data.split_at(n * width);
            Ok(rows(with_base.then_some(base), cell, *width, targets))
        }
        Activations::Device(x) => {
            let base = with_base.then(|| x.narrow(0, n, n)).transpose()?;
            tensors(base.as_ref(), &x.narrow(0, 0, n)?, targets)
        }
    }
}

/// The same for rows on the host, rows in parallel.
pub fn rows(base: Option<&[f32]>, cell: &[f32], vocabulary: usize, targets: &[Option<u32>]) -> Vec<Position> {
    let scratch = || (vec![0f32; vocabulary], vec![0f32; vocabulary]);
    (0..targets.len())
        .into_par_iter()
        .map_init(scratch, |(p_exp, q_exp), i| {
            let q = &cell[i * vocabulary..(i + 1) * vocabulary];
            let p = base.map(|base| &base[i * vocabulary..(i + 1) * vocabulary]);
            simd(
                #[inline(always)]
                || position(p, q, targets[i], p_exp, q_exp),
            )
        })
        .collect()
}

/// Greatest logit, its first index, and the log of the sum of exponentials; leaves the exponentials (relative to the
/// greatest) in `exps` and returns their sum.
pub(super) struct Normaliser {
    pub top: usize,
    pub log_sum: f32,
    inverse_sum: f32,
}

#[inline(always)]
pub(super) fn normalise(logits: &[f32], exps: &mut [f32]) -> Normaliser {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = logits.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    let max = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let top = logits.iter().position(|&v| v >= max).unwrap_or(0);
    let mut sum = 0f64;
    for (exps, logits) in exps.chunks_mut(TILE).zip(logits.chunks(TILE)) {
        let mut lanes = [0f32; LANES];
        let (exp_whole, exp_rest) = exps.as_chunks_mut::<LANES>();
        let (whole, rest) = logits.as_chunks::<LANES>();
        for (exps, logits) in exp_whole.iter_mut().zip(whole) {
            for i in 0..LANES {
                exps[i] = math::exp(logits[i] - max);
                lanes[i] += exps[i];
            }
        }
        for i in 0..rest.len() {
            exp_rest[i] = math::exp(rest[i] - max);
            lanes[i] += exp_rest[i];
        }
        sum += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    Normaliser { top, log_sum: max + sum.ln() as f32, inverse_sum: (1.0 / sum) as f32 }
}

#[inline(always)]
fn position(
    p: Option<&[f32]>,
    q: &[f32],
    target: Option<u32>,
    p_exp: &mut [f32],
    q_exp: &mut [f32],
) -> Position {
    let q_norm = normalise(q, q_exp);
    let nll = target.map_or(0.0, |t| f64::from(q_norm.log_sum) - f64::from(q[t as usize]));
    let Some(p) = p else { return Position { nll, ..Position::default() } };
    let p_norm = normalise(p, p_exp);
    let base_nll = target.map_or(0.0, |t| f64::from(p_norm.log_sum) - f64::from(p[t as usize]));
    let (mut js, mut kl) = (0f64, 0f64);
    for start in (0..q.len()).step_by(TILE) {
        let end = q.len().min(start + TILE);
        let (tile_js, tile_kl) = tile(
            (&p[start..end], &p_exp[start..end], &p_norm),
            (&q[start..end], &q_exp[start..end], &q_norm),
        );
        js += tile_js;
        kl += tile_kl;
    }
    Position { nll, base_nll, js: positive(js / 2.0), kl: positive(kl), agrees: p_norm.top == q_norm.top }
}

/// Divergences are non-negative by definition; rounding may say otherwise for equal rows, NaN must stay NaN.
fn positive(divergence: f64) -> f64 {
    if divergence < 0.0 { 0.0 } else { divergence }
}

type Side<'a> = (&'a [f32], &'a [f32], &'a Normaliser);

/// Twice the JS and the KL of one stretch of the vocabulary.
#[inline(always)]
fn tile((p, p_exp, p_norm): Side<'_>, (q, q_exp, q_norm): Side<'_>) -> (f64, f64) {
    let (mut js, mut kl) = ([0f32; LANES], [0f32; LANES]);
    let mut lane = |i: usize, lp: f32, ep: f32, lq: f32, eq: f32| {
        let (prob_p, prob_q) = (ep * p_norm.inverse_sum, eq * q_norm.inverse_sum);
        let (log_p, log_q) = (lp - p_norm.log_sum, lq - q_norm.log_sum);
        let log_m = math::ln((0.5 * (prob_p + prob_q)).max(f32::MIN_POSITIVE));
        js[i] += prob_p * (log_p - log_m) + prob_q * (log_q - log_m);
        kl[i] += prob_p * (log_p - log_q);
    };
    let whole = p.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let (p, p_exp) = (&p[start..start + LANES], &p_exp[start..start + LANES]);
        let (q, q_exp) = (&q[start..start + LANES], &q_exp[start..start + LANES]);
        for i in 0..LANES {
            lane(i, p[i], p_exp[i], q[i], q_exp[i]);
        }
    }
    for i in whole..p.len() {
        lane(i - whole, p[i], p_exp[i], q[i], q_exp[i]);
    }
    let total = |lanes: [f32; LANES]| lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    (total(js), total(kl))
}

/// The same by candle's operations, for any device.
fn tensors(base: Option<&Tensor>, cell: &Tensor, targets: &[Option<u32>]) -> Result<Vec<Position>> {
    let ids: Vec<u32> = targets.iter().map(|t| t.unwrap_or(0)).collect();
    if let Some(compared) = rows::compare(cell, base, &ids)? {
        let position = |(found, target): (Compared, &Option<u32>)| {
            let of_target = |nll: f32| target.map_or(0.0, |_| f64::from(nll));
            let nll = of_target(found.nll);
            if base.is_none() {
                return Position { nll, ..Position::default() };
            }
            Position {
                nll,
                base_nll: of_target(found.base_nll),
                js: positive(f64::from(found.js)),
                kl: positive(f64::from(found.kl)),
                agrees: found.agrees,
            }
        };
        return Ok(compared.into_iter().zip(targets).map(position).collect());
    }
    let log_softmax = |x: &Tensor| -> Result<Tensor> {
        Ok(candle_nn::ops::log_softmax(&x.to_dtype(DType::F32)?, D::Minus1)?)
    };
    let log_q = log_softmax(cell)?;
    let ids = Tensor::from_vec(ids, (targets.len(), 1), cell.device())?;
    let nll = |log: &Tensor| -> Result<Vec<f64>> {
        let of_targets = log.gather(&ids, 1)?.squeeze(1)?.to_vec1::<f32>()?;
        Ok(targets.iter().zip(of_targets).map(|(t, v)| t.map_or(0.0, |_| -f64::from(v))).collect())
    };
    let mut out: Vec<Position> =
        nll(&log_q)?.into_iter().map(|nll| Position { nll, ..Position::default() }).collect();
    let Some(base) = base else { return Ok(out) };
    let log_p = log_softmax(base)?;
    let base_nll = nll(&log_p)?;
    let (p, q) = (log_p.exp()?, log_q.exp()?);
    let log_m = ((&p + &q)? / 2.0)?.clamp(f32::MIN_POSITIVE, 1.0)?.log()?;
    let js = ((&p * (&log_p - &log_m)?)? + (&q * (&log_q - &log_m)?)?)?.sum(1)?.to_vec1::<f32>()?;
    let kl = (&p * (&log_p - &log_q)?)?.sum(1)?.to_vec1::<f32>()?;
    let top_p = base.argmax(1)?.to_vec1::<u32>()?;
    let top_q = cell.argmax(1)?.to_vec1::<u32>()?;
    for (i, position) in out.iter_mut().enumerate() {
        position.base_nll = base_nll[i];
        position.js = (f64::from(js[i]) / 2.0).max(0.0);
        position.kl = f64::from(kl[i]).max(0.0);
        position.agrees = top_p[i] == top_q[i];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use proptest::prelude::*;

    /// JS and KL as their definitions say, in f64.
    fn definition(p: &[f32], q: &[f32]) -> (f64, f64) {
        let softmax = |x: &[f32]| -> Vec<f64> {
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e: Vec<f64> = x.iter().map(|&v| f64::from(v - max).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.iter().map(|v| v / sum).collect()
        };
        let (p, q) = (softmax(p), softmax(q));
        let kl = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * (a / b).ln()).sum() };
        let m: Vec<f64> = p.iter().zip(&q).map(|(a, b)| f64::midpoint(*a, *b)).collect();
        (0.5 * kl(&p, &m) + 0.5 * kl(&q, &m), kl(&p, &q))
    }

    fn logits() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (1usize..2100).prop_flat_map(|n| {
            let row = prop::collection::vec(-12f32..12.0, n..=n);
            (row.clone(), row)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_agree_with_the_definition_and_with_tensors((p, q) in logits()) {
            let (js, kl) = definition(&p, &q);
            let target = Some((p.len() / 2) as u32);
            let got = rows(Some(&p), &q, p.len(), &[target])[0];
            prop_assert!((got.js - js).abs() < 2e-6 + 1e-5 * js, "{} {js}", got.js);
            prop_assert!((got.kl - kl).abs() < 2e-5 + 1e-5 * kl, "{} {kl}", got.kl);
            prop_assert!(got.js <= std::f64::consts::LN_2 + 1e-6);
            let tensor = |x: &[f32]| Tensor::from_slice(x, (1, x.len()), &Device::Cpu).unwrap();
            let other = tensors(Some(&tensor(&p)), &tensor(&q), &[target]).unwrap()[0];
            prop_assert!((got.nll - other.nll).abs() < 1e-4 && (got.base_nll - other.base_nll).abs() < 1e-4);
            let of_base = rows(None, &p, p.len(), &[target])[0];
            prop_assert_eq!(got.base_nll.to_bits(), of_base.nll.to_bits(), "as the base is measured itself");
            prop_assert!((got.js - other.js).abs() < 1e-5 && (got.kl - other.kl).abs() < 1e-4);
            prop_assert_eq!(got.agrees, other.agrees);
        }

        #[test]
        fn js_is_symmetric_and_zero_from_itself((p, q) in logits()) {
            let js = |a: &[f32], b: &[f32]| rows(Some(a), b, a.len(), &[None])[0];
            prop_assert!((js(&p, &q).js - js(&q, &p).js).abs() < 2e-6);
            let itself = js(&p, &p);
            prop_assert!(itself.js < 5e-6 && itself.kl == 0.0 && itself.agrees);
        }
    }

    #[test]
    fn a_broken_model_is_not_measured_as_a_good_one() {
        let broken = [f32::NAN; 40];
        let got = rows(Some(&[0.0; 40]), &broken, 40, &[Some(3)])[0];
        assert!(got.nll.is_nan() && got.js.is_nan());
    }
}
