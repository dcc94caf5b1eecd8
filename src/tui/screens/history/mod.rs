//! History: the studies of the store.

mod draw;
#[cfg(test)]
mod tests;
mod update;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::results::CellState;
use crate::store::StudySummary;
use crate::tui::message::Effect;
use crate::tui::state::{Board, Panel, State};

pub use update::act;

/// What only the history screen knows.
#[derive(Debug, Clone, Default)]
pub struct HistoryView {
    /// The studies of the store, the newest first.
    pub studies: Vec<StudySummary>,
    /// The store was read at least once.
    read: bool,
    /// Number of the selected study; `None` is the newest.
    selected: Option<i64>,
}

impl HistoryView {
    /// Place of the selected study.
    fn place(&self) -> usize {
        self.selected.and_then(|id| self.studies.iter().position(|study| study.id == id)).unwrap_or(0)
    }
}

/// The studies of the store were read, the oldest first.
pub fn listed(state: &mut State, mut studies: Vec<StudySummary>) -> Vec<Effect> {
    studies.reverse();
    let view = &mut state.history;
    if let Some(id) = view.selected.filter(|id| !studies.iter().any(|study| study.id == *id)) {
        // Where the selected study is gone, the one that takes its place is selected.
        let place = view.studies.iter().position(|study| study.id == id).unwrap_or(0);
        view.selected = studies.get(place).or(studies.last()).map(|study| study.id);
    }
    view.studies = studies;
    view.read = true;
    Vec::new()
}

/// Where the panels are.
pub fn panels(_state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    vec![(Panel::Studies, area)]
}

/// Draws the screen.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    draw::draw(state, area, buffer);
}

/// The selected study.
fn selected(state: &State) -> Option<&StudySummary> {
    state.history.studies.get(state.history.place())
}

/// All that is known of a study, where it is open or laid over the comparison.
fn board(state: &State, study: i64) -> Option<&Board> {
    state.board.iter().chain(&state.overlays).find(|board| board.study == study)
}

/// Whether the engine has the study in hand: it works on it, or would if a cell were added.
fn in_hand(state: &State, study: i64) -> bool {
    state.live.study == Some(study) && state.live.engine != crate::tui::state::EngineState::Gone
}

/// Cells that are done, all cells, and how far the study has come. The list is as old as the last look at the store;
/// of the study that runs more is known.
fn standing(state: &State, study: &StudySummary) -> (usize, usize, CellState) {
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
