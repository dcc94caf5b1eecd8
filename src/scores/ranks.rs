//! Spearman's rank correlation with an interval: how far it would differ had other cells been run.

use std::cmp::Ordering;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stats::{RESAMPLES, mean, percentile};
use crate::results::Estimate;

/// The rank correlations of one list with several others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CorrelationsOfList {
    /// Their mean over those that are known.
    pub overall: Option<Estimate>,
    /// One for each of the others; `None` under three values, or where one side is constant.
    pub each: Vec<Option<Estimate>>,
}

/// Spearman's rank correlations, `−1 … 1`, of each of `these` lists with each of `those`, with 95% percentile-bootstrap
/// intervals: places are drawn with replacement (1000 resamples). The same lists and seed give the same intervals. Ties
/// share their mean rank, infinity ranks last. Every resample of a perfect correlation is perfect, so that its interval
/// is a point, however few values there are.
///
/// All are drawn from the same places in a resample, so that what lists share is not counted as if it were found twice.
/// Lists that are constant, or not as long as the longest, have no correlation and do not enter a mean. No value may be
/// NaN.
pub(crate) fn correlate_ranks(these: &[Vec<f64>], those: &[Vec<f64>], seed: u64) -> Vec<CorrelationsOfList> {
    let n = these.iter().chain(those).map(Vec::len).max().unwrap_or(0);
    let all_places: Vec<usize> = (0..n).collect();
    let values = Correlated::at(&all_places, these, those);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let resamples: Vec<Correlated> = (0..if n < FEWEST { 0 } else { RESAMPLES })
        .map(|_| {
            let places: Vec<usize> = (0..n).map(|_| rng.random_range(0..n)).collect();
            Correlated::at(&places, these, those)
        })
        .collect();
    let row = |this: usize| CorrelationsOfList {
        overall: with_interval(values.overall(this), resamples.iter().map(|one| one.overall(this))),
        each: (0..those.len())
            .map(|that| with_interval(values.0[this][that], resamples.iter().map(|one| one.0[this][that])))
            .collect(),
    };
    (0..these.len()).map(row).collect()
}

/// Fewest pairs of a rank correlation.
pub(super) const FEWEST: usize = 3;

/// The correlations of these lists (rows) with those, of one draw of places.
struct Correlated(Vec<Vec<Option<f64>>>);

impl Correlated {
    fn at(places: &[usize], these: &[Vec<f64>], those: &[Vec<f64>]) -> Self {
        // Ranks are what takes time: they are found once for each list, not for each pair of lists.
        let rank = |lists: &[Vec<f64>]| -> Vec<Option<CentredRanks>> {
            lists.iter().map(|list| CentredRanks::at(places, list)).collect()
        };
        let (these, those) = (rank(these), rank(those));
        let row = |this: &Option<CentredRanks>| {
            those.iter().map(|that| Some(this.as_ref()?.correlation(that.as_ref()?))).collect()
        };
        Self(these.iter().map(row).collect())
    }

    /// The mean of a row over what is known.
    fn overall(&self, row: usize) -> Option<f64> {
        let known: Vec<f64> = self.0[row].iter().copied().flatten().collect();
        (!known.is_empty()).then(|| mean(&known))
    }
}

/// Ranks less their mean, with the sum of their squares.
struct CentredRanks(Vec<f64>, f64);

impl CentredRanks {
    /// The ranks of what stands at these places; `None` where it is constant, or too little, or a place is missing.
    fn at(places: &[usize], list: &[f64]) -> Option<Self> {
        if list.len() != places.len() || places.len() < FEWEST {
            return None;
        }
        let drawn: Vec<f64> = places.iter().map(|place| list[*place]).collect();
        // Mean ranks keep the sum of the ranks, so that their mean is that of 1 … n.
        let centre = 1.0_f64.midpoint(places.len() as f64);
        let ranks: Vec<f64> = average_ranks(&drawn).into_iter().map(|rank| rank - centre).collect();
        let squares = ranks.iter().map(|rank| rank * rank).sum();
        (squares > 0.0).then_some(Self(ranks, squares))
    }

    fn correlation(&self, other: &Self) -> f64 {
        let product: f64 = self.0.iter().zip(&other.0).map(|(one, other)| one * other).sum();
        (product / (self.1 * other.1).sqrt()).clamp(-1.0, 1.0)
    }
}

/// A value with the interval of its resamples. A few cells drawn over and over may all be alike: such a resample has no
/// correlation, and is left out.
fn with_interval(value: Option<f64>, resamples: impl Iterator<Item = Option<f64>>) -> Option<Estimate> {
    let value = value?;
    let mut known: Vec<f64> = resamples.flatten().collect();
    known.sort_unstable_by(f64::total_cmp);
    let ci95 =
        if known.is_empty() { [-1.0, 1.0] } else { [percentile(&known, 0.025), percentile(&known, 0.975)] };
    Some(Estimate { value, ci95 })
}

/// Ranks from 1; equal values share the mean of the ranks that they take up. No value may be NaN.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let compare = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| compare(values[i], values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&i, &j| compare(values[i], values[j]).is_eq()) {
        let rank = before as f64 + 1.0_f64.midpoint(tied.len() as f64);
        for &i in tied {
            ranks[i] = rank;
        }
        before += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "perfect correlations are exact")]

    use proptest::prelude::*;
    use rand::Rng;

    use super::*;

    /// The correlation of the pairs `(a[i], b[i])`.
    fn spearman_with_interval(a: &[f64], b: &[f64], seed: u64) -> Option<Estimate> {
        correlate_ranks(&[a.to_vec()], &[b.to_vec()], seed).remove(0).each.remove(0)
    }

    fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
        spearman_with_interval(a, b, 0).map(|found| found.value)
    }

    /// Pearson's correlation of ranks that are counted: how many are less, and half of those that are equal.
    fn counted(a: &[f64], b: &[f64]) -> f64 {
        let rank = |list: &[f64]| -> Vec<f64> {
            let below = |x: f64| list.iter().filter(|y| **y < x).count() as f64;
            let equal = |x: f64| list.iter().filter(|y| **y <= x).count() as f64 - below(x);
            list.iter().map(|x| below(*x) + equal(*x) / 2.0).collect()
        };
        let (a, b) = (rank(a), rank(b));
        let centred = |list: &[f64]| -> Vec<f64> { list.iter().map(|x| x - mean(list)).collect() };
        let (a, b) = (centred(&a), centred(&b));
        let product = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(p, q)| p * q).sum() };
        product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
    }

    /// Numbers without order, the same every time.
    fn noise(i: usize) -> f64 {
        (i * 7919 % 101) as f64 / 101.0 - 0.5
    }

    #[test]
    fn spearman_follows_ranks_not_values() {
        assert_eq!(spearman(&[1.0, 10.0, 1e6], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(spearman(&[1.0, 2.0, f64::INFINITY], &[1.0, 2.0, 3.0]), Some(1.0));
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Pearson's 4.5 / sqrt(4.5 · 5).
        let tied = spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((tied - 4.5 / 22.5_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_correlation_without_spread_is_certain_and_one_with_spread_is_not() {
        let up: Vec<f64> = (0..12).map(f64::from).collect();
        let perfect = spearman_with_interval(&up, &up, 0).unwrap();
        assert_eq!(perfect, Estimate { value: 1.0, ci95: [1.0; 2] });
        let rough: Vec<f64> = (0..12).map(|i| f64::from(i as u32) + 10.0 * noise(i)).collect();
        let found = spearman_with_interval(&up, &rough, 0).unwrap();
        assert!(found.ci95[0] < found.value && found.value < found.ci95[1], "{found:?}");
        assert_eq!(found, spearman_with_interval(&up, &rough, 0).unwrap());
        assert_ne!(found, spearman_with_interval(&up, &rough, 1).unwrap());
    }

    #[test]
    fn more_cells_narrow_the_interval() {
        let width = |n: usize| {
            let up: Vec<f64> = (0..n).map(|i| i as f64 / n as f64).collect();
            let rough: Vec<f64> = (0..n).map(|i| up[i] + noise(i)).collect();
            let [low, high] = spearman_with_interval(&up, &rough, 0).unwrap().ci95;
            high - low
        };
        assert!(width(80) < 0.7 * width(20), "{} {}", width(80), width(20));
    }

    #[test]
    fn nothing_is_said_of_too_little() {
        assert_eq!(spearman_with_interval(&[1.0, 2.0], &[1.0, 2.0], 0), None);
        assert_eq!(spearman_with_interval(&[1.0; 4], &[1.0, 2.0, 3.0, 4.0], 0), None);
        assert_eq!(spearman_with_interval(&[1.0, 2.0, 3.0], &[1.0, 2.0], 0), None);
        assert_eq!(spearman_with_interval(&[], &[], 0), None);
        let nothing = CorrelationsOfList { overall: None, each: Vec::new() };
        assert_eq!(correlate_ranks(&[vec![1.0, 2.0, 3.0]], &[], 0), [nothing]);
        assert_eq!(correlate_ranks(&[], &[vec![1.0, 2.0, 3.0]], 0), []);
    }

    #[test]
    fn a_mean_is_over_the_tasks_that_have_a_correlation() {
        let damage = vec![1.0, 2.0, 3.0, 4.0];
        let tasks = [vec![1.0, 2.0, 3.0, 4.0], vec![2.0, 1.0, 3.0, 4.0], vec![0.0; 4], vec![1.0, 2.0, 3.0]];
        let found = correlate_ranks(&[vec![], damage.clone()], &tasks, 0);
        assert_eq!(found[0], CorrelationsOfList { overall: None, each: vec![None; 4] });
        let overall = found[1].overall.unwrap();
        assert!((overall.value - 0.9).abs() < 1e-12, "{overall:?}");
        assert!(overall.ci95[0] <= overall.value && overall.value <= overall.ci95[1], "{overall:?}");
        assert_eq!(found[1].each[1], spearman_with_interval(&damage, &tasks[1], 0));
        assert_eq!(found[1].each[2..], [None, None]);
    }

    /// The interval holds the correlation of the whole population in about 95 of 100 draws of cells.
    #[test]
    fn the_interval_holds_the_truth_in_most_draws() {
        // Two normal variables that correlate by 0.6 have a rank correlation of 6/pi asin(0.3).
        let truth = 6.0 / std::f64::consts::PI * 0.3_f64.asin();
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let normal = |rng: &mut ChaCha8Rng| {
            let (radius, angle): (f64, f64) = (rng.random(), rng.random());
            (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
        };
        let draws = 200;
        let holds = (0..draws).filter(|draw| {
            let pair = |_| {
                let x = normal(&mut rng);
                (x, 0.6 * x + 0.8 * normal(&mut rng))
            };
            let (a, b): (Vec<f64>, Vec<f64>) = (0..40).map(pair).unzip();
            let [low, high] = spearman_with_interval(&a, &b, *draw).unwrap().ci95;
            (low..=high).contains(&truth)
        });
        let share = holds.count() as f64 / draws as f64;
        assert!((0.9..=0.99).contains(&share), "{share}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_interval_is_bounded_and_blind_to_monotone_maps(
            pairs in prop::collection::vec((-20..20_i32, -20..20_i32), 3..16), seed: u64,
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) =
                pairs.iter().map(|(x, y)| (f64::from(*x), f64::from(*y))).unzip();
            let found = spearman_with_interval(&a, &b, seed);
            if let Some(found) = found {
                prop_assert!((found.value - counted(&a, &b)).abs() < 1e-9);
                prop_assert!((found.value - spearman(&b, &a).unwrap()).abs() < 1e-12);
                let [low, high] = found.ci95;
                prop_assert!(-1.0 <= low && low <= high && high <= 1.0, "{:?}", found);
                let mapped: Vec<f64> = a.iter().map(|x| x.exp()).collect();
                prop_assert_eq!(spearman_with_interval(&mapped, &b, seed), Some(found));
                let turned: Vec<f64> = a.iter().map(|x| -x).collect();
                let back = spearman_with_interval(&turned, &b, seed).unwrap();
                prop_assert!((back.ci95[0] + high).abs() < 1e-9 && (back.ci95[1] + low).abs() < 1e-9);
            }
        }
    }
}
