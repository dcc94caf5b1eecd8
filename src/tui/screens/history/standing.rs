//! How far the listed studies have come.

use crate::results::CellState;
use crate::store::StudySummary;
use crate::tui::state::{Board, EngineState, State};

/// All that is known of a study, where it is open or laid over the comparison.
pub(super) fn board(state: &State, study: i64) -> Option<&Board> {
    state.board.iter().chain(&state.overlays).find(|board| board.study == study)
}

/// Whether the engine has the study in hand: it works on it, or would if a cell were added.
pub(super) fn in_hand(state: &State, study: i64) -> bool {
    state.live.study == Some(study) && state.live.engine != EngineState::Gone
}

/// Cells that are done, all cells, and how far the study has come. The list is as old as the last look at the store;
/// of the study that runs more is known.
pub(super) fn standing(state: &State, study: &StudySummary) -> (usize, usize, CellState) {
    let running = state.live.busy() && state.live.study == Some(study.id);
    match board(state, study.id) {
        Some(board) if running => {
            let (done, all) = board.progress();
            (done, all, CellState::Running)
        }
        _ if running => (study.cells_done, study.cells, CellState::Running),
        _ => (study.cells_done, study.cells, study.state),
    }
}
