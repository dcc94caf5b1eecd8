//! Which score on texts ranks the cells as the tasks do.

use super::data_sets::data_sets;
use super::ranks::correlate_ranks;
use super::registry::scores_on;
use super::score::{Better, Score, Subject};
use super::stats::mean;
use crate::results::{
    CellResult, CellState, DataSetName, Metrics, RankCorrelations, TaskScore, TextScoreRanks,
};

/// Seed of the resamples: figures that did not change are shown alike.
const SEED: u64 = 0;

/// The rank correlations of those cells that are done.
pub(crate) fn rank_done_cells(base: &Metrics, cells: &[CellResult]) -> RankCorrelations {
    let done = cells.iter().filter(|cell| cell.state == CellState::Done);
    rank_correlations(base, &done.map(|cell| &cell.metrics).collect::<Vec<_>>())
}

/// The rank correlations of these cells.
///
/// All are of the same cells. One that lacks a headline score of texts or a score of a task does not enter, as it would be
/// compared by other data. Of the other scores, one that some of these cells lack, since an older version measured them,
/// keeps no cell out; it has no correlation.
pub(crate) fn rank_correlations(base: &Metrics, cells: &[&Metrics]) -> RankCorrelations {
    let corpora = data_sets([base], Subject::Corpus);
    let scores: Vec<&Score> = scores_on(Subject::Corpus).filter(|score| !score.is_ratio()).collect();
    let asked = task_scores(base, cells);
    let of_text = |score: &&Score| ScoreDamages {
        damages: damages(cells, |cell| mean_damage(score, &corpora, cell)),
        decides: score.headline,
    };
    let of_task = |(task, score): &(DataSetName, &Score)| ScoreDamages {
        damages: damages(cells, |cell| damage(score, task, cell)),
        decides: !score.compares(),
    };
    let texts: Vec<ScoreDamages> = scores.iter().map(of_text).collect();
    let tasks: Vec<ScoreDamages> = asked.iter().map(of_task).collect();
    let deciding: Vec<&ScoreDamages> =
        texts.iter().chain(&tasks).filter(|column| column.decides && column.is_measured()).collect();
    let both = [&texts, &tasks].iter().all(|side| side.iter().any(ScoreDamages::is_measured));
    let entered: Vec<usize> = if both {
        (0..cells.len())
            .filter(|cell| deciding.iter().all(|column| column.damages[*cell].is_some()))
            .collect()
    } else {
        Vec::new()
    };
    let lists =
        |columns: &[ScoreDamages]| columns.iter().map(|column| column.of_cells(&entered)).collect::<Vec<_>>();
    let found = correlate_ranks(&lists(&texts), &lists(&tasks), SEED);
    RankCorrelations {
        cells: entered.len(),
        tasks: asked
            .iter()
            .map(|(task, score)| TaskScore { task: task.to_string(), score: score.id.into() })
            .collect(),
        texts: scores
            .iter()
            .zip(found)
            .map(|(score, found)| TextScoreRanks {
                score: score.id.into(),
                mean: found.overall,
                by_task: found.each,
            })
            .collect(),
    }
}

/// What one score says of every cell.
struct ScoreDamages {
    damages: Damages,
    /// A cell without it does not enter.
    decides: bool,
}

impl ScoreDamages {
    fn is_measured(&self) -> bool {
        self.damages.iter().any(Option::is_some)
    }

    /// The damages of these cells; nothing, of which no correlation is known, where one of them lacks it.
    fn of_cells(&self, cells: &[usize]) -> Vec<f64> {
        cells.iter().map(|cell| self.damages[*cell]).collect::<Option<_>>().unwrap_or_default()
    }
}

/// The damage in each cell; `None` where it was not measured or is no number.
type Damages = Vec<Option<f64>>;

fn damages(cells: &[&Metrics], of: impl Fn(&Metrics) -> Option<f64>) -> Damages {
    cells.iter().map(|cell| of(cell).filter(|damage| !damage.is_nan())).collect()
}

/// Every score of every task, but those of which the base has nothing to lose.
///
/// Ranks by what is left of a score are those by its share of the base's, so that nothing is divided here.
fn task_scores(base: &Metrics, cells: &[&Metrics]) -> Vec<(DataSetName, &'static Score)> {
    let mut found = Vec::new();
    for task in data_sets([base], Subject::Task) {
        for score in scores_on(Subject::Task) {
            let counts = match base.find(score, &task) {
                Some(before) => score.better == Better::Lower || before.value > 0.0,
                None => score.compares() && cells.iter().any(|cell| cell.find(score, &task).is_some()),
            };
            if counts {
                found.push((task.clone(), score));
            }
        }
    }
    found
}

fn damage(score: &Score, data_set: &DataSetName, cell: &Metrics) -> Option<f64> {
    cell.find(score, data_set).map(|found| score.damage(found.value))
}

/// Mean of a cell's damage over corpora; `None` if it lacks one or there are none.
fn mean_damage(score: &Score, corpora: &[DataSetName], cell: &Metrics) -> Option<f64> {
    let damages: Vec<f64> =
        corpora.iter().map(|corpus| damage(score, corpus, cell)).collect::<Option<_>>()?;
    (!damages.is_empty()).then(|| mean(&damages))
}

#[cfg(test)]
mod tests {
    use super::super::{EXACT_MATCH, F1, JS_DIVERGENCE, PERPLEXITY, TOP1_AGREEMENT, flips::FLIPS};
    use super::*;
    use crate::number::NamedNumbers;
    use crate::results::{Estimate, Measurement};

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
                value(&FLIPS, "task", 0.8 - f1),
            ],
        }
    }

    /// The base compares with nothing.
    fn base() -> Metrics {
        let mut base = metrics(3.0, 0.0, 0.8);
        base.values.retain(|value| value.score != FLIPS.id);
        base
    }

    fn row<'a>(found: &'a RankCorrelations, score: &Score) -> &'a TextScoreRanks {
        found.texts.iter().find(|row| row.score == score.id).unwrap()
    }

    #[test]
    fn the_table_tells_which_score_ranks_as_the_tasks_do() {
        // JS falls in line with the tasks, perplexity does not.
        let cells = [metrics(3.3, 0.1, 0.7), metrics(3.1, 0.2, 0.5), metrics(3.2, 0.3, 0.1)];
        let found = rank_correlations(&base(), &cells.iter().collect::<Vec<_>>());
        assert_eq!(found.cells, 3);
        // Of exact match the base has nothing to lose.
        let of_task = |score: &Score| TaskScore { task: "task".into(), score: score.id.into() };
        assert_eq!(found.tasks, [of_task(&F1), of_task(&FLIPS)]);
        let near = |score: &Score, expected: f64| {
            row(&found, score).by_task.iter().all(|one| (one.unwrap().value - expected).abs() < 1e-12)
        };
        assert!(near(&JS_DIVERGENCE, 1.0) && near(&PERPLEXITY, -0.5), "{found:?}");
        assert!(near(&TOP1_AGREEMENT, 1.0), "agreement that falls is damage, as divergence that grows");
        let perfect = Some(Estimate { value: 1.0, ci95: [1.0; 2] });
        assert_eq!(row(&found, &JS_DIVERGENCE).mean, perfect);
        let back: RankCorrelations = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
        assert_eq!(back, found);
    }

    #[test]
    fn cells_that_lack_a_figure_do_not_enter() {
        let mut partial = metrics(3.2, 0.3, 0.1);
        partial.values.retain(|value| value.data_set != "task");
        let mut odd = metrics(3.2, 0.3, f64::NAN);
        odd.values.retain(|value| value.score != FLIPS.id);
        let cells = [metrics(3.3, 0.1, 0.7), metrics(3.1, 0.2, 0.5), partial, odd];
        let found = rank_correlations(&base(), &cells.iter().collect::<Vec<_>>());
        assert_eq!(found.cells, 2);
        assert!(found.texts.iter().all(|row| row.mean.is_none()));
        // A score that an older version did not measure keeps no cell out, and has no correlation.
        let mut older = metrics(3.2, 0.3, 0.1);
        older.values.retain(|value| value.score != TOP1_AGREEMENT.id && value.score != FLIPS.id);
        let mixed = [metrics(3.3, 0.1, 0.7), metrics(3.1, 0.2, 0.5), older];
        let found = rank_correlations(&base(), &mixed.iter().collect::<Vec<_>>());
        assert_eq!(found.cells, 3);
        assert!(row(&found, &JS_DIVERGENCE).mean.is_some() && row(&found, &TOP1_AGREEMENT).mean.is_none());
        assert_eq!(row(&found, &JS_DIVERGENCE).by_task[1], None, "of flips");
        // Without tasks, and without texts, there is nothing to compare.
        assert_eq!(rank_correlations(&Metrics::default(), &[&cells[0]]).cells, 0);
        assert_eq!(rank_correlations(&base(), &[]).cells, 0);
    }
}
