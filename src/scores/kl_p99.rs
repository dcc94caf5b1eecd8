//! The tail of KL divergence: how bad it is where it is bad.

use std::f64::consts::LN_2;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::divergence::NATS;
use super::notation::Notation;
use super::score::{Better, Measure, Scale, Score, Summary};
use super::stats::{RESAMPLES, percentile};
use super::tails::{Ascending, of_positions};
use super::window::Window;
use crate::results::Estimate;

/// The share of positions below the value.
const SHARE: f64 = 0.99;

/// The 99th percentile of KL(base‖cell) over all positions, in bits. The interval is a percentile bootstrap over windows,
/// since the positions of one text depend on one another: windows are drawn with replacement, and the percentile is taken
/// of all their positions together. A single window leaves it at `0 … ∞`.
pub static KL_P99: Score = Score {
    id: "kl_p99",
    csv: "kl_p99_bits",
    title: "KL divergence, 99th percentile",
    name: "KL p99",
    short: "KL p99",
    unit: "bits",
    about: "99th percentile over positions of KL(base || cell), in bits: one position in a hundred is worse.",
    better: Better::Lower,
    range: [0.0, f64::INFINITY],
    scale: Scale::Linear,
    notation: Notation::Decimal,
    of_itself: Some(0.0),
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: true,
    interval_in_tables: false,
    details: NATS,
    measure: Measure::Windows(kl_p99),
};

fn kl_p99(windows: &[Window]) -> Summary {
    let nats = Ascending::new(of_positions(windows, |position| position.kl)).percentile(SHARE);
    let interval = if nats.is_nan() { [f64::NAN; 2] } else { bootstrap(windows) };
    let estimate = Estimate { value: nats / LN_2, ci95: interval.map(|end| end / LN_2) };
    Summary { estimate, details: vec![nats] }
}

/// The 95% interval of the percentile over resampled windows. The same values give the same interval.
fn bootstrap(windows: &[Window]) -> [f64; 2] {
    if windows.len() < 2 {
        return [0.0, f64::INFINITY];
    }
    // Sorted once, from the top: a resample is then read down to its rank, which lies near.
    let mut descending: Vec<(f64, usize)> = windows
        .iter()
        .enumerate()
        .flat_map(|(i, window)| window.positions.iter().map(move |position| (position.kl, i)))
        .collect();
    descending.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut found: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut times = vec![0; windows.len()];
            for _ in windows {
                times[rng.random_range(0..windows.len())] += 1;
            }
            of_resample(&descending, &times, windows)
        })
        .collect();
    found.sort_unstable_by(f64::total_cmp);
    [percentile(&found, 0.025), percentile(&found, 0.975)]
}

/// The percentile over windows that are there so many times each.
fn of_resample(descending: &[(f64, usize)], times: &[usize], windows: &[Window]) -> f64 {
    let count: usize = windows.iter().zip(times).map(|(window, times)| window.positions.len() * times).sum();
    let last = count.saturating_sub(1);
    let at = SHARE * last as f64;
    let at_rank = |rank: usize| {
        let mut above = last - rank;
        for &(value, window) in descending {
            if above < times[window] {
                return value;
            }
            above -= times[window];
        }
        f64::NAN
    };
    percentile(&[at_rank(at.floor() as usize), at_rank(at.ceil() as usize)], at.fract())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are exact")]

    use super::super::window::Position;
    use super::*;

    fn windows(count: usize, length: usize) -> Vec<Window> {
        let kl = |i: usize| ((i * 7919) % 1009) as f64 / 100.0;
        let window = |w: usize| {
            let positions = (0..length).map(|i| Position { kl: kl(w * length + i), ..Position::default() });
            Window::new(positions.collect(), length)
        };
        (0..count).map(window).collect()
    }

    #[test]
    fn a_resample_has_the_percentile_of_its_positions() {
        let windows = windows(5, 30);
        let descending = |windows: &[Window]| {
            let positions = windows.iter().enumerate();
            let mut all: Vec<(f64, usize)> =
                positions.flat_map(|(i, w)| w.positions.iter().map(move |p| (p.kl, i))).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            all
        };
        for times in [[1, 1, 1, 1, 1], [0, 3, 0, 1, 1], [5, 0, 0, 0, 0]] {
            let drawn = windows.iter().zip(times).flat_map(|(w, n)| vec![w.clone(); n]).collect::<Vec<_>>();
            let expected = Ascending::new(of_positions(&drawn, |position| position.kl)).percentile(SHARE);
            assert!((of_resample(&descending(&windows), &times, &windows) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_value_lies_in_its_interval_and_one_window_has_none() {
        let windows = windows(12, 200);
        let Summary { estimate, details } = kl_p99(&windows);
        assert!((details[0] / LN_2 - estimate.value).abs() < 1e-12);
        let [low, high] = estimate.ci95;
        assert!(0.0 < low && low <= estimate.value && estimate.value <= high && high < 20.0, "{estimate:?}");
        assert_eq!(kl_p99(&windows).estimate, estimate, "the same each time");
        assert_eq!(kl_p99(&windows[..1]).estimate.ci95, [0.0, f64::INFINITY]);
    }

    #[test]
    fn of_itself_it_is_zero_and_a_broken_model_has_no_value() {
        let with = |kl: f64| Window::new(vec![Position { kl, ..Position::default() }; 8], 7);
        assert_eq!(kl_p99(&[with(0.0), with(0.0)]).estimate, Estimate { value: 0.0, ci95: [0.0; 2] });
        let broken = kl_p99(&[with(0.0), with(f64::NAN)]).estimate;
        assert!(broken.value.is_nan() && broken.ci95[0].is_nan());
    }
}
