//! ROUGE-1 as Google's `rouge_score` computes it (F-measure, no stemming).

use super::notation::Notation;
use super::overlap::{best, overlap_f};
use super::score::{Better, Measure, Scale, Score};

/// F-measure of the words that answer and reference share, the best over the references.
pub static ROUGE1: Score = Score {
    id: "rouge1",
    csv: "rouge1",
    title: "ROUGE-1",
    name: "ROUGE-1",
    short: "ROUGE-1",
    unit: "",
    about: "ROUGE-1 of answers: F-measure of the words shared with the best reference, without stemming.",
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
    details: &[],
    measure: Measure::Answers {
        score: |answer, references| best(references, |reference| rouge1(answer, reference)),
        applies: |_| true,
        right_or_wrong: false,
    },
};

/// ROUGE-1 F-measure of one pair, `0 … 1`, without stemming; 0 where a side has no token.
pub fn rouge1(prediction: &str, reference: &str) -> f64 {
    overlap_f(&tokens(prediction), &tokens(reference))
}

/// ROUGE's tokens: runs of `[a-z0-9]` of the lower-cased text.
fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .filter(|token| !token.is_empty())
        .map(str::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "scores of 0 and 1 are exact")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rouge1_counts_a_repeated_word_as_often_as_both_have_it() {
        assert!((rouge1("red red fox", "red fox runs away") - 4.0 / 7.0).abs() < 1e-15);
        assert_eq!(rouge1("…", "…"), 0.0, "sides without a token share nothing");
    }

    proptest! {
        #[test]
        fn a_text_is_its_own_best_answer(a in ".{0,60}") {
            let has_token = a.to_lowercase().chars().any(|c| c.is_ascii_alphanumeric());
            prop_assert_eq!(rouge1(&a, &a), f64::from(has_token));
        }

        #[test]
        fn rouge1_does_not_care_which_side_is_which(a in "[a-e ]{0,30}", b in "[a-e ]{0,30}") {
            prop_assert!((rouge1(&a, &b) - rouge1(&b, &a)).abs() < 1e-15);
        }
    }
}
