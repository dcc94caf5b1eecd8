//! Scores of an answer against reference answers: exact match and F1 as `SQuAD` defines them, ROUGE-1 as
//! Google's `rouge_score` computes it (F-measure, no stemming).

use std::collections::HashMap;

use crate::results::Scores;

/// Scores `prediction` against every reference and keeps the best, each metric on its own.
/// Without references every score is zero.
pub fn score(prediction: &str, references: &[String]) -> Scores {
    let predicted = Normalised::new(prediction);
    let words = rouge_tokens(prediction);
    let mut best = Scores::default();
    for reference in references {
        let expected = Normalised::new(reference);
        best.exact_match = best.exact_match.max(f64::from(predicted.tokens == expected.tokens));
        best.f1 = best.f1.max(overlap_f(&predicted.tokens, &expected.tokens));
        best.rouge1 = best.rouge1.max(overlap_f(&words, &rouge_tokens(reference)));
    }
    best
}

/// `SQuAD` exact match of one pair: 1 when both are equal after [`normalise`], else 0.
pub fn exact_match(prediction: &str, reference: &str) -> f64 {
    f64::from(normalise(prediction) == normalise(reference))
}

/// `SQuAD` F1 of one pair, `0 … 1`: overlap of the bags of normalised tokens. It is 0 where normalising leaves nothing of
/// a side, even of both: so the first published script has it, and so the pairs that the tests hold this against.
/// (The script of `SQuAD` 2.0 gives 1 for two empty sides, since there no answer can be the right one.)
pub fn f1(prediction: &str, reference: &str) -> f64 {
    overlap_f(&Normalised::new(prediction).tokens, &Normalised::new(reference).tokens)
}

/// ROUGE-1 F-measure of one pair, `0 … 1`, without stemming; 0 where a side has no token.
pub fn rouge1(prediction: &str, reference: &str) -> f64 {
    overlap_f(&rouge_tokens(prediction), &rouge_tokens(reference))
}

/// A text as `SQuAD` compares it: lower case, without ASCII punctuation and the articles `a`, `an`, `the`, words
/// separated by one blank.
pub fn normalise(text: &str) -> String {
    Normalised::new(text).tokens.join(" ")
}

/// The tokens of a normalised text.
struct Normalised {
    tokens: Vec<String>,
}

impl Normalised {
    fn new(text: &str) -> Self {
        let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
        let tokens = without_articles(&bare)
            .split(is_python_space)
            .filter(|token| !token.is_empty())
            .map(str::to_string)
            .collect();
        Self { tokens }
    }
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

/// ROUGE's tokens: runs of `[a-z0-9]` of the lower-cased text.
fn rouge_tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .filter(|token| !token.is_empty())
        .map(str::to_string)
        .collect()
}

/// Harmonic mean of precision and recall of two token bags; 0 where they share nothing.
fn overlap_f(prediction: &[String], reference: &[String]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for token in reference {
        *left.entry(token).or_default() += 1;
    }
    let mut shared = 0_usize;
    for token in prediction {
        if let Some(count) = left.get_mut(token.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    if shared == 0 {
        return 0.0;
    }
    let precision = shared as f64 / prediction.len() as f64;
    let recall = shared as f64 / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "scores of 0 and 1 are exact")]

    use proptest::prelude::*;

    use super::*;

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
        assert_eq!(rouge1("…", "…"), 0.0);
    }

    #[test]
    fn f1_and_rouge1_count_a_repeated_token_as_often_as_both_have_it() {
        // Bags {red, red, fox} and {red, fox, runs, away}: 2 shared, precision 2/3, recall 1/2.
        assert!((f1("red red fox", "red fox runs away") - 4.0 / 7.0).abs() < 1e-15);
        assert!((rouge1("red red fox", "red fox runs away") - 4.0 / 7.0).abs() < 1e-15);
    }

    #[test]
    fn each_metric_takes_its_own_best_reference() {
        // The first is equal without its article; the second has more of the answer's words, article included.
        let references = ["Cat".to_string(), "an a cat".to_string()];
        let scores = score("a cat", &references);
        assert_eq!((scores.exact_match, scores.f1), (1.0, 1.0));
        assert!((scores.rouge1 - 0.8).abs() < 1e-15);
        assert_eq!(score("anything", &[]), Scores::default());
    }

    proptest! {
        #[test]
        fn scores_stay_between_zero_and_one(a in ".{0,40}", b in prop::collection::vec(".{0,40}", 0..4)) {
            let s = score(&a, &b);
            for value in [s.exact_match, s.f1, s.rouge1] {
                prop_assert!((0.0..=1.0).contains(&value));
            }
            prop_assert!(s.f1 >= s.exact_match || normalise(&a).is_empty());
        }

        #[test]
        fn a_text_is_its_own_best_answer(a in ".{0,60}") {
            prop_assert_eq!(exact_match(&a, &a), 1.0);
            prop_assert_eq!(f1(&a, &a), f64::from(!normalise(&a).is_empty()));
            let has_token = a.to_lowercase().chars().any(|c| c.is_ascii_alphanumeric());
            prop_assert_eq!(rouge1(&a, &a), f64::from(has_token));
        }

        #[test]
        fn f_measures_do_not_care_which_side_is_which(a in "[a-e ]{0,30}", b in "[a-e ]{0,30}") {
            prop_assert!((f1(&a, &b) - f1(&b, &a)).abs() < 1e-15);
            prop_assert!((rouge1(&a, &b) - rouge1(&b, &a)).abs() < 1e-15);
        }

        #[test]
        fn normalising_twice_changes_nothing(a in "[a-zA-Z,.' \u{2019}]{0,40}") {
            let once = normalise(&a);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn more_references_never_lower_a_score(a in "[a-d ]{0,20}", b in prop::collection::vec("[a-d ]{0,20}", 1..4)) {
            let (few, all) = (score(&a, &b[..1]), score(&a, &b));
            prop_assert!(all.exact_match >= few.exact_match && all.f1 >= few.f1 && all.rouge1 >= few.rouge1);
        }
    }
}
