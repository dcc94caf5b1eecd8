//! Means with intervals.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::results::{Estimate, Measurement};

/// Resamples of a bootstrap.
pub(super) const RESAMPLES: usize = 1000;

/// Half the width of a normal 95% interval, in standard errors.
const Z95: f64 = 1.96;

/// The mean with a 95% percentile-bootstrap interval over the values (1000 resamples). The same values and seed give
/// the same interval. Without values everything is NaN.
pub(crate) fn bootstrap_mean(values: &[f64], seed: u64) -> Estimate {
    let value = mean(values);
    if values.is_empty() {
        return Estimate { value, ci95: [f64::NAN; 2] };
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 = values.iter().map(|_| values[rng.random_range(0..values.len())]).sum();
            sum / values.len() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    Estimate { value, ci95: [percentile(&means, 0.025), percentile(&means, 0.975)] }
}

/// The mean and its standard error (sample deviation over `√n`), in the unit of the values.
///
/// One value says nothing about its spread, and neither do values that are not finite: the error is then infinite.
/// Without values both are NaN.
pub(crate) fn mean_and_standard_error(values: &[f64]) -> (f64, f64) {
    let mean = mean(values);
    if mean.is_nan() {
        return (mean, f64::NAN);
    }
    if values.len() < 2 || mean.is_infinite() {
        return (mean, f64::INFINITY);
    }
    let n = values.len() as f64;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

/// The mean with the normal 95% interval, mean ± 1.96 standard errors: for values averaged over windows. The interval
/// of a single value is infinite.
pub(crate) fn mean_with_interval(values: &[f64]) -> Estimate {
    let (value, error) = mean_and_standard_error(values);
    Estimate { value, ci95: normal_interval(value, error) }
}

/// The values of a score on the tasks of a model, averaged, each weighted by its number of records. The tasks being
/// independent, their intervals add up as squares.
///
/// `None` without tasks, and while a task of the `base`'s values is missing: the mean would be one over other data.
pub(crate) fn mean_over_tasks(tasks: &[&Measurement], base: &[&Measurement]) -> Option<Estimate> {
    let count =
        |tasks: &[&Measurement], name: &str| tasks.iter().filter(|task| task.data_set == name).count();
    let complete = base.iter().all(|asked| count(tasks, &asked.data_set) >= count(base, &asked.data_set));
    let records: usize = tasks.iter().map(|task| task.n).sum();
    if !complete || records == 0 {
        return None;
    }
    let (mut value, mut below, mut above) = (0.0, 0.0, 0.0);
    for task in tasks {
        let weight = task.n as f64 / records as f64;
        let Estimate { value: mean, ci95: [low, high] } = task.estimate();
        value += weight * mean;
        below += (weight * (mean - low)).powi(2);
        above += (weight * (high - mean)).powi(2);
    }
    Some(Estimate { value, ci95: [value - below.sqrt(), value + above.sqrt()] })
}

pub(super) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { f64::NAN } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The normal 95% interval. An infinite mean stands for itself: `∞ − ∞` would make a NaN of its lower end.
pub(super) fn normal_interval(mean: f64, error: f64) -> [f64; 2] {
    if mean.is_infinite() { [mean; 2] } else { [mean - Z95 * error, mean + Z95 * error] }
}

/// The value at a share of ascending values, of which there is at least one, by linear interpolation.
pub(super) fn percentile(ascending: &[f64], q: f64) -> f64 {
    let at = q * (ascending.len() - 1) as f64;
    let (low, high) = (ascending[at.floor() as usize], ascending[at.ceil() as usize]);
    // Equal ends are returned as they are: interpolating between infinities would give a NaN.
    if low.total_cmp(&high).is_eq() { low } else { low + (high - low) * at.fract() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are exact")]

    use proptest::prelude::*;

    use super::*;
    use crate::number::NamedNumbers;

    fn estimate(value: f64) -> Estimate {
        Estimate { value, ci95: [value; 2] }
    }

    #[test]
    fn a_mean_over_tasks_weighs_records() {
        let task = |name: &str, n, value, by| Measurement {
            score: "f1".into(),
            data_set: name.into(),
            value,
            ci95: [value - by, value + by],
            n,
            details: NamedNumbers::default(),
        };
        // The built-in study's: 200 questions and 60 tellings.
        let (questions, tellings) =
            (task("questions", 200, 0.937, 0.026), task("tellings", 60, 0.962, 0.013));
        let tasks = [&questions, &tellings];
        let mean = mean_over_tasks(&tasks, &tasks).unwrap();
        assert!((mean.value - 0.942_769_2).abs() < 1e-6, "{mean:?}");
        // The intervals add up as squares: of 200/260 x 0.026 and 60/260 x 0.013.
        let by = f64::hypot(0.02, 0.003);
        assert!((mean.ci95[0] - (mean.value - by)).abs() < 1e-12, "{mean:?}");
        assert!((mean.ci95[1] - (mean.value + by)).abs() < 1e-12, "{mean:?}");
        // One task alone is another mean than the base's; of two tasks of one name both are needed.
        assert_eq!(mean_over_tasks(&tasks[..1], &tasks), None);
        assert_eq!(mean_over_tasks(&tasks, &[&questions, &questions]), None);
        assert_eq!(mean_over_tasks(&[], &[]), None);
    }

    #[test]
    fn mean_and_error_are_the_textbooks() {
        let (mean, error) = mean_and_standard_error(&[2.0, 4.0, 4.0, 6.0]);
        assert!((mean - 4.0).abs() < 1e-15);
        assert!((error - (8.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
        assert_eq!(mean_and_standard_error(&[3.0]), (3.0, f64::INFINITY));
        assert!(mean_and_standard_error(&[]).0.is_nan());
    }

    #[test]
    fn a_bootstrap_is_seeded_and_as_wide_as_theory_says() {
        // 400 coin flips: the interval of the mean is close to 0.5 ± 1.96 · 0.025.
        let flips: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let e = bootstrap_mean(&flips, 7);
        assert_eq!(e, bootstrap_mean(&flips, 7));
        assert_ne!(e, bootstrap_mean(&flips, 8));
        assert!((e.value - 0.5).abs() < 1e-15);
        assert!((e.ci95[0] - 0.451).abs() < 0.01 && (e.ci95[1] - 0.549).abs() < 0.01, "{e:?}");
        assert_eq!(bootstrap_mean(&[1.0, 1.0], 0), estimate(1.0));
        assert!(bootstrap_mean(&[], 0).value.is_nan());
    }

    proptest! {
        #[test]
        fn a_bootstrap_interval_lies_within_the_values(v in prop::collection::vec(-1e3..1e3f64, 1..30), seed: u64) {
            let e = bootstrap_mean(&v, seed);
            let low = v.iter().copied().fold(f64::INFINITY, f64::min);
            let high = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(low - 1e-9 <= e.ci95[0] && e.ci95[0] <= e.ci95[1] && e.ci95[1] <= high + 1e-9);
        }
    }
}
