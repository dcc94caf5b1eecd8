//! What workers say of themselves, for the client: phases and progress.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::folder::WorkerStatus;
use crate::engine::Reporter;
use crate::engine::event::{Event, Phase, PlaceActivity};
use crate::engine::progress::WorkersAtWork;

/// How often the client is told.
const INTERVAL: Duration = Duration::from_millis(250);

/// What was told last.
#[derive(Debug)]
pub(crate) struct WorkersWatch {
    began: Instant,
    told: Option<Instant>,
    phases: HashMap<String, Phase>,
    places: Vec<PlaceActivity>,
}

impl WorkersWatch {
    pub fn new() -> Self {
        Self { began: Instant::now(), told: None, phases: HashMap::new(), places: Vec::new() }
    }

    pub fn is_due(&self) -> bool {
        self.told.is_none_or(|told| told.elapsed() >= INTERVAL)
    }

    /// Tells what has changed. Only cells that are known to be computed count.
    pub fn tell(
        &mut self,
        statuses: &BTreeMap<String, WorkerStatus>,
        is_running: &dyn Fn(&str) -> bool,
        reporter: &mut Reporter,
    ) {
        self.told = Some(Instant::now());
        let at_work = |status: &&WorkerStatus| status.cell.as_deref().is_some_and(is_running);
        let working: Vec<&WorkerStatus> = statuses.values().filter(at_work).collect();
        for status in &working {
            let (Some(cell), Some(phase)) = (&status.cell, status.phase) else { continue };
            if self.phases.insert(cell.clone(), phase) != Some(phase) {
                reporter.event(Event::Phase { cell: Some(cell.clone()), phase });
            }
        }
        let places: Vec<PlaceActivity> = statuses.values().map(activity).collect();
        if places != self.places {
            self.places.clone_from(&places);
            reporter.event(Event::Places { places });
        }
        let Some(oldest) = working.iter().min_by_key(|status| (status.since, &status.cell)) else { return };
        reporter.tracker.elsewhere(WorkersAtWork {
            cell: oldest.cell.clone(),
            phase: oldest.phase,
            done: oldest.done,
            total: oldest.total,
            unit: unit(&oldest.unit),
            tokens_per_second: working.iter().map(|status| status.tokens_per_second).sum(),
            left: working.iter().filter_map(|status| status.left_seconds).collect(),
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
        since: status.cell.as_ref().map(|_| status.since),
    }
}

/// The unit of a step as [`Progress`](crate::engine::Progress) has it; nothing for one that is not known here.
fn unit(name: &str) -> &'static str {
    ["blocks", "windows", "answers", "trials", "tensors", "bytes", "files", "records", "questions"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or_default()
}
