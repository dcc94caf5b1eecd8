//! The one way in which the state changes. Pure: what is to be done outside comes back as effects.

mod dialogs;
mod engine;
mod palette;
#[cfg(test)]
mod tests;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, MouseEvent, MouseEventKind};

use super::keymap::{self, Action, Key};
use super::message::{Effect, EngineOrder, Leave, Message, Outcome, Purpose};
use super::screens::{compare, history, inspect, run, study};
use super::state::{
    Board, Check, Dialog, DialogAnswer, EngineState, GridRow, Palette, Question, Screen, SparsityDialog,
    State, Wanted,
};
use super::view::parts;
use crate::methods::{METHODS, Method};
use crate::study::Parameters;

pub use palette::{commands, matching};

/// Takes a message in; returns what is to be done.
pub fn update(state: &mut State, message: Message) -> Vec<Effect> {
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
            state.live.progress = progress;
            Vec::new()
        }
        Message::EngineGone => engine::gone(state),
        Message::Done(outcome) => done(state, outcome),
        Message::Terminate { hangup } => terminate(state, hangup),
    }
}

/// What is to be done before the first key.
pub fn begin(state: &mut State) -> Vec<Effect> {
    let mut effects = vec![Effect::ListStudies];
    effects.extend(check(state));
    effects
}

fn key(state: &mut State, event: &KeyEvent) -> Vec<Effect> {
    let pressed = Key::of(event);
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
            return match super::view::tab_at(state, event.column) {
                Some(screen) => show(state, screen),
                None => Vec::new(),
            };
        }
        _ => return Vec::new(),
    };
    if state.dialogs.is_empty() { act(state, action) } else { Vec::new() }
}

/// Does what a key or a command of the palette asks for.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::Screen(number) => match Screen::ALL.get(number) {
            Some(&screen) => show(state, screen),
            None => Vec::new(),
        },
        Action::NextScreen => step_screen(state, 1),
        Action::PreviousScreen => step_screen(state, Screen::ALL.len() - 1),
        Action::Palette => {
            state.dialogs.push(Dialog::Palette(Palette::default()));
            Vec::new()
        }
        Action::Help => {
            state.dialogs.push(Dialog::Help(0));
            Vec::new()
        }
        Action::SaveScreen => vec![Effect::Snapshot(None)],
        Action::SavePanel => vec![Effect::Snapshot(Some(state.panel()))],
        Action::ExportComparison if state.board.is_some() => vec![Effect::ExportComparison],
        Action::ExportComparison => complain(state, "nothing to export: no study is open"),
        Action::Suspend => vec![Effect::Suspend],
        Action::Redraw => vec![Effect::Redraw],
        Action::Quit => quit(state),
        Action::StartStudy => start(state),
        Action::AddCell => add_cell(state),
        Action::Pause => pause(state),
        other => match state.screen {
            Screen::Study => study::act(state, other),
            Screen::Run => run::act(state, other),
            Screen::Compare => compare::act(state, other),
            Screen::Inspect => inspect::act(state, other),
            Screen::History => history::act(state, other),
        },
    }
}

/// Says why nothing was done.
pub fn complain(state: &mut State, why: &str) -> Vec<Effect> {
    state.tell(why, true);
    Vec::new()
}

/// Goes to a screen; it may need something read.
pub fn show(state: &mut State, screen: Screen) -> Vec<Effect> {
    state.screen = screen;
    match screen {
        Screen::Inspect => inspect::wanted(state),
        Screen::History => vec![Effect::ListStudies],
        _ => Vec::new(),
    }
}

fn step_screen(state: &mut State, by: usize) -> Vec<Effect> {
    let next = (state.screen.number() + by) % Screen::ALL.len();
    show(state, Screen::ALL[next])
}

fn quit(state: &mut State) -> Vec<Effect> {
    if !state.live.busy() {
        return vec![Effect::Leave(Leave::Now)];
    }
    let text = match state.live.engine {
        EngineState::Stopping => "The engine is stopping. Its block in hand will be kept.",
        _ => "A study is running. What is finished is kept, and can be resumed.",
    };
    let answers = [
        ('s', "stop after this block", DialogAnswer::StopAfterBlock),
        ('h', "go on without the screen", DialogAnswer::Headless),
        ('n', "stop now, lose this block", DialogAnswer::StopNow),
        ('b', "back", DialogAnswer::Back),
    ];
    state.dialogs.push(Dialog::Question(Question {
        title: "Leave?".into(),
        text: vec![text.into(), "Ctrl-C once more leaves at once.".into()],
        answers: answers.into_iter().map(|(key, text, answer)| (key, text.into(), answer)).collect(),
        chosen: 0,
        bad: false,
    }));
    Vec::new()
}

/// Starts the study of the form, unless something stands against it.
fn start(state: &mut State) -> Vec<Effect> {
    if state.options.readonly {
        return complain(state, "read-only: leave out --readonly to run studies");
    }
    match state.live.engine {
        EngineState::Gone => {
            return complain(state, "the engine has stopped: restart secateur to run a study");
        }
        EngineState::Idle => {}
        _ => {
            return complain(
                state,
                "a study is running: a adds cells to it, x cancels one on the run screen",
            );
        }
    }
    if let Some((field, message)) = state.form.obvious_fault() {
        return refuse(state, field, message);
    }
    if let Check::Refused { field, message } = state.form.check.clone() {
        return refuse(state, field, message);
    }
    state.live.starting(state.now);
    state.screen = Screen::Run;
    vec![Effect::Start(Box::new(state.form.values()))]
}

/// Shows why a study cannot start, where it can be put right.
fn refuse(state: &mut State, field: Option<super::state::Field>, message: String) -> Vec<Effect> {
    state.screen = Screen::Study;
    study::blame(state, field);
    let place = field.map_or_else(String::new, |field| format!("{}: ", field.label()));
    state.tell(format!("cannot start: {place}{message}"), true);
    state.form.check = Check::Refused { field, message };
    state.form.checked = state.form.version;
    Vec::new()
}

/// Has the study of the form looked at, when it has changed and nothing obvious is wrong with it.
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

fn pause(state: &mut State) -> Vec<Effect> {
    if !state.live.busy() {
        return complain(state, "nothing runs that could be paused");
    }
    // The engine's next progress says the same; the screen need not wait for it.
    state.live.progress.paused = !state.live.progress.paused;
    let order = if state.live.progress.paused { EngineOrder::Pause } else { EngineOrder::Unpause };
    vec![Effect::Engine(order)]
}

/// Asks for a cell to add: the slider stands where the comparison's cursor is.
fn add_cell(state: &mut State) -> Vec<Effect> {
    if state.options.readonly {
        return complain(state, "read-only: leave out --readonly to add cells");
    }
    if !state.board_is_live() || state.live.engine == EngineState::Gone {
        let why = "cells are added to the study that runs, or ran last: r starts one, R on History goes on with one";
        return complain(state, why);
    }
    let Some(board) = &state.board else { return Vec::new() };
    let sets = calibration_sets(board, state);
    let plain = |method: &&dyn Method| GridRow::of_method(method.name(), &Parameters::new(), &sets);
    let rows: Vec<GridRow> = METHODS.iter().flat_map(plain).collect();
    let selected = compare::selected(state).and_then(|id| board.cell(&id));
    let row = selected
        .and_then(|cell| {
            let own =
                |row: &GridRow| row.method == cell.spec.recipe.method() && row.set == cell.spec.calibration;
            rows.iter().position(own)
        })
        // The first that looks at data: what most people try.
        .or_else(|| rows.iter().position(|row| row.set.is_some()))
        .unwrap_or(0);
    let at = compare::cursor(state).or(selected.map(|cell| cell.spec.recipe.zeros() * 100.0));
    let percent = at.map_or(50, |at| at.round().clamp(0.0, 99.0) as u16);
    let seed = board.cells.first().map_or_else(|| state.form.seed(), |cell| cell.spec.seed);
    state.dialogs.push(Dialog::Sparsity(SparsityDialog {
        wanted: Wanted::Cell,
        percent,
        line: super::state::Line::default(),
        rows,
        row,
        seed,
        fault: None,
    }));
    Vec::new()
}

/// The calibration sets of a study, or those of the form.
fn calibration_sets(board: &Board, state: &State) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    let of_spec = board.spec.iter().flat_map(|spec| spec.calibration.sets.iter());
    for set in board.cells.iter().filter_map(|cell| cell.spec.calibration.as_ref()).chain(of_spec) {
        if !sets.contains(set) {
            sets.push(set.clone());
        }
    }
    if sets.is_empty() {
        sets = state.form.rows().into_iter().filter_map(|row| row.set).collect();
        sets.dedup();
    }
    sets
}

fn done(state: &mut State, outcome: Outcome) -> Vec<Effect> {
    match outcome {
        Outcome::Studies(studies) => {
            let mut recent: Vec<String> = Vec::new();
            for study in studies.iter().rev() {
                if !recent.contains(&study.model) {
                    recent.push(study.model.clone());
                }
            }
            state.form.recent = recent;
            let newest = studies.last().map(|study| study.id);
            let mut effects = history::listed(state, studies);
            // Who only looks is shown what there is to look at.
            if let (true, None, Some(study)) = (state.options.readonly, &state.board, newest) {
                effects.push(Effect::OpenStudy(study, Purpose::Refresh));
            }
            effects
        }
        Outcome::Study(board, purpose) => opened(state, *board, purpose),
        Outcome::Answers { study, cell, answers } => {
            let boards = state.board.iter_mut().chain(&mut state.overlays);
            for board in boards.filter(|board| board.study == study) {
                board.take_answers(cell.clone(), answers.clone());
            }
            Vec::new()
        }
        Outcome::Checked { number, plan } => {
            if number == state.form.version {
                state.form.check = Check::Fine(plan);
            }
            Vec::new()
        }
        Outcome::Refused { number, message } => {
            if number == state.form.version {
                let field = state.form.blame(&message);
                state.form.check = Check::Refused { field, message };
            }
            Vec::new()
        }
        Outcome::Unknown { number } => {
            if number == state.form.version {
                state.form.check = Check::Remote;
            }
            Vec::new()
        }
        Outcome::Started(spec) => {
            state.live.say(state.now, super::state::Level::Info, format!("starting: {}", spec.model));
            Vec::new()
        }
        Outcome::Saved(paths) => {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            state.tell(format!("saved {}", names.join(", ")), false);
            Vec::new()
        }
        Outcome::Deleted(study) => forget(state, study),
        Outcome::Failed(message) => {
            if state.live.engine == EngineState::Starting && state.live.study.is_none() {
                state.live.engine = EngineState::Idle;
            }
            state.live.say(state.now, super::state::Level::Error, message.clone());
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
fn opened(state: &mut State, board: Board, purpose: Purpose) -> Vec<Effect> {
    match purpose {
        Purpose::Open => {
            state.overlays.retain(|overlay| overlay.study != board.study);
            state.tell(
                format!("study {} of {} is open", board.study, parts::model(&board.model.source)),
                false,
            );
            state.board = Some(board);
            compare::reset(state);
            inspect::reset(state);
            show(state, Screen::Compare)
        }
        Purpose::Overlay => {
            state.tell(format!("study {} is laid over the comparison", board.study), false);
            state.overlays.retain(|overlay| overlay.study != board.study);
            state.overlays.push(board);
            Vec::new()
        }
        Purpose::Refresh => {
            if let Some(shown) = state.board.as_mut().filter(|shown| shown.study == board.study) {
                shown.refresh(board);
            } else if state.board.is_none() {
                state.board = Some(board);
            }
            inspect::refreshed(state)
        }
    }
}

/// The process is asked to end.
fn terminate(state: &mut State, hangup: bool) -> Vec<Effect> {
    if !state.live.busy() {
        return vec![Effect::Leave(Leave::Now)];
    }
    if state.options.keep_running {
        return vec![Effect::Leave(Leave::Headless)];
    }
    state.leaving = Some(Leave::Now);
    state.live.engine = EngineState::Stopping;
    if !hangup {
        state.tell("asked to end: stopping after the block in hand", false);
    }
    vec![Effect::Engine(EngineOrder::Shutdown { after_block: true })]
}
