//! What the dashboard is told, and what it asks to be done for it.

use std::path::PathBuf;
use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};

use super::state::{Board, FormValues, Panel};
use crate::engine::{Command, Estimate, Event, Progress};
use crate::results::{Answer, ModelInfo};
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
    Done(Outcome),
    /// The process is asked to end: SIGTERM, SIGHUP, or the terminal is gone.
    Terminate {
        /// The terminal is gone: nothing can be shown any more.
        hangup: bool,
    },
}

/// What an effect came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The studies of the store, the oldest first.
    Studies(Vec<StudySummary>),
    /// A study was read, for this purpose.
    Study(Box<Board>, Purpose),
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

/// What is known of a study that was only checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The model.
    pub model: ModelInfo,
    /// `cpu`, `cuda:0`, and what is computed in.
    pub device: String,
    /// What it needs.
    pub estimate: Estimate,
}

/// What a study was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be shown.
    Open,
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
    OpenStudy(i64, Purpose),
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
