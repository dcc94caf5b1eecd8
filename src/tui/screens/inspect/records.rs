//! Which records are listed, and in which order.

use std::collections::HashMap;

use super::prompt_row::PromptRow;
use crate::results::Answer;
use crate::scores::Score;
use crate::scores::judges::{has_flipped, is_right, judge_of};
use crate::tui::state::{RecordFilter, RecordOrder};

/// The rows that are wanted, in the order that is wanted; equal ones stay in the order in which they come.
pub(super) fn listed(
    mut rows: Vec<PromptRow<'_>>,
    filter: RecordFilter,
    order: RecordOrder,
) -> Vec<PromptRow<'_>> {
    if filter != RecordFilter::All {
        let judges = judges(&rows);
        rows.retain(|row| {
            judges.get(row.asked.task.as_str()).is_some_and(|judge| is_wanted(row, judge, filter))
        });
    }
    match order {
        RecordOrder::AsInTask => rows,
        RecordOrder::Divergence => sorted(rows, by_divergence),
        RecordOrder::Margin => sorted(rows, by_margin),
    }
}

/// The score that judges each task's records right or wrong: the one that flips are counted by. A task that none judges
/// is left out.
pub(super) fn judges<'a>(rows: &[PromptRow<'a>]) -> HashMap<&'a str, &'static Score> {
    let mut answers: HashMap<&'a str, Vec<&'a Answer>> = HashMap::new();
    for row in rows {
        answers.entry(&row.asked.task).or_default().extend(row.left.into_iter().chain(row.right));
    }
    let judged = |(task, answers): (&'a str, Vec<&Answer>)| Some((task, judge_of(&answers)?));
    answers.into_iter().filter_map(judged).collect()
}

fn is_wanted(row: &PromptRow<'_>, judge: &Score, filter: RecordFilter) -> bool {
    match (filter, row.left, row.right) {
        (RecordFilter::All, ..) => true,
        (RecordFilter::Flipped, Some(left), Some(right)) => has_flipped(judge, left, right) == Some(true),
        (RecordFilter::Wrong, _, Some(right)) => is_right(judge, right) == Some(false),
        (RecordFilter::Flipped | RecordFilter::Wrong, ..) => false,
    }
}

/// The larger divergence first. Behind stands what has none, the larger loss first.
fn by_divergence(row: &PromptRow<'_>) -> [f64; 2] {
    let broken_first = |change: f64| if change.is_nan() { f64::NEG_INFINITY } else { change };
    [row.divergence().map_or(f64::INFINITY, |bits| -bits), row.change().map_or(f64::INFINITY, broken_first)]
}

/// The smaller margin first, one that is no number before all. Behind stands what has none.
fn by_margin(row: &PromptRow<'_>) -> [f64; 2] {
    match row.margin() {
        None => [1.0, 0.0],
        Some(margin) if margin.is_nan() => [0.0, f64::NEG_INFINITY],
        Some(margin) => [0.0, margin],
    }
}

/// Rows by their keys, the smallest first. Every key is worked out once: a divergence is a mean over all tokens.
fn sorted<'a>(rows: Vec<PromptRow<'a>>, key: impl Fn(&PromptRow<'a>) -> [f64; 2]) -> Vec<PromptRow<'a>> {
    // Zeros of both signs are equal.
    let keyed = |row: PromptRow<'a>| (key(&row).map(|part| part + 0.0), row);
    let mut rows: Vec<([f64; 2], PromptRow<'a>)> = rows.into_iter().map(keyed).collect();
    rows.sort_by(|([a, behind_a], _), ([b, behind_b], _)| a.total_cmp(b).then(behind_a.total_cmp(behind_b)));
    rows.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{answer, choosing_answer, scores};
    use super::*;
    use crate::scores::EXACT_MATCH;
    use crate::scores::choice::ACCURACY;

    /// Rows of the same records on both sides.
    fn rows<'a>(left: &'a [Answer], right: &'a [Answer]) -> Vec<PromptRow<'a>> {
        let pair = |(left, right)| PromptRow { asked: left, left: Some(left), right: Some(right) };
        left.iter().zip(right).map(pair).collect()
    }

    fn numbers(rows: Vec<PromptRow<'_>>, filter: RecordFilter, order: RecordOrder) -> Vec<usize> {
        listed(rows, filter, order).iter().map(|row| row.asked.record).collect()
    }

    fn texts(right: &[u8]) -> Vec<Answer> {
        let text =
            |(record, right): (usize, &u8)| answer(record, "a b", &[], scores(f64::from(*right), 0.5, 0.5));
        right.iter().enumerate().map(text).collect()
    }

    #[test]
    fn a_filter_shows_flips_of_both_directions_or_what_is_wrong_on_the_right() {
        let (left, right) = (texts(&[1, 1, 0, 0]), texts(&[1, 0, 1, 0]));
        let of = |filter| numbers(rows(&left, &right), filter, RecordOrder::AsInTask);
        assert_eq!(of(RecordFilter::All), [0, 1, 2, 3]);
        assert_eq!(of(RecordFilter::Flipped), [1, 2]);
        assert_eq!(of(RecordFilter::Wrong), [1, 3]);
    }

    #[test]
    fn what_one_side_has_not_answered_has_not_flipped() {
        let (left, right) = (texts(&[1, 0]), texts(&[0, 0]));
        let unpaired =
            || rows(&left, &right).into_iter().map(|row| PromptRow { left: None, ..row }).collect();
        let of = |filter| numbers(unpaired(), filter, RecordOrder::AsInTask).len();
        assert_eq!((of(RecordFilter::Flipped), of(RecordFilter::Wrong)), (0, 2));
        let unanswered =
            rows(&left, &right).into_iter().map(|row| PromptRow { right: None, ..row }).collect();
        assert!(numbers(unanswered, RecordFilter::Wrong, RecordOrder::AsInTask).is_empty());
    }

    #[test]
    fn a_task_is_judged_by_what_judges_all_of_it_and_apart_from_others() {
        let mut left = texts(&[1, 0]);
        left.push(choosing_answer(0, &[-1.0, -2.0], 0));
        let mut right = left.clone();
        let both = judges(&rows(&left, &right));
        assert_eq!((both["squad"], both["arc_easy"]), (&EXACT_MATCH, &ACCURACY));
        // A record without the score leaves its task without a judge, and the other task as it is.
        right[1].scores = [("f1", 0.5)].into_iter().collect();
        right[2] = choosing_answer(0, &[-3.0, -2.0], 0);
        assert!(!judges(&rows(&left, &right)).contains_key("squad"));
        let flipped = listed(rows(&left, &right), RecordFilter::Flipped, RecordOrder::AsInTask);
        assert_eq!(flipped.iter().map(PromptRow::key).collect::<Vec<_>>(), [("arc_easy", 0)]);
    }

    #[test]
    fn margins_go_from_the_smallest_up_and_what_has_none_keeps_its_order_behind() {
        let choosing = |record, right| choosing_answer(record, &[right, -2.0], 0);
        let mut answers = texts(&[1, 0]);
        answers.extend([
            choosing(2, -1.0),
            choosing(3, -4.0),
            choosing(4, f64::NAN),
            choosing(5, f64::NEG_INFINITY),
            choosing(6, -4.0),
        ]);
        let of = |order| numbers(rows(&answers, &answers), RecordFilter::All, order);
        assert_eq!(of(RecordOrder::Margin), [4, 5, 3, 6, 2, 0, 1]);
        assert_eq!(of(RecordOrder::AsInTask), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn divergences_go_from_the_largest_down_and_losses_stand_behind() {
        let left: Vec<Answer> = (0..5).map(|i| answer(i, "a b", &[], scores(1.0, 1.0, 1.0))).collect();
        let right = [
            answer(0, "a b", &[], scores(0.0, 0.75, 0.5)),
            answer(1, "a b", &[0.0, 0.5], scores(0.0, 0.0, 0.0)),
            answer(2, "a b", &[], scores(0.0, 0.25, 0.5)),
            answer(3, "a b", &[0.5, 0.5], scores(1.0, 1.0, 1.0)),
            answer(4, "a b", &[], scores(0.0, f64::NAN, 0.5)),
        ];
        let of = numbers(rows(&left, &right), RecordFilter::All, RecordOrder::Divergence);
        assert_eq!(of, [3, 1, 4, 2, 0]);
    }
}
