//! What the engine is doing: its state, its progress, the machine, the log.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Estimate, Event, Phase, Progress, ResourceSample};
use crate::human;
use crate::results::CellState;

/// Samples of the machine that are kept, about one a second.
const SAMPLES: usize = 600;
/// Lines of the log that are kept.
const LINES: usize = 1_000;

/// What the engine is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineState {
    /// Nothing is asked of it, or all is done.
    #[default]
    Idle,
    /// A study was sent to it and it has not answered yet.
    Starting,
    /// It works.
    Running,
    /// It was asked to stop and has not yet.
    Stopping,
    /// It has stopped and will not start again.
    Gone,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// For the record.
    Info,
    /// Good news.
    Good,
    /// A person should know.
    Warning,
    /// Something failed.
    Error,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Since the start of the program.
    pub at: Duration,
    /// How much it matters.
    pub level: LogLevel,
    /// What happened.
    pub text: String,
}

/// All that moves while a study runs.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// What the engine is about.
    pub engine: EngineState,
    /// The study that the engine runs, or ran last.
    pub study: Option<i64>,
    /// The latest progress.
    pub progress: Progress,
    /// The phase and the cell it belongs to (`None` is the base or the study).
    pub phase: Option<(Option<String>, Phase)>,
    /// What the study was foretold to need.
    pub estimate: Option<Estimate>,
    /// When the study was started, since the start of the program.
    pub started: Option<Duration>,
    /// When it ended.
    pub ended: Option<Duration>,
    /// The machine of late, the oldest first.
    pub samples: VecDeque<ResourceSample>,
    /// Tokens per second of late, the oldest first.
    pub speeds: VecDeque<f64>,
    /// What has happened, the oldest first.
    pub log: VecDeque<LogLine>,
    /// Lines that were ever added to the log.
    pub lines_said: usize,
    /// What the engine failed with, where that is how it ended.
    pub failure: Option<String>,
    /// The waiting cells in the order in which they will run.
    pub queue: Vec<String>,
}

impl Live {
    /// Whether the engine has something in hand.
    pub fn busy(&self) -> bool {
        matches!(self.engine, EngineState::Starting | EngineState::Running | EngineState::Stopping)
    }

    /// A study was sent to the engine at `now`.
    pub fn starting(&mut self, now: Duration) {
        self.engine = EngineState::Starting;
        self.started = Some(now);
        self.ended = None;
        self.failure = None;
        self.phase = None;
    }

    /// Seconds that the study has been running, or ran.
    pub fn elapsed(&self, now: Duration) -> Option<f64> {
        let started = self.started?;
        Some(self.ended.unwrap_or(now).saturating_sub(started).as_secs_f64())
    }

    /// Adds a line to the log.
    pub fn say(&mut self, at: Duration, level: LogLevel, text: impl Into<String>) {
        if self.log.len() == LINES {
            self.log.pop_front();
        }
        self.lines_said += 1;
        self.log.push_back(LogLine { at, level, text: text.into() });
    }

    /// Takes in what the engine says at `now`; `label` names a cell for people.
    pub fn apply(&mut self, event: &Event, now: Duration, label: &dyn Fn(Option<&str>) -> String) {
        let name = |cell: &Option<String>| label(cell.as_deref());
        match event {
            Event::Plan { study, cells, estimate, .. } => {
                self.engine = EngineState::Running;
                self.study = Some(*study);
                self.estimate = Some(estimate.clone());
                self.failure = None;
                self.queue =
                    cells.iter().filter(|c| c.state != CellState::Done).map(|c| c.id.clone()).collect();
                let done = cells.len() - self.queue.len();
                let known = if done > 0 { format!(", {done} done before") } else { String::new() };
                self.say(now, LogLevel::Info, format!("study {study}: {} cells{known}", cells.len()));
            }
            Event::Cell { cell, state } => {
                if let Some(id) = cell {
                    match state {
                        CellState::Queued if !self.queue.contains(id) => self.queue.push(id.clone()),
                        CellState::Queued => {}
                        _ => self.queue.retain(|waiting| waiting != id),
                    }
                }
                match state {
                    CellState::Running => {
                        self.engine = EngineState::Running;
                        self.ended = None;
                        self.say(now, LogLevel::Info, format!("{}: begins", name(cell)));
                    }
                    CellState::Cancelled => {
                        self.say(now, LogLevel::Warning, format!("{}: cancelled", name(cell)));
                    }
                    _ => {}
                }
            }
            Event::Phase { cell, phase } => self.phase = Some((cell.clone(), *phase)),
            Event::CellDone { cell, seconds, .. } => {
                let spent = human::duration(seconds.total());
                self.say(now, LogLevel::Good, format!("{}: done in {spent}", name(cell)));
            }
            Event::Resources { sample } => {
                push(&mut self.samples, *sample);
                push(&mut self.speeds, self.progress.tokens_per_second);
            }
            Event::Warning { cell, message } => {
                let place = cell.as_ref().map_or_else(String::new, |id| format!("{}: ", label(Some(id))));
                self.say(now, LogLevel::Warning, format!("{place}{message}"));
            }
            Event::Exported { cell, path } => {
                self.say(
                    now,
                    LogLevel::Good,
                    format!("{}: written to {}", label(Some(cell)), path.display()),
                );
            }
            Event::CellFailed { cell, message } => {
                self.say(now, LogLevel::Error, format!("{}: {message}", name(cell)));
            }
            Event::Finished { result } => {
                self.end(now, EngineState::Idle);
                let not = result.cells.iter().filter(|cell| cell.state != CellState::Done).count();
                let (level, text) = match not {
                    0 => (LogLevel::Good, "the study is complete; cells can still be added".to_owned()),
                    1 => (
                        LogLevel::Warning,
                        "the study has ended without one cell; R on History tries it again".into(),
                    ),
                    _ => (
                        LogLevel::Warning,
                        format!("the study has ended without {not} cells; R on History tries them again"),
                    ),
                };
                self.say(now, level, text);
            }
            Event::Failed { message, .. } => {
                self.end(now, EngineState::Idle);
                self.failure = Some(message.clone());
                self.say(now, LogLevel::Error, message.clone());
            }
            Event::Stopped { .. } => {
                self.end(now, EngineState::Gone);
                self.say(now, LogLevel::Info, "the engine has stopped");
            }
            _ => {}
        }
    }

    fn end(&mut self, now: Duration, state: EngineState) {
        self.engine = state;
        self.ended = Some(now);
        self.phase = None;
        self.progress.cell = None;
        self.progress.phase = None;
        self.progress.eta_seconds = None;
        if state == EngineState::Idle {
            self.queue.clear();
        }
    }
}

fn push<T>(history: &mut VecDeque<T>, value: T) {
    if history.len() == SAMPLES {
        history.pop_front();
    }
    history.push_back(value);
}
