//! What keys and commands do that no screen does by itself.

use crate::methods::{METHODS, Method};
use crate::study::Parameters;
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EngineOrder};
use crate::tui::screens::{compare, complain, history, inspect, run, show, study};
use crate::tui::state::{
    Board, Check, CommandPalette, Dialog, DialogAnswer, EngineState, Field, GridRow, Leave, Line,
    QuestionDialog, Screen, SparsityDialog, State, Wanted,
};

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
            state.dialogs.push(Dialog::Palette(CommandPalette::default()));
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
    state.dialogs.push(Dialog::Question(QuestionDialog {
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
fn refuse(state: &mut State, field: Option<Field>, message: String) -> Vec<Effect> {
    state.screen = Screen::Study;
    state.form.focus_on(field);
    let place = field.map_or_else(String::new, |field| format!("{}: ", field.label()));
    state.tell(format!("cannot start: {place}{message}"), true);
    state.form.check = Check::Refused { field, message };
    state.form.checked = state.form.version;
    Vec::new()
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
    let selected = state.selected_cell().and_then(|id| board.cell(&id));
    let row = selected
        .and_then(|cell| {
            let method = cell.spec.recipe.method();
            rows.iter().position(|row| row.method == method && row.set == cell.spec.calibration)
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
        line: Line::default(),
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
