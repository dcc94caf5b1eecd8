//! Which scores are charted, and which of them decides.

use crate::scores::{JS_DIVERGENCE, PERPLEXITY, Score};
use crate::tui::state::{CompareView, Panel, SortBy};

/// The scores that a panel charts.
pub(super) fn charted(view: &CompareView, panel: Panel) -> Vec<&'static Score> {
    match panel {
        Panel::Divergence => vec![&JS_DIVERGENCE],
        Panel::Scores => view.score.shown(),
        _ => vec![&PERPLEXITY],
    }
}

/// The score that decides which cell is better: the first of the panel that has the focus; of the table, the one that it
/// is sorted by.
pub(super) fn leading(view: &CompareView) -> &'static Score {
    match (view.panel, view.sort) {
        (Panel::Table, Some(SortBy::Score(score))) => score,
        _ => charted(view, view.panel).first().copied().unwrap_or(&PERPLEXITY),
    }
}
