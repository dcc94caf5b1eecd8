//! What a mean hides: percentiles over positions, and means over bands of them.

use super::score::Detail;
use super::stats::{mean, percentile};
use super::window::{Position, Window};

/// The percentiles that divergences are told with.
pub(super) const TAILS: [Detail; 11] = [
    Detail { name: "max", about: "The greatest value at any position." },
    Detail { name: "p99_9", about: "99.9th percentile over positions." },
    Detail { name: "p99", about: "99th percentile over positions." },
    Detail { name: "p95", about: "95th percentile over positions." },
    Detail { name: "p90", about: "90th percentile over positions." },
    Detail { name: "median", about: "Median over positions." },
    Detail { name: "p10", about: "10th percentile over positions." },
    Detail { name: "p5", about: "5th percentile over positions." },
    Detail { name: "p1", about: "1st percentile over positions." },
    Detail { name: "p0_1", about: "0.1th percentile over positions." },
    Detail { name: "min", about: "The least value at any position." },
];

/// The share of positions that each of [`TAILS`] has below it.
const SHARES: [f64; TAILS.len()] = [1.0, 0.999, 0.99, 0.95, 0.9, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0];

/// The details of means over eighths of the positions of each window.
macro_rules! bands_of {
    ($what:literal) => {
        [
            Detail {
                name: "band_1",
                about: concat!($what, " over the first eighth of the positions of windows."),
            },
            Detail {
                name: "band_2",
                about: concat!($what, " over the second eighth of the positions of windows."),
            },
            Detail {
                name: "band_3",
                about: concat!($what, " over the third eighth of the positions of windows."),
            },
            Detail {
                name: "band_4",
                about: concat!($what, " over the fourth eighth of the positions of windows."),
            },
            Detail {
                name: "band_5",
                about: concat!($what, " over the fifth eighth of the positions of windows."),
            },
            Detail {
                name: "band_6",
                about: concat!($what, " over the sixth eighth of the positions of windows."),
            },
            Detail {
                name: "band_7",
                about: concat!($what, " over the seventh eighth of the positions of windows."),
            },
            Detail {
                name: "band_8",
                about: concat!($what, " over the last eighth of the positions of windows."),
            },
        ]
    };
}

/// Parts of a window that are told apart.
const EIGHTHS: usize = 8;

pub(super) const KL_BANDS: [Detail; EIGHTHS] = bands_of!("Mean in bits");
pub(super) const NLL_BANDS: [Detail; EIGHTHS] = bands_of!("Mean negative log-likelihood in nats");

/// Lists of details as one.
pub(super) const fn joined<const N: usize>(lists: &[&[Detail]]) -> [Detail; N] {
    let mut all = [Detail { name: "", about: "" }; N];
    let (mut list, mut at) = (0, 0);
    while list < lists.len() {
        let mut i = 0;
        while i < lists[list].len() {
            all[at] = lists[list][i];
            at += 1;
            i += 1;
        }
        list += 1;
    }
    assert!(at == N, "the lists are as long as they are said to be");
    all
}

/// A value of every position.
pub(super) fn of_positions(windows: &[Window], value: impl Fn(&Position) -> f64) -> Vec<f64> {
    windows.iter().flat_map(|window| &window.positions).map(value).collect()
}

/// The values of [`TAILS`].
pub(super) fn tails(values: Vec<f64>) -> Vec<f64> {
    let ascending = Ascending::new(values);
    SHARES.iter().map(|&share| ascending.percentile(share)).collect()
}

/// Values in order, to take percentiles of.
pub(super) struct Ascending(Vec<f64>);

impl Ascending {
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// The value with this share of the others below it, between two of them by linear interpolation. Nothing is known
    /// of no values, nor of values that are no numbers.
    pub fn percentile(&self, share: f64) -> f64 {
        // A NaN stands at one of the ends, whatever its sign.
        let known = |end: Option<&f64>| end.is_some_and(|value| !value.is_nan());
        if known(self.0.first()) && known(self.0.last()) { percentile(&self.0, share) } else { f64::NAN }
    }
}

/// Means of a value over eighths of the windows' positions: the values of [`KL_BANDS`]. A window of fewer than eight
/// positions has no value in some of them.
pub(super) fn bands(windows: &[Window], value: impl Fn(&Position) -> f64) -> Vec<f64> {
    banded(windows, |window| &window.positions, value)
}

/// The same over the positions that have a next token.
pub(super) fn bands_with_target(windows: &[Window], value: impl Fn(&Position) -> f64) -> Vec<f64> {
    banded(windows, Window::with_target, value)
}

fn banded(
    windows: &[Window],
    counted: impl Fn(&Window) -> &[Position],
    value: impl Fn(&Position) -> f64,
) -> Vec<f64> {
    let mut bands: [Vec<f64>; EIGHTHS] = Default::default();
    for window in windows {
        let all = window.positions.len();
        for (i, position) in counted(window).iter().enumerate() {
            bands[i * EIGHTHS / all].push(value(position));
        }
    }
    bands.iter().map(|band| mean(band)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "small integers are exact")]

    use super::*;

    #[test]
    fn percentiles_lie_between_neighbours_and_are_unknown_of_what_is_no_number() {
        let found = tails((0..=1000).rev().map(f64::from).collect());
        assert_eq!(found, [1000.0, 999.0, 990.0, 950.0, 900.0, 500.0, 100.0, 50.0, 10.0, 1.0, 0.0]);
        assert_eq!(tails(vec![3.0])[5], 3.0);
        assert!((tails(vec![1.0, 2.0])[2] - 1.99).abs() < 1e-12, "99% of the way");
        assert_eq!(tails(vec![1.0, f64::INFINITY, f64::INFINITY])[2], f64::INFINITY);
        for nan in [f64::NAN, -f64::NAN] {
            assert!(tails(vec![1.0, nan, 2.0]).iter().all(|v| v.is_nan()));
        }
        assert!(tails(Vec::new()).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn bands_are_eighths_of_every_window() {
        let window = |from: u32| {
            let positions = (0..16).map(|i| Position { kl: f64::from(from + i), ..Position::default() });
            Window::new(positions.collect(), 15)
        };
        let windows = [window(0), window(100)];
        let found = bands(&windows, |position| position.kl);
        assert_eq!(found, [50.5, 52.5, 54.5, 56.5, 58.5, 60.5, 62.5, 64.5]);
        let found = bands_with_target(&windows, |position| position.kl);
        assert_eq!((found[6], found[7]), (62.5, 64.0), "the last position has no next token");
        let short = Window::new(vec![Position::default(); 4], 3);
        assert_eq!(bands(&[short], |_| 1.0).iter().filter(|v| v.is_nan()).count(), 4);
    }
}
