//! How far two models are apart on the same records or windows.
//!
//! What is easy for one model is easy for the other, so their scores go up and down together. Differences within a
//! record or window leave that out: their interval is narrower than what two intervals side by side suggest.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::stats::{RESAMPLES, mean, mean_and_standard_error, normal_interval, percentile};
use crate::number;
use crate::results::Estimate;

/// Means nearer to zero than this share of the largest difference are zero. Scores such as 0.1 and 0.3 have no exact
/// form, so that differences that cancel leave about 1e-16 behind.
const ROUNDING: f64 = 1e-12;

/// The difference of a score between two models, from what both scored on the same records.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Mean of the cell's scores less that of the base's, in the unit of the score.
    pub difference: Estimate,
    /// Share of the resamples whose difference has the same sign, `0 … 1`; `None` where the difference is zero and has
    /// no sign, or is no number.
    pub sign_holds: Option<f64>,
    /// Records that both models have a score for.
    pub records: usize,
}

/// The paired bootstrap: records are drawn with replacement, each with the scores of both models (1000 resamples).
/// The same scores and seed give the same result.
///
/// A record without a score (NaN) on either side is left out. Without any record the difference is NaN; a single record
/// says nothing about the spread, and its interval is infinite. `None` where the lists are not equally long, and so not
/// of the same records.
pub(crate) fn paired_bootstrap(base: &[f64], cell: &[f64], seed: u64) -> Option<PairedDifference> {
    let differences = differences(base, cell)?;
    let records = differences.len();
    let largest = differences.iter().fold(0.0, |largest: f64, one| largest.max(one.abs()));
    let settle = |mean: f64| if mean.abs() < ROUNDING * largest { 0.0 } else { mean };
    let value = settle(mean(&differences));
    if records < 2 || !value.is_finite() {
        let ci95 = if records == 1 { [f64::NEG_INFINITY, f64::INFINITY] } else { [value; 2] };
        return Some(PairedDifference { difference: Estimate { value, ci95 }, sign_holds: None, records });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 = (0..records).map(|_| differences[rng.random_range(0..records)]).sum();
            settle(sum / records as f64)
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let same_sign = means.iter().filter(|mean| **mean * value > 0.0).count();
    Some(PairedDifference {
        difference: Estimate { value, ci95: [percentile(&means, 0.025), percentile(&means, 0.975)] },
        sign_holds: (value != 0.0).then(|| same_sign as f64 / RESAMPLES as f64),
        records,
    })
}

/// How many times a cell's perplexity is the base's, as a logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PerplexityRatio {
    /// `ln(cell's perplexity / base's)`, in nats, with the normal 95% interval over windows.
    pub ln_ratio: Estimate,
    /// Its standard error over windows, in nats: infinite for a single window.
    #[serde(with = "number")]
    pub standard_error: f64,
    /// Windows that both models have a loss for.
    pub windows: usize,
}

/// The ratio of two perplexities, from the mean negative log-likelihood (nats per token) of each window of a text.
///
/// A perplexity is the exponential of the mean over windows, so `ln` of the ratio is the mean of the differences, and
/// its standard error is theirs. The interval is the normal one: with fewer than some 30 windows it is a little narrow.
/// A window without a loss (NaN) on either side is left out. `None` where the lists are not equally long.
pub(crate) fn perplexity_ratio(base_nll: &[f64], cell_nll: &[f64]) -> Option<PerplexityRatio> {
    let differences = differences(base_nll, cell_nll)?;
    let (value, standard_error) = mean_and_standard_error(&differences);
    let ln_ratio = Estimate { value, ci95: normal_interval(value, standard_error) };
    Some(PerplexityRatio { ln_ratio, standard_error, windows: differences.len() })
}

impl PerplexityRatio {
    /// The ratio itself with its interval; 1 where both perplexities are equal.
    pub(crate) fn ratio(&self) -> Estimate {
        Estimate { value: self.ln_ratio.value.exp(), ci95: self.ln_ratio.ci95.map(f64::exp) }
    }
}

/// Whether a difference is more than noise: its 95% interval does not hold zero. What is no number is not.
///
/// Of right and wrong answers with few flips, `McNemar`'s p says less: with four flips, all one way, the interval of the
/// bootstrap does not hold zero, while p is 0.125. Only six have a p below 0.05.
pub(crate) fn is_more_than_noise(difference: &Estimate) -> bool {
    let [low, high] = difference.ci95;
    low > 0.0 || high < 0.0
}

/// The cell's value less the base's of every pair that has both; `None` where the lists are not equally long.
fn differences(base: &[f64], cell: &[f64]) -> Option<Vec<f64>> {
    let known =
        |(before, after): (&f64, &f64)| (!before.is_nan() && !after.is_nan()).then_some(after - before);
    (base.len() == cell.len()).then(|| base.iter().zip(cell).filter_map(known).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits and whole numbers are exact")]

    use proptest::prelude::*;
    use rand::Rng;

    use super::*;

    /// Draws of a simulation.
    const DRAWS: u64 = 2000;

    /// Independent draws of the standard normal distribution (Box and Muller).
    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let (radius, angle): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Share of the draws whose interval holds the true difference.
    fn coverage(truth: f64, interval: impl Fn(&mut ChaCha8Rng, u64) -> [f64; 2]) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(20_261_127);
        let holds = (0..DRAWS).filter(|draw| {
            let [low, high] = interval(&mut rng, *draw);
            (low..=high).contains(&truth)
        });
        holds.count() as f64 / DRAWS as f64
    }

    /// A record's difficulty is shared by both models, and each adds its own chance.
    fn paired_normal(rng: &mut ChaCha8Rng, n: usize, difference: f64) -> (Vec<f64>, Vec<f64>) {
        let pair = |_| {
            let difficulty = 3.0 + normal(rng);
            (difficulty + 0.3 * normal(rng), difficulty + difference + 0.4 * normal(rng))
        };
        (0..n).map(pair).unzip()
    }

    #[test]
    fn the_bootstrap_interval_of_normal_scores_holds_the_truth_in_95_of_100_draws() {
        let share = coverage(0.1, |rng, draw| {
            let (base, cell) = paired_normal(rng, 100, 0.1);
            paired_bootstrap(&base, &cell, draw).unwrap().difference.ci95
        });
        assert!((0.93..=0.97).contains(&share), "{share}");
    }

    #[test]
    fn the_bootstrap_interval_of_right_and_wrong_holds_the_truth_in_95_of_100_draws() {
        // Of the records 15% go from right to wrong and 8% from wrong to right.
        let share = coverage(-0.07, |rng, draw| {
            let pair = |_| match rng.random::<f64>() {
                x if x < 0.15 => (1.0, 0.0),
                x if x < 0.23 => (0.0, 1.0),
                x if x < 0.65 => (1.0, 1.0),
                _ => (0.0, 0.0),
            };
            let (base, cell): (Vec<f64>, Vec<f64>) = (0..200).map(pair).unzip();
            paired_bootstrap(&base, &cell, draw).unwrap().difference.ci95
        });
        assert!((0.93..=0.97).contains(&share), "{share}");
    }

    #[test]
    fn the_normal_interval_of_a_perplexity_ratio_holds_the_truth_in_95_of_100_draws() {
        let share = coverage(0.1, |rng, _| {
            let (base, cell) = paired_normal(rng, 100, 0.1);
            perplexity_ratio(&base, &cell).unwrap().ln_ratio.ci95
        });
        assert!((0.93..=0.97).contains(&share), "{share}");
    }

    #[test]
    fn pairing_finds_what_two_intervals_side_by_side_hide() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (base, cell) = paired_normal(&mut rng, 100, 0.2);
        let found = paired_bootstrap(&base, &cell, 0).unwrap();
        assert!(is_more_than_noise(&found.difference), "{found:?}");
        assert!(found.sign_holds.unwrap() > 0.99, "{found:?}");
        let alone = |scores: &[f64]| crate::scores::stats::bootstrap_mean(scores, 0).ci95;
        assert!(alone(&base)[1] > alone(&cell)[0], "the intervals of the two means overlap");
    }

    #[test]
    fn a_difference_is_the_cells_mean_less_the_bases() {
        let found = paired_bootstrap(&[1.0, 0.0, 1.0, 1.0], &[0.0, 0.0, 1.0, 0.0], 1).unwrap();
        assert_eq!((found.difference.value, found.records), (-0.5, 4));
        assert_eq!(found, paired_bootstrap(&[1.0, 0.0, 1.0, 1.0], &[0.0, 0.0, 1.0, 0.0], 1).unwrap());
        assert_eq!(paired_bootstrap(&[1.0], &[1.0, 0.0], 1), None);
        assert_eq!(perplexity_ratio(&[1.0], &[]), None);
    }

    #[test]
    fn few_flips_all_one_way_are_noise_to_mcnemar_only() {
        use crate::scores::flips::Flips;
        for flipped in [4, 5, 6] {
            let base = vec![1.0; 200];
            let mut cell = base.clone();
            cell[..flipped].fill(0.0);
            assert!(is_more_than_noise(&paired_bootstrap(&base, &cell, 0).unwrap().difference));
            let flips = Flips { right_to_wrong: flipped, wrong_to_right: 0, records: 200 };
            assert_eq!(flips.mcnemar_p() < 0.05, flipped == 6);
        }
    }

    #[test]
    fn what_cancels_is_no_difference() {
        // 0.1 + 0.2 − 0.3 is 5.6e-17 in floating-point numbers.
        let found = paired_bootstrap(&[0.0, 0.0, 0.3], &[0.1, 0.2, 0.0], 5).unwrap();
        assert_eq!(found.difference.value, 0.0);
        assert_eq!(found.sign_holds, None);
        let same = paired_bootstrap(&[0.3, 0.7, 0.1], &[0.3, 0.7, 0.1], 5).unwrap();
        assert_eq!(same.difference, Estimate { value: 0.0, ci95: [0.0; 2] });
        assert!(!is_more_than_noise(&same.difference));
    }

    #[test]
    fn too_little_says_nothing() {
        let one = paired_bootstrap(&[0.0, f64::NAN, 1.0], &[1.0, 1.0, f64::NAN], 0).unwrap();
        assert_eq!((one.difference.value, one.records, one.sign_holds), (1.0, 1, None));
        assert!(!is_more_than_noise(&one.difference), "{one:?}");
        let none = paired_bootstrap(&[f64::NAN], &[1.0], 0).unwrap();
        assert!(none.difference.value.is_nan() && none.records == 0);
        assert!(!is_more_than_noise(&none.difference));
        let window = perplexity_ratio(&[3.0], &[3.5]).unwrap();
        assert_eq!((window.ln_ratio.value, window.standard_error), (0.5, f64::INFINITY));
        assert!(!is_more_than_noise(&window.ln_ratio));
        assert!(perplexity_ratio(&[], &[]).unwrap().ln_ratio.value.is_nan());
    }

    #[test]
    fn an_infinite_loss_makes_an_infinite_ratio() {
        let broken = perplexity_ratio(&[3.0, 3.1], &[f64::INFINITY, 3.2]).unwrap();
        assert_eq!(broken.ln_ratio, Estimate { value: f64::INFINITY, ci95: [f64::INFINITY; 2] });
        assert!(is_more_than_noise(&broken.ln_ratio));
        let infinite = paired_bootstrap(&[0.0, 0.0], &[f64::INFINITY, 1.0], 0).unwrap();
        assert_eq!(infinite.difference.ci95, [f64::INFINITY; 2]);
        // Against each other two infinite losses are no number.
        let both = perplexity_ratio(&[f64::INFINITY, 1.0], &[f64::INFINITY, 1.0]).unwrap();
        assert!(both.ln_ratio.value.is_nan() && !is_more_than_noise(&both.ln_ratio));
    }

    #[test]
    fn a_perplexity_ratio_is_the_ratio_of_the_perplexities() {
        let (base, cell) = ([3.0, 3.4, 2.9], [3.2, 3.9, 3.3]);
        let found = perplexity_ratio(&base, &cell).unwrap();
        let perplexity = |nll: &[f64]| mean(nll).exp();
        let ratio = found.ratio();
        assert!((ratio.value - perplexity(&cell) / perplexity(&base)).abs() < 1e-12);
        assert!(ratio.ci95[0] < ratio.value && ratio.value < ratio.ci95[1]);
        // Differences 0.2, 0.5 and 0.4: variance 7/300, over three windows.
        assert!((found.standard_error - (7.0_f64 / 900.0).sqrt()).abs() < 1e-12, "{found:?}");
    }

    /// The golden file takes tokens as independent, and so has another standard error; the ratio is the same.
    #[test]
    fn the_golden_perplexity_ratios_agree() {
        let Some(path) = crate::skip::shared("golden/eval/divergence.json") else { return };
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for cell in golden["cells"].as_object().unwrap().values() {
            let windows = |name: &str| -> Vec<f64> {
                let list = cell["by_window"][name].as_array().unwrap();
                list.iter().map(|nll| nll.as_f64().unwrap()).collect()
            };
            let found = perplexity_ratio(&windows("nll_base"), &windows("nll")).unwrap();
            let expected = cell["sets"]["with_target"]["perplexity"]["ln_ppl_ratio"].as_f64().unwrap();
            assert!((found.ln_ratio.value - expected).abs() < 1e-9, "{found:?} {expected}");
            assert_eq!(found.windows, 8);
        }
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_the_differences(
            pairs in prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 2..40), seed: u64,
        ) {
            let (base, cell): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let found = paired_bootstrap(&base, &cell, seed).unwrap();
            let differences = differences(&base, &cell).unwrap();
            let least = differences.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = differences.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let [low, high] = found.difference.ci95;
            prop_assert!(least - 1e-9 <= low && low <= high && high <= largest + 1e-9, "{:?}", found);
            // Turned round, the difference is the opposite one.
            let back = paired_bootstrap(&cell, &base, seed).unwrap();
            prop_assert!((back.difference.value + found.difference.value).abs() < 1e-12);
            prop_assert_eq!(back.sign_holds, found.sign_holds);
        }

        #[test]
        fn records_without_a_score_change_nothing(
            pairs in prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 2..20), at in 0_usize..20,
        ) {
            let (mut base, mut cell): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let before = paired_bootstrap(&base, &cell, 0);
            base.insert(at.min(base.len()), f64::NAN);
            cell.insert(at.min(cell.len()), 1.0);
            prop_assert_eq!(paired_bootstrap(&base, &cell, 0), before);
        }
    }
}
