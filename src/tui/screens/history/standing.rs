//! How far the listed studies have come.

use crate::results::CellState;
use crate::store::StudySummary;
use crate::tui::state::{EngineState, State, StudyView};

/// All that is known of a study, where it is open or an overlay.
pub(super) fn study_view(state: &State, study: i64) -> Option<&StudyView> {
    state.study_view.iter().chain(&state.overlays).find(|study_view| study_view.study == study)
}

/// Whether the engine holds the study: it runs it, or would if a cell were added.
pub(super) fn held_by_engine(state: &State, study: i64) -> bool {
    state.engine.study == Some(study) && state.engine.state != EngineState::Gone
}

/// Cells that are done, all cells, and how far the study has come. The list is as old as the last look at the store;
/// of the study that runs more is known.
pub(super) fn standing(state: &State, study: &StudySummary) -> (usize, usize, CellState) {
    let running = state.engine.busy() && state.engine.study == Some(study.id);
    match study_view(state, study.id) {
        Some(study_view) if running => {
            let (done, all) = study_view.progress();
            (done, all, CellState::Running)
        }
        _ if running => (study.cells_done, study.cells, CellState::Running),
        _ => (study.cells_done, study.cells, study.state),
    }
}
