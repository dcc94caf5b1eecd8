//! What a study would need, found out without running it.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::control::Control;
use super::draft::StudyDraft;
use super::event::{Event, PlannedCell, Progress, ResourceEstimate, RunOptions};
use super::places;
use super::progress::Tracker;
use super::{EngineOptions, Reporter};
use crate::error::{Error, Result};
use crate::results::{CellState, Environment, ModelInfo};
use crate::store::{Store, checkpoint};
use crate::study::StudySpec;

/// A study that can run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename = "plan")]
pub struct Plan {
    pub(crate) model: ModelInfo,
    pub(crate) environment: Environment,
    /// Whether an earlier run has measured the base.
    pub(crate) base_done: bool,
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
pub fn plan(spec: StudySpec, run: &RunOptions, options: &EngineOptions) -> Result<Plan> {
    let places = &run.places;
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
    check_where_saved(run)?;
    let draft = StudyDraft::new(spec, places, options.offline, &mut reporter)?;
    let earlier = if run.resume { earlier_run(&draft, &options.store, &mut reporter)? } else { None };
    // The listener ends when nothing can be told any more.
    drop(reporter);
    check_saves(&draft, run)?;
    let estimate = draft.estimate(&options.store);
    let memory = estimate.check_memory().err().filter(|_| !run.force && !places.compute_base());
    let mut warnings = listener.join().unwrap_or_default();
    warnings.extend(memory.map(|error| format!("a run would end here: {error}")));
    warnings.extend(estimate.too_little_disk());
    if run.resume && earlier.is_none() {
        warnings.push("nothing to resume in this store: the study would start from the beginning".into());
    }
    let (base_done, cells) = earlier.unwrap_or_else(|| (false, draft.planned()));
    // Its number is given when the study begins.
    let folder = options.store.with_extension("d").join("study-N");
    Ok(Plan {
        warnings,
        scripts: places::scripts(places, &folder, estimate.host_bytes)?,
        estimate: estimate.of_workers(places),
        model: draft.study.info.clone(),
        environment: draft.study.environment.clone(),
        base_done,
        cells,
    })
}

/// What the store has of a study that would be resumed: whether its base is done, and how far its cells are. `None` where
/// there is no such study.
fn earlier_run(
    draft: &StudyDraft,
    store: &Path,
    reporter: &mut Reporter,
) -> Result<Option<(bool, Vec<PlannedCell>)>> {
    if !store.exists() {
        return Ok(None);
    }
    let store = Store::open_read_only(store)?;
    let content = draft.content(reporter)?;
    let Some(number) = store.resumable(&draft.study.spec, Some(&content))? else { return Ok(None) };
    let record = store.study(number)?;
    let mut cells = draft.planned();
    for cell in &mut cells {
        if record.cells.iter().any(|known| known.id == cell.id && known.state == CellState::Done) {
            cell.state = CellState::Done;
        }
        cell.blocks_done = checkpoint::blocks_done(&store.folder(number, Some(&cell.id)))?;
    }
    Ok(Some((record.base_state == CellState::Done, cells)))
}

/// Refuses to save models where this machine computes nothing.
///
/// # Errors
/// [`Error::Mistake`] saying what does instead.
pub(super) fn check_where_saved(options: &RunOptions) -> Result<()> {
    if options.places.compute_base() && options.save_models.is_some() {
        return Err(Error::mistake(
            "--save-models writes models on this machine, where nothing is to be computed with --places slurm: \
             accepted is `secateur export` afterwards, in a job",
        ));
    }
    Ok(())
}

/// Refuses to save cells in places or a format that will not do.
///
/// # Errors
/// [`Error::Mistake`] for the first of them.
pub(super) fn check_saves(draft: &StudyDraft, options: &RunOptions) -> Result<()> {
    let Some(folder) = &options.save_models else { return Ok(()) };
    draft.planned().iter().try_for_each(|cell| check_save(draft, options, folder, cell))
}

/// Refuses to save a cell in a place or a format that will not do. What an interrupted run has saved is not saved again.
fn check_save(draft: &StudyDraft, options: &RunOptions, folder: &Path, cell: &PlannedCell) -> Result<()> {
    let format = options.save_as.0;
    if let Some(why) =
        format.refuses_with(&draft.study.folder, Some(&cell.spec.recipe), &options.save_options)
    {
        let message = format!("{} cannot be exported as {}: {why}", cell.id, format.name());
        return Err(Error::mistake(message).at("save-as"));
    }
    let target = format.path_in(folder, &cell.id);
    if options.resume && is_saved(&target) { Ok(()) } else { format.check_target(&target) }
}

/// Whether an earlier run has exported something to a place: an export is there whole or not at all.
pub(super) fn is_saved(target: &Path) -> bool {
    target.is_file() || std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some())
}
