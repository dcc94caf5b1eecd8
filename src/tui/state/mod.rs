//! All that the dashboard knows. Changed by [`super::update`] alone, drawn by [`super::view`].

mod board;
mod dialog;
mod form;
mod line;
mod live;

use std::path::PathBuf;
use std::time::Duration;

pub use board::Board;
pub use dialog::{Answer as DialogAnswer, Dialog, Palette, Prompt, Question, SparsityDialog, Wanted};
pub use form::{Check, Field, Focus, Form, FormValues, Grid, GridRow, Kind};
pub use line::{Line, Typed};
pub use live::{EngineState, Level, Live, LogLine};

use super::keymap::Context;
use super::message::Leave;
use super::screens::compare::CompareView;
use super::screens::history::HistoryView;
use super::screens::inspect::InspectView;
use super::screens::run::RunView;
use super::theme::Theme;
use crate::study::StudySpec;

/// One of the five screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "named on screen as here")]
pub enum Screen {
    #[default]
    Study,
    Run,
    Compare,
    Inspect,
    History,
}

impl Screen {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Study, Self::Run, Self::Compare, Self::Inspect, Self::History];

    /// Its name on screen and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Study => "Study",
            Self::Run => "Run",
            Self::Compare => "Compare",
            Self::Inspect => "Inspect",
            Self::History => "History",
        }
    }

    /// Its place among all.
    pub fn number(self) -> usize {
        self as usize
    }
}

/// A part of a screen that can be saved alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the parts are named as on screen")]
pub enum Panel {
    Fields,
    Grid,
    Queue,
    Map,
    Machine,
    Log,
    Perplexity,
    Divergence,
    Scores,
    Table,
    Prompts,
    Answers,
    Modules,
    Studies,
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
