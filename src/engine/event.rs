//! What goes in and out of the engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::places::Places;
use crate::data::Coverage;
use crate::error::{Error, Result};
use crate::export::{ExportFormat, ExportOptions};
use crate::human;
use crate::results::{
    Answer, CellState, Environment, Footprint, Metrics, ModelInfo, ModuleResult, RankCorrelations, Seconds,
    StudyResult,
};
use crate::study::{CellSpec, Contamination, StudySpec};

/// How a study is to be run, apart from what it measures.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Go on with the newest unfinished study of the store that has the same definition.
    pub resume: bool,
    /// Run even if the estimate says that memory will not do.
    pub force: bool,
    /// Export every finished cell below this folder, each under its own name.
    pub save_models: Option<PathBuf>,
    /// The format of these exports.
    pub save_as: ExportFormat,
    /// What is chosen about them.
    pub save_options: ExportOptions,
    /// Most bytes of a block's experts that are held at the same time; `None` depends on how much memory is free.
    pub held_experts: Option<usize>,
    /// Who computes the cells.
    pub places: Places,
}

/// What a client asks of the engine.
#[derive(Debug)]
pub enum Command {
    /// Runs a study from the beginning, or resumes it.
    Start(Box<StudySpec>, RunOptions),
    /// Goes on with a study of the store: cells that are done stay, all others run.
    Resume(i64, RunOptions),
    /// Queues one more cell of the running (or last) study.
    AddCell(CellSpec),
    /// Whether more cells depend on what the current ones turn out to be: workers wait a moment for them before they end.
    ExpectCells(bool),
    /// Stops the running cell within one module, or takes a waiting one out of the queue.
    CancelCell(String),
    /// The waiting cells in their new order; cells that are not named keep theirs, behind.
    Reorder(Vec<String>),
    /// Deletes a study of the store with its checkpoints; not while it runs.
    Delete(i64),
    /// Stops computing at the next module until [`Command::Unpause`].
    Pause,
    /// Continues after a pause.
    Unpause,
    /// Stops: after the current block if `after_block`, else within one module. Everything whole is kept.
    Shutdown {
        /// Finish and checkpoint the current block first.
        after_block: bool,
    },
}

/// What the engine is doing in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Fetching files from the hub.
    Download,
    /// Reading weights, tokenising texts.
    Load,
    /// Reading a calibration set with the dense model, to choose what is removed.
    Survey,
    /// Choosing and updating weights.
    Prune,
    /// Perplexity and divergences.
    Evaluate,
    /// Generating task answers.
    Answer,
    /// Writing a compressed model.
    Export,
}

impl Phase {
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Download => "downloading",
            Self::Load => "loading",
            Self::Survey => "surveying blocks",
            Self::Prune => "compressing",
            Self::Evaluate => "evaluating",
            Self::Answer => "answering tasks",
            Self::Export => "exporting",
        }
    }
}

/// The latest word on how far things are. Sent over a `watch`: only the newest counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Progress {
    /// Running cell; `None` while the base is measured or nothing runs.
    pub cell: Option<String>,
    pub(crate) phase: Option<Phase>,
    /// Steps of the phase done, e.g. blocks.
    pub done: u64,
    /// Steps of the phase in all; 0 where unknown.
    pub total: u64,
    /// What a step is: `blocks`, `bytes`, `answers`.
    pub unit: &'static str,
    /// Share of the whole study done, `0 … 1`.
    pub study: f64,
    pub(crate) tokens_per_second: f64,
    pub(crate) blocks_per_second: f64,
    /// Seconds that are left for the study, as far as can be told.
    pub eta_seconds: Option<f64>,
    /// Whether the engine is paused.
    pub paused: bool,
}

/// What a study needs, foretold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ResourceEstimate {
    /// Peak resident memory of the host, in bytes.
    pub host_bytes: u64,
    /// Memory the host has free for it, in bytes.
    pub host_available: u64,
    /// Peak memory of the device, in bytes; 0 on the CPU.
    pub device_bytes: u64,
    /// Memory the device has free for it, in bytes; `None` on the CPU and where the device does not tell.
    pub device_available: Option<u64>,
    /// Bytes written below the store's folder.
    pub disk_bytes: u64,
    /// Bytes free there.
    pub disk_available: u64,
    /// Seconds for the whole study; measured by a short calibration of this machine.
    pub seconds: f64,
}

/// Something that happened. Never dropped; in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The study is understood and about to run.
    Plan {
        /// Its number in the store.
        study: i64,
        /// The model.
        model: Box<ModelInfo>,
        /// The machine.
        environment: Environment,
        /// Its cells in the order they will run, with the state that they start from.
        cells: Vec<PlannedCell>,
        /// What it needs.
        estimate: ResourceEstimate,
    },
    /// Calibration windows were drawn.
    Calibration {
        /// Short name of the set.
        set: String,
        /// Short name of the component that they come from, where the set draws from several.
        #[serde(skip_serializing_if = "Option::is_none")]
        component: Option<String>,
        /// Seed of the sampling.
        seed: u64,
        /// How much of it they show.
        coverage: Coverage,
    },
    /// Calibration text was looked for in what is measured.
    Contamination {
        /// Short name of the calibration set.
        set: String,
        /// What was found, by corpus and task.
        found: Vec<Contamination>,
    },
    /// A cell (or the base: `None`) changed its state.
    Cell {
        /// Id of the cell; `None` is the base.
        cell: Option<String>,
        /// Its new state.
        state: CellState,
    },
    /// Work of another kind begins.
    Phase {
        /// Id of the cell; `None` is the base or the study.
        cell: Option<String>,
        /// What begins.
        phase: Phase,
    },
    /// A calibration set was read with the dense model.
    Surveyed {
        /// The set's key within the study, as `secateur show --survey` names it.
        calibration: String,
        /// Influence of every block.
        influence: Vec<f64>,
    },
    /// A module was pruned.
    Module {
        /// Id of the cell.
        cell: String,
        /// What was done to it.
        module: ModuleResult,
    },
    /// A block was pruned and is safe on disk.
    Checkpoint {
        /// Id of the cell.
        cell: String,
        /// Block number, from 0.
        block: usize,
    },
    /// More is known of a cell (or of the base: `None`); carries all that is known.
    Metrics {
        /// Id of the cell; `None` is the base.
        cell: Option<String>,
        /// All measurements so far.
        metrics: Metrics,
    },
    /// A task record was answered.
    Answer {
        /// Id of the cell; `None` is the base.
        cell: Option<String>,
        /// The answer.
        answer: Answer,
    },
    /// An answer was compared with the base: how far the two disagreed at each of its tokens.
    Disagreement {
        /// Id of the cell.
        cell: String,
        /// Short name of the task file.
        task: String,
        /// Record number in the task file, from 0.
        record: usize,
        /// JS divergence in bits at each token, as in [`Answer::disagreement_bits`].
        #[serde(with = "crate::number::list")]
        bits: Vec<f32>,
    },
    /// A cell (or the base: `None`) is complete.
    CellDone {
        /// Id of the cell; `None` is the base.
        cell: Option<String>,
        /// Where its time went.
        seconds: Seconds,
        /// What became of the weights; `None` for the base.
        footprint: Option<Footprint>,
    },
    /// Which metric ranks the cells as the tasks do, over the cells done so far.
    RankCorrelations {
        /// The rank correlations.
        found: RankCorrelations,
    },
    /// What the machine is doing; about once a second while work runs.
    Resources {
        /// The sample.
        sample: ResourceSample,
    },
    /// A person should know this.
    Warning {
        /// Id of the cell it belongs to, if any.
        cell: Option<String>,
        /// What to know.
        message: String,
    },
    /// What workers do has changed: all of them.
    Places {
        /// One entry a worker.
        places: Vec<PlaceActivity>,
    },
    /// A pruned model was written.
    Exported {
        /// Id of the cell.
        cell: String,
        /// The folder.
        path: PathBuf,
    },
    /// One cell failed; the study continues with the next.
    CellFailed {
        /// Id of the cell; `None` is the base.
        cell: Option<String>,
        /// Why.
        message: String,
    },
    /// The queue is empty; cells may still be added.
    Finished {
        /// Everything found out.
        result: Box<StudyResult>,
    },
    /// A study is gone from the store.
    Deleted {
        /// Its number there.
        study: i64,
    },
    /// Something that was asked for could not be done; whatever runs continues.
    Refused {
        /// Why.
        message: String,
    },
    /// The study could not start or continue.
    Failed {
        /// Why, and what to do.
        message: String,
        /// What the process should exit with when it gives up: 2 for the user's mistake, else 1.
        exit_code: u8,
        /// Flag, without its dashes, of the setting at fault, where one is.
        #[serde(skip_serializing_if = "Option::is_none")]
        setting: Option<&'static str>,
    },
    /// The engine has shut down on request; the last event there is.
    Stopped {
        /// The study that can be resumed, if one was running.
        resumable: Option<i64>,
    },
}

/// What a worker does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceActivity {
    /// How people tell it from others: its process and host, or its job.
    pub worker: String,
    pub(crate) device: String,
    /// Id of the cell that it computes, `base` for the base; `None` while it waits or begins.
    pub cell: Option<String>,
    pub(crate) phase: Option<Phase>,
    pub(crate) tokens_per_second: u64,
    /// Seconds since the epoch, when it began the cell.
    pub(crate) since: Option<u64>,
    /// Why it cannot compute.
    pub(crate) absence: Option<Absence>,
}

/// Why a worker is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Absence {
    /// Its job waits; what the scheduler says of it.
    Queued(String),
    /// It ended without a word; what became of its cell.
    Gone(String),
}

impl PlaceActivity {
    /// A job that does not run yet, with what its scheduler says.
    pub(crate) fn of_waiting_job(job: &str, said: &str) -> Self {
        Self {
            worker: format!("job {job}"),
            device: String::new(),
            cell: None,
            phase: None,
            tokens_per_second: 0,
            since: None,
            absence: Some(Absence::Queued(said.to_owned())),
        }
    }

    /// A place that ended without a word while it computed a cell.
    pub(crate) fn of_gone(worker: String, cell: &str) -> Self {
        Self {
            worker,
            device: String::new(),
            cell: None,
            phase: None,
            tokens_per_second: 0,
            since: None,
            absence: Some(Absence::Gone(format!("ended without a word; another one continues {cell}"))),
        }
    }

    /// Whether this is the same worker, still at the same cell.
    pub(crate) fn is_same_work(&self, other: &Self) -> bool {
        self.worker == other.worker && self.cell == other.cell
    }
}

/// A cell in a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCell {
    /// Id of the cell.
    pub id: String,
    pub(crate) spec: CellSpec,
    /// `Done` for a cell that an earlier run finished.
    pub state: CellState,
    /// Blocks that an earlier run finished.
    pub blocks_done: usize,
}

/// What the machine was doing at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ResourceSample {
    pub(crate) cpu_cores: f32,
    pub(crate) host_cores: usize,
    pub(crate) rss_bytes: u64,
    pub(crate) host_used_bytes: u64,
    pub(crate) host_total_bytes: u64,
    /// GPU use, `0 … 1`, where there is one that tells.
    pub gpu: Option<f32>,
    pub(crate) gpu_used_bytes: Option<u64>,
    pub(crate) gpu_total_bytes: Option<u64>,
}

impl ResourceEstimate {
    /// Refuses a study that needs more memory than there is.
    ///
    /// # Errors
    /// [`Error::Mistake`] with what would need less.
    pub(super) fn check_memory(&self) -> Result<()> {
        let needs = [
            ("", self.host_bytes, Some(self.host_available)),
            (" on the device", self.device_bytes, self.device_available),
        ];
        for (place, needed, available) in needs {
            let Some(available) = available.filter(|&available| needed > available) else { continue };
            return Err(Error::mistake(format!(
                "not enough memory{place}: the study needs about {} MiB and {} MiB are free; use fewer or shorter windows \
                 (--max-windows, --calibration-samples, --seq-len, --batch-tokens), fewer or shorter answers at once \
                 (--batch-prompts, --max-new-tokens), or --force to try all the same",
                needed >> 20,
                available >> 20
            )));
        }
        Ok(())
    }

    /// What a person should know where the disk seems too small.
    pub(super) fn too_little_disk(&self) -> Option<String> {
        (self.disk_bytes > self.disk_available).then(|| {
            format!(
                "the study needs about {} of disk, and {} are free: it stops where these end, and can be resumed then",
                human::bytes(self.disk_bytes),
                human::bytes(self.disk_available)
            )
        })
    }

    /// The same for a study whose cells are computed in these places: memory of the host for all processes, and of a device
    /// for those that share one.
    pub(crate) fn of_workers(self, places: &Places) -> Self {
        let here = places.processes_here() as u64;
        let on_device = here.div_ceil(places.devices() as u64);
        Self { host_bytes: self.host_bytes * here, device_bytes: self.device_bytes * on_device, ..self }
    }

    /// How many processes there is memory for, at most so many as are wanted, and at least one. Other devices are taken to
    /// have as much free as the first.
    pub(crate) fn fitting_workers(&self, places: &Places) -> usize {
        let fits =
            |needed: u64, available: u64| usize::try_from(available / needed.max(1)).unwrap_or(usize::MAX);
        let on_host = fits(self.host_bytes, self.host_available);
        let on_device = self.device_available.map_or(usize::MAX, |free| fits(self.device_bytes, free));
        let on_devices = on_device.saturating_mul(places.devices());
        places.processes_here().min(on_host).min(on_devices).max(1)
    }
}

impl Event {
    /// A cell does not fit the model, or the other cells. Whoever hears it puts the cell's name before the reason.
    pub(super) fn cell_refused(cell: &CellSpec, error: &Error) -> Self {
        let reason = error.to_string();
        let named = format!("{}: ", cell.label());
        let message = reason.strip_prefix(&named).unwrap_or(&reason).to_owned();
        Self::CellFailed { cell: Some(cell.id()), message }
    }

    /// The study could not start or continue.
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { message: error.to_string(), exit_code: error.exit_code(), setting: error.flag() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_workers_as_memory_has_room_for_and_never_none() {
        let estimate =
            ResourceEstimate { host_bytes: 100, host_available: 350, ..ResourceEstimate::default() };
        let workers = |count| Places::Processes { count, devices: Vec::new() };
        let fitting = [1, 2, 3, 4, 9].map(|wanted| estimate.fitting_workers(&workers(wanted)));
        assert_eq!(fitting, [1, 2, 3, 3, 3]);
        let device = ResourceEstimate { device_bytes: 10, device_available: Some(25), ..estimate.clone() };
        assert_eq!(device.fitting_workers(&workers(3)), 2);
        let two = Places::Processes { count: 5, devices: vec!["cuda:0".into(), "cuda:1".into()] };
        let roomy = ResourceEstimate { host_available: 5000, ..device };
        assert_eq!(roomy.fitting_workers(&two), 4, "two on each");
        assert_eq!(roomy.of_workers(&two).device_bytes, 30);
        let tight = ResourceEstimate { host_available: 50, ..estimate };
        assert_eq!(tight.fitting_workers(&workers(4)), 1);
        assert_eq!(tight.of_workers(&workers(3)).host_bytes, 300);
    }
}
