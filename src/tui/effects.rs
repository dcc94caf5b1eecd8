//! What the state asks to be done outside it: reads of the store, checks, files. Each runs on a thread of its own kind
//! and comes back as a message.

use std::path::PathBuf;
use std::sync::mpsc as channel;
use std::time::SystemTime;

use ratatui::buffer::Buffer;
use tokio::sync::mpsc::UnboundedSender;

use super::message::{EffectOutcome, Message, OpenReason};
use super::snapshot;
use super::state::{Checked, Field, FormValues, StudyView};
use super::theme::Theme;
use crate::commands::{self, ExportRequest};
use crate::config::{Given, Settings};
use crate::engine::{self, EngineOptions, Plan};
use crate::error::{Error, Result};
use crate::export::{ExportFormat, ExportOptions};
use crate::human;
use crate::report;
use crate::results::StudyResult;
use crate::store::Store;

/// Where the settings come from that the form does not show.
#[derive(Debug, Clone, Default)]
pub struct SettingsSource {
    /// The config file that was named.
    pub config: Option<PathBuf>,
    /// The flags and variables.
    pub given: Given,
}

impl SettingsSource {
    /// The settings that the form and everything behind it make.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a value that is not accepted; it begins with the flag.
    pub(crate) fn settings(&self, values: &FormValues) -> Result<Settings> {
        let given = values.given(&self.given);
        Settings::of_cells(self.config.as_deref(), &given, values.cells.clone())
    }
}

/// Does the work that takes time.
pub(crate) struct Effects {
    messages: UnboundedSender<Message>,
    store: PathBuf,
    offline: bool,
    checks: channel::Sender<(u64, Box<FormValues>)>,
}

impl Effects {
    /// Starts the thread that checks studies. `options` are those of the engine.
    pub(crate) fn new(
        messages: UnboundedSender<Message>,
        options: &EngineOptions,
        origin: SettingsSource,
    ) -> Self {
        let (checks, asked) = channel::channel();
        let outcomes = messages.clone();
        // It never asks the network: looking at a study must not fetch gigabytes.
        let offline = EngineOptions { offline: true, ..options.clone() };
        std::thread::spawn(move || check_all(&asked, &outcomes, &offline, &origin));
        Self { messages, store: options.store.clone(), offline: options.offline, checks }
    }

    /// Has a study checked; an older check that has not begun is forgotten.
    pub(crate) fn check(&self, number: u64, values: Box<FormValues>) {
        // The thread lives as long as this does.
        let _ = self.checks.send((number, values));
    }

    /// Runs `work` on a thread of its own; what it comes to is told.
    fn run(&self, work: impl FnOnce() -> Result<EffectOutcome> + Send + 'static) {
        let messages = self.messages.clone();
        std::thread::spawn(move || {
            let outcome = work().unwrap_or_else(|error| EffectOutcome::Failed(error.to_string()));
            // Nobody listens any more once the screen is left.
            let _ = messages.send(Message::Done(outcome));
        });
    }

    /// Reads the list of studies. A store that is not there yet has none.
    pub(crate) fn list(&self) {
        let path = self.store.clone();
        self.run(move || {
            let studies = if path.exists() { Store::open_read_only(&path)?.studies()? } else { Vec::new() };
            Ok(EffectOutcome::Studies(studies))
        });
    }

    /// Reads a study.
    pub(crate) fn open(&self, study: i64, purpose: OpenReason) {
        let path = self.store.clone();
        self.run(move || {
            let found = StudyView::of_store(&Store::open_read_only(&path)?, study)?;
            Ok(EffectOutcome::Study(Box::new(found), purpose))
        });
    }

    /// Reads answers.
    pub(crate) fn answers(&self, study: i64, cell: Option<String>) {
        let path = self.store.clone();
        self.run(move || {
            let answers = Store::open_read_only(&path)?.answers(study, cell.as_deref())?;
            Ok(EffectOutcome::Answers { study, cell, answers })
        });
    }

    /// Compares two models of a study.
    pub(crate) fn compare(&self, study: i64, a: String, b: String) {
        let path = self.store.clone();
        self.run(move || {
            let store = Store::open_read_only(&path)?;
            let record = store.study(study)?;
            Ok(EffectOutcome::Compared(Box::new(commands::compare_models(&store, &record, &a, &b)?)))
        });
    }

    /// Deletes a study.
    pub(crate) fn delete(&self, study: i64) {
        let path = self.store.clone();
        self.run(move || {
            Store::delete(&path, study)?;
            Ok(EffectOutcome::Deleted(study))
        });
    }

    /// Writes a finished cell as a model folder.
    pub(crate) fn export_model(&self, study: i64, cell: String, target: PathBuf) {
        let (path, offline) = (self.store.clone(), self.offline);
        self.run(move || {
            let format = ExportFormat::default();
            format.0.check_target(&target)?;
            let store = Store::open_read_only(&path)?;
            let record = store.study(study)?;
            let request = ExportRequest {
                cell: &cell,
                format,
                options: ExportOptions::default(),
                verify: true,
                offline,
            };
            commands::export_cell(&store, &record, &request, &target)?;
            Ok(EffectOutcome::Saved(vec![target]))
        });
    }

    /// Saves what is drawn as SVG, PNG and text, in the working folder.
    pub(crate) fn snapshot(&self, buffer: Buffer, theme: Theme, name: &str) {
        let stem = format!("secateur-{name}-{}", stamp());
        self.run(move || {
            let mut paths = Vec::new();
            for extension in ["svg", "png", "txt"] {
                let path = PathBuf::from(format!("{stem}.{extension}"));
                snapshot::save(&path, &buffer, &theme)?;
                paths.push(path);
            }
            Ok(EffectOutcome::Saved(paths))
        });
    }

    /// Writes a study as CSV, JSON and Markdown, into the working folder.
    pub(crate) fn export_comparison(&self, result: StudyResult) {
        self.run(move || {
            let stem = format!("secateur-study-{}", result.study);
            let mut paths = Vec::new();
            for (extension, text) in [
                ("csv", report::csv(&result)),
                ("json", report::json(&result)),
                ("md", report::markdown(&result)),
            ] {
                let path = PathBuf::from(format!("{stem}.{extension}"));
                std::fs::write(&path, text).map_err(|e| Error::io("cannot write", &path, e))?;
                paths.push(path);
            }
            Ok(EffectOutcome::Saved(paths))
        });
    }
}

/// The moment, fit for a file name: `20260301-120511` (UTC).
fn stamp() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let date: String = human::date(seconds).chars().filter(|c| c.is_ascii_digit() || *c == ' ').collect();
    format!("{}{:02}", date.replace(' ', "-"), seconds.rem_euclid(60))
}

/// Checks one study after the other.
fn check_all(
    asked: &channel::Receiver<(u64, Box<FormValues>)>,
    messages: &UnboundedSender<Message>,
    options: &EngineOptions,
    origin: &SettingsSource,
) {
    while let Ok(mut wanted) = asked.recv() {
        while let Ok(newer) = asked.try_recv() {
            wanted = newer;
        }
        let (number, values) = wanted;
        let plan = origin
            .settings(&values)
            .and_then(|settings| engine::plan(settings.study, &settings.run, options));
        let outcome = match plan {
            Ok(Plan { model, environment, estimate, .. }) => {
                let device = format!("{} in {}", environment.device, environment.compute_dtype);
                EffectOutcome::Checked { number, plan: Box::new(Checked { model, device, estimate }) }
            }
            // What is not in the cache is fetched when the study starts; until then nothing can be estimated.
            Err(Error::Offline(_)) => EffectOutcome::Unknown { number },
            Err(error) => {
                let field = error.flag().and_then(Field::of_flag);
                EffectOutcome::Refused { number, field, message: error.to_string() }
            }
        };
        if messages.send(Message::Done(outcome)).is_err() {
            return;
        }
    }
}
