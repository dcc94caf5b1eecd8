//! Which metric ranks the cells as the tasks do, as long as there is room for; and how small models may be.

use crate::report::smallest_models;
use crate::results::CellResult;
use crate::scores::verdict::{brief_sentence, sentence};
use crate::scores::{Subject, is_measured};
use crate::tui::state::StudyView;
use crate::tui::theme::Theme;
use crate::tui::widgets::text;

/// The verdict in so many lines of a width at most: with intervals where they fit.
pub(crate) fn lines(study_view: &StudyView, most: usize, width: usize, theme: Theme) -> Vec<String> {
    let correlations = &study_view.rank_correlations;
    let whole = text::wrap(&words(study_view, sentence(correlations, theme.ascii)), width);
    if whole.len() <= most {
        return whole;
    }
    let brief = words(study_view, brief_sentence(correlations, theme.ascii));
    if most == 1 {
        return vec![text::truncate(&brief, width, theme.symbols().ellipsis).into_owned()];
    }
    text::wrap(&brief, width).into_iter().take(most).collect()
}

/// How small models of each kind are within limits of three measures, in as many lines of a width: each is cut to one
/// where they do not fit, and there are none where there are more kinds than lines.
pub(crate) fn smallest(study_view: &StudyView, most: usize, width: usize, theme: Theme) -> Vec<String> {
    let (model, base) = (&study_view.model, &study_view.base.metrics);
    let whole = |cell: &CellResult| cell.footprint.as_ref().and_then(|found| model.cell_footprint(found));
    let cells: Vec<_> = study_view.cells.iter().map(|cell| (cell, whole(cell))).collect();
    let lines = smallest_models((base, model.base_footprint()), &cells);
    if lines.len() > most {
        return Vec::new();
    }
    let whole: Vec<String> = lines.iter().flat_map(|line| text::wrap(line, width)).collect();
    if whole.len() <= most {
        return whole;
    }
    let cut = |line: &String| text::truncate(line, width, theme.symbols().ellipsis).into_owned();
    lines.iter().map(cut).collect()
}

/// The sentence, or why there cannot be one.
fn words(study_view: &StudyView, sentence: String) -> String {
    let cells = study_view.cells.iter().map(|cell| &cell.metrics);
    let answered = std::iter::once(&study_view.base.metrics)
        .chain(cells)
        .any(|metrics| is_measured(metrics, Subject::Task));
    // Until a running study has been read from the store, there may be tasks.
    let asked = study_view.spec.as_ref().is_none_or(|spec| !spec.evaluation.tasks.is_empty());
    if !answered && !asked {
        return "The study has no tasks, so it cannot say which metric ranks the cells as tasks would."
            .into();
    }
    sentence
}
