//! What the engine is doing: its state, its progress, the machine, the log.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Event, Phase, PlaceActivity, Progress, ResourceEstimate, ResourceSample};
use crate::human;
use crate::results::CellState;

/// Samples of the machine that are kept, about one a second.
const SAMPLES: usize = 600;
/// Lines of the log that are kept.
const LINES: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum EngineState {
    /// Nothing is asked of it, or all is done.
    #[default]
    Idle,
    /// A study was sent to it and it has not answered yet.
    Starting,
    Running,
    /// It was asked to stop and has not yet.
    Stopping,
    /// It has stopped and will not start again.
    Gone,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// For the record.
    Info,
    Good,
    /// A person should know.
    Warning,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// Since the start of the program.
    pub at: Duration,
    pub level: LogLevel,
    pub text: String,
}

/// All that moves while a study runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct EngineView {
    pub state: EngineState,
    /// The study that the engine runs, or ran last.
    pub study: Option<i64>,
    pub progress: Progress,
    /// The phase and the cell it belongs to (`None` is the base or the study).
    pub phase: Option<(Option<String>, Phase)>,
    /// The estimate of what the study needs.
    pub estimate: Option<ResourceEstimate>,
    /// When the study was started, since the start of the program.
    pub started: Option<Duration>,
    pub ended: Option<Duration>,
    /// The machine of late, the oldest first.
    pub samples: VecDeque<ResourceSample>,
    /// Tokens per second of late, the oldest first.
    pub speeds: VecDeque<f64>,
    /// What each worker does, and when it was first heard of that, since the start of the program. Empty without workers.
    pub workers: Vec<(PlaceActivity, Duration)>,
    /// What has happened, the oldest first.
    pub log: VecDeque<LogLine>,
    /// Lines that were ever added to the log.
    pub lines_logged: usize,
    /// What the engine failed with, where that is how it ended.
    pub failure: Option<String>,
    /// The waiting cells in the order in which they will run.
    pub queue: Vec<String>,
}

impl EngineView {
    /// Whether the engine works, or is about to.
    pub(crate) fn busy(&self) -> bool {
        matches!(self.state, EngineState::Starting | EngineState::Running | EngineState::Stopping)
    }

    /// A study was sent to the engine at `now`.
    pub(crate) fn starting(&mut self, now: Duration) {
        self.state = EngineState::Starting;
        self.started = Some(now);
        self.ended = None;
        self.failure = None;
        self.phase = None;
    }

    /// Seconds that the study has been running, or ran.
    pub(crate) fn elapsed(&self, now: Duration) -> Option<f64> {
        let started = self.started?;
        Some(self.ended.unwrap_or(now).saturating_sub(started).as_secs_f64())
    }

    pub(crate) fn add_line(&mut self, at: Duration, level: LogLevel, text: impl Into<String>) {
        if self.log.len() == LINES {
            self.log.pop_front();
        }
        self.lines_logged += 1;
        self.log.push_back(LogLine { at, level, text: text.into() });
    }

    /// Takes in what the engine says at `now`; `label` names a cell for people.
    pub(crate) fn apply(&mut self, event: &Event, now: Duration, label: &dyn Fn(Option<&str>) -> String) {
        let name = |cell: &Option<String>| label(cell.as_deref());
        match event {
            Event::Plan { study, cells, estimate, .. } => {
                self.state = EngineState::Running;
                self.study = Some(*study);
                self.estimate = Some(estimate.clone());
                self.failure = None;
                self.queue =
                    cells.iter().filter(|c| c.state != CellState::Done).map(|c| c.id.clone()).collect();
                let done = cells.len() - self.queue.len();
                let known = if done > 0 { format!(", {done} already done") } else { String::new() };
                self.add_line(now, LogLevel::Info, format!("study {study}: {} cells{known}", cells.len()));
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
                        self.state = EngineState::Running;
                        self.ended = None;
                        self.add_line(now, LogLevel::Info, format!("{}: started", name(cell)));
                    }
                    CellState::Cancelled => {
                        self.add_line(now, LogLevel::Warning, format!("{}: cancelled", name(cell)));
                    }
                    _ => {}
                }
            }
            Event::Phase { cell, phase } => self.phase = Some((cell.clone(), *phase)),
            Event::CellDone { cell, seconds, .. } => {
                let spent = human::duration(seconds.total());
                self.add_line(now, LogLevel::Good, format!("{}: done in {spent}", name(cell)));
            }
            Event::Resources { sample } => {
                push(&mut self.samples, *sample);
                push(&mut self.speeds, self.progress.tokens_per_second);
            }
            Event::Warning { cell, message } => {
                let place = cell.as_ref().map_or_else(String::new, |id| format!("{}: ", label(Some(id))));
                self.add_line(now, LogLevel::Warning, format!("{place}{message}"));
            }
            Event::Places { places } => {
                let before = std::mem::take(&mut self.workers);
                let since = |place: &PlaceActivity| {
                    let known = before.iter().find(|(known, _)| known.is_same_work(place));
                    known.map_or(now, |(_, since)| *since)
                };
                self.workers = places.iter().map(|place| (place.clone(), since(place))).collect();
            }
            Event::Exported { cell, path } => {
                self.add_line(
                    now,
                    LogLevel::Good,
                    format!("{}: written to {}", label(Some(cell)), path.display()),
                );
            }
            Event::CellFailed { cell, message } => {
                self.add_line(now, LogLevel::Error, format!("{}: {message}", name(cell)));
            }
            Event::Finished { result } => {
                self.end(now, EngineState::Idle);
                let not = result.cells.iter().filter(|cell| cell.state != CellState::Done).count();
                let (level, text) = match not {
                    0 => (LogLevel::Good, "the study is complete; cells can still be added".to_owned()),
                    1 => (
                        LogLevel::Warning,
                        "the study has ended with 1 cell unfinished; R on History retries it".into(),
                    ),
                    _ => (
                        LogLevel::Warning,
                        format!("the study has ended with {not} cells unfinished; R on History retries them"),
                    ),
                };
                self.add_line(now, level, text);
            }
            Event::Failed { message, .. } => {
                self.end(now, EngineState::Idle);
                self.failure = Some(message.clone());
                self.add_line(now, LogLevel::Error, message.clone());
            }
            Event::Stopped { .. } => {
                self.end(now, EngineState::Gone);
                self.add_line(now, LogLevel::Info, "the engine has stopped");
            }
            _ => {}
        }
    }

    fn end(&mut self, now: Duration, state: EngineState) {
        self.state = state;
        self.ended = Some(now);
        self.phase = None;
        self.workers.clear();
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
