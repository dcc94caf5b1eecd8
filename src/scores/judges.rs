//! Which score judges the records of a task right or wrong, and the flips that follow from it.

use super::flips::{FLIPS, Flips, changed_answers};
use super::registry::SCORES;
use super::score::{Score, Summary};
use super::stats::bootstrap_mean;
use crate::results::{Answer, Measurement};

/// The flips of a cell's answers to a task, compared with the base's; `None` where the answers are not to the same
/// records, or no score judges all of them. The interval is a bootstrap over records of this seed.
pub(crate) fn measure_flips(
    task: &str,
    base: &[&Answer],
    cell: &[&Answer],
    seed: u64,
) -> Option<Measurement> {
    let judge = judge_of(&[base, cell].concat())?;
    let (before, after) = (judged(judge, base)?, judged(judge, cell)?);
    let same = base.iter().map(|answer| answer.record).eq(cell.iter().map(|answer| answer.record));
    let flips = Flips::between(&before, &after).filter(|flips| same && flips.records > 0)?;
    let texts = |answers: &[&Answer]| -> Vec<String> { answers.iter().map(|a| a.text.clone()).collect() };
    let flipped: Vec<f64> = before.iter().zip(&after).map(|(a, b)| f64::from(u8::from(a != b))).collect();
    let details = vec![
        flips.right_to_wrong as f64,
        flips.wrong_to_right as f64,
        changed_answers(&texts(base), &texts(cell))? as f64,
        flips.mcnemar_p(),
    ];
    let summary = Summary { estimate: bootstrap_mean(&flipped, seed), details };
    Some(FLIPS.measurement(task, flips.records, summary))
}

/// The score that flips between these answers to a task are counted by; `None` where no score judges all of them.
pub(crate) fn judge_of(answers: &[&Answer]) -> Option<&'static Score> {
    let judges_all = |judge: &&Score| answers.iter().all(|answer| is_right(judge, answer).is_some());
    let ranked = SCORES.iter().copied().filter(|score| score.flips_rank.is_some());
    ranked.filter(judges_all).min_by_key(|score| score.flips_rank)
}

/// Whether an answer is right by a score; `None` where it does not judge it.
pub(crate) fn is_right(judge: &Score, answer: &Answer) -> Option<bool> {
    answer.scores.get(judge.id).map(|value| value >= 1.0)
}

/// Whether a record is right in one model and wrong in the other; `None` where the score does not judge both.
pub(crate) fn has_flipped(judge: &Score, base: &Answer, cell: &Answer) -> Option<bool> {
    Some(is_right(judge, base)? != is_right(judge, cell)?)
}

/// Whether each answer is right by a score; `None` where it does not judge all of them.
pub(super) fn judged(judge: &Score, answers: &[&Answer]) -> Option<Vec<bool>> {
    answers.iter().map(|answer| is_right(judge, answer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::NamedNumbers;

    fn answer(scores: &[&str]) -> Answer {
        Answer {
            task: "t".into(),
            record: 0,
            prompt: String::new(),
            references: Vec::new(),
            text: String::new(),
            tokens: Vec::new(),
            pieces: Vec::new(),
            disagreement_bits: Vec::new(),
            choices: Vec::new(),
            scores: scores.iter().map(|id| (*id, 1.0)).collect::<NamedNumbers>(),
        }
    }

    #[test]
    fn accuracy_judges_first_then_the_number_then_exact_match() {
        let judge = |scores: &[&str]| judge_of(&[&answer(scores)]).map(|score| score.id);
        assert_eq!(judge(&["exact_match", "number", "acc"]), Some("acc"));
        assert_eq!(judge(&["exact_match", "number", "f1"]), Some("number"));
        assert_eq!(judge(&["exact_match", "acc_norm"]), Some("exact_match"));
        assert_eq!(judge(&["f1", "rouge1"]), None);
        // Who judges only some of the records judges none.
        let answers = [answer(&["exact_match", "number"]), answer(&["exact_match"])];
        assert_eq!(judge_of(&answers.each_ref()).map(|score| score.id), Some("exact_match"));
    }

    #[test]
    fn whoever_flips_are_counted_by_says_right_or_wrong_and_has_a_rank_of_its_own() {
        let ranked: Vec<&Score> = SCORES.iter().copied().filter(|score| score.flips_rank.is_some()).collect();
        assert!(ranked.iter().all(|score| score.is_right_or_wrong()));
        let mut ranks: Vec<_> = ranked.iter().map(|score| score.flips_rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        assert_eq!(ranks.len(), ranked.len());
    }
}
