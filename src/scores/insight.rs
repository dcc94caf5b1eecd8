//! Which score on texts ranks the cells as the tasks do.

use super::data_sets::data_sets;
use super::registry::scores_on;
use super::score::{Better, Score, Subject};
use super::stats::{mean, spearman};
use crate::results::{DataSetName, Insight, Metrics};

/// The insight of these cells.
///
/// A cell enters with its retention and with its damage by each score: the mean over corpora of what the score says is
/// lost, on the score's scale. A cell that lacks a corpus or a task of the base's would be compared by other data, so
/// it does not enter.
pub(crate) fn insight(base: &Metrics, cells: &[&Metrics]) -> Insight {
    let scores: Vec<&Score> = scores_on(Subject::Corpus).collect();
    let corpora = data_sets([base], Subject::Corpus);
    let mut damages: Vec<Vec<f64>> = vec![Vec::new(); scores.len()];
    let mut retentions = Vec::new();
    for cell in cells {
        let Some(kept) = retention(base, cell) else { continue };
        let damage: Vec<Option<f64>> =
            scores.iter().map(|score| mean_damage(score, &corpora, cell)).collect();
        if damage.iter().all(Option::is_none) {
            continue;
        }
        for (of_score, damage) in damages.iter_mut().zip(damage) {
            // NaN marks what is missing: `spearman` leaves such pairs out.
            of_score.push(damage.unwrap_or(f64::NAN));
        }
        retentions.push(kept);
    }
    let correlations = damages.iter().map(|damage| spearman(damage, &retentions));
    Insight::new(retentions.len(), scores.iter().copied().zip(correlations))
}

/// Share of the base's task scores that a cell retains; `None` where there is nothing to compare.
fn retention(base: &Metrics, cell: &Metrics) -> Option<f64> {
    let mut ratios = Vec::new();
    for task in data_sets([base], Subject::Task) {
        for score in scores_on(Subject::Task).filter(|score| score.better == Better::Higher) {
            let Some(before) = base.find(score, &task) else { continue };
            let after = cell.find(score, &task)?;
            if before.value > 0.0 {
                ratios.push(after.value / before.value);
            }
        }
    }
    (!ratios.is_empty()).then(|| mean(&ratios))
}

/// Mean of a cell's damage over corpora; `None` if it lacks one or there are none.
fn mean_damage(score: &Score, corpora: &[DataSetName], cell: &Metrics) -> Option<f64> {
    let damage = |corpus: &DataSetName| cell.find(score, corpus).map(|found| score.damage(found.value));
    let damages: Vec<f64> = corpora.iter().map(damage).collect::<Option<_>>()?;
    (!damages.is_empty()).then(|| mean(&damages))
}

#[cfg(test)]
mod tests {
    use super::super::{EXACT_MATCH, F1, JS_DIVERGENCE, PERPLEXITY, ROUGE1, TOP1_AGREEMENT};
    use super::*;
    use crate::number::NamedNumbers;
    use crate::results::Measurement;

    fn metrics(nll: f64, bits: f64, f1: f64) -> Metrics {
        let value = |score: &Score, data_set: &str, value: f64| Measurement {
            score: score.id.into(),
            data_set: data_set.into(),
            value,
            ci95: [value; 2],
            n: 4,
            details: NamedNumbers::default(),
        };
        Metrics {
            values: vec![
                value(&PERPLEXITY, "text", nll.exp()),
                value(&JS_DIVERGENCE, "text", bits),
                value(&TOP1_AGREEMENT, "text", 1.0 - bits),
                value(&EXACT_MATCH, "task", 0.0),
                value(&F1, "task", f1),
                value(&ROUGE1, "task", f1),
            ],
        }
    }

    #[test]
    fn insight_tells_which_score_ranks_as_the_tasks_do() {
        let base = metrics(3.0, 0.0, 0.8);
        // JS falls in line with the tasks, perplexity does not.
        let cells = [metrics(3.3, 0.1, 0.7), metrics(3.1, 0.2, 0.5), metrics(3.2, 0.3, 0.1)];
        let found = insight(&base, &cells.iter().collect::<Vec<_>>());
        assert_eq!(found.cells, 3);
        let near = |score: &Score, expected: f64| (found.spearman(score).unwrap() - expected).abs() < 1e-12;
        assert!(near(&JS_DIVERGENCE, -1.0) && near(&PERPLEXITY, 0.5), "{found:?}");
        assert!(near(&TOP1_AGREEMENT, -1.0), "agreement that falls is damage, as divergence that grows");
    }

    #[test]
    fn insight_leaves_out_cells_measured_on_other_data() {
        let base = metrics(3.0, 0.0, 0.8);
        let mut partial = metrics(3.2, 0.3, 0.1);
        partial.values.retain(|value| value.data_set != "task");
        let cells = [metrics(3.3, 0.1, 0.7), metrics(3.1, 0.2, 0.5), partial];
        let found = insight(&base, &cells.iter().collect::<Vec<_>>());
        assert_eq!(found, Insight { cells: 2, ..Insight::default() });
        assert_eq!(insight(&Metrics::default(), &[&cells[0]]), Insight::default());
    }

    #[test]
    fn retention_skips_scores_whose_base_is_zero() {
        let kept = retention(&metrics(3.0, 0.0, 0.8), &metrics(3.0, 0.0, 0.2)).unwrap();
        assert!((kept - 0.25).abs() < 1e-12);
        assert_eq!(retention(&metrics(3.0, 0.0, 0.0), &metrics(3.0, 0.0, 0.2)), None);
    }
}
