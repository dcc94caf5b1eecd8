//! F1 over characters, for scripts that have no blanks between words.
//!
//! To a score that counts words, a Chinese or Japanese sentence is one word: an answer with one character too many is as
//! wrong as any other.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::notation::Notation;
use super::number::{has_ascii_word, is_number};
use super::overlap::{best, overlap_f};
use super::score::{Better, Measure, Scale, Score};

/// Overlap of the characters of answer and reference, the best over the references.
pub static CHARACTER_F1: Score = Score {
    id: "character_f1",
    csv: "character_f1",
    title: "Character F1",
    name: "char F1",
    short: "char F1",
    unit: "",
    about: "F1 of the characters that answer and best reference share, for scripts without blanks between words: where \
            no reference has a word in Latin letters.",
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
        score: |answer, references| best(references, |reference| character_f1(answer, reference)),
        applies: are_wordless,
        right_or_wrong: false,
    },
};

/// Whether none of them has a word in Latin letters, nor is a number.
pub(crate) fn are_wordless(references: &[String]) -> bool {
    let is_wordless = |reference: &String| !has_ascii_word(reference) && !is_number(reference);
    !references.is_empty() && references.iter().all(is_wordless)
}

/// F1 of the characters of one pair, `0 … 1`: harmonic mean of precision and recall of the bags of characters, without
/// case, blanks, punctuation and what is invisible. As with words, it is 0 where nothing is left of a side, even of both.
///
/// Characters are Unicode scalar values as they are written: full-width `Ａ` is not `A`, and an accent that stands by
/// itself counts by itself.
pub fn character_f1(prediction: &str, reference: &str) -> f64 {
    overlap_f(&characters(prediction), &characters(reference))
}

/// The characters of a text that are compared.
fn characters(text: &str) -> Vec<String> {
    text.to_lowercase().chars().filter(|c| is_compared(*c)).map(String::from).collect()
}

fn is_compared(c: char) -> bool {
    // ASCII's punctuation as SQuAD has it, with `$`, `+` and such, which to Unicode are symbols.
    !c.is_whitespace() && !c.is_ascii_punctuation() && !is_punctuation_or_invisible(c)
}

fn is_punctuation_or_invisible(c: char) -> bool {
    matches!(
        get_general_category(c),
        Category::ConnectorPunctuation
            | Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation
            | Category::Control
            // The blank of no width (U+200B) and the mark at the beginning of a file (U+FEFF) are among these.
            | Category::Format
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "scores of 0 and 1 are exact")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_that_both_have_count_whatever_stands_between_them() {
        // {北,京,市} against {北,京}: precision 2/3, recall 1.
        assert!((character_f1("北京市", "北京") - 0.8).abs() < 1e-15);
        assert_eq!(character_f1("「東京、日本」。", "東京 日本"), 1.0);
        assert_eq!(character_f1("東京\u{3000}\u{200b}日本", "東京日本"), 1.0);
        assert_eq!(character_f1("ＡＢＣ", "ａｂｃ"), 1.0, "full-width letters have case, too");
        assert_eq!(character_f1("猫", "犬"), 0.0);
    }

    #[test]
    fn a_repeated_character_counts_as_often_as_both_have_it() {
        // {人,人,山} against {人,山,人,海}: 3 shared, precision 1, recall 3/4.
        assert!((character_f1("人人山", "人山人海") - 6.0 / 7.0).abs() < 1e-15);
    }

    #[test]
    fn sides_left_empty_share_nothing() {
        for (one, other) in [("", ""), ("。", "。"), ("", "猫"), ("猫", " \u{feff}")] {
            assert_eq!(character_f1(one, other), 0.0, "{one:?} {other:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_its_own_best_answer(a in ".{0,60}") {
            prop_assert_eq!(character_f1(&a, &a), f64::from(!characters(&a).is_empty()));
        }

        #[test]
        fn neither_the_side_nor_the_order_matters(a in "[一-十 、a-c]{0,30}", b in "[一-十 、A-C]{0,30}") {
            let found = character_f1(&a, &b);
            prop_assert!((0.0..=1.0).contains(&found));
            prop_assert!((found - character_f1(&b, &a)).abs() < 1e-15);
            let backwards: String = a.chars().rev().collect();
            prop_assert_eq!(found, character_f1(&backwards, &b));
        }
    }
}
