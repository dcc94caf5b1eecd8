//! What a study would need, found out without running it.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::control::Control;
use super::draft::StudyDraft;
use super::event::{Event, PlannedCell, Progress, ResourceEstimate};
use super::places::{self, Places};
use super::progress::Tracker;
use super::{EngineOptions, Reporter};
use crate::error::Result;
use crate::results::{Environment, ModelInfo};
use crate::study::StudySpec;

/// A study that can run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename = "plan")]
pub struct Plan {
    pub(crate) model: ModelInfo,
    pub(crate) environment: Environment,
    /// Its cells in the order they would run.
    pub cells: Vec<PlannedCell>,
    /// What it needs.
    pub estimate: ResourceEstimate,
    pub(crate) warnings: Vec<String>,
    /// The scripts of the jobs that would be submitted; empty where this machine computes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<String>,
}

/// Reads model and data, checks the study, and estimates what it needs. Nothing is written.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) or [`Error::Mistake`](crate::Error::Mistake) for what a user can put right,
/// [`Error::Offline`](crate::Error::Offline) where files would have to be fetched and must not.
pub fn plan(spec: StudySpec, places: &Places, options: &EngineOptions) -> Result<Plan> {
    let (events, mut told) = mpsc::channel(64);
    let listener = std::thread::spawn(move || {
        let mut warnings = Vec::new();
        while let Some(event) = told.blocking_recv() {
            if let Event::Warning { cell: None, message } = event {
                warnings.push(message);
            }
        }
        warnings
    });
    let (progress, _) = watch::channel(Progress::default());
    let mut reporter = Reporter::new(events, Tracker::new(progress), Arc::new(Control::default()));
    let draft = StudyDraft::new(spec, places, options.offline, &mut reporter)?;
    // The listener ends when nothing can be told any more.
    drop(reporter);
    let estimate = draft.estimate(&options.store);
    // Its number is given when the study begins.
    let folder = options.store.with_extension("d").join("study-N");
    Ok(Plan {
        warnings: listener.join().unwrap_or_default(),
        scripts: places::scripts(places, &folder, estimate.host_bytes)?,
        estimate: estimate.of_workers(places),
        model: draft.study.info.clone(),
        environment: draft.study.environment.clone(),
        cells: draft.planned(),
    })
}
