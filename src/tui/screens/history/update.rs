//! What keys do.

use super::standing::{held_by_engine, standing, study_view};
use crate::human;
use crate::results::CellState;
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EngineOrder, OpenReason};
use crate::tui::screens::{show, toast_error};
use crate::tui::state::{
    Dialog, DialogAnswer, EngineState, Line, Prompt, QuestionDialog, Screen, State, StudyView,
};

/// Studies that a page of the list is taken for.
const PAGE: usize = 10;

pub(crate) fn act(state: &mut State, action: Action) -> Vec<Effect> {
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
    toast_error(state, "the store has no studies yet: press r to run the one on the Study screen")
}

fn open(state: &mut State) -> Vec<Effect> {
    let Some(id) = state.history.selected().map(|study| study.id) else { return none(state) };
    if state.study_view.as_ref().is_some_and(|study_view| study_view.study == id) {
        // What only its events have told would be lost by reading it again.
        state.toast(format!("study {id} is already open"), false);
        return show(state, Screen::Compare);
    }
    vec![Effect::OpenStudy(id, OpenReason::Open)]
}

fn resume(state: &mut State) -> Vec<Effect> {
    let Some(study) = state.history.selected() else { return none(state) };
    let (id, (.., standing)) = (study.id, standing(state, study));
    if state.options.readonly {
        return toast_error(state, "read-only: restart without --readonly to resume studies");
    }
    match state.engine.state {
        EngineState::Gone => {
            return toast_error(state, "the engine has stopped: restart secateur to resume a study");
        }
        EngineState::Idle => {}
        _ => {
            return toast_error(
                state,
                "a study is running: another can be resumed once it has finished or stopped",
            );
        }
    }
    if standing == CellState::Done {
        return toast_error(
            state,
            &format!("study {id} is complete: press Enter to open it, then a to add cells"),
        );
    }
    state.engine.starting(state.now);
    state.toast(format!("resuming study {id}"), false);
    let mut effects = vec![Effect::Engine(EngineOrder::Resume(id))];
    effects.extend(show(state, Screen::Run));
    effects
}

fn overlay(state: &mut State) -> Vec<Effect> {
    let Some(id) = state.history.selected().map(|study| study.id) else { return none(state) };
    match &state.study_view {
        None => toast_error(state, "no study is open to overlay it on: press Enter to open one"),
        Some(study_view) if study_view.study == id => {
            toast_error(state, "this study is already open: select another to overlay")
        }
        Some(_) if state.overlays.iter().any(|study_view| study_view.study == id) => {
            state.overlays.retain(|study_view| study_view.study != id);
            state.toast(format!("study {id} is removed from the comparison"), false);
            Vec::new()
        }
        Some(_) => vec![Effect::OpenStudy(id, OpenReason::Overlay)],
    }
}

/// Asks which finished cell is to be exported, and where to. The list does not know the cells: those of a study that is
/// not open are read first.
fn export(state: &mut State) -> Vec<Effect> {
    let Some(study) = state.history.selected() else { return none(state) };
    let id = study.id;
    if study.cells_done == 0 && standing(state, study).0 == 0 {
        return toast_error(state, &no_finished_cell(id));
    }
    let Some(study_view) = study_view(state, id) else {
        state.toast(format!("reading the cells of study {id}"), false);
        return vec![Effect::OpenStudy(id, OpenReason::Export)];
    };
    let prompt = export_prompt(state, study_view);
    show_prompt(state, id, prompt)
}

/// The study that [`export`] had read is here.
pub(crate) fn ask_for_export(state: &mut State, study_view: &StudyView) -> Vec<Effect> {
    let prompt = export_prompt(state, study_view);
    show_prompt(state, study_view.study, prompt)
}

fn show_prompt(state: &mut State, study: i64, prompt: Option<Prompt>) -> Vec<Effect> {
    match prompt {
        Some(prompt) => state.dialogs.push(Dialog::Prompt(prompt)),
        None => return toast_error(state, &no_finished_cell(study)),
    }
    Vec::new()
}

fn no_finished_cell(study: i64) -> String {
    format!("study {study} has no finished cell to export")
}

/// The finished cells of a study, the one that is selected on the compare screen first in line; `None` without any.
fn export_prompt(state: &State, study_view: &StudyView) -> Option<Prompt> {
    let study = study_view.study;
    let done = study_view.cells.iter().filter(|cell| cell.state == CellState::Done);
    let cells: Vec<String> = done.map(|cell| cell.id.clone()).collect();
    let selected = state.selected_cell();
    let chosen = cells.iter().position(|cell| Some(cell) == selected.as_ref()).unwrap_or(0);
    let line = Line::new(&Prompt::proposal(cells.get(chosen)?));
    let title = format!("Export a cell of study {study} as a model folder");
    Some(Prompt { title, line, study, cells, chosen })
}

/// Asks whether the study is to be deleted.
fn delete(state: &mut State) -> Vec<Effect> {
    let Some(study) = state.history.selected() else { return none(state) };
    let id = study.id;
    if state.options.readonly {
        return toast_error(state, "read-only: restart without --readonly to delete studies");
    }
    if held_by_engine(state, id) {
        let why = if state.engine.busy() {
            format!("study {id} is running: stop it before deleting")
        } else {
            format!("study {id} is still loaded: run another study or restart secateur to delete it")
        };
        return toast_error(state, &why);
    }
    let (done, all, _) = standing(state, study);
    let text = vec![
        format!("Study {id} of {}, created {} (UTC).", study.model, human::date(study.created_at)),
        format!("{done} of {all} cells are done."),
        "Its results and checkpoints are removed from the store. Exported models are kept.".into(),
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
