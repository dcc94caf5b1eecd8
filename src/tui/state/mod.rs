//! All that the dashboard knows. Changed by [`super::update`] alone, drawn by [`super::view`].

mod areas;
mod board;
mod compare;
mod dialog;
mod field;
mod form;
mod history;
mod inspect;
mod line;
mod live;
mod run;
mod screen;

use std::path::PathBuf;
use std::time::Duration;

pub use areas::ScreenAreas;
pub use board::{Board, model_name};
pub use compare::{ChartedScore, CompareView, RowKey, SortBy};
pub use dialog::{CommandPalette, Dialog, DialogAnswer, Prompt, QuestionDialog, SparsityDialog, Wanted};
pub use field::{Field, FieldKind};
pub use form::{Check, Checked, Focus, Form, FormValues, Grid, GridRow};
pub use history::HistoryView;
pub use inspect::{InspectView, Pane};
pub use line::{Line, Typed};
pub use live::{EngineState, Live, LogLevel, LogLine};
pub use run::RunView;
pub use screen::{Panel, Screen};

use super::keymap::Context;
use super::theme::Theme;
use crate::study::StudySpec;

/// How the screen is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The engine is idle or has stopped: end.
    Now,
    /// Keep computing without a screen.
    Headless,
    /// Whatever the engine is doing.
    Abandon,
}

/// What was decided when the dashboard was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The results database.
    pub store: PathBuf,
    /// Only look; another process may be running the study.
    pub readonly: bool,
    /// Go on without a screen when the terminal goes away.
    pub keep_running: bool,
    /// Open the newest study of the store, if it has one when the dashboard starts.
    pub open_newest: bool,
}

/// A short message at the foot of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toast {
    /// What it says.
    pub text: String,
    /// It tells of something bad.
    pub bad: bool,
    /// When it goes, since the start of the program.
    pub until: Duration,
}

/// The dashboard.
#[derive(Debug, Clone)]
pub struct State {
    /// What was decided at the start.
    pub options: Options,
    /// Colours and symbols.
    pub theme: Theme,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Time since the start of the program.
    pub now: Duration,
    /// The screen that is shown.
    pub screen: Screen,
    /// The study that is defined on the study screen.
    pub form: Form,
    /// The study that is shown on the other screens.
    pub board: Option<Board>,
    /// Studies that are laid over it in the comparison.
    pub overlays: Vec<Board>,
    /// What the engine is doing.
    pub live: Live,
    /// The run screen's own.
    pub run: RunView,
    /// The compare screen's own.
    pub compare: CompareView,
    /// The inspect screen's own.
    pub inspect: InspectView,
    /// The history screen's own.
    pub history: HistoryView,
    /// What stands in front of the screen; the last takes the keys.
    pub dialogs: Vec<Dialog>,
    /// A short message.
    pub toast: Option<Toast>,
    /// The screen is to be left when the engine has stopped.
    pub leaving: Option<Leave>,
    /// Ctrl-C was the last key.
    pub interrupted: bool,
}

impl State {
    /// A dashboard that shows `spec` and has done nothing yet.
    pub fn new(spec: &StudySpec, options: Options, theme: Theme, size: (u16, u16)) -> Self {
        Self {
            options,
            theme,
            size,
            now: Duration::ZERO,
            screen: Screen::default(),
            form: Form::new(spec),
            board: None,
            overlays: Vec::new(),
            live: Live::default(),
            run: RunView::default(),
            compare: CompareView::default(),
            inspect: InspectView::default(),
            history: HistoryView::default(),
            dialogs: Vec::new(),
            toast: None,
            leaving: None,
            interrupted: false,
        }
    }

    /// Where the keys have their meaning now.
    pub fn context(&self) -> Context {
        match self.screen {
            Screen::Study => match self.form.focus {
                Focus::Fields => Context::Fields,
                Focus::Grid => Context::Grid,
            },
            Screen::Run => Context::Run,
            Screen::Compare => Context::Compare,
            Screen::Inspect => Context::Inspect,
            Screen::History => Context::History,
        }
    }

    /// Whether the study that is shown is the one that the engine has in hand.
    pub fn board_is_live(&self) -> bool {
        self.board.as_ref().is_some_and(|board| Some(board.study) == self.live.study)
    }

    /// Id of the cell that is selected on the compare screen; `None` for the base, a cell of an overlay, or no selection.
    pub fn selected_cell(&self) -> Option<String> {
        let board = self.board.as_ref()?;
        let key = self.compare.selected.as_ref().filter(|key| key.study == board.study)?;
        key.cell.clone().filter(|id| board.cell(id).is_some())
    }

    /// The part of the screen that is in focus.
    pub fn panel(&self) -> Panel {
        match self.screen {
            Screen::Study => match self.form.focus {
                Focus::Fields => Panel::Fields,
                Focus::Grid => Panel::Grid,
            },
            Screen::Run => Panel::Map,
            Screen::Compare => self.compare.panel,
            Screen::Inspect => self.inspect.panel(),
            Screen::History => Panel::Studies,
        }
    }

    /// Shows a short message for a few seconds.
    pub fn tell(&mut self, text: impl Into<String>, bad: bool) {
        let seconds = if bad { 8 } else { 4 };
        self.toast = Some(Toast { text: text.into(), bad, until: self.now + Duration::from_secs(seconds) });
    }

    /// Whether something on the screen changes by itself as time passes.
    pub fn moves(&self) -> bool {
        self.live.busy() || self.toast.is_some() || self.form.checked != self.form.version
    }
}
