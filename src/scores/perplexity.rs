//! Perplexity.

use super::notation::Notation;
use super::paired::perplexity_ratio;
use super::score::{Better, Detail, Measure, Scale, Score, Summary};
use super::stats::{mean_and_standard_error, normal_interval};
use super::tails::{NLL_BANDS, bands_with_target, joined};
use super::text_windows::TextWindows;
use super::window::Window;
use crate::results::Estimate;

const ERROR: [Detail; 1] = [Detail {
    name: "standard_error_nats",
    about: "Standard error over windows of the mean negative log-likelihood, in nats.",
}];

/// `exp` of the mean over windows of the mean negative log-likelihood; its interval is
/// `exp(mean ± 1.96 standard errors)`, which a single window leaves at `0 … ∞`.
pub static PERPLEXITY: Score = Score {
    id: "perplexity",
    csv: "perplexity",
    title: "Perplexity",
    name: "perplexity",
    short: "ppl",
    unit: "",
    about: "How unexpected the text is to the model: exp of the mean negative log-likelihood of its tokens.",
    better: Better::Lower,
    range: [1.0, f64::INFINITY],
    scale: Scale::Log,
    notation: Notation::Magnitude,
    of_itself: None,
    paired: Some(ratio_of_perplexities),
    flips_rank: None,
    headline: true,
    seldom: false,
    interval_in_tables: false,
    details: &joined::<9>(&[&ERROR, &NLL_BANDS]),
    measure: Measure::Windows(perplexity),
};

fn ratio_of_perplexities(a: &TextWindows, b: &TextWindows) -> Option<Estimate> {
    perplexity_ratio(&a.nll, &b.nll).map(|found| found.ratio())
}

fn perplexity(windows: &[Window]) -> Summary {
    let nll: Vec<f64> = windows.iter().map(|window| window.means.nll).collect();
    let (mean, error) = mean_and_standard_error(&nll);
    let estimate = Estimate { value: mean.exp(), ci95: normal_interval(mean, error).map(f64::exp) };
    let mut details = vec![error];
    // In nats: how unexpected tokens are as the context grows.
    details.extend(bands_with_target(windows, |position| position.nll));
    Summary { estimate, details }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are exact")]

    use super::super::window::WindowMeans;
    use super::*;

    fn of(nll: &[f64]) -> Summary {
        let windows = nll.iter().map(|&nll| Window::of_means(WindowMeans { nll, ..WindowMeans::default() }));
        perplexity(&windows.collect::<Vec<_>>())
    }

    #[test]
    fn perplexity_is_exp_of_the_mean_with_an_interval_over_windows() {
        let Summary { estimate, details } = of(&[3.0, 3.2, 3.4]);
        assert!((estimate.value - 3.2_f64.exp()).abs() < 1e-12);
        let error = 0.2 / 3.0_f64.sqrt();
        assert!((details[0] - error).abs() < 1e-12);
        assert!((estimate.ci95[1] - (3.2 + 1.96 * error).exp()).abs() < 1e-9);
        assert_eq!(of(&[3.0]).estimate.ci95, [0.0, f64::INFINITY]);
        let ruined = of(&[3.0, f64::INFINITY]).estimate;
        assert_eq!((ruined.value, ruined.ci95), (f64::INFINITY, [f64::INFINITY; 2]));
    }
}
