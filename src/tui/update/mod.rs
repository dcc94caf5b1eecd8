//! The one way in which the state changes. Pure: what is to be done outside comes back as effects.

mod actions;
mod adding;
mod dialogs;
mod edge;
mod engine;
mod outcomes;
#[cfg(test)]
mod tests;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, MouseEvent, MouseEventKind};

use super::keymap::{self, Action, KeyPress};
use super::message::{Effect, EngineOrder, Message};
use super::screens::{compare, show, study};
use super::state::{Check, EngineState, Leave, Screen, State};
use super::tabs::tab_at;
use actions::act;

/// Takes a message in; returns what is to be done.
pub(crate) fn update(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Key(event) if event.kind != KeyEventKind::Release => key(state, &event),
        Message::Key(_) => Vec::new(),
        Message::Mouse(event) => mouse(state, event),
        Message::Paste(text) => paste(state, &text),
        Message::Resize(columns, rows) => {
            state.size = (columns, rows);
            Vec::new()
        }
        Message::Tick(now) => {
            state.now = now;
            if state.toast.as_ref().is_some_and(|toast| toast.until <= now) {
                state.toast = None;
            }
            check(state)
        }
        Message::Engine(event) => engine::event(state, &event),
        Message::Progress(progress) => {
            state.engine.progress = progress;
            Vec::new()
        }
        Message::EngineGone => engine::gone(state),
        Message::Done(outcome) => outcomes::done(state, outcome),
        Message::Terminate { hangup } => terminate(state, hangup),
    }
}

/// What is to be done before the first key.
pub(crate) fn begin(state: &mut State) -> Vec<Effect> {
    let mut effects = vec![Effect::ListStudies];
    effects.extend(check(state));
    effects
}

fn key(state: &mut State, event: &KeyEvent) -> Vec<Effect> {
    let pressed = KeyPress::of(event);
    let interrupt = pressed.ctrl && pressed.code == KeyCode::Char('c');
    if interrupt && std::mem::replace(&mut state.interrupted, true) {
        return vec![Effect::Leave(Leave::Abandon)];
    }
    state.interrupted = interrupt;
    if interrupt {
        state.dialogs.clear();
        return act(state, Action::Quit);
    }
    if !state.dialogs.is_empty() {
        return dialogs::key(state, event);
    }
    if let Some(effects) = typing(state, event) {
        return effects;
    }
    match keymap::action(state.context(), pressed) {
        Some(action) => act(state, action),
        None => Vec::new(),
    }
}

/// Keys that go into a line of text on the screen itself.
fn typing(state: &mut State, event: &KeyEvent) -> Option<Vec<Effect>> {
    match state.screen {
        Screen::Study => study::typing(state, event),
        Screen::Compare => compare::typing(state, event),
        _ => None,
    }
}

fn paste(state: &mut State, text: &str) -> Vec<Effect> {
    if let Some(dialog) = state.dialogs.last_mut() {
        dialogs::paste(dialog, text);
    } else if let (Screen::Study, Some(line)) = (state.screen, &mut state.form.editing) {
        line.insert(text);
    } else if let (Screen::Compare, Some(line)) = (state.screen, &mut state.compare.typing) {
        line.insert(text);
    }
    Vec::new()
}

fn mouse(state: &mut State, event: MouseEvent) -> Vec<Effect> {
    let action = match event.kind {
        MouseEventKind::ScrollUp => Action::Up,
        MouseEventKind::ScrollDown => Action::Down,
        MouseEventKind::Down(_) if event.row == 0 => {
            return match tab_at(state.screen, event.column) {
                Some(screen) => show(state, screen),
                None => Vec::new(),
            };
        }
        _ => return Vec::new(),
    };
    if state.dialogs.is_empty() { act(state, action) } else { Vec::new() }
}

/// Has the study of the form checked, when it has changed and nothing obvious is wrong with it.
fn check(state: &mut State) -> Vec<Effect> {
    let form = &mut state.form;
    if form.checked == form.version || form.editing.is_some() {
        return Vec::new();
    }
    form.checked = form.version;
    if state.options.readonly {
        return Vec::new();
    }
    if let Some((field, message)) = form.obvious_fault() {
        form.check = Check::Refused { field, message };
        return Vec::new();
    }
    form.check = Check::Pending;
    vec![Effect::Check { number: form.version, values: Box::new(form.values()) }]
}

fn terminate(state: &mut State, hangup: bool) -> Vec<Effect> {
    if !state.engine.busy() {
        return vec![Effect::Leave(Leave::Now)];
    }
    if state.options.keep_running {
        return vec![Effect::Leave(Leave::Headless)];
    }
    state.leaving = Some(Leave::Now);
    state.engine.state = EngineState::Stopping;
    if !hangup {
        state.toast("termination requested: stopping after the current block", false);
    }
    vec![Effect::Engine(EngineOrder::Shutdown { after_block: true })]
}
