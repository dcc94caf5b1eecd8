//! What becomes of effects that are done.

use crate::tui::message::{Effect, EffectOutcome, OpenReason};
use crate::tui::screens::{history, inspect, show, toast_error};
use crate::tui::state::{Check, Dialog, EngineState, LogLevel, Screen, State, StudyView, model_name};

/// Takes the outcome of an effect in.
pub(super) fn done(state: &mut State, outcome: EffectOutcome) -> Vec<Effect> {
    match outcome {
        EffectOutcome::Studies(studies) => {
            let mut recent: Vec<String> = Vec::new();
            for study in studies.iter().rev() {
                if !recent.contains(&study.model) {
                    recent.push(study.model.clone());
                }
            }
            state.form.recent = recent;
            let newest = studies.last().map(|study| study.id);
            state.history.listed(studies);
            let at_start = std::mem::take(&mut state.options.open_newest);
            match (newest, &state.study_view) {
                (Some(study), None) if at_start => vec![Effect::OpenStudy(study, OpenReason::Start)],
                // A study that another process has begun since: shown on whichever screen is open.
                (Some(study), None) if state.options.readonly => {
                    vec![Effect::OpenStudy(study, OpenReason::Refresh)]
                }
                _ => Vec::new(),
            }
        }
        EffectOutcome::Study(study_view, reason) => opened(state, *study_view, reason),
        EffectOutcome::Answers { study, cell, answers } => {
            let study_views = state.study_view.iter_mut().chain(&mut state.overlays);
            for study_view in study_views.filter(|study_view| study_view.study == study) {
                study_view.take_answers(cell.clone(), answers.clone());
            }
            Vec::new()
        }
        EffectOutcome::Checked { number, plan } => {
            if number == state.form.version {
                state.form.check = Check::Fine(plan);
                // What stood in the way does not any more.
                state.toast.take_if(|toast| toast.refuses_start);
            }
            Vec::new()
        }
        EffectOutcome::Refused { number, field, message } => {
            if number == state.form.version {
                state.form.check = Check::Refused { field, message };
            }
            Vec::new()
        }
        EffectOutcome::Unknown { number } => {
            if number == state.form.version {
                state.form.check = Check::Remote;
            }
            Vec::new()
        }
        EffectOutcome::Started(spec) => {
            state.engine.add_line(state.now, LogLevel::Info, format!("starting: {}", spec.model));
            Vec::new()
        }
        EffectOutcome::Saved(paths) => {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            state.toast(format!("saved {}", names.join(", ")), false);
            Vec::new()
        }
        EffectOutcome::Compared(found) => {
            state.dialogs.push(Dialog::Comparison(found, 0));
            Vec::new()
        }
        EffectOutcome::Deleted(study) => forget(state, study),
        EffectOutcome::Failed(message) => {
            if state.engine.state == EngineState::Starting && state.engine.study.is_none() {
                state.engine.state = EngineState::Idle;
            }
            state.engine.add_line(state.now, LogLevel::Error, message.clone());
            toast_error(state, &message)
        }
    }
}

/// A study is gone from the store.
pub(super) fn forget(state: &mut State, study: i64) -> Vec<Effect> {
    if state.study_view.as_ref().is_some_and(|study_view| study_view.study == study) {
        state.study_view = None;
    }
    state.overlays.retain(|study_view| study_view.study != study);
    state.toast(format!("study {study} is deleted"), false);
    vec![Effect::ListStudies]
}

fn opened(state: &mut State, study_view: StudyView, reason: OpenReason) -> Vec<Effect> {
    match reason {
        OpenReason::Open | OpenReason::Start => {
            state.overlays.retain(|overlay| overlay.study != study_view.study);
            state.toast(
                format!("study {} of {} is open", study_view.study, model_name(&study_view.model.source)),
                false,
            );
            state.study_view = Some(study_view);
            state.compare.reset();
            state.inspect.reset();
            if reason == OpenReason::Open || state.screen == Screen::Study {
                show(state, Screen::Compare)
            } else {
                inspect::refreshed(state)
            }
        }
        OpenReason::Overlay => {
            state.toast(format!("study {} is overlaid on the comparison", study_view.study), false);
            state.overlays.retain(|overlay| overlay.study != study_view.study);
            state.overlays.push(study_view);
            Vec::new()
        }
        OpenReason::Export => history::ask_for_export(state, &study_view),
        OpenReason::Refresh => {
            if let Some(shown) = state.study_view.as_mut().filter(|shown| shown.study == study_view.study) {
                shown.refresh(study_view);
            } else if state.study_view.is_none() {
                state.study_view = Some(study_view);
            }
            inspect::refreshed(state)
        }
    }
}
