//! What the engine's events do to the state.

use crate::engine::Event;
use crate::results::CellState;
use crate::tui::message::{Effect, OpenReason};
use crate::tui::screens::{inspect, toast_error};
use crate::tui::state::{
    Check, Dialog, EngineState, Field, Leave, LogLevel, QuestionDialog, Screen, State, StudyView,
};

use super::adding;
use super::edge;
use super::outcomes::forget;

pub(crate) fn event(state: &mut State, event: &Event) -> Vec<Effect> {
    if let Event::Plan { study, model, environment, cells, .. } = event {
        let known = state.study_view.as_ref().is_some_and(|study_view| study_view.study == *study);
        let mut study_view = StudyView::planned(*study, model.as_ref().clone(), environment.clone(), cells);
        if !known {
            state.compare.reset();
            state.inspect.reset();
        } else if let Some(shown) = state.study_view.take() {
            study_view.answers = shown.answers;
        }
        state.study_view = Some(study_view);
    }
    let study_view = state.study_view.as_ref();
    let label = |cell: Option<&str>| study_view.map_or_else(String::new, |study_view| study_view.label(cell));
    state.engine.apply(event, state.now, &label);
    if let (true, Some(study_view)) = (state.shows_engine_study(), state.study_view.as_mut()) {
        study_view.apply(event);
    }
    let mut effects = told(state, event);
    match event {
        Event::Plan { .. } => effects.extend(adding::taken_up(state)),
        Event::Failed { .. } | Event::Stopped { .. } => state.added.clear(),
        _ => {}
    }
    effects.extend(edge::event(state, event));
    effects
}

/// Changes the rest of the state after an event, once the study knows it.
fn told(state: &mut State, event: &Event) -> Vec<Effect> {
    match event {
        // The plan does not carry what an earlier run has found out, nor what was asked.
        Event::Plan { study, .. } => {
            vec![Effect::OpenStudy(*study, OpenReason::Refresh), Effect::ListStudies]
        }
        Event::Finished { result } => {
            let complete = result.cells.iter().all(|cell| cell.state == CellState::Done);
            // For a search it is a pause, or the end that its answer told of.
            if state.edge.is_none() {
                state.toast(if complete { "the study is complete" } else { "the study has ended" }, false);
            }
            // It has taken room, so the estimate on Study is looked at again.
            state.form.version += 1;
            leave_if_wanted(state).unwrap_or_else(|| vec![Effect::ListStudies])
        }
        Event::Failed { message, exit_code, setting } => failed(state, message, *exit_code, *setting),
        Event::Deleted { study } => forget(state, *study),
        Event::Refused { message } => toast_error(state, message),
        Event::Stopped { .. } => leave_if_wanted(state).unwrap_or_default(),
        Event::Cell { state: CellState::Done, .. } if state.screen == Screen::Inspect => {
            inspect::wanted(state)
        }
        _ => Vec::new(),
    }
}

/// The engine's channels have closed: it has stopped, or died.
pub(crate) fn gone(state: &mut State) -> Vec<Effect> {
    let expected = matches!(state.engine.state, EngineState::Gone | EngineState::Stopping);
    state.engine.state = EngineState::Gone;
    if let (true, Some(study_view)) = (state.shows_engine_study(), state.study_view.as_mut()) {
        study_view.interrupted();
    }
    if let Some(effects) = leave_if_wanted(state) {
        return effects;
    }
    if !expected {
        let text = "The engine ended unexpectedly. Finished work is kept: restart secateur, open the study on History and \
                    resume it with R.\nThe log file beside the store has the details.";
        state.engine.add_line(state.now, LogLevel::Error, "the engine has ended");
        state.dialogs.push(Dialog::Question(QuestionDialog::notice("The engine has ended", text, true)));
    }
    Vec::new()
}

fn leave_if_wanted(state: &State) -> Option<Vec<Effect>> {
    let leave: Leave = state.leaving?;
    Some(vec![Effect::Leave(leave)])
}

fn failed(state: &mut State, message: &str, exit_code: u8, setting: Option<&str>) -> Vec<Effect> {
    if let Some(effects) = leave_if_wanted(state) {
        return effects;
    }
    if exit_code == 2 {
        // A mistake can be put right where it was made.
        let field = setting.and_then(Field::of_flag);
        state.form.check = Check::Refused { field, message: message.to_owned() };
        state.form.checked = state.form.version;
        if field.is_some() {
            state.screen = Screen::Study;
            state.form.focus_on(field);
        }
        state.dialogs.push(Dialog::Question(QuestionDialog::notice("The study cannot run", message, true)));
        return Vec::new();
    }
    let text = format!(
        "{message}\n\nFinished work is kept. Fix the cause, then resume the study with R on History.\nThe log file \
         beside the store has the details."
    );
    state.dialogs.push(Dialog::Question(QuestionDialog::notice("The study has failed", text, true)));
    vec![Effect::ListStudies]
}
