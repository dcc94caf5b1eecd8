//! What workers say of themselves, for the client: phases and progress.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::folder::{BASE, WorkerStatus};
use super::identity::ProcessIdentity;
use crate::engine::Reporter;
use crate::engine::event::{Event, Phase, PlaceActivity};
use crate::engine::progress::WorkersAtWork;

/// How often the client is told.
const INTERVAL: Duration = Duration::from_millis(250);

/// So many places that ended without a word are told of.
const REMEMBERED: usize = 3;

/// How fast places compute that share nothing with this process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PaceElsewhere {
    /// How many places compute without taking anything from each other.
    pub apart: usize,
    /// This process has measured nothing that would tell how fast they are.
    pub is_other_hardware: bool,
    /// How many cells wait.
    pub waiting: usize,
    /// Seconds of each cell that is done.
    pub done: Vec<f64>,
}

impl PaceElsewhere {
    /// How long the waiting cells take, by what others took; `None` where this process knows better, or nobody knows yet.
    fn waiting_seconds(&self, working: &[&WorkerStatus]) -> Option<f64> {
        if !self.is_other_hardware {
            return None;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let begun = working.iter().filter(|status| status.cell.as_deref() != Some(BASE));
        let begun =
            begun.filter_map(|status| Some(now.saturating_sub(status.since) as f64 + status.left_seconds?));
        let known: Vec<f64> = if self.done.is_empty() { begun.collect() } else { self.done.clone() };
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let places = working.len().max(1) as f64;
        Some(mean * self.waiting as f64 / places).filter(|seconds| seconds.is_finite())
    }
}

/// What was told last.
#[derive(Debug)]
pub(crate) struct WorkersWatch {
    began: Instant,
    told: Option<Instant>,
    phases: HashMap<String, Phase>,
    places: Vec<PlaceActivity>,
    /// The last places that ended without a word, and what became of their cells.
    gone: VecDeque<PlaceActivity>,
}

impl WorkersWatch {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            told: None,
            phases: HashMap::new(),
            places: Vec::new(),
            gone: VecDeque::new(),
        }
    }

    pub fn is_due(&self) -> bool {
        self.told.is_none_or(|told| told.elapsed() >= INTERVAL)
    }

    /// A worker ended without a word, and another one continues its cell.
    pub fn note_gone(&mut self, worker: &ProcessIdentity, cell: &str) {
        if self.gone.len() == REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back(PlaceActivity::of_gone(worker.describe(), cell));
    }

    /// Tells what has changed, `queued` being what waits to run. Only cells that are known to be computed count.
    pub fn tell(
        &mut self,
        statuses: &BTreeMap<String, WorkerStatus>,
        queued: Vec<PlaceActivity>,
        pace: &PaceElsewhere,
        is_running: &dyn Fn(&str) -> bool,
        reporter: &mut Reporter,
    ) {
        self.told = Some(Instant::now());
        let at_work = |status: &&WorkerStatus| status.cell.as_deref().is_some_and(is_running);
        let working: Vec<&WorkerStatus> = statuses.values().filter(at_work).collect();
        for status in &working {
            let (Some(cell), Some(phase)) = (&status.cell, status.phase) else { continue };
            if self.phases.insert(cell.clone(), phase) != Some(phase) {
                let cell = Some(cell.clone()).filter(|cell| cell != BASE);
                reporter.event(Event::Phase { cell, phase });
            }
        }
        let mut places: Vec<PlaceActivity> = statuses.values().map(activity).collect();
        places.extend(queued);
        places.extend(self.gone.iter().cloned());
        if places != self.places {
            self.places.clone_from(&places);
            reporter.event(Event::Places { places });
        }
        let Some(oldest) = working.iter().min_by_key(|status| (status.since, &status.cell)) else { return };
        reporter.tracker.elsewhere(WorkersAtWork {
            cell: oldest.cell.clone().filter(|cell| cell != BASE),
            phase: oldest.phase,
            done: oldest.done,
            total: oldest.total,
            unit: unit(&oldest.unit),
            tokens_per_second: working.iter().map(|status| status.tokens_per_second).sum(),
            left: working.iter().filter_map(|status| status.left_seconds).collect(),
            apart: pace.apart,
            waiting_seconds: pace.waiting_seconds(&working),
            elapsed: self.began.elapsed().as_secs_f64(),
        });
    }
}

fn activity(status: &WorkerStatus) -> PlaceActivity {
    PlaceActivity {
        worker: status.identity.describe(),
        device: status.device.clone(),
        cell: status.cell.clone(),
        phase: status.cell.as_ref().and(status.phase),
        tokens_per_second: status.cell.as_ref().map_or(0, |_| status.tokens_per_second.round() as u64),
        since: status.cell.as_ref().map(|_| status.since),
        absence: None,
    }
}

/// The unit of a step as [`Progress`](crate::engine::Progress) has it; nothing for one that is not known here.
fn unit(name: &str) -> &'static str {
    ["blocks", "windows", "answers", "trials", "tensors", "bytes", "files", "records", "questions"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or_default()
}
