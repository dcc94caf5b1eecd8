//! What keys do on the run screen.

use crate::results::CellState;
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EngineOrder};
use crate::tui::screens::{complain, show};
use crate::tui::state::{Screen, State};

/// Lines of the log that a page is.
const PAGE: usize = 5;

/// Does what a key asks for.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let at = state.run.row(state.board.as_ref());
    let last = state.board.as_ref().map_or(0, |board| board.cells.len());
    match action {
        Action::Up => state.run.chosen = Some(at.saturating_sub(1)),
        Action::Down => state.run.chosen = Some((at + 1).min(last)),
        Action::First => state.run.chosen = Some(0),
        Action::Last => state.run.chosen = Some(last),
        Action::PageUp => {
            state.run.scrolled = (state.run.scrolled + PAGE).min(state.live.log.len().saturating_sub(1));
        }
        Action::PageDown => state.run.scrolled = state.run.scrolled.saturating_sub(PAGE),
        Action::SwitchMap => state.run.errors = !state.run.errors,
        Action::Confirm => {
            if let Some(id) = cell(state, at) {
                state.inspect.choose(&id);
            }
            return show(state, Screen::Inspect);
        }
        Action::CancelCell => return cancel(state, at),
        Action::MoveEarlier => return reorder(state, at, -1),
        Action::MoveLater => return reorder(state, at, 1),
        _ => {}
    }
    Vec::new()
}

/// Id of the cell in a row of the list.
fn cell(state: &State, row: usize) -> Option<String> {
    Some(state.board.as_ref()?.cells.get(row.checked_sub(1)?)?.id.clone())
}

fn cancel(state: &mut State, row: usize) -> Vec<Effect> {
    let Some(id) = cell(state, row) else {
        return complain(state, "the base cannot be cancelled: every cell is compared with it");
    };
    let waits = state.live.queue.contains(&id);
    let found = state.board.as_ref().and_then(|board| board.cell(&id)).map(|cell| cell.state);
    if !state.live.busy() || !state.board_is_live() || !(waits || found == Some(CellState::Running)) {
        return complain(state, "only a cell that runs or waits can be cancelled");
    }
    state.tell(format!("cancelling {id}"), false);
    vec![Effect::Engine(EngineOrder::CancelCell(id))]
}

/// Moves a waiting cell in the queue; the list shows the queue's order at once.
fn reorder(state: &mut State, row: usize, by: isize) -> Vec<Effect> {
    let Some(id) = cell(state, row) else { return Vec::new() };
    let queue = &mut state.live.queue;
    let Some(at) = queue.iter().position(|waiting| *waiting == id) else {
        return complain(state, "only a waiting cell can be moved");
    };
    let to = at as isize + by;
    if to < 0 || to >= queue.len() as isize {
        return Vec::new();
    }
    let other = queue[to as usize].clone();
    queue.swap(at, to as usize);
    let order = queue.clone();
    if let Some(board) = state.board.as_mut() {
        let place = |wanted: &str| board.cells.iter().position(|cell| cell.id == wanted);
        if let (Some(a), Some(b)) = (place(&id), place(&other)) {
            board.cells.swap(a, b);
            state.run.chosen = Some(b + 1);
        }
    }
    vec![Effect::Engine(EngineOrder::Reorder(order))]
}
