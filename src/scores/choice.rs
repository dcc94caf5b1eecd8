//! Scores of questions whose choices are compared by their log-likelihoods, as lm-evaluation-harness defines them.

use super::choice_outcome::ChoiceOutcome;
use super::notation::Notation;
use super::score::{Better, Detail, Measure, Scale, Score, Summary};
use super::stats::bootstrap_mean;
use crate::results::Estimate;

const STANDARD_ERROR: &[Detail] = &[Detail {
    name: "standard_error",
    about: "Standard error of the share: the root of p (1 - p) / (n - 1).",
}];

/// Share of questions whose right choice is the most likely one; of last words, share that greedy decoding gives.
pub static ACCURACY: Score = Score {
    id: "acc",
    csv: "acc",
    title: "Accuracy",
    name: "acc",
    short: "acc",
    unit: "",
    about: "Accuracy as lm-evaluation-harness has it: share of questions whose right choice is the most likely one; of \
            last words, share that greedy decoding gives.",
    better: Better::Higher,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Fraction,
    of_itself: None,
    paired: None,
    flips_rank: Some(0),
    headline: true,
    seldom: false,
    interval_in_tables: false,
    details: STANDARD_ERROR,
    measure: Measure::Choices {
        score: |outcome| Some(accuracy(outcome)),
        summary: share_of_right,
        right_or_wrong: true,
    },
};

/// The same with every log-likelihood divided by the characters of its choice.
pub static NORMALISED_ACCURACY: Score = Score {
    id: "acc_norm",
    csv: "acc_norm",
    title: "Normalised accuracy",
    name: "acc norm",
    short: "acc norm",
    unit: "",
    about: "Accuracy normalised by length, as lm-evaluation-harness has it: share of questions whose right choice has \
            the greatest log-likelihood per character.",
    better: Better::Higher,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Fraction,
    of_itself: None,
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: false,
    interval_in_tables: false,
    details: STANDARD_ERROR,
    measure: Measure::Choices { score: normalised_accuracy, summary: share_of_right, right_or_wrong: true },
};

/// `exp` of the mean over passages of the negative log-likelihood of their last words.
pub static LAST_WORD_PERPLEXITY: Score = Score {
    id: "last_word_perplexity",
    csv: "last_word_perplexity",
    title: "Last-word perplexity",
    name: "last-word perplexity",
    short: "lwppl",
    unit: "",
    about: "How unexpected the last words of the passages are to the model: exp of the mean over passages of their \
            negative log-likelihood.",
    better: Better::Lower,
    range: [1.0, f64::INFINITY],
    scale: Scale::Log,
    notation: Notation::Magnitude,
    of_itself: None,
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: true,
    interval_in_tables: false,
    details: &[],
    measure: Measure::Choices {
        score: |outcome| outcome.last_word.map(|_| (-outcome.log_likelihoods[outcome.gold]).exp()),
        summary: geometric_mean,
        right_or_wrong: false,
    },
};

/// Place of the greatest value, of equal ones the first.
pub fn most_likely(values: impl IntoIterator<Item = f64>) -> usize {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.into_iter().enumerate() {
        if best.is_none_or(|(_, greatest)| value > greatest) {
            best = Some((index, value));
        }
    }
    best.map_or(0, |(index, _)| index)
}

fn accuracy(outcome: &ChoiceOutcome<'_>) -> f64 {
    if outcome.log_likelihoods.iter().any(|ll| ll.is_nan()) {
        // A broken model is not right by chance.
        return f64::NAN;
    }
    let right = match outcome.last_word {
        Some(greedy) => greedy,
        None => most_likely(outcome.log_likelihoods.iter().copied()) == outcome.gold,
    };
    f64::from(right)
}

fn normalised_accuracy(outcome: &ChoiceOutcome<'_>) -> Option<f64> {
    let characters = outcome.characters?;
    if outcome.log_likelihoods.iter().any(|ll| ll.is_nan()) {
        return Some(f64::NAN);
    }
    let per_character = outcome.log_likelihoods.iter().zip(characters).map(|(ll, n)| ll / *n as f64);
    Some(f64::from(most_likely(per_character) == outcome.gold))
}

fn share_of_right(values: &[f64], seed: u64) -> Summary {
    let estimate = bootstrap_mean(values, seed);
    Summary { estimate, details: vec![share_error(estimate.value, values.len())] }
}

/// Standard error of a share; infinite of a single record, which says nothing about its spread.
fn share_error(share: f64, n: usize) -> f64 {
    if n < 2 { f64::INFINITY } else { (share * (1.0 - share) / (n - 1) as f64).sqrt() }
}

fn geometric_mean(values: &[f64], seed: u64) -> Summary {
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let Estimate { value, ci95 } = bootstrap_mean(&logs, seed);
    Summary { estimate: Estimate { value: value.exp(), ci95: ci95.map(f64::exp) }, details: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "scores of 0 and 1 are exact")]

    use super::*;

    fn outcome<'a>(
        log_likelihoods: &'a [f64],
        characters: Option<&'a [usize]>,
        gold: usize,
    ) -> ChoiceOutcome<'a> {
        ChoiceOutcome { log_likelihoods, characters, gold, last_word: None }
    }

    #[test]
    fn the_first_of_the_most_likely_choices_is_the_answer() {
        assert_eq!(accuracy(&outcome(&[-3.0, -2.0, -2.0], None, 1)), 1.0);
        assert_eq!(accuracy(&outcome(&[-3.0, -2.0, -2.0], None, 2)), 0.0);
        assert!(
            accuracy(&outcome(&[f64::NAN, -1.0], None, 0)).is_nan(),
            "a broken model is not right by chance"
        );
        assert!(normalised_accuracy(&outcome(&[-1.0, f64::NAN], Some(&[1, 1]), 0)).unwrap().is_nan());
    }

    #[test]
    fn lengths_decide_only_where_they_are_known() {
        let values = [-6.0, -5.0];
        assert_eq!(normalised_accuracy(&outcome(&values, Some(&[12, 5]), 0)), Some(1.0));
        assert_eq!(normalised_accuracy(&outcome(&values, None, 0)), None);
    }

    #[test]
    fn a_share_has_the_standard_error_of_the_harness() {
        let found = share_of_right(&[1.0, 0.0, 0.0, 1.0, 0.0], 3);
        assert_eq!(found.estimate.value, 0.4);
        assert!((found.details[0] - (0.4_f64 * 0.6 / 4.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn a_last_words_perplexity_is_a_mean_over_passages() {
        let Measure::Choices { score, .. } = LAST_WORD_PERPLEXITY.measure else {
            panic!("choices are scored")
        };
        let of = |ll: f64| {
            let log_likelihoods = [ll];
            score(&ChoiceOutcome { last_word: Some(false), ..outcome(&log_likelihoods, None, 0) }).unwrap()
        };
        assert!((geometric_mean(&[of(-1.0), of(-3.0)], 0).estimate.value - 2f64.exp()).abs() < 1e-12);
        assert_eq!(score(&outcome(&[-1.0, -2.0], None, 0)), None);
    }
}
