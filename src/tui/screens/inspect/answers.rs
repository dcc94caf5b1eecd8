//! Which answers have to be read.

use super::rows;
use crate::results::CellState;
use crate::tui::message::Effect;
use crate::tui::state::{Screen, State};

/// Answers that are shown and have not been read yet. They are asked for once, and once more when a cell that was
/// still at work, or had stopped, is done.
pub(crate) fn wanted(state: &mut State) -> Vec<Effect> {
    let (Some(study_view), false) = (&state.study_view, state.inspect.modules) else { return Vec::new() };
    let study = study_view.study;
    let right = rows::right(state).map(|cell| Some(cell.id.clone()));
    let sides = [rows::left(state).map(str::to_owned)].into_iter().chain(right);
    let lacking: Vec<_> = sides
        .filter_map(|side| {
            let now = rows::state_of(study_view, side.as_deref());
            let asked = state.inspect.asked.get(&(study, side.clone()));
            (asked != Some(&now) && rows::misses_answers(study_view, side.as_deref())).then_some((side, now))
        })
        .collect();
    let ask = |(cell, now): (Option<String>, CellState)| {
        state.inspect.asked.insert((study, cell.clone()), now);
        Effect::LoadAnswers { study, cell }
    };
    lacking.into_iter().map(ask).collect()
}

/// The study was read again: where another process runs it, its cells may have given more answers.
pub(crate) fn refreshed(state: &mut State) -> Vec<Effect> {
    if !state.shows_engine_study() {
        state.inspect.asked.retain(|_, asked| *asked == CellState::Done);
    }
    if state.screen == Screen::Inspect { wanted(state) } else { Vec::new() }
}
