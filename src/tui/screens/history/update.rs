//! What keys do.

use super::standing::{board, in_hand, standing};
use crate::human;
use crate::results::CellState;
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EngineOrder, OpenReason};
use crate::tui::screens::{complain, show};
use crate::tui::state::{Dialog, DialogAnswer, EngineState, Line, Prompt, QuestionDialog, Screen, State};

/// Studies that a page of the list is taken for.
const PAGE: usize = 10;

/// Does what a key asks for.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let at = state.history.place();
    let last = state.history.studies.len().saturating_sub(1);
    match action {
        Action::Up => go(state, at.saturating_sub(1)),
        Action::Down => go(state, (at + 1).min(last)),
        Action::PageUp => go(state, at.saturating_sub(PAGE)),
        Action::PageDown => go(state, (at + PAGE).min(last)),
        Action::First => go(state, 0),
        Action::Last => go(state, last),
        Action::OpenStudy | Action::Confirm => open(state),
        Action::ResumeStudy => resume(state),
        Action::Overlay => overlay(state),
        Action::ExportModel => export(state),
        Action::DeleteStudy => delete(state),
        _ => Vec::new(),
    }
}

fn go(state: &mut State, place: usize) -> Vec<Effect> {
    state.history.select(place);
    Vec::new()
}

fn none(state: &mut State) -> Vec<Effect> {
    complain(state, "the store has no studies yet: r runs the one that the Study screen defines")
}

fn open(state: &mut State) -> Vec<Effect> {
    let Some(id) = state.history.selected().map(|study| study.id) else { return none(state) };
    if state.board.as_ref().is_some_and(|board| board.study == id) {
        // What only its events have told would be lost by reading it again.
        state.tell(format!("study {id} is open already"), false);
        return show(state, Screen::Compare);
    }
    vec![Effect::OpenStudy(id, OpenReason::Open)]
}

fn resume(state: &mut State) -> Vec<Effect> {
    let Some(study) = state.history.selected() else { return none(state) };
    let (id, (.., standing)) = (study.id, standing(state, study));
    if state.options.readonly {
        return complain(state, "read-only: leave out --readonly to resume studies");
    }
    match state.live.engine {
        EngineState::Gone => {
            return complain(state, "the engine has stopped: restart secateur to resume a study");
        }
        EngineState::Idle => {}
        _ => {
            return complain(
                state,
                "a study is running: another can be resumed when it is complete or stopped",
            );
        }
    }
    if standing == CellState::Done {
        return complain(
            state,
            &format!("study {id} is complete: Enter opens it, and a then adds cells to it"),
        );
    }
    state.live.starting(state.now);
    state.tell(format!("going on with study {id}"), false);
    let mut effects = vec![Effect::Engine(EngineOrder::Resume(id))];
    effects.extend(show(state, Screen::Run));
    effects
}

fn overlay(state: &mut State) -> Vec<Effect> {
    let Some(id) = state.history.selected().map(|study| study.id) else { return none(state) };
    match &state.board {
        None => complain(state, "there is no study to lay it over: Enter opens one"),
        Some(board) if board.study == id => {
            complain(state, "this study is the one that is open: choose another to lay over it")
        }
        Some(_) if state.overlays.iter().any(|board| board.study == id) => {
            state.overlays.retain(|board| board.study != id);
            state.tell(format!("study {id} is taken off the comparison"), false);
            Vec::new()
        }
        Some(_) => vec![Effect::OpenStudy(id, OpenReason::Overlay)],
    }
}

/// Asks which finished cell is to be written, and where to.
fn export(state: &mut State) -> Vec<Effect> {
    let Some(study) = state.history.selected() else { return none(state) };
    let id = study.id;
    if study.cells_done == 0 && standing(state, study).0 == 0 {
        return complain(state, &format!("study {id} has no finished cell to export"));
    }
    let Some(board) = board(state, id) else {
        // The list does not know the cells.
        let text = format!(
            "Study {id} is being opened, for its cells. Then 5 and x again choose the one to export."
        );
        state.dialogs.push(Dialog::Question(QuestionDialog::notice("Opening the study", text, false)));
        return vec![Effect::OpenStudy(id, OpenReason::Open)];
    };
    let cells: Vec<String> =
        board.cells.iter().filter(|cell| cell.state == CellState::Done).map(|cell| cell.id.clone()).collect();
    let wanted = state.selected_cell();
    let chosen = cells.iter().position(|cell| Some(cell) == wanted.as_ref()).unwrap_or(0);
    let Some(cell) = cells.get(chosen) else {
        return complain(state, &format!("study {id} has no finished cell to export"));
    };
    let line = Line::new(&Prompt::proposal(cell));
    let title = format!("Export a cell of study {id} as a model folder");
    state.dialogs.push(Dialog::Prompt(Prompt { title, line, study: id, cells, chosen }));
    Vec::new()
}

/// Asks whether the study is to be deleted.
fn delete(state: &mut State) -> Vec<Effect> {
    let Some(study) = state.history.selected() else { return none(state) };
    let id = study.id;
    if state.options.readonly {
        return complain(state, "read-only: leave out --readonly to delete studies");
    }
    if in_hand(state, id) {
        let why = if state.live.busy() {
            format!(
                "the engine works on study {id}: it can be deleted when secateur was started anew without it"
            )
        } else {
            format!("the engine still holds study {id}: run another, or restart secateur, to delete it")
        };
        return complain(state, &why);
    }
    let (done, all, _) = standing(state, study);
    let text = vec![
        format!("Study {id} of {}, made {} (UTC).", study.model, human::date(study.created_at)),
        format!("{done} of {all} cells are done."),
        "Its results and checkpoints are removed from the store. Exported models stay.".into(),
    ];
    let answers = vec![
        ('d', "delete it".into(), DialogAnswer::Delete(id)),
        ('k', "keep it".into(), DialogAnswer::Back),
    ];
    let title = format!("Delete study {id}?");
    // Enter keeps it.
    state.dialogs.push(Dialog::Question(QuestionDialog { title, text, answers, chosen: 1, bad: true }));
    Vec::new()
}
