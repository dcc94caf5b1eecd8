//! The loop that joins terminal, engine and state: messages in, frames out.

use std::io;
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::choices::ChoicesFile;
use super::effects::{Effects, SettingsSource};
use super::input::Input;
use super::logfile::LogFile;
use super::message::{Effect, EffectOutcome, Message, OpenReason};
use super::state::{Dialog, Leave, LogLevel, Options, QuestionDialog, State};
use super::terminal::{TakenTerminal, restore};
use super::theme::Theme;
use super::update::{begin, update};
use super::view::{panels, view};
use crate::config::Settings;
use crate::engine::{Command, Engine, Places};
use crate::error::{Error, Result};
use crate::store::Store;

/// Time between two frames that nobody asked for with a key: slow lines are to be spared.
const FRAME: Duration = Duration::from_millis(150);
/// Time between two looks at the clock while something moves.
const TICK: Duration = Duration::from_millis(250);
/// Time between two looks at a store that another process writes.
const FOLLOW: Duration = Duration::from_secs(1);

/// What the dashboard is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The study that it opens on, store and threads.
    pub settings: Settings,
    /// Where those settings come from.
    pub origin: SettingsSource,
    /// Colours and symbols.
    pub theme: Theme,
    /// Whether the mouse is used.
    pub mouse: bool,
    /// Whether it only looks.
    pub readonly: bool,
    /// Whether a study keeps running when the terminal goes away.
    pub keep_running: bool,
    /// What it opens on.
    pub opens: StartsWith,
}

/// What the dashboard shows first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartsWith {
    /// The form.
    Form,
    /// The newest study of the store, if it has one.
    Newest,
    /// This study of the store.
    Study(i64),
}

/// How the dashboard was left.
pub(crate) struct ExitState {
    /// All that it knew.
    pub state: State,
    /// The engine, which may still be at work.
    pub engine: Engine,
    /// How.
    pub leave: Leave,
    /// Why the choices on the Compare screen could not be kept.
    pub not_kept: Option<Error>,
}

/// Runs the dashboard until it is left; the terminal is given back before this returns.
///
/// # Errors
/// What the terminal refuses.
pub(crate) async fn run(setup: Setup) -> Result<ExitState> {
    let log = LogFile::beside(&setup.settings.basics.store);
    quiet_panics(&log);
    let (messages, inbox) = unbounded_channel();
    listen(&messages)?;
    let screen = TakenTerminal::enter(setup.mouse).map_err(terminal_error)?;
    let input = Input::start(messages.clone());
    let size = TakenTerminal::size().map_err(terminal_error)?;
    let options = Options {
        store: setup.settings.basics.store.clone(),
        readonly: setup.readonly,
        keep_running: setup.keep_running,
        open_newest: setup.opens == StartsWith::Newest,
    };
    let mut state = State::new(&setup.settings.study, options, setup.theme, size);
    let file = ChoicesFile::beside(&setup.settings.basics.store);
    let (kept, fault) = file.read();
    state.compare.choose(kept.clone());
    if let Some(fault) = fault {
        state.dialogs.push(Dialog::Question(QuestionDialog::notice(
            "Some choices were not kept",
            fault,
            true,
        )));
    }
    let engine_options = setup.settings.basics.engine_options();
    let follower = setup.readonly.then(|| Follower::new(&engine_options.store));
    let mut dashboard = Dashboard {
        effects: Effects::new(messages.clone(), &engine_options, setup.origin.clone()),
        engine: Engine::spawn(engine_options),
        log,
        logged: 0,
        origin: setup.origin,
        save_models: setup.settings.run.save_models.clone(),
        force: setup.settings.run.force,
        places: setup.settings.run.places.clone(),
        started: Instant::now(),
        messages,
        inbox,
        screen,
        state,
        follower,
        drawn: None,
        dirty: Dirty::Now,
        leave: None,
    };
    let mut effects = begin(&mut dashboard.state);
    if let StartsWith::Study(study) = setup.opens {
        effects.push(Effect::OpenStudy(study, OpenReason::Open));
    }
    dashboard.perform(effects).await;
    let leave = dashboard.run().await;
    drop(input);
    let Dashboard { state, engine, screen, .. } = dashboard;
    drop(screen);
    // Whoever only looks writes nothing beside the store.
    let changed = state.compare.choices() != kept && !state.options.readonly;
    let not_kept = changed.then(|| file.write(&state.compare.choices()).err()).flatten();
    Ok(ExitState { state, engine, leave: leave?, not_kept })
}

fn terminal_error(source: io::Error) -> Error {
    Error::Io { context: "cannot use the terminal".into(), source }
}

/// Notices when another process writes the store.
struct Follower {
    path: std::path::PathBuf,
    store: Option<Store>,
    generation: Option<i64>,
}

impl Follower {
    fn new(path: &std::path::Path) -> Self {
        Self { path: path.to_path_buf(), store: None, generation: None }
    }

    /// Whether the store has changed since this was last asked.
    fn changed(&mut self) -> Result<bool> {
        if self.store.is_none() {
            if !self.path.exists() {
                // It may yet be made.
                return Ok(false);
            }
            self.store = Some(Store::open_read_only(&self.path)?);
        }
        let Some(store) = &self.store else { return Ok(false) };
        let now = Some(store.generation()?);
        Ok(std::mem::replace(&mut self.generation, now) != now)
    }
}

/// How soon the screen is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dirty {
    Clean,
    Soon,
    Now,
}

struct Dashboard {
    state: State,
    engine: Engine,
    screen: TakenTerminal,
    effects: Effects,
    messages: UnboundedSender<Message>,
    inbox: UnboundedReceiver<Message>,
    origin: SettingsSource,
    save_models: Option<std::path::PathBuf>,
    force: bool,
    /// Who computes the cells of a study that is resumed.
    places: Places,
    log: LogFile,
    /// Lines of the state's log that are in the file, counted from the program's start.
    logged: usize,
    follower: Option<Follower>,
    started: Instant,
    drawn: Option<Instant>,
    dirty: Dirty,
    leave: Option<Leave>,
}

impl Dashboard {
    async fn run(&mut self) -> Result<Leave> {
        let mut engine_there = true;
        let mut progress_there = true;
        let mut look = Instant::now() + FOLLOW;
        loop {
            if let Some(leave) = self.leave {
                return Ok(leave);
            }
            self.draw_if_due()?;
            let frame = self.drawn.map_or_else(Instant::now, |drawn| drawn + FRAME);
            tokio::select! {
                biased;
                message = self.inbox.recv() => {
                    // This holds a sender of its own: the channel cannot close.
                    if let Some(message) = message {
                        self.take(message, Dirty::Now).await;
                    }
                }
                event = self.engine.events.recv(), if engine_there => {
                    if let Some(event) = event {
                        self.take(Message::Engine(event), Dirty::Soon).await;
                    } else {
                        engine_there = false;
                        self.take(Message::EngineGone, Dirty::Now).await;
                    }
                }
                changed = self.engine.progress.changed(), if progress_there => {
                    progress_there = changed.is_ok();
                    let progress = self.engine.progress.borrow_and_update().clone();
                    self.take(Message::Progress(progress), Dirty::Soon).await;
                }
                () = tokio::time::sleep_until(frame.into()), if self.dirty == Dirty::Soon => {}
                () = tokio::time::sleep(TICK), if self.state.moves() => {
                    self.take(Message::Tick(self.started.elapsed()), Dirty::Soon).await;
                }
                () = tokio::time::sleep_until(look.into()), if self.follower.is_some() => {
                    look = Instant::now() + FOLLOW;
                    self.follow().await;
                }
            }
        }
    }

    /// Gives the state a message, and does what it asks for.
    async fn take(&mut self, message: Message, dirty: Dirty) {
        self.dirty = self.dirty.max(dirty);
        self.state.now = self.started.elapsed();
        let effects = update(&mut self.state, message);
        self.perform(effects).await;
        self.write_log();
    }

    fn draw_if_due(&mut self) -> Result<()> {
        let due = match self.dirty {
            Dirty::Clean => false,
            // Typed ahead: one frame for all of it.
            Dirty::Now => self.inbox.is_empty(),
            Dirty::Soon => self.drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME),
        };
        if !due {
            return Ok(());
        }
        let state = &self.state;
        match self.screen.draw(|area, buffer| view(state, area, buffer)) {
            Ok(()) => {}
            // The terminal is gone; its thread says so too, and what is to be done then is decided there.
            Err(_) if self.state.engine.busy() => {}
            Err(error) => return Err(terminal_error(error)),
        }
        self.drawn = Some(Instant::now());
        self.dirty = Dirty::Clean;
        Ok(())
    }

    async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Engine(order) => {
                    let mut command = order.into();
                    if let Command::Resume(_, options) = &mut command {
                        options.places.clone_from(&self.places);
                    }
                    if self.engine.commands.send(command).await.is_err() {
                        let _ = self.messages.send(Message::EngineGone);
                    }
                }
                Effect::Check { number, values } => self.effects.check(number, values),
                Effect::Start(values) => self.start(&values).await,
                Effect::ListStudies => self.effects.list(),
                Effect::OpenStudy(study, purpose) => self.effects.open(study, purpose),
                Effect::LoadAnswers { study, cell } => self.effects.answers(study, cell),
                Effect::DeleteStudy(study) => {
                    // The study that the engine ran last is in its hands.
                    if self.state.engine.study != Some(study) {
                        self.effects.delete(study);
                    } else if self.engine.commands.send(Command::Delete(study)).await.is_err() {
                        let _ = self.messages.send(Message::EngineGone);
                    }
                }
                Effect::ExportModel { study, cell, folder } => self.effects.export_model(study, cell, folder),
                Effect::Snapshot(panel) => self.snapshot(panel),
                Effect::CompareTwo { study, a, b } => self.effects.compare(study, a, b),
                Effect::ExportComparison => {
                    if let Some(study_view) = &self.state.study_view {
                        self.effects.export_comparison(study_view.result());
                    }
                }
                Effect::Suspend => self.suspend(),
                Effect::Redraw => {
                    self.screen.clear();
                    self.dirty = Dirty::Now;
                }
                Effect::Leave(leave) => self.leave = Some(leave),
            }
        }
    }

    async fn start(&mut self, values: &super::state::FormValues) {
        let outcome = match self.origin.settings(values) {
            Ok(settings) => {
                let spec = Box::new(settings.study);
                let mut options = settings.run;
                options.save_models.clone_from(&self.save_models);
                options.force = self.force;
                match self.engine.commands.send(Command::Start(spec.clone(), options)).await {
                    Ok(()) => EffectOutcome::Started(spec),
                    Err(_) => EffectOutcome::Failed("the engine is gone: restart secateur".into()),
                }
            }
            Err(error) => EffectOutcome::Failed(error.to_string()),
        };
        // The channel's other end is this very loop.
        let _ = self.messages.send(Message::Done(outcome));
    }

    fn snapshot(&mut self, panel: Option<super::state::Panel>) {
        let (columns, rows) = self.state.size;
        let whole = Rect::new(0, 0, columns, rows);
        let mut buffer = Buffer::empty(whole);
        // A message at the foot has no place in a picture.
        let mut state = self.state.clone();
        state.toast = None;
        view(&state, whole, &mut buffer);
        let places = panels(&state, whole);
        let wanted = panel.and_then(|panel| places.iter().find(|(known, _)| *known == panel));
        let (name, buffer) = match wanted {
            Some((panel, place)) => (format!("{panel:?}"), cut(&buffer, *place)),
            None => (state.screen.name().to_owned(), buffer),
        };
        self.effects.snapshot(buffer, state.theme, &name.to_lowercase());
    }

    /// Gives the terminal back and stops, as Ctrl-Z does elsewhere; resumes here when it is continued.
    fn suspend(&mut self) {
        #[cfg(unix)]
        {
            let stopped = self.screen.without(|| {
                let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
            });
            if stopped.is_err() {
                let _ = self.messages.send(Message::Terminate { hangup: true });
            }
            self.dirty = Dirty::Now;
        }
    }

    /// Looks whether another process has written the store.
    async fn follow(&mut self) {
        let Some(follower) = self.follower.as_mut() else { return };
        match follower.changed() {
            Ok(false) => {}
            Ok(true) => {
                let shown = self.state.study_view.as_ref().map(|study_view| study_view.study);
                let newest = || self.state.history.studies.first().map(|study| study.id);
                self.effects.list();
                if let Some(study) = shown.or_else(newest) {
                    self.effects.open(study, OpenReason::Refresh);
                }
            }
            Err(error) => {
                self.take(Message::Done(EffectOutcome::Failed(error.to_string())), Dirty::Now).await;
            }
        }
    }

    /// Puts what is new of the screen's log into the file: warnings and errors, which people look for afterwards.
    fn write_log(&mut self) {
        let lines = &self.state.engine.log;
        let total = self.state.engine.lines_logged;
        let new = (total - self.logged).min(lines.len());
        self.logged = total;
        for line in lines.iter().skip(lines.len() - new) {
            if matches!(line.level, LogLevel::Warning | LogLevel::Error) {
                self.log.write(&line.text);
            }
        }
    }
}

/// A part of what is drawn, by itself.
pub(crate) fn cut(buffer: &Buffer, part: Rect) -> Buffer {
    let part = part.intersection(buffer.area);
    let mut alone = Buffer::empty(Rect::new(0, 0, part.width, part.height));
    for y in 0..part.height {
        for x in 0..part.width {
            alone[(x, y)] = buffer[(part.x + x, part.y + y)].clone();
        }
    }
    alone
}

/// Panics give the terminal back before they are told when they end the program; those of other threads are told by
/// the engine, and their detail goes into the log file, since nothing but the screen may write to the terminal.
fn quiet_panics(log: &LogFile) {
    let log = log.clone();
    let previous_hook = std::panic::take_hook();
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        let trace = std::backtrace::Backtrace::force_capture();
        log.write(&format!("panic: {info}\n{trace}"));
        if std::thread::current().id() == main {
            restore();
            previous_hook(info);
        }
    }));
}

/// Signals as messages.
#[cfg(unix)]
fn listen(messages: &UnboundedSender<Message>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let failed = |e| Error::failure(format!("cannot listen to signals: {e}"));
    let kinds =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::window_change()];
    for kind in kinds {
        let mut signals = signal(kind).map_err(failed)?;
        let messages = messages.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let message = if kind == SignalKind::window_change() {
                    match crossterm::terminal::size() {
                        Ok((columns, rows)) => Message::Resize(columns, rows),
                        Err(_) => continue,
                    }
                } else {
                    Message::Terminate { hangup: kind == SignalKind::hangup() }
                };
                if messages.send(message).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn listen(_: &UnboundedSender<Message>) -> Result<()> {
    Ok(())
}
