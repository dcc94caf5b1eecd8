//! How far the probability of the true next token moved.

use super::notation::Notation;
use super::score::{Better, Detail, Measure, Scale, Score, Summary};
use super::stats::{mean, mean_and_standard_error, normal_interval};
use super::tails::{Ascending, joined};
use super::window::{Position, Window};
use crate::results::Estimate;

const MEANS: [Detail; 3] = [
    Detail { name: "mean", about: "Mean of delta p; below zero where the cell is less sure of the text." },
    Detail {
        name: "standard_error",
        about: "Standard error of that mean if all positions were independent.",
    },
    Detail {
        name: "rms_standard_error",
        about: "Standard error of the value if all positions were independent.",
    },
];

/// The percentiles, from the most that the cell won to the most that it lost.
const PERCENTILES: [Detail; 13] = [
    Detail { name: "max", about: "The greatest delta p at any position." },
    Detail { name: "p99_9", about: "99.9th percentile of delta p over positions." },
    Detail { name: "p99", about: "99th percentile of delta p over positions." },
    Detail { name: "p95", about: "95th percentile of delta p over positions." },
    Detail { name: "p90", about: "90th percentile of delta p over positions." },
    Detail { name: "p75", about: "75th percentile of delta p over positions." },
    Detail { name: "median", about: "Median of delta p over positions." },
    Detail { name: "p25", about: "25th percentile of delta p over positions." },
    Detail { name: "p10", about: "10th percentile of delta p over positions." },
    Detail { name: "p5", about: "5th percentile of delta p over positions." },
    Detail { name: "p1", about: "1st percentile of delta p over positions." },
    Detail { name: "p0_1", about: "0.1th percentile of delta p over positions." },
    Detail { name: "min", about: "The least delta p at any position." },
];

const SHARES: [f64; PERCENTILES.len()] =
    [1.0, 0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.0];

/// Root mean square, over the positions that have a next token, of Δp: what the cell gives that token less what the base
/// gives it. The interval is the root of that of the mean square, which is taken over windows.
pub static DELTA_P_RMS: Score = Score {
    id: "delta_p_rms",
    csv: "delta_p_rms",
    title: "Delta p, root mean square",
    name: "dp rms",
    short: "dp rms",
    unit: "",
    about: "Root mean square of delta p, by which the probability of the true next token differs from the base's.",
    better: Better::Lower,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Percent,
    of_itself: Some(0.0),
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: true,
    interval_in_tables: false,
    details: &joined::<16>(&[&MEANS, &PERCENTILES]),
    measure: Measure::Windows(delta_p),
};

fn delta_p(windows: &[Window]) -> Summary {
    let of_window = |window: &Window| -> Vec<f64> {
        window.with_target().iter().map(|position| position.delta_p().powi(2)).collect()
    };
    let mean_squares: Vec<f64> = windows.iter().map(|window| mean(&of_window(window))).collect();
    let (mean_square, error) = mean_and_standard_error(&mean_squares);
    // `max` would make a zero of what is no number.
    let root = |square: f64| if square < 0.0 { 0.0 } else { square.sqrt() };
    let value = root(mean_square);
    let estimate = Estimate { value, ci95: normal_interval(mean_square, error).map(root) };

    let all: Vec<f64> = windows.iter().flat_map(Window::with_target).map(Position::delta_p).collect();
    let squares: Vec<f64> = all.iter().map(|delta| delta * delta).collect();
    let (mean, error) = mean_and_standard_error(&all);
    let (_, error_of_squares) = mean_and_standard_error(&squares);
    // The root's slope is one over twice the root.
    let error_of_root = if value > 0.0 { error_of_squares / (2.0 * value) } else { error_of_squares };
    let mut details = vec![mean, error, error_of_root];
    let ascending = Ascending::new(all);
    details.extend(SHARES.iter().map(|&share| ascending.percentile(share)));
    Summary { estimate, details }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are exact")]

    use super::*;

    fn window(probabilities: &[(f64, f64)]) -> Window {
        let position = |&(cell, base): &(f64, f64)| Position {
            nll: -cell.ln(),
            base_nll: -base.ln(),
            ..Position::default()
        };
        let mut positions: Vec<Position> = probabilities.iter().map(position).collect();
        // One that has no next token.
        positions.push(Position::default());
        Window::new(positions, probabilities.len())
    }

    fn detail(found: &Summary, name: &str) -> f64 {
        found.details[DELTA_P_RMS.details.iter().position(|detail| detail.name == name).unwrap()]
    }

    #[test]
    fn gains_and_losses_of_probability_are_told() {
        let found = delta_p(&[window(&[(0.5, 0.8), (0.4, 0.3)]), window(&[(0.2, 0.6), (0.9, 0.9)])]);
        // −0.3, 0.1, −0.4, 0.
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        near(found.estimate.value, (0.26_f64 / 4.0).sqrt());
        near(detail(&found, "mean"), -0.15);
        near(detail(&found, "standard_error"), (0.17_f64 / 3.0 / 4.0).sqrt());
        // Squares 0.09, 0.01, 0.16, 0: 0.0169 is the sum of their squared deviations.
        let of_squares = (0.0169_f64 / 3.0 / 4.0).sqrt();
        near(detail(&found, "rms_standard_error"), of_squares / 2.0 / 0.065_f64.sqrt());
        near(detail(&found, "max"), 0.1);
        near(detail(&found, "p75"), 0.025);
        near(detail(&found, "median"), -0.15);
        near(detail(&found, "min"), -0.4);
        // Mean squares of the windows are 0.05 and 0.08.
        near(found.estimate.ci95[1], (0.065_f64 + 1.96 * 0.015).sqrt());
    }

    #[test]
    fn of_itself_it_is_zero_and_a_broken_model_has_no_value() {
        let same = delta_p(&[window(&[(0.5, 0.5)]), window(&[(0.25, 0.25)])]);
        assert_eq!((same.estimate.value, same.estimate.ci95), (0.0, [0.0; 2]));
        assert!(same.details.iter().all(|v| *v == 0.0), "{:?}", same.details);
        let broken = delta_p(&[window(&[(f64::NAN, 0.5)]), window(&[(0.25, 0.25)])]);
        assert!(broken.estimate.value.is_nan() && broken.estimate.ci95.iter().all(|v| v.is_nan()));
        assert!(broken.details.iter().all(|v| v.is_nan()), "{:?}", broken.details);
    }
}
