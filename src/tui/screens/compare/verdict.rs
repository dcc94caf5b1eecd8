//! Which metric ranks the cells as the tasks do, as long as there is room for.

use crate::scores::verdict::{self, Wording};
use crate::scores::{Subject, is_measured};
use crate::tui::state::StudyView;

pub(crate) fn words(study_view: &StudyView, wording: Wording, ascii: bool) -> String {
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
    verdict::sentence(&study_view.rank_correlations, wording, ascii)
}
