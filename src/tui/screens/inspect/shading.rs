//! An answer cut into runs of equal disagreement.

use unicode_segmentation::UnicodeSegmentation;

use crate::results::Answer;

/// The answer as people read it, in pieces; each with the disagreement of its tokens in bits, where that was measured.
///
/// Tokens may end within what people see as one character: such a character takes the largest disagreement of the
/// tokens that it is made of. Where the tokens do not add up to the answer, all of it is one piece without a figure.
pub(super) fn runs(answer: &Answer) -> Vec<(String, Option<f64>)> {
    let whole = || vec![(answer.text.clone(), None)];
    if answer.pieces.len() != answer.disagreement_bits.len() || answer.pieces.is_empty() {
        return whole();
    }
    let said = answer.pieces.concat();
    if said.trim() != answer.text {
        return whole();
    }
    // Every byte of what was said, with the disagreement of the token that brought it. A token without a text of its
    // own began the character that a later one completes.
    let mut bits_at: Vec<f32> = Vec::with_capacity(said.len());
    let mut pending = 0.0_f32;
    for (piece, bits) in answer.pieces.iter().zip(&answer.disagreement_bits) {
        pending = pending.max(*bits);
        if !piece.is_empty() {
            bits_at.resize(bits_at.len() + piece.len(), pending);
            pending = 0.0;
        }
    }
    let mut at = said.len() - said.trim_start().len();
    let mut runs: Vec<(String, Option<f64>)> = Vec::new();
    for grapheme in answer.text.graphemes(true) {
        let bytes = bits_at.get(at..at + grapheme.len()).unwrap_or_default();
        let bits = f64::from(bytes.iter().copied().fold(0.0, f32::max));
        at += grapheme.len();
        match runs.last_mut() {
            Some((text, known)) if *known == Some(bits) => text.push_str(grapheme),
            _ => runs.push((grapheme.to_owned(), Some(bits))),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::NamedNumbers;

    fn answer(text: &str, pieces: &[&str], bits: &[f32]) -> Answer {
        Answer {
            task: "qa".into(),
            record: 0,
            prompt: String::new(),
            references: Vec::new(),
            text: text.into(),
            tokens: (0..pieces.len() as u32).collect(),
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            disagreement_bits: bits.to_vec(),
            choices: Vec::new(),
            scores: NamedNumbers::default(),
        }
    }

    fn run(text: &str, bits: f64) -> (String, Option<f64>) {
        (text.into(), Some(bits))
    }

    #[test]
    fn every_token_has_its_own_shade_and_the_blanks_around_the_answer_have_none() {
        let answer = answer("The cat", &[" The", " cat", "\n"], &[0.25, 0.5, 1.0]);
        assert_eq!(runs(&answer), [run("The", 0.25), run(" cat", 0.5)]);
    }

    #[test]
    fn a_character_of_several_tokens_has_the_largest_of_their_disagreements() {
        // Three tokens make the bytes of one character; two characters make one that people see.
        let family = "👩\u{200d}👧";
        let answer = answer(
            &format!("a漢{family}"),
            &["a", "", "", "漢", "👩", "\u{200d}👧"],
            &[0.0, 0.125, 0.5, 0.25, 0.125, 0.75],
        );
        assert_eq!(runs(&answer), [run("a", 0.0), run("漢", 0.5), run(family, 0.75)]);
    }

    #[test]
    fn without_figures_or_with_tokens_that_do_not_fit_the_answer_is_whole() {
        for answer in [
            answer("hi there", &["hi", " there"], &[]),
            answer("hi there", &[], &[]),
            answer("hi there", &["ho", " there"], &[0.5, 0.5]),
            answer("hi there", &["hi", " there"], &[0.5]),
        ] {
            assert_eq!(runs(&answer), [("hi there".into(), None)]);
        }
        assert!(runs(&answer("", &[" "], &[0.5])).is_empty());
    }
}
