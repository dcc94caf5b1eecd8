//! `secateur snapshot`: a screen as a picture, without a terminal.

use std::path::Path;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::message::{Effect, EffectOutcome, Message, OpenReason};
use super::screens::show;
use super::snapshot;
use super::state::{Options, Screen, State, StudyView};
use super::theme::{Background, ColorMode, Theme, has_unicode};
use super::update::update;
use super::view::view;
use crate::cli::{Colors, Ground, LookArgs, ScreenName, SnapshotArgs};
use crate::commands;
use crate::config::Basics;
use crate::error::{Error, Result};
use crate::store::Store;

/// The theme that the flags ask for; what they leave open is as `env` says.
pub fn theme(look: &LookArgs, env: &dyn Fn(&str) -> Option<String>) -> Theme {
    let mode = match look.colors {
        Colors::Auto => ColorMode::detect(env),
        Colors::Truecolor => ColorMode::TrueColor,
        Colors::Ansi256 => ColorMode::Ansi256,
        Colors::Ansi16 => ColorMode::Ansi16,
        Colors::None => ColorMode::None,
    };
    let background = match look.background {
        Ground::Auto => Background::detect(env),
        Ground::Dark => Background::Dark,
        Ground::Light => Background::Light,
    };
    Theme::new(mode, background, look.ascii.unwrap_or_else(|| !has_unicode(env)))
}

/// The value of a variable of the environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Draws a screen of a stored study into a file; returns what to say about it.
///
/// # Errors
/// [`Error::Mistake`] for a size, file or study that cannot be.
pub fn take(config: Option<&Path>, args: &SnapshotArgs) -> Result<String> {
    let size = size(&args.size)?;
    snapshot::PictureFormat::from_path(&args.out)?;
    let basics = Basics::load(config, &args.settings.given)?;
    let store = Store::open_read_only(&basics.store)?;
    let study = args.study.map_or_else(|| commands::newest(&store), Ok)?;
    // A picture is taken for people, whatever this process's terminal can show.
    let colors = if args.look.colors == Colors::Auto { Colors::Truecolor } else { args.look.colors };
    let theme = theme(&LookArgs { colors, ..args.look.clone() }, &|_| None);
    let record = store.study(study)?;
    let options = Options { store: basics.store, readonly: true, ..Options::default() };
    let mut state = State::new(&record.spec, options, theme, size);
    let mut desk = Desk { store: &store, state: &mut state };
    desk.message(Message::Done(EffectOutcome::Studies(store.studies()?)))?;
    desk.message(Message::Done(EffectOutcome::Study(
        Box::new(StudyView::of_store(&store, study)?),
        OpenReason::Open,
    )))?;
    if let Some(cell) = args.cell.as_deref().map(str::to_owned).or_else(|| last_done(desk.state)) {
        let study_view = desk.state.study_view.as_ref();
        let Some(at) =
            study_view.and_then(|study_view| study_view.cells.iter().position(|known| known.id == cell))
        else {
            return Err(Error::mistake(format!("--cell {cell}: study {study} has no such cell")));
        };
        desk.state.run.chosen = Some(at + 1);
        desk.state.inspect.choose(&cell);
    }
    let screen = match args.screen {
        ScreenName::Study => Screen::Study,
        ScreenName::Run => Screen::Run,
        ScreenName::Compare => Screen::Compare,
        ScreenName::Inspect => Screen::Inspect,
        ScreenName::History => Screen::History,
    };
    let effects = show(desk.state, screen);
    desk.perform(effects)?;
    for key in args.keys.chars() {
        desk.message(Message::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)))?;
    }
    state.toast = None;
    let area = Rect::new(0, 0, size.0, size.1);
    let mut buffer = Buffer::empty(area);
    view(&state, area, &mut buffer);
    snapshot::save(&args.out, &buffer, &theme)?;
    Ok(format!("{} of study {study} drawn into {}", screen.name(), args.out.display()))
}

/// A state whose effects are done at once, as far as a picture needs them.
struct Desk<'a> {
    store: &'a Store,
    state: &'a mut State,
}

impl Desk<'_> {
    fn message(&mut self, message: Message) -> Result<()> {
        let effects = update(self.state, message);
        self.perform(effects)
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Result<()> {
        for effect in effects {
            if let Effect::LoadAnswers { study, cell } = effect {
                let answers = self.store.answers(study, cell.as_deref())?;
                self.message(Message::Done(EffectOutcome::Answers { study, cell, answers }))?;
            }
        }
        Ok(())
    }
}

/// The cell that was finished last.
fn last_done(state: &State) -> Option<String> {
    let done = |cell: &&crate::results::CellResult| cell.state == crate::results::CellState::Done;
    Some(state.study_view.as_ref()?.cells.iter().rev().find(done)?.id.clone())
}

/// Columns and rows as they are typed: `160x48`.
fn size(text: &str) -> Result<(u16, u16)> {
    let ends = text.split_once(['x', 'X']).and_then(|(columns, rows)| {
        let size: (u16, u16) = (columns.trim().parse().ok()?, rows.trim().parse().ok()?);
        // Beyond this a picture is of no use, and takes gigabytes.
        ((1..=1000).contains(&size.0) && (1..=1000).contains(&size.1)).then_some(size)
    });
    ends.ok_or_else(|| {
        Error::mistake(format!("--size {text}: accepted are columns and rows from 1 to 1000, such as 160x48"))
    })
}
