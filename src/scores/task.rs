//! What the answers to a task say of a model.

use super::choice_outcome::ChoiceOutcome;
use super::registry::SCORES;
use super::score::{Measure, Score, Summary};
use super::stats::bootstrap_mean;
use crate::number::NamedNumbers;
use crate::results::Measurement;

/// Scores an answer against its references by every score of answers, each the best over the references. Those that
/// `known` has already are taken from there.
pub fn score_answer(answer: &str, references: &[String], known: &NamedNumbers) -> NamedNumbers {
    let mut scores = known.clone();
    for score in SCORES {
        if let Measure::Answers { score: of, applies, .. } = score.measure
            && known.get(score.id).is_none()
            && applies(references)
        {
            scores.put(score.id, of(answer, references));
        }
    }
    scores
}

/// The means over the records of a task, with bootstrap intervals of this seed; `answers` are the scores of each.
pub(crate) fn measure_task(name: &str, answers: &[NamedNumbers], seed: u64) -> Vec<Measurement> {
    let mut found = Vec::new();
    for score in SCORES {
        if let Measure::Answers { .. } = score.measure {
            // An answer has every score that applies: `score_answer` adds those that one from an older store lacks. One
            // that says nothing of some of the records would be the mean over other records.
            let values: Option<Vec<f64>> = answers.iter().map(|scores| scores.get(score.id)).collect();
            let Some(values) = values else { continue };
            let summary = Summary { estimate: bootstrap_mean(&values, seed), details: Vec::new() };
            found.push(score.measurement(name, values.len(), summary));
        }
    }
    found
}

/// Scores the choices of a record by every score that applies to it.
pub(crate) fn score_choices(outcome: &ChoiceOutcome<'_>) -> NamedNumbers {
    let of = |score: &&Score| match score.measure {
        Measure::Choices { score: of, .. } => of(outcome).map(|value| (score.id, value)),
        _ => None,
    };
    SCORES.iter().filter_map(of).collect()
}

/// What the records of a task with choices say together; `records` are the scores of each.
pub(crate) fn measure_choices(name: &str, records: &[NamedNumbers], seed: u64) -> Vec<Measurement> {
    let mut found = Vec::new();
    for score in SCORES {
        if let Measure::Choices { summary, .. } = score.measure {
            let values: Option<Vec<f64>> = records.iter().map(|scores| scores.get(score.id)).collect();
            let values = values.filter(|values| !values.is_empty());
            found.extend(values.map(|v| score.measurement(name, v.len(), summary(&v, seed))));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "scores of 0 and 1 are exact")]

    use proptest::prelude::*;

    use super::super::squad::f1;
    use super::*;

    fn score(answer: &str, references: &[String]) -> [f64; 3] {
        let scores = score_answer(answer, references, &NamedNumbers::default());
        ["exact_match", "f1", "rouge1"].map(|id| scores.get(id).unwrap())
    }

    #[test]
    fn each_score_takes_its_own_best_reference() {
        // The first is equal without its article; the second has more of the answer's words, article included.
        let references = ["Cat".to_string(), "an a cat".to_string()];
        let [exact_match, f1, rouge1] = score("a cat", &references);
        assert_eq!((exact_match, f1), (1.0, 1.0));
        assert!((rouge1 - 0.8).abs() < 1e-15);
        assert_eq!(score("anything", &[]), [0.0; 3]);
    }

    #[test]
    fn what_is_known_of_an_answer_is_kept_and_what_is_missing_is_added() {
        let known: NamedNumbers = [("f1", 0.25), ("of_another_version", 7.0)].into_iter().collect();
        let scores = score_answer("cat", &["cat".to_string()], &known);
        let found: Vec<(&str, f64)> = scores.iter().collect();
        assert_eq!(found, [("exact_match", 1.0), ("f1", 0.25), ("of_another_version", 7.0), ("rouge1", 1.0)]);
    }

    #[test]
    fn a_task_has_the_mean_of_every_score() {
        let answers = ["cat", "dog", "cat", "cow"]
            .map(|text| score_answer(text, &["cat".to_string()], &NamedNumbers::default()));
        let found = measure_task("animals", &answers, 7);
        let of = |id: &str| found.iter().find(|value| value.score == id).unwrap();
        for id in ["exact_match", "f1", "rouge1"] {
            assert_eq!((of(id).value, of(id).n, &*of(id).data_set), (0.5, 4, "animals"));
            assert_eq!(of(id).estimate(), bootstrap_mean(&[1.0, 0.0, 1.0, 0.0], 7));
        }
    }

    proptest! {
        #[test]
        fn scores_stay_between_zero_and_one(a in ".{0,40}", b in prop::collection::vec(".{0,40}", 0..4)) {
            let scores = score(&a, &b);
            for value in scores {
                prop_assert!((0.0..=1.0).contains(&value));
            }
            prop_assert!(scores[1] >= scores[0] || f1(&a, &a) == 0.0);
        }

        #[test]
        fn more_references_never_lower_a_score(a in "[a-d ]{0,20}", b in prop::collection::vec("[a-d ]{0,20}", 1..4)) {
            let (few, all) = (score(&a, &b[..1]), score(&a, &b));
            prop_assert!(few.iter().zip(all).all(|(few, all)| all >= *few));
        }
    }
}
