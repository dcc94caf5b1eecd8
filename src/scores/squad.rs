//! Exact match and F1 as `SQuAD` 1.1 defines them.

use super::notation::Notation;
use super::overlap::{best, overlap_f};
use super::score::{Better, Measure, Scale, Score};

/// Share of answers that equal one of the references once both are normalised.
pub static EXACT_MATCH: Score = Score {
    id: "exact_match",
    csv: "exact_match",
    title: "Exact match",
    name: "EM",
    short: "EM",
    unit: "",
    about: "Exact match of answers as SQuAD has it: 1 where answer and a reference are equal without case, punctuation \
            and articles.",
    better: Better::Higher,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Fraction,
    of_itself: None,
    paired: None,
    flips_rank: Some(2),
    headline: false,
    seldom: false,
    interval_in_tables: false,
    details: &[],
    measure: Measure::Answers {
        score: |answer, references| best(references, |reference| exact_match(answer, reference)),
        applies: |_| true,
        right_or_wrong: true,
    },
};

/// Overlap of the words of answer and reference, the best over the references.
pub static F1: Score = Score {
    id: "f1",
    csv: "f1",
    title: "F1",
    name: "F1",
    short: "F1",
    unit: "",
    about: "F1 of answers as SQuAD has it: harmonic mean of precision and recall of the words shared with the best \
            reference.",
    better: Better::Higher,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Fraction,
    of_itself: None,
    paired: None,
    flips_rank: None,
    headline: true,
    seldom: false,
    interval_in_tables: false,
    details: &[],
    measure: Measure::Answers {
        score: |answer, references| best(references, |reference| f1(answer, reference)),
        applies: |_| true,
        right_or_wrong: false,
    },
};

/// `SQuAD` exact match of one pair: 1 when both are equal once normalised, else 0.
pub fn exact_match(prediction: &str, reference: &str) -> f64 {
    f64::from(tokens(prediction) == tokens(reference))
}

/// `SQuAD` F1 of one pair, `0 … 1`: overlap of the bags of normalised tokens. It is 0 where normalising leaves nothing of
/// a side, even of both: so the first published script has it, and so the pairs that the tests compare this with.
/// (The script of `SQuAD` 2.0 gives 1 for two empty sides, since there no answer can be the right one.)
pub fn f1(prediction: &str, reference: &str) -> f64 {
    overlap_f(&tokens(prediction), &tokens(reference))
}

/// The words of a text as `SQuAD` compares it: lower case, without ASCII punctuation and the articles `a`, `an`, `the`.
fn tokens(text: &str) -> Vec<String> {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    without_articles(&bare)
        .split(is_python_space)
        .filter(|token| !token.is_empty())
        .map(str::to_string)
        .collect()
}

/// Replaces every run of word characters that is an article by a blank. A run ends where Python's `\b` sees a
/// boundary, so the `a` of `a’s` or `vitamin–a` is an article although no blank surrounds it.
fn without_articles(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = is_word(first);
        let end = rest.find(|c| is_word(c) != word).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        kept.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = tail;
    }
    kept
}

/// Python's `\w` in text patterns. (`_` is punctuation and gone by the time this is asked.)
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What Python's `str.split()` takes for a blank: Unicode's white space and the four ASCII separators.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "scores of 0 and 1 are exact")]

    use proptest::prelude::*;

    use super::*;

    fn normalise(text: &str) -> String {
        tokens(text).join(" ")
    }

    #[test]
    fn squad_normalisation_drops_case_punctuation_articles_and_blanks() {
        for (text, expected) in [
            ("The  Cat,\tan ANIMAL!", "cat animal"),
            ("theatre anthem a1", "theatre anthem a1"),
            ("U.S.A.", "usa"),
            ("a’s end", "’s end"),
            ("one\u{1c}two\u{a0}three", "one two three"),
            ("vitamin–a", "vitamin–"),
            ("the-end", "theend"),
            ("ÉCOLE ΟΔΟΣ", "école οδος"),
            ("a\u{301}", "\u{301}"),
            ("The", ""),
        ] {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sides_left_empty_match_exactly_but_share_no_token() {
        assert_eq!(exact_match("the!", "a"), 1.0);
        assert_eq!(f1("the", ""), 0.0);
        assert_eq!(f1("the", "cat"), 0.0);
        assert_eq!(f1("cat", "an"), 0.0);
    }

    #[test]
    fn f1_counts_a_repeated_word_as_often_as_both_have_it() {
        // Bags {red, red, fox} and {red, fox, runs, away}: 2 shared, precision 2/3, recall 1/2.
        assert!((f1("red red fox", "red fox runs away") - 4.0 / 7.0).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn a_text_is_its_own_best_answer(a in ".{0,60}") {
            prop_assert_eq!(exact_match(&a, &a), 1.0);
            prop_assert_eq!(f1(&a, &a), f64::from(!normalise(&a).is_empty()));
        }

        #[test]
        fn f1_does_not_care_which_side_is_which(a in "[a-e ]{0,30}", b in "[a-e ]{0,30}") {
            prop_assert!((f1(&a, &b) - f1(&b, &a)).abs() < 1e-15);
        }

        #[test]
        fn normalising_twice_changes_nothing(a in "[a-zA-Z,.' \u{2019}]{0,40}") {
            let once = normalise(&a);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
