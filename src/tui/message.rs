//! What the dashboard is told, and what it asks to be done for it.

use std::path::PathBuf;
use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};

use super::state::{Board, Checked, Field, FormValues, Leave, Panel};
use crate::engine::{Command, Event, Progress};
use crate::results::Answer;
use crate::store::StudySummary;
use crate::study::StudySpec;

/// Something that happened; the only way in which the state changes.
#[derive(Debug, Clone)]
pub enum Message {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse was used, where that was asked for.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// Time has passed; since the start of the program.
    Tick(Duration),
    /// The engine says so.
    Engine(Event),
    /// The engine's latest progress.
    Progress(Progress),
    /// The engine's channels have closed.
    EngineGone,
    /// An [`Effect`] is done.
    Done(EffectOutcome),
    /// The process is asked to end: SIGTERM, SIGHUP, or the terminal is gone.
    Terminate {
        /// The terminal is gone: nothing can be shown any more.
        hangup: bool,
    },
}

/// What an effect came to.
#[derive(Debug, Clone)]
pub enum EffectOutcome {
    /// The studies of the store, the oldest first.
    Studies(Vec<StudySummary>),
    /// A study was read, for this purpose.
    Study(Box<Board>, OpenReason),
    /// Answers of a cell, or of the base (`None`).
    Answers {
        /// Number of the study.
        study: i64,
        /// Id of the cell.
        cell: Option<String>,
        /// By task and record.
        answers: Vec<Answer>,
    },
    /// The study that the form defines can run.
    Checked {
        /// Which check this answers.
        number: u64,
        /// What it would need.
        plan: Box<Checked>,
    },
    /// It cannot, and this is why.
    Refused {
        /// Which check this answers.
        number: u64,
        /// The field at fault, where one is.
        field: Option<Field>,
        /// Why, and what is accepted.
        message: String,
    },
    /// It needs something that is not in the cache; it is fetched when the study starts.
    Unknown {
        /// Which check this answers.
        number: u64,
    },
    /// The study of the form is on its way to the engine.
    Started(Box<StudySpec>),
    /// Files were written.
    Saved(Vec<PathBuf>),
    /// A study is gone from the store.
    Deleted(i64),
    /// An effect failed; the message says which.
    Failed(String),
}

/// What a study was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenReason {
    /// To be shown.
    Open,
    /// To be shown, unless the user has gone to another screen since the dashboard started.
    Start,
    /// To be laid over the one that is shown.
    Overlay,
    /// To fill in what an event left out, or what another process has written since.
    Refresh,
}

/// Something to be done outside the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell the engine.
    Engine(EngineOrder),
    /// Check whether the study of the form can run, and what it needs.
    Check {
        /// Number of the check, to tell late answers.
        number: u64,
        /// The form's values.
        values: Box<FormValues>,
    },
    /// Run the study of the form.
    Start(Box<FormValues>),
    /// Read the list of studies.
    ListStudies,
    /// Read a study.
    OpenStudy(i64, OpenReason),
    /// Read the answers of a cell, or of the base.
    LoadAnswers {
        /// Number of the study.
        study: i64,
        /// Id of the cell.
        cell: Option<String>,
    },
    /// Delete a study from the store.
    DeleteStudy(i64),
    /// Write a finished cell as a model folder.
    ExportModel {
        /// Number of the study.
        study: i64,
        /// Id of the cell.
        cell: String,
        /// Where to.
        folder: PathBuf,
    },
    /// Save what is drawn, all of it or one panel, as SVG, PNG and text.
    Snapshot(Option<Panel>),
    /// Export the study that is shown as CSV, JSON and Markdown.
    ExportComparison,
    /// Give the terminal back and stop the process until it is continued.
    Suspend,
    /// Draw every cell anew.
    Redraw,
    /// Leave the screen.
    Leave(Leave),
}

/// A command for the engine, comparable and clonable.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "as the engine's commands")]
pub enum EngineOrder {
    Resume(i64),
    AddCell(crate::study::CellSpec),
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
            EngineOrder::CancelCell(id) => Self::CancelCell(id),
            EngineOrder::Reorder(order) => Self::Reorder(order),
            EngineOrder::Pause => Self::Pause,
            EngineOrder::Unpause => Self::Unpause,
            EngineOrder::Shutdown { after_block } => Self::Shutdown { after_block },
        }
    }
}
