//! What keys and commands do that no screen does by itself.

use super::adding::takes_no_cells;
use crate::find::OpenRecipe;
use crate::methods::{Family, METHODS, Method};
use crate::methods::{USUAL_BITS, usual_format};
use crate::results::CellResult;
use crate::study::Parameters;
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EngineOrder};
use crate::tui::screens::{compare, history, inspect, run, show, study, toast_error};
use crate::tui::state::{
    Check, CommandPalette, Dialog, DialogAnswer, EngineState, Field, GridRow, Leave, LevelDialog, Line,
    QuestionDialog, RowRecipe, Screen, SearchDialog, State, StudyView, Wanted, model_name,
};

/// Does what a key or a command of the palette asks for.
pub(crate) fn act(state: &mut State, action: Action) -> Vec<Effect> {
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
        Action::ExportComparison if state.study_view.is_some() => vec![Effect::ExportComparison],
        Action::ExportComparison => toast_error(state, "no study is open: nothing to export"),
        Action::Suspend => vec![Effect::Suspend],
        Action::Redraw => vec![Effect::Redraw],
        Action::Quit => quit(state),
        Action::StartStudy => start(state),
        Action::AddCell => add_cell(state),
        Action::FindEdge => find_edge(state),
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
    if !state.engine.busy() {
        return vec![Effect::Leave(Leave::Now)];
    }
    let text = match state.engine.state {
        EngineState::Stopping => "The engine is stopping after the current block.",
        _ => "A study is running. Finished work is kept and can be resumed.",
    };
    let answers = [
        ('s', "stop after this block", DialogAnswer::StopAfterBlock),
        ('h', "continue without the screen", DialogAnswer::Headless),
        ('n', "stop now, discard this block", DialogAnswer::StopNow),
        ('b', "back", DialogAnswer::Back),
    ];
    state.dialogs.push(Dialog::Question(QuestionDialog {
        title: "Quit?".into(),
        text: vec![text.into(), "Press Ctrl-C again to quit at once.".into()],
        answers: answers.into_iter().map(|(key, text, answer)| (key, text.into(), answer)).collect(),
        chosen: 0,
        bad: false,
    }));
    Vec::new()
}

/// Starts the study of the form, unless something stands against it.
fn start(state: &mut State) -> Vec<Effect> {
    if state.options.readonly {
        return toast_error(state, "read-only: restart without --readonly to run studies");
    }
    match state.engine.state {
        EngineState::Gone => {
            return toast_error(state, "the engine has stopped: restart secateur to run a study");
        }
        EngineState::Idle => {}
        _ => {
            return toast_error(
                state,
                "a study is running: press a to add cells, or x on the Run screen to cancel one",
            );
        }
    }
    if let Some((field, message)) = state.form.obvious_fault() {
        return refuse(state, field, message);
    }
    if let Check::Refused { field, message } = state.form.check.clone() {
        return refuse(state, field, message);
    }
    if let (Some(open), true) = (state.open_study_of_another_model(), state.screen != Screen::Study) {
        let number = open.study;
        let own = model_name(state.form.get(Field::Model)).to_owned();
        let cells = state.form.cells().len();
        let plural = if cells == 1 { "cell" } else { "cells" };
        state.dialogs.push(Dialog::Question(QuestionDialog {
            title: "Start another study?".into(),
            text: vec![
                format!("On Study stands a study of {own}, {cells} {plural}."),
                format!("Study {number}, which is open, is of another model; a adds cells to it."),
            ],
            answers: vec![
                ('y', "start the one on Study".into(), DialogAnswer::Start),
                ('b', "back".into(), DialogAnswer::Back),
            ],
            chosen: 1,
            bad: false,
        }));
        return Vec::new();
    }
    start_now(state)
}

/// Starts the study of the form, which nothing stands against.
pub(super) fn start_now(state: &mut State) -> Vec<Effect> {
    state.engine.starting(state.now);
    state.screen = Screen::Run;
    vec![Effect::Start(Box::new(state.form.values()))]
}

/// Shows why a study cannot start, where it can be put right.
fn refuse(state: &mut State, field: Option<Field>, message: String) -> Vec<Effect> {
    state.screen = Screen::Study;
    state.form.focus_on(field);
    let place = field.map_or_else(String::new, |field| format!("{}: ", field.label()));
    state.toast(format!("cannot start: {place}{message}"), true);
    if let Some(toast) = &mut state.toast {
        toast.refuses_start = true;
    }
    state.form.check = Check::Refused { field, message };
    state.form.checked = state.form.version;
    Vec::new()
}

fn pause(state: &mut State) -> Vec<Effect> {
    if !state.engine.busy() {
        return toast_error(state, "nothing is running");
    }
    // The engine's next progress says the same; the screen need not wait for it.
    state.engine.progress.paused = !state.engine.progress.paused;
    let order = if state.engine.progress.paused { EngineOrder::Pause } else { EngineOrder::Unpause };
    vec![Effect::Engine(order)]
}

/// Asks for a cell to add: the slider stands where the comparison's cursor is.
fn add_cell(state: &mut State) -> Vec<Effect> {
    if let Some(why) = takes_no_cells(state) {
        return toast_error(state, why);
    }
    let Some(study_view) = &state.study_view else { return Vec::new() };
    let sets = calibration_sets(study_view, state);
    let plain = |method: &&dyn Method| GridRow::of_method(method.name(), &Parameters::new(), &sets);
    let rows: Vec<GridRow> = METHODS.iter().flat_map(plain).collect();
    let selected = state.selected_cell().and_then(|id| study_view.cell(&id));
    let row = selected
        .and_then(|cell| {
            let method = cell.spec.recipe.method();
            let same = |row: &GridRow| matches!(&row.recipe, RowRecipe::Method(name, _) if *name == method);
            rows.iter().position(|row| same(row) && row.set == cell.spec.calibration)
        })
        // The first that looks at data: what most people try.
        .or_else(|| rows.iter().position(|row| row.set.is_some()))
        .unwrap_or(0);
    let at = compare::cursor(state).or(selected.map(|cell| cell.spec.recipe.zeros() * 100.0));
    let percent = at.map_or(50, |at| at.round().clamp(0.0, 99.0) as u16);
    let seed = study_view.cells.first().map_or_else(|| state.form.seed(), |cell| cell.spec.seed);
    state.dialogs.push(Dialog::Level(LevelDialog {
        wanted: Wanted::Cell,
        family: Family::Prune,
        percent,
        bits: USUAL_BITS,
        format: usual_format(),
        line: Line::default(),
        rows,
        row,
        seed,
        fault: None,
    }));
    Vec::new()
}

/// Asks for a recipe and a bound: the recipe of the selected cell, where it has one level.
fn find_edge(state: &mut State) -> Vec<Effect> {
    if let Some(why) = takes_no_cells(state) {
        return toast_error(state, why);
    }
    let Some(study_view) = &state.study_view else { return Vec::new() };
    let selected = state.selected_cell().and_then(|id| study_view.cell(&id));
    let open = |cell: &CellResult| OpenRecipe::parse(&cell.spec.recipe.to_string()).ok();
    let recipe = selected.and_then(open).map_or_else(|| "wanda".to_owned(), |recipe| recipe.to_string());
    let seed = study_view.cells.first().map_or_else(|| state.form.seed(), |cell| cell.spec.seed);
    let mut asked = SearchDialog::new(&recipe, "js<=0.05", calibration_sets(study_view, state), seed);
    let own = selected.and_then(|cell| cell.spec.calibration.as_ref());
    asked.set = asked.sets.iter().position(|set| Some(set) == own).unwrap_or(0);
    state.dialogs.push(Dialog::Search(asked));
    Vec::new()
}

/// The calibration sets of a study, or those of the form.
fn calibration_sets(study_view: &StudyView, state: &State) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    let of_spec = study_view.spec.iter().flat_map(|spec| spec.calibration.sets.iter());
    for set in study_view.cells.iter().filter_map(|cell| cell.spec.calibration.as_ref()).chain(of_spec) {
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
