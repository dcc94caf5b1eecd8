//! What the dashboard is told, and what it asks to be done for it.

use std::path::PathBuf;
use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};

use super::state::{Checked, Field, FormValues, Leave, Panel, StudyView};
use crate::engine::{Command, Event, Progress};
use crate::results::Answer;
use crate::scores::comparison::ModelComparison;
use crate::store::StudySummary;
use crate::study::StudySpec;

/// Something that happened; the only way in which the state changes.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Key(KeyEvent),
    /// The mouse was used, where that was asked for.
    Mouse(MouseEvent),
    Paste(String),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// Time has passed; since the start of the program.
    Tick(Duration),
    Engine(Event),
    Progress(Progress),
    /// The engine's channels have closed.
    EngineGone,
    Done(EffectOutcome),
    /// The process is asked to end: SIGTERM, SIGHUP, or the terminal is gone.
    Terminate {
        /// The terminal is gone: nothing can be shown any more.
        hangup: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum EffectOutcome {
    /// The studies of the store, the oldest first.
    Studies(Vec<StudySummary>),
    /// A study was read, for this purpose.
    Study(Box<StudyView>, OpenReason),
    /// Answers of a cell, or of the base (`None`).
    Answers {
        study: i64,
        cell: Option<String>,
        /// By task and record.
        answers: Vec<Answer>,
    },
    /// The study that the form defines can run.
    Checked {
        number: u64,
        plan: Box<Checked>,
    },
    /// It cannot, and this is why.
    Refused {
        number: u64,
        /// The field at fault, where one is.
        field: Option<Field>,
        message: String,
    },
    /// It needs something that is not in the cache; it is fetched when the study starts.
    Unknown {
        number: u64,
    },
    /// The study of the form is on its way to the engine.
    Started(Box<StudySpec>),
    Saved(Vec<PathBuf>),
    /// Two models were compared.
    Compared(Box<ModelComparison>),
    /// A study is gone from the store.
    Deleted(i64),
    /// An effect failed; the message says which.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenReason {
    Open,
    /// To be shown, unless the user has gone to another screen since the dashboard started.
    Start,
    /// To be overlaid on the one that is shown.
    Overlay,
    /// For its cells, one of which is to be exported.
    Export,
    /// To fill in what an event left out, or what another process has written since.
    Refresh,
}

/// Something to be done outside the state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    Engine(EngineOrder),
    /// Check whether the study of the form can run, and what it needs.
    Check {
        /// Number of the check, to tell late answers.
        number: u64,
        values: Box<FormValues>,
    },
    Start(Box<FormValues>),
    ListStudies,
    OpenStudy(i64, OpenReason),
    /// Read the answers of a cell, or of the base.
    LoadAnswers {
        study: i64,
        cell: Option<String>,
    },
    DeleteStudy(i64),
    /// Write a finished cell as a model folder.
    ExportModel {
        study: i64,
        cell: String,
        folder: PathBuf,
    },
    /// Save what is drawn, all of it or one panel, as SVG, PNG and text.
    Snapshot(Option<Panel>),
    /// Compare two models of a study, each the id of a cell or `base`.
    CompareTwo {
        study: i64,
        a: String,
        b: String,
    },
    /// Export the study that is shown as CSV, JSON and Markdown.
    ExportComparison,
    /// Give the terminal back and stop the process until it is continued.
    Suspend,
    Redraw,
    Leave(Leave),
}

/// A command for the engine, comparable and clonable.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "as the engine's commands")]
pub(crate) enum EngineOrder {
    Resume(i64),
    AddCell(crate::study::CellSpec),
    ExpectCells(bool),
    CancelCell(String),
    Reorder(Vec<String>),
    Pause,
    Unpause,
    Shutdown { after_block: bool },
}

impl From<EngineOrder> for Command {
    fn from(order: EngineOrder) -> Self {
        match order {
            EngineOrder::Resume(study) => Self::Resume(study, crate::engine::RunOptions::default()),
            EngineOrder::AddCell(cell) => Self::AddCell(cell),
            EngineOrder::ExpectCells(expects) => Self::ExpectCells(expects),
            EngineOrder::CancelCell(id) => Self::CancelCell(id),
            EngineOrder::Reorder(order) => Self::Reorder(order),
            EngineOrder::Pause => Self::Pause,
            EngineOrder::Unpause => Self::Unpause,
            EngineOrder::Shutdown { after_block } => Self::Shutdown { after_block },
        }
    }
}
