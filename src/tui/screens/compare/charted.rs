//! Which scores are charted, and which of them decides.

use crate::results::Metrics;
use crate::scores::{
    EXACT_MATCH, F1, JS_DIVERGENCE, KL_DIVERGENCE, PERPLEXITY, ROUGE1, SCORES, Score, Subject, TOP1_AGREEMENT,
};
use crate::tui::state::{CompareView, Panel, SortBy};

/// The scores that have a place on screen: what was measured of these models. Until something is, those that most studies
/// measure.
pub(super) fn measured(models: &[&Metrics]) -> Vec<&'static Score> {
    const USUAL: [&Score; 7] =
        [&PERPLEXITY, &JS_DIVERGENCE, &KL_DIVERGENCE, &TOP1_AGREEMENT, &EXACT_MATCH, &F1, &ROUGE1];
    let is_measured = |score: &Score| models.iter().any(|metrics| metrics.first(score).is_some());
    let tasks = SCORES.iter().any(|score| score.subject() == Subject::Task && is_measured(score));
    let has_place = |score: &&&'static Score| {
        let usual = USUAL.contains(*score) && (score.subject() == Subject::Corpus || !tasks);
        usual || is_measured(score)
    };
    SCORES.iter().filter(has_place).copied().collect()
}

/// Those of tasks among scores.
pub(super) fn of_tasks(scores: &[&'static Score]) -> Vec<&'static Score> {
    scores.iter().copied().filter(|score| score.subject() == Subject::Task).collect()
}

/// The scores that a panel charts, of those that have a place on screen.
pub(super) fn charted(scores: &[&'static Score], view: &CompareView, panel: Panel) -> Vec<&'static Score> {
    match panel {
        Panel::Divergence => vec![&JS_DIVERGENCE],
        Panel::Scores => view.score.shown(&of_tasks(scores)),
        _ => vec![&PERPLEXITY],
    }
}

/// The score that decides which cell is better: the first of the panel that has the focus; of the table, the one that it
/// is sorted by.
pub(super) fn leading(scores: &[&'static Score], view: &CompareView) -> &'static Score {
    match (view.panel, view.sort) {
        (Panel::Table, Some(SortBy::Score(score))) => score,
        _ => charted(scores, view, view.panel).first().copied().unwrap_or(&PERPLEXITY),
    }
}
