//! What keys do on the run screen.

use crate::results::CellState;
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EngineOrder};
use crate::tui::screens::{show, toast_error};
use crate::tui::state::{Screen, State};

/// Lines of the log that a page is.
const PAGE: usize = 5;

pub(crate) fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let at = state.run.row(state.study_view.as_ref());
    let last = state.study_view.as_ref().map_or(0, |study_view| study_view.cells.len());
    match action {
        Action::Up => state.run.chosen = Some(at.saturating_sub(1)),
        Action::Down => state.run.chosen = Some((at + 1).min(last)),
        Action::First => state.run.chosen = Some(0),
        Action::Last => state.run.chosen = Some(last),
        Action::PageUp => {
            state.run.scrolled = (state.run.scrolled + PAGE).min(state.engine.log.len().saturating_sub(1));
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
    Some(state.study_view.as_ref()?.cells.get(row.checked_sub(1)?)?.id.clone())
}

fn cancel(state: &mut State, row: usize) -> Vec<Effect> {
    let Some(id) = cell(state, row) else {
        return toast_error(state, "the base cannot be cancelled: every cell is compared with it");
    };
    let waits = state.engine.queue.contains(&id);
    let found = state.study_view.as_ref().and_then(|study_view| study_view.cell(&id)).map(|cell| cell.state);
    if !state.engine.busy() || !state.shows_engine_study() || !(waits || found == Some(CellState::Running)) {
        return toast_error(state, "only a running or queued cell can be cancelled");
    }
    state.toast(format!("cancelling {id}"), false);
    vec![Effect::Engine(EngineOrder::CancelCell(id))]
}

/// Moves a waiting cell in the queue; the list shows the queue's order at once.
fn reorder(state: &mut State, row: usize, by: isize) -> Vec<Effect> {
    let Some(id) = cell(state, row) else { return Vec::new() };
    let queue = &mut state.engine.queue;
    let Some(at) = queue.iter().position(|waiting| *waiting == id) else {
        return toast_error(state, "only a queued cell can be moved");
    };
    let to = at as isize + by;
    if to < 0 || to >= queue.len() as isize {
        return Vec::new();
    }
    let other = queue[to as usize].clone();
    queue.swap(at, to as usize);
    let order = queue.clone();
    if let Some(study_view) = state.study_view.as_mut() {
        let place = |wanted: &str| study_view.cells.iter().position(|cell| cell.id == wanted);
        if let (Some(a), Some(b)) = (place(&id), place(&other)) {
            study_view.cells.swap(a, b);
            state.run.chosen = Some(b + 1);
        }
    }
    vec![Effect::Engine(EngineOrder::Reorder(order))]
}
