//! What becomes of effects that are done.

use crate::tui::message::{Effect, EffectOutcome, OpenReason};
use crate::tui::screens::{complain, inspect, show};
use crate::tui::state::{Board, Check, EngineState, LogLevel, Screen, State, model_name};

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
            match (newest, &state.board) {
                (Some(study), None) if at_start => vec![Effect::OpenStudy(study, OpenReason::Start)],
                // A study that another process has begun since: shown on whichever screen is open.
                (Some(study), None) if state.options.readonly => {
                    vec![Effect::OpenStudy(study, OpenReason::Refresh)]
                }
                _ => Vec::new(),
            }
        }
        EffectOutcome::Study(board, reason) => opened(state, *board, reason),
        EffectOutcome::Answers { study, cell, answers } => {
            let boards = state.board.iter_mut().chain(&mut state.overlays);
            for board in boards.filter(|board| board.study == study) {
                board.take_answers(cell.clone(), answers.clone());
            }
            Vec::new()
        }
        EffectOutcome::Checked { number, plan } => {
            if number == state.form.version {
                state.form.check = Check::Fine(plan);
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
            state.live.say(state.now, LogLevel::Info, format!("starting: {}", spec.model));
            Vec::new()
        }
        EffectOutcome::Saved(paths) => {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            state.tell(format!("saved {}", names.join(", ")), false);
            Vec::new()
        }
        EffectOutcome::Deleted(study) => forget(state, study),
        EffectOutcome::Failed(message) => {
            if state.live.engine == EngineState::Starting && state.live.study.is_none() {
                state.live.engine = EngineState::Idle;
            }
            state.live.say(state.now, LogLevel::Error, message.clone());
            complain(state, &message)
        }
    }
}

/// A study is gone from the store.
pub(super) fn forget(state: &mut State, study: i64) -> Vec<Effect> {
    if state.board.as_ref().is_some_and(|board| board.study == study) {
        state.board = None;
    }
    state.overlays.retain(|board| board.study != study);
    state.tell(format!("study {study} is deleted"), false);
    vec![Effect::ListStudies]
}

/// A study was read.
fn opened(state: &mut State, board: Board, reason: OpenReason) -> Vec<Effect> {
    match reason {
        OpenReason::Open | OpenReason::Start => {
            state.overlays.retain(|overlay| overlay.study != board.study);
            state
                .tell(format!("study {} of {} is open", board.study, model_name(&board.model.source)), false);
            state.board = Some(board);
            state.compare.reset();
            state.inspect.reset();
            if reason == OpenReason::Open || state.screen == Screen::Study {
                show(state, Screen::Compare)
            } else {
                inspect::refreshed(state)
            }
        }
        OpenReason::Overlay => {
            state.tell(format!("study {} is laid over the comparison", board.study), false);
            state.overlays.retain(|overlay| overlay.study != board.study);
            state.overlays.push(board);
            Vec::new()
        }
        OpenReason::Refresh => {
            if let Some(shown) = state.board.as_mut().filter(|shown| shown.study == board.study) {
                shown.refresh(board);
            } else if state.board.is_none() {
                state.board = Some(board);
            }
            inspect::refreshed(state)
        }
    }
}
