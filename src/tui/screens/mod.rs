//! The five screens. Each knows what keys do on it (`update`) and how it is drawn (`draw`); neither knows the other.

pub mod compare;
pub mod history;
pub mod inspect;
pub mod run;
pub mod study;

use super::message::Effect;
use super::state::{Screen, State};

/// Goes to a screen; it may need something read.
pub fn show(state: &mut State, screen: Screen) -> Vec<Effect> {
    state.screen = screen;
    match screen {
        Screen::Inspect => inspect::wanted(state),
        Screen::History => vec![Effect::ListStudies],
        _ => Vec::new(),
    }
}

/// Says why nothing is done.
pub fn complain(state: &mut State, why: &str) -> Vec<Effect> {
    state.tell(why, true);
    Vec::new()
}
