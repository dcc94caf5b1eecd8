//! What workers are told: the study, and the cells that they choose from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::choice::Places;
use super::folder::{BASE, FORMAT, PlacesFolder, SharedStudy, WaitingList};
use super::record::FollowedCell;
use super::settle::PATIENCE;
use crate::engine::session::Session;
use crate::error::{Error, Result};
use crate::study::CellSpec;

/// How often the hearts of workers beat: of processes, which look at the same files as the ledger, and of jobs, whose
/// beats are requests to a file server.
const BEAT: [u64; 2] = [250, 3000];

/// How often the ledger looks again before it believes that the client asks for no more cells.
const LOOKS: u32 = 4;

/// Writes down for workers what is studied, and how.
///
/// # Errors
/// A folder that cannot be written.
pub(super) fn share_study(session: &Session, folder: &PlacesFolder) -> Result<()> {
    let working_folder = std::env::current_dir()
        .map_err(|e| Error::Io { context: "cannot find the current folder".into(), source: e })?;
    let places = &session.options.places;
    let is_far = matches!(places, Places::Slurm(_));
    let mut spec = session.study.spec.clone();
    let device = places.device_of_jobs(&spec.compute.device).to_owned();
    spec.compute.device = device;
    // One that finds no GPU must not compute in another precision.
    spec.compute.dtype.clone_from(&session.study.environment.compute_dtype);
    folder.open(&SharedStudy {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        spec,
        content: session.ledger.content().clone(),
        working_folder,
        // What has to be fetched, this process has fetched.
        offline: true,
        held_experts: (!is_far).then_some(session.study.sizes.held_experts),
        beat_milliseconds: BEAT[usize::from(is_far)],
        patience_seconds: PATIENCE.as_secs(),
    })
}

/// What the list is made of.
#[derive(Debug)]
pub(super) struct OfferedCells<'a> {
    /// The cells that workers may compute or do compute, and the base where they measure it.
    pub cells: &'a BTreeMap<String, FollowedCell>,
    pub waiting: &'a [CellSpec],
    pub cancelled: &'a [String],
    pub is_paused: bool,
    /// Cells may follow from what is found out.
    pub expects_more: bool,
}

/// What workers were told last.
#[derive(Debug)]
pub(super) struct CellsOnOffer {
    list: Option<WaitingList>,
    /// How long workers wait for cells that may follow.
    linger: Duration,
    /// When there was a cell on the list for the last time.
    filled: Option<Instant>,
}

impl CellsOnOffer {
    /// Nothing yet; the ledger looks every `tick`.
    pub fn new(tick: Duration) -> Self {
        Self { list: None, linger: (tick * LOOKS).max(Duration::from_secs(3)), filled: None }
    }

    /// Whether workers that have nothing to do are still of use.
    pub fn waits_for_more(&self) -> bool {
        self.list.as_ref().is_some_and(|list| list.more)
    }

    /// Tells the workers which cells are wanted: the base, those that are computed, and then those that wait.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn put(&mut self, folder: &PlacesFolder, offered: &OfferedCells<'_>) -> Result<()> {
        let is_wanted = |id: &String| !offered.cancelled.contains(id);
        let base = offered.cells.contains_key(BASE).then(|| BASE.to_owned());
        let running = offered.cells.iter().filter(|(id, cell)| cell.is_running && *id != BASE);
        let running = running.map(|(id, _)| id.clone()).filter(is_wanted);
        let mut cells: Vec<String> = base.into_iter().chain(running).collect();
        let known = offered.waiting.iter().map(CellSpec::id).filter(|id| offered.cells.contains_key(id));
        cells.extend(known.filter(is_wanted));
        cells.dedup();
        if !cells.is_empty() {
            self.filled = Some(Instant::now());
        }
        let is_recent = self.filled.is_some_and(|filled| filled.elapsed() < self.linger);
        let list = WaitingList { paused: offered.is_paused, more: offered.expects_more && is_recent, cells };
        if self.list.as_ref() != Some(&list) {
            folder.put_waiting(&list)?;
            self.list = Some(list);
        }
        Ok(())
    }
}
