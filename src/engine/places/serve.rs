//! A worker: a process that takes cells from a study's folder and computes them, one after the other.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::choice::Places;
use super::claims::{CellClaim, CellOrder, CellWork, ClaimEnd, FindingsWriter};
use super::folder::{BASE, PlacesFolder, SharedStudy};
use super::heartbeat::{CurrentCell, Heartbeat};
use super::identity::ProcessIdentity;
use super::liveness::{CellAvailability, HeartbeatObserver};
use crate::engine::Reporter;
use crate::engine::assignment::Assignment;
use crate::engine::calibration::CalibrationSets;
use crate::engine::compute::{choose_and_compute, compute};
use crate::engine::content;
use crate::engine::control::Control;
use crate::engine::draft::StudyDraft;
use crate::engine::event::{Command, Progress};
use crate::engine::finding::Finding;
use crate::engine::ledger::replace_module;
use crate::engine::place::Place;
use crate::engine::progress::Tracker;
use crate::engine::study::Study;
use crate::error::{Error, Result};
use crate::interrupt::panic_message;
use crate::model::RemovedParts;
use crate::results::Seconds;
use crate::store::{name_writer, remove_unfinished};
use crate::study::CellSpec;

/// After so many workers in a row that died on a cell before there was any progress, nobody tries it again.
const DEATHS: u32 = 5;

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The study's folder, beside its store.
    pub folder: PathBuf,
    /// Threads that it computes with; `None` is one a core.
    pub threads: Option<usize>,
    /// Where it computes, in place of the study's device.
    pub device: Option<String>,
    /// It ends when the base is measured.
    pub only_base: bool,
}

/// A worker that has found its study.
#[derive(Debug)]
pub struct PlaceWorker {
    folder: PlacesFolder,
    shared: SharedStudy,
    threads: usize,
    only_base: bool,
    control: Arc<Control>,
}

/// How somebody else asks a worker to stop.
#[derive(Debug, Clone)]
pub struct WorkerStopper(Arc<Control>);

impl WorkerStopper {
    /// Asks it to stop: after the current block, or within a module. Every whole block is kept in either case.
    pub fn stop(&self, after_block: bool) {
        self.0.obey(Command::Shutdown { after_block });
    }
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerOutcome {
    /// Nothing is left to be computed.
    NothingLeft,
    /// It was asked to stop.
    Stopped,
}

impl PlaceWorker {
    /// Finds the study of a folder.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a folder that is none of a study that workers can join.
    pub fn open(options: WorkerOptions) -> Result<Self> {
        let path = options.folder;
        let path = path.canonicalize().map_err(|e| {
            Error::mistake(format!("the study folder {} cannot be used: {e}", path.display()))
        })?;
        let folder = PlacesFolder::new(&path);
        let mut shared = folder.shared_study()?;
        if let Some(device) = options.device {
            crate::device::check_device(&device)?;
            shared.spec.compute.device = device;
        }
        let threads = options.threads.unwrap_or(0);
        let only_base = options.only_base;
        Ok(Self { folder, shared, threads, only_base, control: Arc::new(Control::default()) })
    }

    /// What stops it.
    pub fn stopper(&self) -> WorkerStopper {
        WorkerStopper(self.control.clone())
    }

    /// Computes cells until none is left, or until it is asked to stop.
    ///
    /// # Errors
    /// A study that cannot be understood here, or whose files hold something else than where it began; a folder that cannot
    /// be used.
    pub fn run(self) -> Result<WorkerOutcome> {
        let working = &self.shared.working_folder;
        std::env::set_current_dir(working).map_err(|e| Error::io("cannot work in", working, e))?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .thread_name(|i| format!("compute-{i}"))
            .build()
            .map_err(|e| Error::failure(format!("cannot start compute threads: {e}")))?;
        pool.install(|| self.work())
    }

    fn work(&self) -> Result<WorkerOutcome> {
        let identity = ProcessIdentity::own();
        let worker = identity.unique_name();
        name_writer(&worker);
        let (publish, progress) = watch::channel(Progress::default());
        // What a worker finds out goes into files; nobody hears its events.
        let (events, _) = mpsc::channel(1);
        let mut reporter = Reporter::new(events, Tracker::new(publish), self.control.clone());
        let who = (worker.as_str(), &identity, self.shared.spec.compute.device.as_str());
        let interval = Duration::from_millis(self.shared.beat_milliseconds);
        let heartbeat = Heartbeat::start(&self.folder, who, interval, self.control.clone(), progress)?;
        let claim = CellClaim { worker: worker.clone(), identity: identity.clone() };
        let patience = Duration::from_secs(self.shared.patience_seconds);
        let mut observer = HeartbeatObserver::new(patience);
        let desk = WorkerDesk::prepare(self, &mut reporter);
        let mut desk = match desk {
            Err(Error::Cancelled) => return Ok(WorkerOutcome::Stopped),
            desk => desk?,
        };
        let mut idle = Instant::now();
        loop {
            if self.control.stopping() {
                return Ok(WorkerOutcome::Stopped);
            }
            match self.next(&claim, &mut observer)? {
                NextCell::Claimed(order, number) => {
                    heartbeat.computes(Some(CurrentCell::new(&order.id, number)));
                    let end = desk.compute(*order, number, &mut reporter);
                    heartbeat.computes(None);
                    idle = Instant::now();
                    match end? {
                        ClaimEnd::Failed { message, .. } if self.only_base => {
                            return Err(Error::failure(format!("the base cannot be measured: {message}")));
                        }
                        _ => {}
                    }
                }
                NextCell::NothingLeft => return Ok(WorkerOutcome::NothingLeft),
                // A ledger that was killed does not take back what it said.
                NextCell::MayFollow if idle.elapsed() > patience => return Ok(WorkerOutcome::NothingLeft),
                NextCell::MayFollow | NextCell::Wait => self.control.wait(interval),
            }
        }
    }

    /// The first cell of the list that nobody computes, claimed.
    fn next(&self, claim: &CellClaim, observer: &mut HeartbeatObserver) -> Result<NextCell> {
        let waiting = self.folder.waiting()?.unwrap_or_default();
        if waiting.paused {
            return Ok(NextCell::Wait);
        }
        let mut is_left = false;
        for id in &waiting.cells {
            let is_base = id == BASE;
            if self.only_base && !is_base {
                break;
            }
            let work = CellWork::of(&self.folder.checkpoints(Some(id)));
            let (number, order) = match observer.availability(&self.folder, &work)? {
                // Without the base there is nothing to compare cells with.
                CellAvailability::Taken(_) if is_base => return Ok(NextCell::Wait),
                CellAvailability::Taken(_) => {
                    is_left = true;
                    continue;
                }
                CellAvailability::Free(number) => (number, work.order()?),
                CellAvailability::Ended(claim) => {
                    // One that was ordered again since may be tried again.
                    let again = work.order()?.filter(|order| order.known_claims >= claim);
                    if is_base && again.is_none() && work.end(claim)? != Some(ClaimEnd::Done) {
                        return Ok(NextCell::NothingLeft);
                    }
                    (claim + 1, again)
                }
            };
            let Some(order) = order else { continue };
            is_left = true;
            if work.try_claim(number, claim)? {
                return Ok(NextCell::Claimed(Box::new(order), number));
            }
            if is_base {
                return Ok(NextCell::Wait);
            }
        }
        Ok(match (is_left, waiting.more && !self.only_base) {
            (true, _) => NextCell::Wait,
            (false, true) => NextCell::MayFollow,
            (false, false) => NextCell::NothingLeft,
        })
    }
}

enum NextCell {
    Claimed(Box<CellOrder>, u32),
    /// Others compute what is left; should they die, it has to be taken over.
    Wait,
    /// Nothing is left, and the ledger may ask for more.
    MayFollow,
    NothingLeft,
}

/// What a worker computes with.
struct WorkerDesk<'a> {
    folder: &'a PlacesFolder,
    control: &'a Control,
    study: Study,
    sets: CalibrationSets,
    place: Place,
}

impl<'a> WorkerDesk<'a> {
    /// Understands the study.
    fn prepare(worker: &'a PlaceWorker, reporter: &mut Reporter) -> Result<Self> {
        let PlaceWorker { folder, shared, control, .. } = worker;
        let mut draft = StudyDraft::new(shared.spec.clone(), &Places::Here, shared.offline, reporter)?;
        if let Some(bytes) = shared.held_experts {
            draft.study.sizes.held_experts = bytes;
        }
        let content = draft.content(reporter)?;
        if let Some(part) = shared.content.difference(&content) {
            return Err(Error::mistake(format!(
                "{part} is not what it was where the study began; accepted are the same files on every machine"
            )));
        }
        reporter.tracker.begin(draft.speed);
        reporter.study(&draft.study.sizes);
        let place = draft.place();
        let StudyDraft { study, sets, .. } = draft;
        Ok(Self { folder, control, study, sets, place })
    }

    /// Brings back what the base was measured with, unless it is there.
    fn bring_back_base(&mut self, reporter: &mut Reporter) -> Result<()> {
        if self.place.base.is_none() {
            let base = Assignment { is_known: true, ..self.base_assignment() };
            self.place.base = compute(&self.study, &self.place, &base, reporter, &mut |_| Ok(()))?;
        }
        self.place.finish_saving_base()
    }

    /// The base, of which nothing is known.
    fn base_assignment(&self) -> Assignment {
        Assignment {
            cell: None,
            id: None,
            folder: self.folder.checkpoints(None),
            base_folder: self.folder.checkpoints(None),
            calibration: None,
            calibration_warnings: Vec::new(),
            removed: RemovedParts::default(),
            narrowed: None,
            profile: None,
            modules: Vec::new(),
            answers: Vec::new(),
            seconds: Seconds::default(),
            is_known: false,
            has_cells: true,
        }
    }

    /// Computes a claimed cell, or the base. What goes wrong in it is written down, and ends only that; files at fault end
    /// the worker.
    fn compute(&mut self, order: CellOrder, number: u32, reporter: &mut Reporter) -> Result<ClaimEnd> {
        let work = CellWork::of(&self.folder.checkpoints(Some(&order.id)));
        // The one that is computed can be cancelled. The base ends with the study only.
        let can_begin = match &order.cell {
            Some(cell) => {
                self.control.fill(vec![cell.clone()]);
                self.control.take_cell().is_some()
            }
            None => !self.control.stopping(),
        };
        let found = if can_begin {
            std::panic::catch_unwind(AssertUnwindSafe(|| self.find_out(order, (&work, number), reporter)))
                .unwrap_or_else(|panic| {
                    Err(Error::failure(format!("a defect in secateur: {}", panic_message(&*panic))))
                })
        } else {
            Err(Error::Cancelled)
        };
        self.control.cell_ended();
        self.control.queue_nothing();
        reporter.tracker.unit(&Vec::new());
        reporter.tracker.rest();
        let end = match &found {
            Ok(()) => ClaimEnd::Done,
            Err(Error::Cancelled) if self.control.stopping() => ClaimEnd::Stopped,
            Err(Error::Cancelled) => ClaimEnd::Cancelled,
            Err(error) => ClaimEnd::Failed { message: error.to_string(), of_storage: error.is_of_storage() },
        };
        work.put_end(number, &end)?;
        match found {
            Err(error) if error.is_of_storage() => Err(error),
            _ => Ok(end),
        }
    }

    fn find_out(
        &mut self,
        order: CellOrder,
        (work, number): (&CellWork, u32),
        reporter: &mut Reporter,
    ) -> Result<()> {
        let mut findings = FindingsWriter::create(work, number)?;
        let checkpoints = self.folder.checkpoints(Some(&order.id));
        remove_unfinished(&checkpoints);
        let known_claims = order.known_claims;
        let mut assignment = Assignment {
            modules: order.modules,
            answers: order.answers,
            seconds: order.seconds,
            ..self.base_assignment()
        };
        if let Some(cell) = order.cell {
            self.bring_back_base(reporter)?;
            assignment.calibration = self.calibration(&cell, order.calibration.as_deref(), reporter)?;
            assignment.calibration_warnings = order.calibration_warnings;
            assignment.folder = checkpoints;
            assignment.cell = Some(cell);
            assignment.id = Some(order.id);
            assignment.has_cells = false;
        }
        let mut deaths = 0;
        for earlier in known_claims + 1..number {
            let (found, _) = work.findings(earlier, 0)?;
            if found.iter().any(|finding| matches!(finding, Finding::Done { .. })) {
                // Nothing is left to do, but of older claims the ledger does not read everything.
                return found.iter().try_for_each(|finding| findings.append(finding));
            }
            let is_death = work.end(earlier)?.is_none() && !found.iter().any(Finding::is_progress);
            deaths = if is_death { deaths + 1 } else { 0 };
            for finding in found {
                learn(&mut assignment, finding);
            }
        }
        if deaths >= DEATHS {
            return Err(Error::failure(format!(
                "{deaths} workers ended without a word while they computed it; is there too little memory for so many \
                 (--workers)?"
            )));
        }
        if assignment.cell.is_none() {
            // Others bring the base's states back from the disk as soon as it is done.
            let mut done = None;
            let mut append = |finding| match finding {
                Finding::Done { .. } => {
                    done = Some(finding);
                    Ok(())
                }
                finding => findings.append(&finding),
            };
            self.place.base = compute(&self.study, &self.place, &assignment, reporter, &mut append)?;
            self.place.finish_saving_base()?;
            return done.map_or(Ok(()), |done| findings.append(&done));
        }
        let mut append = |finding| findings.append(&finding);
        choose_and_compute(&self.study, &self.place, &mut assignment, reporter, &mut append)
    }

    /// The windows that a cell is calibrated on, which have to be those that the ledger saw.
    fn calibration(
        &mut self,
        cell: &CellSpec,
        digest: Option<&str>,
        reporter: &mut Reporter,
    ) -> Result<Option<Arc<Vec<Vec<u32>>>>> {
        let Some(set) = &cell.calibration else { return Ok(None) };
        let windows = self.sets.get((set, cell.seed), &self.study, reporter)?.windows.clone();
        if digest.is_some_and(|digest| digest != content::of_windows(&windows)) {
            return Err(Error::mistake(format!(
                "the calibration set {set} gives other windows than where the study began: accepted is the same text on \
                 every machine"
            )));
        }
        Ok(Some(windows))
    }
}

/// Adds to an assignment what was found out under an earlier claim.
fn learn(assignment: &mut Assignment, finding: Finding) {
    match finding {
        Finding::Module { module } => replace_module(&mut assignment.modules, &module),
        Finding::Seconds { seconds } => assignment.seconds = seconds,
        Finding::Answers { answers } => {
            for answer in answers {
                let same = |known: &crate::results::Answer| {
                    known.task == answer.task && known.record == answer.record
                };
                assignment.answers.retain(|known| !same(known));
                assignment.answers.push(answer);
            }
        }
        Finding::Disagreements { task, found } => {
            for found in found {
                let known = assignment.answers.iter_mut();
                let known = known.filter(|known| known.task == task && known.record == found.record);
                known.for_each(|known| known.disagreement_bits.clone_from(&found.bits));
            }
        }
        Finding::Warning { .. }
        | Finding::Checkpoint { .. }
        | Finding::Measured { .. }
        | Finding::Scored { .. }
        | Finding::Done { .. } => {}
    }
}
