//! Keys that go to the dialog in front.

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent};

use super::actions::{act, start_now};
use super::adding;
use super::edge;
use crate::tui::keymap::{self, Context};
use crate::tui::message::{Effect, EngineOrder};
use crate::tui::palette::{PaletteCommand, matching};
use crate::tui::screens::compare::optional_columns;
use crate::tui::screens::show;
use crate::tui::state::{
    Dialog, DialogAnswer, EngineState, Focus, Leave, LevelDialog, Screen, SearchDialog, State, Typed, Wanted,
};

/// Does what a key means to the dialog in front.
pub(crate) fn key(state: &mut State, event: &KeyEvent) -> Vec<Effect> {
    let Some(mut dialog) = state.dialogs.pop() else { return Vec::new() };
    // A dialog that stays is put back; what it does happens without it in the way.
    let (stays, effects) = match &mut dialog {
        Dialog::Help(scroll) => (scrolled(scroll, event, keymap::BINDINGS.len() + 20), Vec::new()),
        // No more lines than a record takes, for everything that there is.
        Dialog::Comparison(found, scroll) => {
            let most = 20 + found.scores.len() + found.flips.len() + 6 * found.records.len();
            (scrolled(scroll, event, most), Vec::new())
        }
        Dialog::RankCorrelations(scroll) => {
            // On a narrow screen every metric has the rows for itself.
            let lines = state.study_view.as_ref().map_or(0, |view| {
                let found = &view.rank_correlations;
                found.texts.len() * (found.tasks.len() + 6)
            });
            (scrolled(scroll, event, 20 + lines), Vec::new())
        }
        Dialog::Columns(chosen) => (columns(state, chosen, event), Vec::new()),
        Dialog::Palette(palette) => {
            let names = matching(palette.line.text());
            match event.code {
                KeyCode::Up => palette.chosen = palette.chosen.saturating_sub(1),
                KeyCode::Down => palette.chosen = (palette.chosen + 1).min(names.len().saturating_sub(1)),
                _ => match palette.line.key(event) {
                    Typed::Keep => {
                        return names
                            .get(palette.chosen)
                            .map_or_else(Vec::new, |command| run(state, *command));
                    }
                    Typed::Drop => return Vec::new(),
                    Typed::Changed => palette.chosen = 0,
                    Typed::Ignored => {}
                },
            }
            (true, Vec::new())
        }
        Dialog::Level(chooser) => level(state, chooser, event),
        Dialog::Question(question) => {
            let last = question.answers.len().saturating_sub(1);
            match event.code {
                KeyCode::Esc => return Vec::new(),
                KeyCode::Left | KeyCode::Up | KeyCode::BackTab => {
                    question.chosen = question.chosen.saturating_sub(1);
                }
                KeyCode::Right | KeyCode::Down | KeyCode::Tab => {
                    question.chosen = (question.chosen + 1).min(last);
                }
                KeyCode::Enter => {
                    let chosen = question.answers.get(question.chosen).map(|(_, _, answer)| *answer);
                    return chosen.map_or_else(Vec::new, |answer| decide(state, answer));
                }
                KeyCode::Char(c) => {
                    let found = question.answers.iter().find(|(key, ..)| *key == c.to_ascii_lowercase());
                    if let Some((_, _, answer)) = found {
                        return decide(state, *answer);
                    }
                }
                _ => {}
            }
            (true, Vec::new())
        }
        Dialog::Search(asked) => search(state, asked, event),
        Dialog::Prompt(prompt) => match event.code {
            KeyCode::Up => {
                prompt.choose(prompt.chosen.saturating_sub(1));
                (true, Vec::new())
            }
            KeyCode::Down => {
                prompt.choose(prompt.chosen + 1);
                (true, Vec::new())
            }
            _ => match prompt.line.key(event) {
                Typed::Keep if prompt.line.text().trim().is_empty() => (true, Vec::new()),
                Typed::Keep => {
                    let Some(cell) = prompt.cells.get(prompt.chosen).cloned() else { return Vec::new() };
                    let folder = PathBuf::from(prompt.line.text().trim());
                    state.toast(format!("exporting {cell} …"), false);
                    return vec![Effect::ExportModel { study: prompt.study, cell, folder }];
                }
                Typed::Drop => return Vec::new(),
                Typed::Changed | Typed::Ignored => (true, Vec::new()),
            },
        },
    };
    if stays {
        state.dialogs.push(dialog);
    }
    effects
}

/// Does what a command says, on the screen that it belongs to.
fn run(state: &mut State, command: PaletteCommand) -> Vec<Effect> {
    let screen = match command.context {
        Context::Everywhere => None,
        Context::Fields | Context::Grid => Some(Screen::Study),
        Context::Run => Some(Screen::Run),
        Context::Compare => Some(Screen::Compare),
        Context::Inspect => Some(Screen::Inspect),
        Context::History => Some(Screen::History),
    };
    let mut effects = screen.map_or_else(Vec::new, |screen| show(state, screen));
    match command.context {
        Context::Fields => state.form.focus = Focus::Fields,
        Context::Grid => state.form.focus = Focus::Grid,
        _ => {}
    }
    effects.extend(act(state, command.action));
    effects
}

/// Puts pasted text where the dialog has a line for it.
pub(crate) fn paste(dialog: &mut Dialog, text: &str) {
    match dialog {
        Dialog::Palette(palette) => palette.line.insert(text),
        Dialog::Level(chooser) => chooser.line.insert(text),
        Dialog::Prompt(prompt) => prompt.line.insert(text),
        Dialog::Search(asked) => asked.line().insert(text),
        Dialog::Help(_)
        | Dialog::Comparison(..)
        | Dialog::RankCorrelations(_)
        | Dialog::Columns(_)
        | Dialog::Question(_) => {}
    }
}

/// Scrolls what is only read, by `most` lines at most; `false` when it is to go.
fn scrolled(scroll: &mut usize, event: &KeyEvent, most: usize) -> bool {
    match event.code {
        KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => *scroll = scroll.saturating_add(1),
        KeyCode::PageUp => *scroll = scroll.saturating_sub(10),
        KeyCode::PageDown | KeyCode::Char(' ') => *scroll = scroll.saturating_add(10),
        KeyCode::Home | KeyCode::Char('g') => *scroll = 0,
        _ => return false,
    }
    // It can never be scrolled further than there are lines.
    *scroll = (*scroll).min(most);
    true
}

/// Chooses among the columns of the comparison; `false` when the dialog is to go.
fn columns(state: &mut State, chosen: &mut usize, event: &KeyEvent) -> bool {
    let columns = optional_columns(state);
    match event.code {
        KeyCode::Up | KeyCode::Char('k') => *chosen = chosen.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => *chosen += 1,
        KeyCode::Home | KeyCode::Char('g') => *chosen = 0,
        KeyCode::End | KeyCode::Char('G') => *chosen = usize::MAX,
        KeyCode::Char(' ') | KeyCode::Enter => {
            if let Some(column) = columns.get(*chosen) {
                state.compare.switch(*column);
            }
        }
        KeyCode::Char('A') => state.compare.hidden.clear(),
        _ => return false,
    }
    *chosen = (*chosen).min(columns.len().saturating_sub(1));
    true
}

fn level(state: &mut State, chooser: &mut LevelDialog, event: &KeyEvent) -> (bool, Vec<Effect>) {
    // What is part of a recipe that is being typed is no step of the slider.
    let typing = !chooser.line.text().is_empty();
    match event.code {
        KeyCode::Left if !typing => chooser.step(-5),
        KeyCode::Right if !typing => chooser.step(5),
        KeyCode::Tab => _ = chooser.complete(),
        KeyCode::Right if chooser.complete() => {}
        KeyCode::Char('-') if !typing => chooser.step(-1),
        KeyCode::Char('+' | '=') if !typing => chooser.step(1),
        KeyCode::Up => chooser.row = chooser.row.saturating_sub(1),
        KeyCode::Down => chooser.row = (chooser.row + 1).min(chooser.rows.len().saturating_sub(1)),
        _ => match chooser.line.key(event) {
            Typed::Drop => return (false, Vec::new()),
            Typed::Keep => return chosen(state, chooser),
            Typed::Changed | Typed::Ignored => chooser.fault = None,
        },
    }
    (true, Vec::new())
}

fn chosen(state: &mut State, chooser: &mut LevelDialog) -> (bool, Vec<Effect>) {
    match chooser.wanted {
        Wanted::Column => {
            let added = match chooser.recipe() {
                Some(recipe) => recipe.map(|recipe| state.form.add_recipe(&recipe)),
                None => chooser.level().map(|level| state.form.add_level(level)),
            };
            chooser.fault = added.err();
            (chooser.fault.is_some(), Vec::new())
        }
        Wanted::Cell => match chooser.cell() {
            Ok(cell) => {
                let Some(study_view) = &state.study_view else { return (false, Vec::new()) };
                let known = study_view.cell(&cell.id());
                if known.is_some_and(|known| known.state == crate::results::CellState::Done) {
                    chooser.fault = Some(format!("{} is already done", cell.label()));
                    return (true, Vec::new());
                }
                state.toast(format!("{} is queued", cell.label()), false);
                (false, adding::add(state, cell))
            }
            Err(fault) => {
                chooser.fault = Some(fault);
                (true, Vec::new())
            }
        },
    }
}

fn search(state: &mut State, asked: &mut SearchDialog, event: &KeyEvent) -> (bool, Vec<Effect>) {
    match event.code {
        KeyCode::Up | KeyCode::Down => asked.at_bound = !asked.at_bound,
        KeyCode::Tab => asked.next_set(),
        _ => match asked.key(event) {
            Typed::Drop => return (false, Vec::new()),
            Typed::Keep => match asked.search() {
                Ok(search) => return (false, edge::begin(state, search)),
                Err(fault) => asked.fault = Some(fault),
            },
            Typed::Changed | Typed::Ignored => {}
        },
    }
    (true, Vec::new())
}

fn decide(state: &mut State, answer: DialogAnswer) -> Vec<Effect> {
    match answer {
        DialogAnswer::Back => Vec::new(),
        DialogAnswer::Headless => vec![Effect::Leave(Leave::Headless)],
        DialogAnswer::Start => start_now(state),
        DialogAnswer::Delete(study) => vec![Effect::DeleteStudy(study)],
        DialogAnswer::StopAfterBlock | DialogAnswer::StopNow => {
            state.leaving = Some(Leave::Now);
            state.engine.state = EngineState::Stopping;
            let after_block = answer == DialogAnswer::StopAfterBlock;
            let when = if after_block { "after the current block" } else { "at once" };
            state.toast(format!("stopping {when}, then quitting"), false);
            vec![Effect::Engine(EngineOrder::Shutdown { after_block })]
        }
    }
}
