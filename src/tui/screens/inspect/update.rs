//! What keys do.

use ratatui::layout::Rect;

use super::answers::wanted;
use super::layout::{module_page, reach};
use super::places::places;
use super::rows;
use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::screens::toast_error;
use crate::tui::state::{InspectView, Pane, RecordFilter, ScreenAreas, State};

pub(crate) fn act(state: &mut State, action: Action) -> Vec<Effect> {
    if state.study_view.is_none() {
        return toast_error(state, "no study is open: nothing to inspect");
    }
    match action {
        Action::OtherCell | Action::Right => step_right(state, true),
        Action::Left => step_right(state, false),
        Action::OtherSide if state.inspect.modules => {
            toast_error(state, "modules belong to one cell: press h or l for another, m for the answers")
        }
        Action::OtherSide => step_left(state),
        Action::NextOrder if state.inspect.modules => {
            let view = &mut state.inspect;
            view.largest_error_first = !view.largest_error_first;
            // Who asks for the largest wants to see it.
            view.module = None;
            Vec::new()
        }
        Action::NextFilter if state.inspect.modules => {
            toast_error(state, "the filter is for records, not for modules: press m for the answers")
        }
        Action::AllRecords | Action::NextPane if state.inspect.modules => Vec::new(),
        Action::NextOrder | Action::NextFilter | Action::AllRecords => {
            relist(state, |view| match action {
                Action::NextOrder => view.order = view.order.next(),
                Action::NextFilter => view.filter = view.filter.next(),
                _ => view.filter = RecordFilter::All,
            });
            Vec::new()
        }
        Action::ShowModules => {
            state.inspect.modules = !state.inspect.modules;
            wanted(state)
        }
        Action::NextPane => next_pane(state),
        Action::Up | Action::Down | Action::PageUp | Action::PageDown | Action::First | Action::Last => {
            go(state, action);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// Changes what is listed. The chosen record stays while it is listed, and comes back when it is listed again; another one
/// is read from its beginning.
fn relist(state: &mut State, change: impl FnOnce(&mut InspectView)) {
    let shown = |state: &State| {
        let rows = rows::rows(state);
        rows.get(rows::selected(state, &rows)).map(|row| (row.asked.task.clone(), row.asked.record))
    };
    let before = shown(state);
    change(&mut state.inspect);
    if shown(state) != before {
        let view = &mut state.inspect;
        (view.prompt_scroll, view.answer_scroll) = (0, 0);
    }
}

/// Shows the next cell, or the one before, on the right-hand side; the one on the left-hand side is left out.
fn step_right(state: &mut State, forward: bool) -> Vec<Effect> {
    let Some(study_view) = &state.study_view else { return Vec::new() };
    let left = rows::left(state);
    let ids: Vec<&str> =
        study_view.cells.iter().map(|cell| cell.id.as_str()).filter(|id| Some(*id) != left).collect();
    let at = rows::right(state).and_then(|cell| ids.iter().position(|id| *id == cell.id));
    let Some(at) = at else { return toast_error(state, "the study has no cells yet: press a to add one") };
    let by = if forward { 1 } else { ids.len() - 1 };
    let next = ids[(at + by) % ids.len()].to_owned();
    relist(state, |view| {
        view.right = Some(next);
        view.answer_scroll = 0;
    });
    wanted(state)
}

/// Shows the next of the base and the cells on the left-hand side; the one on the right-hand side is left out.
fn step_left(state: &mut State) -> Vec<Effect> {
    let Some(study_view) = &state.study_view else { return Vec::new() };
    // Without this the right-hand side might change when the left takes its place.
    let right = rows::right(state).map(|cell| cell.id.clone());
    let cells = study_view.cells.iter().map(|cell| Some(cell.id.as_str()));
    let sides: Vec<Option<&str>> =
        [None].into_iter().chain(cells).filter(|side| side.is_none() || *side != right.as_deref()).collect();
    let at = sides.iter().position(|side| *side == rows::left(state)).unwrap_or(0);
    let next = sides[(at + 1) % sides.len()].map(str::to_owned);
    relist(state, |view| {
        (view.left, view.right) = (next, right);
        view.answer_scroll = 0;
    });
    wanted(state)
}

fn next_pane(state: &mut State) -> Vec<Effect> {
    let shown = places(body(state)).prompt.is_some();
    state.inspect.pane = match state.inspect.pane {
        Pane::Prompts if shown => Pane::Prompt,
        Pane::Prompts | Pane::Prompt => Pane::Answers,
        Pane::Answers => Pane::Prompts,
    };
    Vec::new()
}

/// Moves the selection, or scrolls the text, that the keys belong to.
fn go(state: &mut State, action: Action) {
    if state.inspect.modules {
        let Some(cell) = rows::right(state) else { return };
        let modules = rows::modules(state, cell);
        let Some(last) = modules.len().checked_sub(1) else { return };
        let at = moved(rows::selected_module(state, &modules), action, module_page(body(state)), last);
        let name = modules[at].name.clone();
        state.inspect.module = Some(name);
        return;
    }
    let reach = reach(state, body(state));
    match state.inspect.pane {
        Pane::Prompts => {
            let rows = rows::rows(state);
            if rows.is_empty() {
                return;
            }
            let (task, record) =
                rows[moved(rows::selected(state, &rows), action, reach.page, reach.last)].key();
            let chosen = (task.to_owned(), record);
            let view = &mut state.inspect;
            view.prompt = Some(chosen);
            (view.prompt_scroll, view.answer_scroll) = (0, 0);
        }
        Pane::Prompt => {
            let at = state.inspect.prompt_scroll.min(reach.last);
            state.inspect.prompt_scroll = moved(at, action, reach.page, reach.last);
        }
        Pane::Answers => {
            let at = state.inspect.answer_scroll.min(reach.last);
            state.inspect.answer_scroll = moved(at, action, reach.page, reach.last);
        }
    }
}

/// Where a move leads from `at`, between 0 and `last`.
fn moved(at: usize, action: Action, page: usize, last: usize) -> usize {
    let to = match action {
        Action::Up => at.saturating_sub(1),
        Action::Down => at + 1,
        Action::PageUp => at.saturating_sub(page),
        Action::PageDown => at + page,
        Action::First => 0,
        Action::Last => last,
        _ => at,
    };
    to.min(last)
}

/// Where the screen is drawn in a terminal of the state's size.
fn body(state: &State) -> Rect {
    ScreenAreas::of(Rect::new(0, 0, state.size.0, state.size.1)).body
}
