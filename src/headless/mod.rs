//! The engine without a screen: progress on standard error, the result on standard output, signals as requests to
//! stop. A client of the engine's three channels and of nothing else.

mod find;
mod lines;
mod resume;
mod signals;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use find::SearchSetup;
pub(crate) use resume::{quote, resume_command};
pub use worker::work;

use crate::config::{OutputFormat, Settings};
use crate::engine::{self, Command, Engine, Event, Progress};
use crate::error::{Error, Result};
use crate::export;
use crate::find::EdgeSearch;
use crate::results::{CellResult, CellState, StudyResult};
use crate::study::CellSpec;
use crate::text::{escape, truncate};
use lines::Lines;

/// The ends of the engine's channels that a client holds.
#[derive(Debug)]
pub struct Ends<'a> {
    /// Where commands go.
    pub commands: &'a mpsc::Sender<Command>,
    /// Where events come from.
    pub events: &'a mut mpsc::Receiver<Event>,
    /// The latest progress.
    pub progress: &'a mut watch::Receiver<Progress>,
}

/// How a run is shown.
#[derive(Debug, Clone)]
pub struct Look {
    /// What goes to standard output.
    pub format: OutputFormat,
    /// Progress is one line that is drawn over and over (a terminal), instead of a line now and then.
    pub live: bool,
    /// Least time between two words on progress.
    pub interval: Duration,
    /// The command line that resumes an interrupted run.
    pub resume: String,
}

impl Look {
    /// The look that suits this process's standard error.
    pub fn of_process(format: OutputFormat, resume: String) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let live = io::stderr().is_terminal() && !dumb;
        let interval = if live { Duration::from_millis(100) } else { Duration::from_secs(10) };
        Self { format, live, interval, resume }
    }
}

/// How a run ended, errors apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// The result was printed, or nobody is left to read it.
    Done,
    /// The engine stopped on request.
    Interrupted,
    /// The user would not wait for the engine: it may still be computing.
    Abandoned,
}

impl RunOutcome {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Interrupted | Self::Abandoned => 130,
        }
    }
}

/// Does work that writes an export, until it is done or the process is asked to stop: nothing of it is left then.
///
/// # Errors
/// What the work says; [`Error::Cancelled`] when it was stopped.
pub fn until_stopped<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failure(format!("cannot start the event loop: {e}")))?;
    let (sender, done) = tokio::sync::oneshot::channel();
    runtime.block_on(async {
        let mut signals = signals::listen(false)?;
        std::thread::spawn(move || {
            // Nobody waits for it any more where it was stopped.
            let _ = sender.send(work());
        });
        tokio::select! {
            outcome = done => outcome.unwrap_or_else(|_| Err(Error::failure("a defect in secateur: the export ended early"))),
            Some(()) = signals.recv() => {
                export::remove_unfinished();
                Err(Error::Cancelled)
            }
        }
    })
}

/// What a study would need, as text for standard output; nothing is run.
///
/// # Errors
/// Why it cannot run.
pub fn plan(settings: &Settings) -> Result<String> {
    let plan = engine::plan(settings.study.clone(), &settings.run, &settings.basics.engine_options())?;
    for warning in &plan.warnings {
        // Standard error may be gone; the plan is what was asked for.
        let _ = writeln!(io::stderr(), "warning: {}", escape(warning));
    }
    let json = |text: serde_json::Result<String>| {
        text.map_err(|e| Error::failure(format!("cannot write the plan as JSON: {e}")))
    };
    match settings.format {
        OutputFormat::Table => Ok(lines::plan(&plan)),
        OutputFormat::Json => json(serde_json::to_string_pretty(&plan)),
        OutputFormat::Jsonl => json(serde_json::to_string(&plan)),
    }
}

/// Runs a study with an engine of its own; `args` is the command line, `render` makes the table of the result.
///
/// # Errors
/// What the engine says, as a mistake or a failure; also when a cell failed, after the result was printed.
pub fn run(
    settings: &Settings,
    args: &[String],
    render: impl Fn(&StudyResult) -> String,
) -> Result<RunOutcome> {
    run_with(settings, args, render, None)
}

/// The same, with a search that adds cells until the edge is known.
fn run_with(
    settings: &Settings,
    args: &[String],
    render: impl Fn(&StudyResult) -> String,
    search: Option<EdgeSearch>,
) -> Result<RunOutcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failure(format!("cannot start the event loop: {e}")))?;
    let look = Look::of_process(settings.format, resume_command(args));
    let start = Command::Start(Box::new(settings.study.clone()), settings.run.clone());
    let outcome = runtime.block_on(async {
        let mut interrupts = signals::listen(false)?;
        let mut engine = Engine::spawn(settings.basics.engine_options());
        let ends =
            Ends { commands: &engine.commands, events: &mut engine.events, progress: &mut engine.progress };
        let mut client = Client::new(look, render, io::stdout().lock(), io::stderr());
        if let Some(search) = search {
            client.say(&escape(&search.describe()));
            client.search = Some(search);
        }
        let outcome = client.follow(ends, start, &mut interrupts).await;
        if !matches!(outcome, Ok(RunOutcome::Abandoned)) {
            engine.join();
        }
        outcome
    });
    runtime.shutdown_background();
    outcome
}

/// Follows an engine that runs a study already, to its end: what the dashboard leaves behind when it goes. Where the
/// terminal may go too, its end stops nothing: the signal of that may come after the dashboard has left.
///
/// # Errors
/// As of [`run`].
pub(crate) async fn attach<'a>(
    mut engine: Engine,
    terminal_may_go: bool,
    cells: impl Iterator<Item = (&'a CellSpec, CellState)>,
    resume: String,
    render: impl Fn(&StudyResult) -> String,
) -> Result<RunOutcome> {
    let mut interrupts = signals::listen(terminal_may_go)?;
    let look = Look::of_process(OutputFormat::Table, resume);
    let ends =
        Ends { commands: &engine.commands, events: &mut engine.events, progress: &mut engine.progress };
    let mut client = Client::new(look, render, Terminal(io::stdout().lock()), io::stderr());
    client.begun = true;
    client.lines.learn(cells);
    let outcome = client.watch(ends, &mut interrupts).await;
    if !matches!(outcome, Ok(RunOutcome::Abandoned)) {
        engine.join();
    }
    outcome
}

/// Standard output where it was a terminal. All that can go wrong with it is that it has gone, as a reader goes.
struct Terminal<W>(W);

impl<W: Write> Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A client of an engine: `out` gets the result, `err` all that is said on the way.
pub(crate) struct Client<R, O: Write, E: Write> {
    look: Look,
    render: R,
    out: O,
    err: E,
    lines: Lines,
    /// A live line stands on the terminal's last row.
    drawn: bool,
    /// A study was begun that can be resumed.
    begun: bool,
    /// Requests to stop so far.
    interrupts: u8,
    /// Cells that went wrong; also those that are done and could only not be saved.
    failures: HashSet<Option<String>>,
    /// The reader of standard output has gone.
    deaf: bool,
    /// Adds cells and says when there are enough.
    search: Option<EdgeSearch>,
}

impl<R: Fn(&StudyResult) -> String, O: Write, E: Write> Client<R, O, E> {
    /// A client that has said nothing yet.
    pub fn new(look: Look, render: R, out: O, err: E) -> Self {
        let lines = Lines::default();
        Self {
            look,
            render,
            out,
            err,
            lines,
            drawn: false,
            begun: false,
            interrupts: 0,
            failures: HashSet::new(),
            deaf: false,
            search: None,
        }
    }

    /// Sends `start` and follows the engine until it has finished, failed or stopped. Each message of `interrupts`
    /// is a request to stop: the first asks to stop after the current block, the second to stop at once, the third
    /// does not wait for the engine any more.
    ///
    /// # Errors
    /// What the engine says, as a mistake or a failure; an error in writing the result; cells that failed.
    pub async fn follow(
        &mut self,
        ends: Ends<'_>,
        start: Command,
        interrupts: &mut mpsc::Receiver<()>,
    ) -> Result<RunOutcome> {
        // A full or closed channel shows as the engine's silence, which is reported below.
        let _ = ends.commands.try_send(start);
        self.watch(ends, interrupts).await
    }

    /// Follows an engine that is at work already, as [`Self::follow`] does.
    ///
    /// # Errors
    /// As of [`Self::follow`].
    pub async fn watch(&mut self, ends: Ends<'_>, interrupts: &mut mpsc::Receiver<()>) -> Result<RunOutcome> {
        let Ends { commands, events, progress } = ends;
        let mut due = Instant::now() + if self.look.live { Duration::ZERO } else { self.look.interval };
        let (mut news, mut told, mut heard) = (false, true, true);
        let end = loop {
            tokio::select! {
                biased;
                interrupt = interrupts.recv(), if heard => {
                    heard = interrupt.is_some();
                    if heard && self.interrupted(commands) {
                        break Ok(RunOutcome::Abandoned);
                    }
                }
                event = events.recv() => {
                    let step = match event {
                        Some(event) => self.event(&event, commands),
                        None => self.closed().map(Some),
                    };
                    match step {
                        Ok(None) => {}
                        Ok(Some(outcome)) => break Ok(outcome),
                        Err(error) => break Err(error),
                    }
                }
                changed = progress.changed(), if told && !news => {
                    told = changed.is_ok();
                    news = told;
                }
                () = tokio::time::sleep_until(due), if news => {
                    let latest = progress.borrow_and_update().clone();
                    self.progress(&latest);
                    news = false;
                    due = Instant::now() + self.look.interval;
                }
            }
        };
        self.wipe();
        if let Ok(RunOutcome::Interrupted | RunOutcome::Abandoned) = end {
            let resume = self.look.resume.clone();
            if self.begun {
                self.say(&format!("interrupted; resume with: {resume}"));
            } else {
                self.say("interrupted before the study began; there is nothing to resume");
            }
        }
        end
    }

    /// Passes a request to stop on; `true` when it is time to leave without the engine.
    fn interrupted(&mut self, commands: &mpsc::Sender<Command>) -> bool {
        self.interrupts += 1;
        let after_block = match self.interrupts {
            1 => {
                self.say("stopping after the current block; interrupt again to stop at once");
                true
            }
            2 => {
                self.say("stopping at once; interrupt again to leave without waiting");
                false
            }
            _ => return true,
        };
        let _ = commands.try_send(Command::Shutdown { after_block });
        false
    }

    /// Takes one event in; `Some` when it was the last that matters.
    fn event(&mut self, event: &Event, commands: &mpsc::Sender<Command>) -> Result<Option<RunOutcome>> {
        self.begun |= matches!(event, Event::Plan { .. });
        if self.look.format == OutputFormat::Jsonl {
            let line = serde_json::to_string(event)
                .map_err(|e| Error::failure(format!("cannot write an event as JSON: {e}")))?;
            self.print(&line)?;
            if self.deaf && self.interrupts < 2 {
                // Nobody reads the rest: no reason to compute it.
                self.interrupts = 2;
                let _ = commands.try_send(Command::Shutdown { after_block: false });
            }
        }
        match event {
            Event::CellFailed { cell, .. } => {
                self.failures.insert(cell.clone());
            }
            Event::Finished { .. } if self.search.is_some() => {
                let ends = self.search(event, commands);
                return if ends { self.answer().map(Some) } else { Ok(None) };
            }
            Event::Finished { result } => return self.finished(result).map(Some),
            Event::Failed { message, exit_code, .. } => return Err(self.failed(message, *exit_code)),
            Event::Stopped { resumable } => {
                self.begun |= resumable.is_some();
                return self.closed().map(Some);
            }
            _ => {}
        }
        // Whoever stops the run need not be told that its cell stops too. A search that is over needs its last cell no more.
        let is_stopping = self.interrupts > 0 || self.search.as_ref().is_some_and(EdgeSearch::is_over);
        let own_doing = is_stopping && matches!(event, Event::Cell { .. });
        if let (Some(text), false) = (self.lines.of_event(event, self.look.live), own_doing) {
            self.say(&text);
        }
        self.search(event, commands);
        Ok(None)
    }

    /// The engine is gone, or says so.
    fn closed(&self) -> Result<RunOutcome> {
        match (self.deaf, self.interrupts) {
            (true, _) => Ok(RunOutcome::Done),
            (_, 0) => Err(Error::failure("the engine ended without a result; please report this")),
            _ => Ok(RunOutcome::Interrupted),
        }
    }

    fn finished(&mut self, result: &StudyResult) -> Result<RunOutcome> {
        self.wipe();
        match self.look.format {
            OutputFormat::Table => {
                let table = (self.render)(result);
                let safe: Vec<_> = table.lines().map(escape).collect();
                self.print(&safe.join("\n"))?;
            }
            OutputFormat::Json => self.print_json(result)?,
            OutputFormat::Jsonl => {}
        }
        let failed = |cell: &&CellResult| {
            cell.state == CellState::Failed || self.failures.contains(&Some(cell.id.clone()))
        };
        let failed = result.cells.iter().filter(failed).count();
        if failed == 0 {
            return Ok(RunOutcome::Done);
        }
        Err(Error::failure(format!(
            "{failed} of {} cells failed; the lines above say why",
            result.cells.len()
        )))
    }

    fn failed(&mut self, message: &str, exit_code: u8) -> Error {
        let message = escape(message).into_owned();
        if exit_code == 2 {
            return Error::Mistake(message);
        }
        if self.begun {
            let resume = self.look.resume.clone();
            self.say(&format!("what was finished is kept; resume with: {resume}"));
        }
        Error::Failure(message)
    }

    fn print_json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::failure(format!("cannot write the result as JSON: {e}")))?;
        self.print(&text)
    }

    /// Writes to standard output; a reader that has gone is no error.
    fn print(&mut self, text: &str) -> Result<()> {
        if self.deaf {
            return Ok(());
        }
        self.wipe();
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.deaf = true,
            Err(source) => {
                return Err(Error::Io { context: "cannot write to standard output".into(), source });
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// Says something to the person, above the live line. That nobody listens is no reason to stop.
    fn say(&mut self, text: &str) {
        if self.deaf {
            return;
        }
        self.wipe();
        let _ = writeln!(self.err, "{text}").and_then(|()| self.err.flush());
    }

    fn progress(&mut self, progress: &Progress) {
        if progress.phase.is_none() && progress.total == 0 {
            return;
        }
        let line = self.lines.of_progress(progress);
        if !self.look.live {
            self.say(&line);
            return;
        }
        // One column stays free: some terminals wrap when the last one is written.
        let line = truncate(&line, terminal_width().saturating_sub(1), "…");
        let _ = write!(self.err, "\r{line}\x1b[K").and_then(|()| self.err.flush());
        self.drawn = true;
    }

    /// Takes the live line away.
    fn wipe(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(self.err, "\r\x1b[K").and_then(|()| self.err.flush());
        }
    }
}

/// Columns of the terminal that standard error, or else standard output, is; where there is none, what the variable
/// `COLUMNS` says, or 80.
pub fn terminal_width() -> usize {
    #[cfg(unix)]
    {
        let columns = |size: rustix::io::Result<rustix::termios::Winsize>| {
            size.ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
        };
        columns(rustix::termios::tcgetwinsize(io::stderr()))
            .or_else(|| columns(rustix::termios::tcgetwinsize(io::stdout())))
            .unwrap_or_else(columns_of_environment)
    }
    #[cfg(not(unix))]
    columns_of_environment()
}

fn columns_of_environment() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    columns.filter(|columns| *columns > 0).unwrap_or(80)
}
