//! A prompt with the answers of both sides, and how far these are apart.

use crate::results::Answer;
use crate::scores::comparison::divergence_of_choices;
use crate::scores::{Score, Subject, headline_scores, scores_on};

/// How far two models disagreed over an answer, in bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Disagreement {
    /// Mean over the tokens.
    pub mean: f64,
    /// The largest.
    pub max: f64,
    /// The token that it belongs to.
    pub at: usize,
}

impl Disagreement {
    /// Of an answer, where it was measured.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        let bits = answer.disagreement_bits.iter().map(|bits| f64::from(*bits));
        let finite: Vec<(usize, f64)> = bits.enumerate().filter(|(_, bits)| bits.is_finite()).collect();
        let &(at, max) = finite.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let mean = finite.iter().map(|(_, bits)| bits).sum::<f64>() / finite.len() as f64;
        Some(Self { mean, max, at })
    }
}

/// A prompt, with the answer of each side that has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct PromptRow<'a> {
    /// An answer to it, for the prompt and its references, which are the same in all.
    pub asked: &'a Answer,
    pub left: Option<&'a Answer>,
    pub right: Option<&'a Answer>,
}

impl PromptRow<'_> {
    /// Task and record.
    pub(crate) fn key(&self) -> (&str, usize) {
        (&self.asked.task, self.asked.record)
    }

    /// The score that tells the sides apart: the first that both have, rather one that is told where there is room for
    /// few.
    pub(crate) fn score(&self) -> Option<&'static Score> {
        let (left, right) = (&self.left?.scores, &self.right?.scores);
        let mut scores = headline_scores(Subject::Task).chain(scores_on(Subject::Task));
        scores.find(|score| left.get(score.id).is_some() && right.get(score.id).is_some())
    }

    /// That score of the right-hand side less that of the left-hand side.
    pub(crate) fn change(&self) -> Option<f64> {
        let id = self.score()?.id;
        Some(self.right?.scores.get(id)? - self.left?.scores.get(id)?)
    }

    /// Both sides said the same.
    pub(crate) fn same(&self) -> bool {
        matches!((self.left, self.right), (Some(left), Some(right)) if left.text == right.text)
    }

    /// How far the answers are apart, in bits, where that is known: of choices the Jensen-Shannon divergence of how the
    /// two sides divide their belief among them, of a text the mean disagreement of the right-hand side with the base.
    pub(crate) fn divergence(&self) -> Option<f64> {
        let of_choices = || divergence_of_choices(self.left?, self.right?).filter(|bits| bits.is_finite());
        let of_text = self.right.and_then(Disagreement::of).map(|bits| bits.mean);
        of_text.or_else(of_choices)
    }

    /// The margin of the right-hand side's choice, in nats.
    pub(crate) fn margin(&self) -> Option<f64> {
        margin(self.right?)
    }
}

/// By how much, in nats, the right choice is more likely than the best of the others; below zero another one is more
/// likely. `None` where there is nothing to choose; NaN where a likelihood is no number.
fn margin(answer: &Answer) -> Option<f64> {
    let best = |wanted: bool| {
        let of_kind =
            answer.choices.iter().filter(|choice| answer.references.contains(&choice.text) == wanted);
        // `f64::max` would pass over what is no number.
        let greater = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
        of_kind.map(|choice| choice.log_likelihood).reduce(greater)
    };
    Some(best(true)? - best(false)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "differences of whole numbers are exact")]

    use super::super::sample::{answer, choosing_answer, scores};
    use super::*;

    #[test]
    fn a_margin_is_the_right_choice_less_the_best_of_the_others() {
        for (logs, right, expected) in [
            (&[-1.0, -3.0, -2.0][..], 0, 1.0),
            (&[-1.0, -3.0, -2.0], 1, -2.0),
            (&[-2.0, -2.0], 1, 0.0),
            (&[f64::NEG_INFINITY, -3.0], 0, f64::NEG_INFINITY),
            (&[-3.0, f64::NEG_INFINITY], 0, f64::INFINITY),
        ] {
            assert_eq!(margin(&choosing_answer(0, logs, right)), Some(expected), "{logs:?} {right}");
        }
        for logs in [[f64::NAN, -1.0, -2.0], [-1.0, f64::NAN, -2.0], [-1.0, -2.0, f64::NAN]] {
            for right in 0..3 {
                assert!(margin(&choosing_answer(0, &logs, right)).unwrap().is_nan(), "{logs:?} {right}");
            }
        }
        // A last word has nothing beside it, a text no choices.
        assert_eq!(margin(&choosing_answer(0, &[-1.0], 0)), None);
        assert_eq!(margin(&answer(0, "Paris", &[], scores(1.0, 1.0, 1.0))), None);
    }

    #[test]
    fn choices_are_as_far_apart_as_the_belief_in_them_and_texts_as_their_tokens() {
        let (left, right) = (choosing_answer(0, &[0.0, -90.0], 0), choosing_answer(0, &[-90.0, 0.0], 0));
        let row = PromptRow { asked: &left, left: Some(&left), right: Some(&right) };
        assert!((row.divergence().unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(PromptRow { left: None, ..row }.divergence(), None);
        let broken = choosing_answer(0, &[f64::NAN, 0.0], 0);
        assert_eq!(PromptRow { right: Some(&broken), ..row }.divergence(), None);
        let text = answer(0, "The capital", &[0.25, 0.75], scores(0.0, 0.0, 0.0));
        assert_eq!(PromptRow { right: Some(&text), ..row }.divergence(), Some(0.5));
    }
}
