//! All that the dashboard knows. Changed by [`super::update`] alone, drawn by [`super::view`].

mod areas;
mod compare;
mod dialog;
mod engine_view;
mod field;
mod form;
mod grid;
mod history;
mod inspect;
mod line;
mod run;
mod screen;
mod search;
mod study_view;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use areas::ScreenAreas;
pub(crate) use compare::{ChartedScore, CompareChoices, CompareView, RowKey, SortBy, XQuantity};
pub(crate) use dialog::{CommandPalette, Dialog, DialogAnswer, LevelDialog, Prompt, QuestionDialog, Wanted};
pub(crate) use engine_view::{EngineState, EngineView, LogLevel};
pub(crate) use field::{Field, FieldKind};
pub(crate) use form::{Check, Checked, Focus, Form, FormValues};
pub(crate) use grid::{GridRow, GridSection, RowRecipe};
pub(crate) use history::HistoryView;
pub(crate) use inspect::{InspectView, Pane, RecordFilter, RecordOrder};
pub(crate) use line::{Line, Typed};
pub(crate) use run::RunView;
pub(crate) use screen::{Panel, Screen};
pub(crate) use search::SearchDialog;
pub(crate) use study_view::{StudyView, model_name};

use super::keymap::Context;
use super::theme::Theme;
use crate::find::EdgeSearch;
use crate::results::CellState;
use crate::study::{CellSpec, StudySpec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The engine is idle or has stopped: end.
    Now,
    /// Keep computing without a screen.
    Headless,
    Abandon,
}

/// What was decided when the dashboard was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Options {
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
pub(crate) struct Toast {
    pub text: String,
    pub bad: bool,
    /// It says what of the form stands in the way of a start.
    pub refuses_start: bool,
    /// When it goes, since the start of the program.
    pub until: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub options: Options,
    pub theme: Theme,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Time since the start of the program.
    pub now: Duration,
    pub screen: Screen,
    /// The study that is defined on the study screen.
    pub form: Form,
    /// The study that is shown on the other screens.
    pub study_view: Option<StudyView>,
    /// Studies that are overlaid on it in the comparison.
    pub overlays: Vec<StudyView>,
    pub engine: EngineView,
    pub run: RunView,
    pub compare: CompareView,
    pub inspect: InspectView,
    pub history: HistoryView,
    /// What stands in front of the screen; the last takes the keys.
    pub dialogs: Vec<Dialog>,
    pub toast: Option<Toast>,
    /// The screen is to be left when the engine has stopped.
    pub leaving: Option<Leave>,
    /// Ctrl-C was the last key.
    pub interrupted: bool,
    /// Looks for the edge among levels of the study that the engine runs.
    pub edge: Option<EdgeSearch>,
    /// Cells for the study that is shown, once the engine has taken it up.
    pub added: Vec<CellSpec>,
}

impl State {
    /// A dashboard that shows `spec` and has done nothing yet.
    pub(crate) fn new(spec: &StudySpec, options: Options, theme: Theme, size: (u16, u16)) -> Self {
        Self {
            options,
            theme,
            size,
            now: Duration::ZERO,
            screen: Screen::default(),
            form: Form::new(spec),
            study_view: None,
            overlays: Vec::new(),
            engine: EngineView::default(),
            run: RunView::default(),
            compare: CompareView::default(),
            inspect: InspectView::default(),
            history: HistoryView::default(),
            dialogs: Vec::new(),
            toast: None,
            leaving: None,
            interrupted: false,
            edge: None,
            added: Vec::new(),
        }
    }

    /// Where the keys have their meaning now.
    pub(crate) fn context(&self) -> Context {
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

    /// Whether the study that is shown is the one that the engine runs, or ran last.
    pub(crate) fn shows_engine_study(&self) -> bool {
        self.study_view.as_ref().is_some_and(|study_view| Some(study_view.study) == self.engine.study)
    }

    /// The study that is open, where it is of another model than the settings on Study.
    pub(crate) fn open_study_of_another_model(&self) -> Option<&StudyView> {
        let own = model_name(self.form.get(Field::Model));
        self.study_view.as_ref().filter(|open| !own.is_empty() && model_name(&open.model.source) != own)
    }

    /// Id of the cell that is selected on the compare screen; `None` for the base, a cell of an overlay, or no selection.
    pub(crate) fn selected_cell(&self) -> Option<String> {
        let study_view = self.study_view.as_ref()?;
        let key = self.compare.selected.as_ref().filter(|key| key.study == study_view.study)?;
        key.cell.clone().filter(|id| study_view.cell(id).is_some())
    }

    /// The part of the screen that is in focus.
    pub(crate) fn panel(&self) -> Panel {
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

    /// Takes note of a cell that the engine is about to be asked for.
    pub(crate) fn queue(&mut self, cell: &CellSpec) {
        let Some(study_view) = self.study_view.as_mut() else { return };
        let id = cell.id();
        if study_view.cell(&id).is_some_and(|known| known.state == CellState::Done) {
            return;
        }
        study_view.add(cell);
        if !self.engine.queue.contains(&id) {
            self.engine.queue.push(id);
        }
        if self.engine.state == EngineState::Idle {
            self.engine.state = EngineState::Running;
            self.engine.started = Some(self.now);
            self.engine.ended = None;
        }
    }

    /// Shows a short message for a few seconds.
    pub(crate) fn toast(&mut self, text: impl Into<String>, bad: bool) {
        let seconds = if bad { 8 } else { 4 };
        let until = self.now + Duration::from_secs(seconds);
        self.toast = Some(Toast { text: text.into(), bad, refuses_start: false, until });
    }

    /// Whether something on the screen changes by itself as time passes.
    pub(crate) fn moves(&self) -> bool {
        self.engine.busy() || self.toast.is_some() || self.form.checked != self.form.version
    }
}
