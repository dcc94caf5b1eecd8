//! The five screens. Each knows what keys do on it (`update`) and how it is drawn (`draw`); neither knows the other.

pub(crate) mod compare;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod run;
pub(crate) mod study;

use super::message::Effect;
use super::state::{Screen, State};

/// Goes to a screen; it may need something read.
pub(crate) fn show(state: &mut State, screen: Screen) -> Vec<Effect> {
    state.screen = screen;
    match screen {
        Screen::Inspect => inspect::wanted(state),
        Screen::History => vec![Effect::ListStudies],
        _ => Vec::new(),
    }
}

pub(crate) fn toast_error(state: &mut State, why: &str) -> Vec<Effect> {
    state.toast(why, true);
    Vec::new()
}
