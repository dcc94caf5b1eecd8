//! How many times as unexpected a text is to a cell as to the base.

use super::notation::Notation;
use super::score::{Better, Detail, Measure, Scale, Score, Summary};
use super::stats::{mean_and_standard_error, normal_interval};
use super::window::Window;
use crate::results::Estimate;

/// The cell's perplexity divided by the base's. Its logarithm is a mean of differences, token by token: what makes a text
/// hard for both models falls out of it. So its interval, `exp(mean ± 1.96 standard errors)` of the differences of
/// windows, is narrower than those of the two perplexities.
pub static PERPLEXITY_RATIO: Score = Score {
    id: "perplexity_ratio",
    csv: "perplexity_ratio",
    title: "Perplexity ratio",
    name: "ppl ratio",
    short: "ppl ratio",
    unit: "",
    about: "The cell's perplexity divided by the base's, with the interval of the differences on the same windows.",
    better: Better::Lower,
    range: [0.0, f64::INFINITY],
    scale: Scale::Log,
    notation: Notation::Magnitude,
    of_itself: Some(1.0),
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: true,
    interval_in_tables: true,
    details: &[
        Detail { name: "ln_ratio", about: "Natural logarithm of the ratio." },
        Detail { name: "standard_error_nats", about: "Standard error over windows of ln_ratio." },
        Detail {
            name: "standard_error_tokens_nats",
            about: "Standard error of ln_ratio if all tokens were independent, as llama.cpp has it.",
        },
    ],
    measure: Measure::Windows(ratio),
};

fn ratio(windows: &[Window]) -> Summary {
    let differences: Vec<f64> = windows.iter().map(|w| w.means.nll - w.means.base_nll).collect();
    let (mean, error) = mean_and_standard_error(&differences);
    let of_tokens: Vec<f64> =
        windows.iter().flat_map(Window::with_target).map(|at| at.nll - at.base_nll).collect();
    let (_, error_of_tokens) = mean_and_standard_error(&of_tokens);
    let estimate = Estimate { value: mean.exp(), ci95: normal_interval(mean, error).map(f64::exp) };
    Summary { estimate, details: vec![mean, error, error_of_tokens] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are exact")]

    use super::super::window::Position;
    use super::*;

    fn window(pairs: &[(f64, f64)]) -> Window {
        let position = |&(nll, base_nll): &(f64, f64)| Position { nll, base_nll, ..Position::default() };
        Window::new(pairs.iter().map(position).collect(), pairs.len())
    }

    #[test]
    fn the_interval_is_that_of_the_differences() {
        // The windows differ much, the differences from the base little: 0.2 and 0.4.
        let windows = [window(&[(9.1, 9.0), (7.3, 7.0)]), window(&[(2.5, 2.0), (1.3, 1.0)])];
        let Summary { estimate, details } = ratio(&windows);
        assert!((estimate.value - 0.3_f64.exp()).abs() < 1e-12 && (details[0] - 0.3).abs() < 1e-12);
        // Deviations of 0.1 from the mean: √(2 · 0.01 / 1 / 2).
        assert!((details[1] - 0.1).abs() < 1e-12);
        assert!((estimate.ci95[0] - (0.3_f64 - 0.196).exp()).abs() < 1e-9);
        // 0.1, 0.3, 0.5, 0.3: √(0.08 / 3 / 4).
        assert!((details[2] - (0.08_f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!(ratio(&windows[..1]).estimate.ci95, [0.0, f64::INFINITY]);
    }

    #[test]
    fn of_itself_it_is_one() {
        let windows = [window(&[(3.0, 3.0), (1.0, 1.0)]), window(&[(2.0, 2.0)])];
        let Summary { estimate, details } = ratio(&windows);
        assert_eq!((estimate.value, estimate.ci95), (1.0, [1.0; 2]));
        assert_eq!(details, [0.0; 3]);
    }
}
