//! How far a cell's next-token distributions lie from the base's: JS, KL, and how often both rank the same token first.

use std::f64::consts::LN_2;

use super::notation::Notation;
use super::score::{Better, Detail, Measure, Scale, Score, Summary};
use super::stats::mean_with_interval;
use super::tails::{KL_BANDS, TAILS, bands, joined, of_positions, tails};
use super::text_windows::TextWindows;
use super::window::{Position, Window};
use crate::results::Estimate;

pub(super) const NATS: &[Detail] = &[Detail { name: "nats", about: "The value in nats." }];

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
    paired: Some(|a, b| difference_in_bits(a, b, 0)),
    flips_rank: None,
    headline: true,
    seldom: false,
    interval_in_tables: false,
    details: &joined::<12>(&[NATS, &TAILS]),
    measure: Measure::Windows(js),
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
    paired: Some(|a, b| difference_in_bits(a, b, 1)),
    flips_rank: None,
    headline: false,
    seldom: true,
    interval_in_tables: false,
    details: &joined::<20>(&[NATS, &TAILS, &KL_BANDS]),
    measure: Measure::Windows(kl),
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
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: false,
    interval_in_tables: false,
    details: &[],
    measure: Measure::Windows(agreement),
};

/// The mean over windows of B's divergence less A's, in bits; `which` is its place in [`TextWindows::divergences`].
fn difference_in_bits(a: &TextWindows, b: &TextWindows, which: usize) -> Option<Estimate> {
    let nats = |text: &TextWindows| match &text.divergences {
        Some(divergences) => divergences[which].clone(),
        // The base is at no distance from itself.
        None => vec![0.0; text.nll.len()],
    };
    let (of_a, of_b) = (nats(a), nats(b));
    let bits: Vec<f64> = of_a.iter().zip(&of_b).map(|(a, b)| (b - a) / LN_2).collect();
    (of_a.len() == of_b.len()).then(|| mean_with_interval(&bits))
}

fn js(windows: &[Window]) -> Summary {
    divergence(windows, |window| window.means.js, |position| position.js)
}

fn kl(windows: &[Window]) -> Summary {
    let mut found = divergence(windows, |window| window.means.kl, |position| position.kl);
    found.details.extend(bands(windows, |position| bits(position.kl)));
    found
}

/// The mean, with the percentiles of its positions; both are given in nats.
fn divergence(windows: &[Window], mean: fn(&Window) -> f64, at: fn(&Position) -> f64) -> Summary {
    let nats: Vec<f64> = windows.iter().map(mean).collect();
    let Estimate { value, ci95 } = mean_with_interval(&nats);
    // A divergence is at least zero, whatever a normal interval says.
    let estimate = Estimate { value: bits(value), ci95: ci95.map(|end| bits(end).max(0.0)) };
    let mut details = vec![value];
    details.extend(tails(of_positions(windows, |position| bits(at(position)))));
    Summary { estimate, details }
}

fn bits(nats: f64) -> f64 {
    nats / LN_2
}

fn agreement(windows: &[Window]) -> Summary {
    let shares: Vec<f64> = windows.iter().map(|window| window.means.agreement).collect();
    Summary { estimate: mean_with_interval(&shares), details: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are exact")]

    use super::super::window::WindowMeans;
    use super::*;

    #[test]
    fn divergences_are_in_bits_and_their_intervals_end_at_zero() {
        let means = |js: f64| WindowMeans { js, ..WindowMeans::default() };
        let windows = [0.01, 0.03].map(|js| Window::of_means(means(js)));
        let Measure::Windows(measure) = JS_DIVERGENCE.measure else { panic!("JS is measured on windows") };
        let Summary { estimate, details } = measure(&windows);
        assert_eq!(details[0], 0.02);
        assert!((estimate.value - 0.02 / LN_2).abs() < 1e-15);
        // Two windows 0.02 nats apart: a standard error of 0.01, of which 1.96 lie below zero but for a little.
        assert!((estimate.ci95[0] - 0.0004 / LN_2).abs() < 1e-12);
        assert_eq!(measure(&windows[..1]).estimate.ci95, [0.0, f64::INFINITY]);
    }

    #[test]
    fn percentiles_and_bands_are_in_bits_too() {
        let window = |from: u32| {
            let value = |i: u32| f64::from(from + i) * LN_2;
            let positions = (0..8).map(|i| Position { kl: value(i), js: value(i), ..Position::default() });
            Window::new(positions.collect(), 7)
        };
        let windows = [window(0), window(8)];
        let named = |score: &Score, name: &str| {
            let Measure::Windows(measure) = score.measure else {
                panic!("{} is measured on windows", score.id)
            };
            let place = score.details.iter().position(|detail| detail.name == name).unwrap();
            measure(&windows).details[place]
        };
        for score in [&JS_DIVERGENCE, &KL_DIVERGENCE] {
            for (name, bits) in [("max", 15.0), ("median", 7.5), ("p90", 13.5), ("min", 0.0)] {
                assert!((named(score, name) - bits).abs() < 1e-12, "{} {name}", score.id);
            }
        }
        for (name, bits) in [("band_1", 4.0), ("band_8", 11.0)] {
            assert!((named(&KL_DIVERGENCE, name) - bits).abs() < 1e-12, "{name}");
        }
    }
}
