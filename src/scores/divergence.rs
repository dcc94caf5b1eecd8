//! How far a cell's next-token distributions lie from the base's: JS, KL, and how often both rank the same token first.

use std::f64::consts::LN_2;

use super::measurement::Estimate;
use super::notation::Notation;
use super::score::{Better, Detail, Measure, Scale, Score, Summary};
use super::stats::mean_with_interval;
use super::window::WindowMeans;

const NATS: &[Detail] = &[Detail { name: "nats", about: "The value in nats." }];

/// Jensen–Shannon divergence from the base, the mean over positions, in bits.
pub static JS_DIVERGENCE: Score = Score {
    id: "js_divergence",
    csv: "js_bits",
    title: "JS divergence",
    name: "JS",
    short: "JS",
    unit: "bits",
    about: "Jensen-Shannon divergence of the next-token distributions of base and cell, the mean over positions, in bits.",
    better: Better::Lower,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Decimal,
    of_itself: Some(0.0),
    headline: true,
    details: NATS,
    measure: Measure::Windows(|windows| divergence(windows, |window| window.js)),
};

/// KL(base‖cell), the mean over positions, in bits.
pub static KL_DIVERGENCE: Score = Score {
    id: "kl_divergence",
    csv: "kl_bits",
    title: "KL divergence",
    name: "KL",
    short: "KL",
    unit: "bits",
    about: "Kullback-Leibler divergence of the cell's next-token distributions from the base's, KL(base || cell), the mean \
            over positions, in bits.",
    better: Better::Lower,
    range: [0.0, f64::INFINITY],
    scale: Scale::Linear,
    notation: Notation::Decimal,
    of_itself: Some(0.0),
    headline: false,
    details: NATS,
    measure: Measure::Windows(|windows| divergence(windows, |window| window.kl)),
};

/// Share of positions at which base and cell rank the same token first.
pub static TOP1_AGREEMENT: Score = Score {
    id: "top1_agreement",
    csv: "top1_agreement",
    title: "Top-1 agreement",
    name: "top-1",
    short: "top-1",
    unit: "",
    about: "Share of positions at which base and cell rank the same token first.",
    better: Better::Higher,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Percent,
    of_itself: Some(1.0),
    headline: false,
    details: &[],
    measure: Measure::Windows(agreement),
};

fn divergence(windows: &[WindowMeans], nats: fn(&WindowMeans) -> f64) -> Summary {
    let nats: Vec<f64> = windows.iter().map(nats).collect();
    let Estimate { value, ci95 } = mean_with_interval(&nats);
    let bits = |v: f64| v / LN_2;
    // A divergence is at least zero, whatever a normal interval says.
    let estimate = Estimate { value: bits(value), ci95: ci95.map(|end| bits(end).max(0.0)) };
    Summary { estimate, details: vec![value] }
}

fn agreement(windows: &[WindowMeans]) -> Summary {
    let shares: Vec<f64> = windows.iter().map(|window| window.agreement).collect();
    Summary { estimate: mean_with_interval(&shares), details: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are exact")]

    use super::*;

    #[test]
    fn divergences_are_in_bits_and_their_intervals_end_at_zero() {
        let windows = [0.01, 0.03].map(|js| WindowMeans { js, ..WindowMeans::default() });
        let Measure::Windows(measure) = JS_DIVERGENCE.measure else { panic!("JS is measured on windows") };
        let Summary { estimate, details } = measure(&windows);
        assert_eq!(details, [0.02]);
        assert!((estimate.value - 0.02 / LN_2).abs() < 1e-15);
        // Two windows 0.02 nats apart: a standard error of 0.01, of which 1.96 lie below zero but for a little.
        assert!((estimate.ci95[0] - 0.0004 / LN_2).abs() < 1e-12);
        assert_eq!(measure(&windows[..1]).estimate.ci95, [0.0, f64::INFINITY]);
    }
}
