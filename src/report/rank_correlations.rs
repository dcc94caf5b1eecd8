//! The rank correlations as a table: what the tasks say by scores of texts.

use super::layout::{self, Align, Column, Group};
use crate::results::{Estimate, RankCorrelations, TaskScore};
use crate::scores::{SCORES, Score, verdict};
use crate::text::escape;

/// What is needed to read the table.
pub(crate) const LEGEND: &str = "Spearman's rank correlation, over the cells, of the damage that a metric sees in a text with \
                                 the damage that a task shows; +1.00 is perfect. The 95% interval is a bootstrap over \
                                 cells.";

/// The table as text of at most `width` columns; continued below where it is wider. `None` while there are no
/// correlations.
pub(crate) fn text(found: &RankCorrelations, width: usize, ascii: bool) -> Option<String> {
    let (lead, groups) = columns(found, ascii)?;
    Some(layout::text(&lead, &groups, width))
}

/// The same as Markdown.
pub(super) fn markdown(found: &RankCorrelations, width: usize) -> Option<String> {
    let (lead, groups) = columns(found, false)?;
    Some(layout::markdown(&lead, &groups, width))
}

/// One row for each task score, then their mean with its interval; one column for each score of texts.
fn columns(found: &RankCorrelations, ascii: bool) -> Option<(Vec<Column>, Vec<Group>)> {
    let known: Vec<_> = found.texts.iter().filter_map(|row| Some((row, row.mean?))).collect();
    if known.is_empty() {
        return None;
    }
    let mut names: Vec<String> = found.tasks.iter().map(task_name).collect();
    names.extend(["mean", "95% from", "to"].map(str::to_owned));
    let lead = vec![Column { title: "rank correlation with".into(), align: Align::Left, cells: names }];
    // A group of its own for each, so that any of them may go into the next part of a table that is too wide.
    let groups = known.into_iter().map(|(row, mean)| {
        let figure = |r: f64| verdict::signed(r, ascii);
        let of_task = |one: &Option<Estimate>| one.map_or_else(|| "-".to_owned(), |one| figure(one.value));
        let mut cells: Vec<String> = row.by_task.iter().map(of_task).collect();
        cells.extend([mean.value, mean.ci95[0], mean.ci95[1]].map(figure));
        let title = score(&row.score).map_or_else(|| row.score.clone(), |score| score.short.to_owned());
        Group { title: String::new(), columns: vec![Column { title, align: Align::Right, cells }] }
    });
    Some((lead, groups.collect()))
}

/// `questions F1`.
fn task_name(found: &TaskScore) -> String {
    let name = score(&found.score).map_or(found.score.as_str(), |score| score.name);
    format!("{} {name}", escape(&found.task))
}

fn score(id: &str) -> Option<&'static Score> {
    SCORES.iter().copied().find(|score| score.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::TextScoreRanks;

    #[test]
    fn every_task_score_has_a_row_and_every_known_metric_a_column() {
        let one = |value: f64| Some(Estimate { value, ci95: [value - 0.25, value + 0.125] });
        let row = |score: &str, by_task: [Option<Estimate>; 2], mean| TextScoreRanks {
            score: score.into(),
            mean,
            by_task: by_task.into(),
        };
        let of_task = |score: &str| TaskScore { task: "questions".into(), score: score.into() };
        let found = RankCorrelations {
            cells: 9,
            tasks: vec![of_task("f1"), of_task("flips")],
            texts: vec![
                row("perplexity", [one(0.5), None], one(0.5)),
                row("js_divergence", [one(0.75), one(0.875)], one(0.8125)),
                row("kl_p99", [None, None], None),
            ],
        };
        let expected = "\
rank correlation with     ppl      JS
---------------------   -----   -----
questions F1            +0.50   +0.75
questions flips             -   +0.88
mean                    +0.50   +0.81
95% from                +0.25   +0.56
to                      +0.63   +0.94
";
        assert_eq!(text(&found, 80, true).as_deref(), Some(expected));
        assert!(text(&found, 30, true).unwrap().lines().all(|line| line.len() <= 30));
        assert!(
            markdown(&found, 160)
                .unwrap()
                .starts_with("| rank correlation with | ppl | JS |\n| --- | ---: |")
        );
        assert_eq!(text(&RankCorrelations::default(), 80, true), None);
    }
}
