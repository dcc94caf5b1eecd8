//! The computing thread: takes jobs, runs studies cell by cell, survives what goes wrong in one of them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use super::control::{Control, Job, Next};
use super::event::{Event, PlannedCell, ResourceEstimate, RunOptions};
use super::gpu::Gpu;
use super::options::EngineOptions;
use super::reporter::Reporter;
use super::resources::Sampler;
use super::session::{Session, StudyDraft};
use super::stream::HiddenStates;
use super::{answer, cell};
use crate::error::{Error, Result};
use crate::interrupt::panic_message;
use crate::results::{CellResult, CellState, Metrics, ModuleResult, Seconds, StudyResult};
use crate::scores;
use crate::store::{Store, checkpoint, export};
use crate::study::{CellSpec, StudySpec};
use crate::sysinfo;

/// The computing thread's state.
pub(super) struct Worker {
    options: EngineOptions,
    control: Arc<Control>,
    reporter: Reporter,
    session: Option<Session>,
}

impl Worker {
    pub fn new(options: EngineOptions, control: Arc<Control>, reporter: Reporter) -> Self {
        Self { options, control, reporter, session: None }
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.options.threads.unwrap_or(0))
            .thread_name(|i| format!("compute-{i}"))
            .start_handler(|_| yield_to_the_screen())
            .build();
        match pool {
            Ok(pool) => pool.install(|| self.serve()),
            Err(e) => self
                .reporter
                .event(Event::failed(&Error::failure(format!("cannot start compute threads: {e}")))),
        }
    }

    fn serve(&mut self) {
        loop {
            match self.control.next(self.session.is_some()) {
                Next::Stop => break,
                Next::Job(job) => self.guarded(|worker| worker.start(job)),
                Next::Cells => self.guarded(Self::run_cells),
            }
            self.reporter.tracker.rest();
        }
        let resumable = self.session.as_ref().filter(|s| !s.unfinished().is_empty()).map(|s| s.study);
        self.session = None;
        self.reporter.event(Event::Stopped { resumable });
    }

    /// Runs a piece of work; an error or a panic in it is told and ends only that.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(self)));
        let error = match result {
            Ok(Ok(()) | Err(Error::Cancelled)) => return,
            Ok(Err(error)) => error,
            Err(panic) => Error::failure(format!("a defect in secateur: {}", panic_message(&*panic))),
        };
        // Cells that still wait belong to what has just failed.
        self.control.queue_nothing();
        self.reporter.event(Event::failed(&error));
    }

    /// Deletes a study of the store. The last one run is forgotten by that: no cells can be added to it any more.
    fn delete(&mut self, study: i64) {
        let last = self.session.take_if(|session| session.study == study);
        let store = match last.as_ref().or(self.session.as_ref()) {
            Some(session) => session.store.delete_study(study),
            None => Store::open(&self.options.store).and_then(|store| store.delete_study(study)),
        };
        self.reporter.event(match store {
            Ok(()) => Event::Deleted { study },
            Err(error) => Event::Refused { message: error.to_string() },
        });
    }

    fn start(&mut self, job: Job) -> Result<()> {
        // The store of an earlier study is unlocked before it is opened again.
        self.session = None;
        match job {
            Job::Start(spec, options) => self.start_study(&spec, None, options),
            Job::Delete(study) => {
                self.delete(study);
                Ok(())
            }
            Job::Resume(study, options) => {
                let store = Store::open(&self.options.store)?;
                let spec = store.study(study)?.spec;
                self.start_study(&spec, Some((store, study)), options)
            }
        }
    }

    fn start_study(
        &mut self,
        spec: &StudySpec,
        known: Option<(Store, i64)>,
        options: RunOptions,
    ) -> Result<()> {
        // A store that cannot be used is found out before a model is fetched.
        let (store, mut study) = match known {
            Some((store, study)) => (Some(store), Some(study)),
            None => (Store::open_existing(&self.options.store)?, None),
        };
        let draft = StudyDraft::new(spec.clone(), self.options.offline, &mut self.reporter)?;
        let estimate = draft.estimate(&self.options.store);
        self.reporter.tracker.begin(draft.speed);
        if !options.force {
            check_memory(&estimate)?;
        }
        if let Some(folder) = &options.save_models {
            for cell in draft.planned() {
                let target = folder.join(&cell.id);
                // What an interrupted run has saved already is not saved again.
                if !(options.resume && target.join(export::REPORT_FILE).exists()) {
                    export::check_target(&target)?;
                }
            }
        }
        // A new store is made when nothing stands in the way of the study any more.
        let store = match store {
            Some(store) => store,
            None => Store::open(&self.options.store)?,
        };
        if options.resume && study.is_none() {
            study = store.resumable(spec)?;
            if study.is_none() {
                self.reporter
                    .warn(None, "nothing to resume in this store: the study starts from the beginning");
            }
        }
        let session = draft.begin(store, study, options)?;
        let planned = |c: &CellResult| PlannedCell {
            id: c.id.clone(),
            spec: c.spec.clone(),
            state: if c.state == CellState::Done { CellState::Done } else { CellState::Queued },
            blocks_done: checkpoint::blocks_done(&session.checkpoints(Some(&c.id))).unwrap_or(0),
        };
        self.reporter.event(Event::Plan {
            study: session.study,
            model: Box::new(session.info.clone()),
            environment: session.environment.clone(),
            cells: session.cells.iter().map(planned).collect(),
            estimate,
        });
        self.control.fill(session.unfinished());
        self.reporter.study(&session.sizes);
        let gpu = Gpu::of(&session.device);
        self.session = Some(session);
        let _sampler = Sampler::start(self.reporter.sender(), gpu);
        self.run_base()?;
        self.save_done_models();
        self.run_cells()
    }

    /// Measures the base, or takes up what an earlier run measured.
    fn run_base(&mut self) -> Result<()> {
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        let reporter = &mut self.reporter;
        let fresh = session.base_state != CellState::Done;
        if fresh {
            reporter.event(Event::Cell { cell: None, state: CellState::Running });
            session.base_state = CellState::Running;
            session.store.put_base(session.study, &session.base, CellState::Running)?;
        }
        let result = base(session, reporter, fresh);
        reporter.tracker.unit(&Vec::new());
        if let Err(error) = &result {
            let state =
                if matches!(error, Error::Cancelled) { CellState::Cancelled } else { CellState::Failed };
            session.base_state = state;
            session.store.put_base(session.study, &session.base, state)?;
            reporter.event(Event::Cell { cell: None, state });
        }
        result
    }

    /// Exports what an earlier run finished but did not come to save.
    fn save_done_models(&mut self) {
        let Some(session) = self.session.as_ref() else { return };
        let Some(folder) = &session.options.save_models else { return };
        for (position, cell) in session.cells.iter().enumerate() {
            if cell.state == CellState::Done && !folder.join(&cell.id).join(export::REPORT_FILE).exists() {
                save_model(session, &mut self.reporter, position);
            }
        }
    }

    /// Runs the waiting cells, then reports.
    fn run_cells(&mut self) -> Result<()> {
        if self.session.as_ref().is_some_and(|s| s.base_states.is_none()) {
            // A base that failed is tried again: without it there is nothing to compare cells with.
            self.run_base()?;
        }
        while let Some(spec) = self.control.take_cell() {
            let outcome = self.run_cell(&spec);
            self.control.cell_ended();
            outcome?;
        }
        self.note_withdrawn()?;
        let Some(session) = &self.session else { return Ok(()) };
        // A wish to stop that came too late to stop anything changes nothing.
        if self.control.stopping() && !session.unfinished().is_empty() {
            return Err(Error::Cancelled);
        }
        let result = Box::new(report(session)?);
        self.reporter.event(Event::Finished { result });
        Ok(())
    }

    /// Keeps which waiting cells the client has withdrawn. It knows already.
    fn note_withdrawn(&mut self) -> Result<()> {
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        for id in self.control.withdrawn() {
            let Some(position) = session.cells.iter().position(|c| c.id == id) else { continue };
            let cell = &mut session.cells[position];
            cell.state = CellState::Cancelled;
            session.store.put_cell(session.study, position, cell)?;
        }
        Ok(())
    }

    /// Runs one cell. What goes wrong in it is told and kept; files or a store at fault end the study, for every cell that
    /// follows would fail alike.
    fn run_cell(&mut self, spec: &CellSpec) -> Result<()> {
        self.note_withdrawn()?;
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        let reporter = &mut self.reporter;
        let id = spec.id();
        let position = match session.position(spec) {
            Ok(found) => found,
            Err(error) => {
                let message = error.to_string();
                reporter.event(Event::CellFailed { cell: Some(id), message });
                return Ok(());
            }
        };
        if session.cells[position].state == CellState::Done {
            reporter.event(Event::Cell { cell: Some(id), state: CellState::Done });
            return Ok(());
        }
        set_state(session, reporter, position, CellState::Running)?;
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(session, reporter, position, spec)))
            .unwrap_or_else(|panic| {
                Err(Error::failure(format!("a defect in secateur: {}", panic_message(&*panic))))
            });
        reporter.tracker.unit(&Vec::new());
        match result {
            Ok(()) => {
                let insight = insight(session);
                reporter.event(Event::Insight { insight });
                Ok(())
            }
            Err(Error::Cancelled) => set_state(session, reporter, position, CellState::Cancelled),
            Err(error) => {
                set_state(session, reporter, position, CellState::Failed)?;
                let message = error.to_string();
                reporter.event(Event::CellFailed { cell: Some(id), message });
                if error.is_of_storage() { Err(error) } else { Ok(()) }
            }
        }
    }
}

/// The base from its embeddings, or from wherever it was left, to its answers.
fn base(session: &mut Session, reporter: &mut Reporter, fresh: bool) -> Result<()> {
    // What only brings back the states of a base that is done does not count as its measurement.
    let mut seconds = if fresh { session.base.seconds } else { Seconds::default() };
    let measured = measure_base(session, reporter, fresh, &mut seconds);
    if fresh {
        session.base.seconds = seconds;
    }
    session.base_states = Some(measured?);
    if fresh {
        session.base_state = CellState::Done;
        session.store.put_base(session.study, &session.base, CellState::Done)?;
        reporter.event(Event::Metrics { cell: None, metrics: session.base.metrics.clone() });
        reporter.event(Event::CellDone { cell: None, seconds, footprint: None });
        reporter.event(Event::Cell { cell: None, state: CellState::Done });
    }
    Ok(())
}

fn measure_base(
    session: &mut Session,
    reporter: &mut Reporter,
    fresh: bool,
    seconds: &mut Seconds,
) -> Result<HiddenStates> {
    let (states, mut saving) = cell::pass(session, reporter, None, None, seconds, &mut |_| Ok(()))?;
    if fresh {
        let metrics = cell::measure(session, reporter, None, &states, seconds)?;
        saving.wait()?;
        session.base.metrics = metrics.clone();
        session.base.seconds = *seconds;
        session.store.put_base(session.study, &session.base, CellState::Running)?;
        reporter.event(Event::Metrics { cell: None, metrics });
        let answered = answer::answer(session, reporter, None, &mut seconds.answer)?;
        session.base.metrics.values.extend(answered);
    }
    Ok(states)
}

/// One cell from wherever it was left to its end.
fn work(session: &mut Session, reporter: &mut Reporter, position: usize, spec: &CellSpec) -> Result<()> {
    let mut seconds = session.cells[position].seconds;
    let measured = prune_and_measure(session, reporter, position, spec, &mut seconds);
    // What was spent is spent, also where the work ends early.
    session.cells[position].seconds = seconds;
    measured?;

    let cell = &mut session.cells[position];
    cell.peak_rss_bytes = sysinfo::process_memory().peak;
    let (id, footprint) = (cell.id.clone(), cell.footprint);
    reporter.event(Event::CellDone { cell: Some(id.clone()), seconds, footprint });
    set_state(session, reporter, position, CellState::Done)?;
    checkpoint::remove_states(&session.checkpoints(Some(&id)))?;
    save_model(session, reporter, position);
    Ok(())
}

/// Prunes a cell, measures it and has it answer; what is found out is kept step by step.
fn prune_and_measure(
    session: &mut Session,
    reporter: &mut Reporter,
    position: usize,
    spec: &CellSpec,
    seconds: &mut Seconds,
) -> Result<()> {
    let id = spec.id();
    let windows = match &spec.calibration {
        Some(set) => Some(session.calibration_windows(set, spec.seed, reporter)?),
        None => None,
    };
    let set = spec.calibration.as_deref();
    let warnings = set.map_or_else(Vec::new, |set| session.calibration_warnings(set, spec.seed).to_vec());
    for message in &warnings {
        reporter.warn(Some(&id), message.clone());
    }
    let mut modules: Vec<ModuleResult> = session.cells[position].modules.clone();
    let passed = {
        let session = &*session;
        cell::pass(session, reporter, Some(spec), windows.as_deref(), seconds, &mut |module| {
            session.store.put_module(session.study, &id, module)?;
            match modules.iter_mut().find(|m| m.name == module.name) {
                Some(known) => *known = module.clone(),
                None => modules.push(module.clone()),
            }
            Ok(())
        })
    };
    session.cells[position].modules = modules;
    let mut metrics = {
        let (states, mut saving) = passed?;
        let metrics = cell::measure(session, reporter, Some(&id), &states, seconds)?;
        saving.wait()?;
        metrics
    };

    let stage = session.stage(spec)?;
    let result = &mut session.cells[position];
    let of_modules = result.modules.iter().filter_map(|m| cell::warning(&stage, m));
    result.warnings = warnings.into_iter().chain(of_modules).collect();
    result.footprint = Some(result.modules.iter().map(|m| m.footprint).sum());
    result.metrics = metrics.clone();
    result.seconds = *seconds;
    session.store.put_cell(session.study, position, &session.cells[position])?;
    reporter.event(Event::Metrics { cell: Some(id.clone()), metrics: metrics.clone() });

    let answered = answer::answer(session, reporter, Some(&id), &mut seconds.answer)?;
    if !answered.is_empty() {
        metrics.values.extend(answered);
        session.cells[position].metrics = metrics.clone();
        reporter.event(Event::Metrics { cell: Some(id), metrics });
    }
    Ok(())
}

/// Refuses a study that needs more memory than there is.
fn check_memory(estimate: &ResourceEstimate) -> Result<()> {
    let needs = [
        ("", estimate.host_bytes, Some(estimate.host_available)),
        (" on the device", estimate.device_bytes, estimate.device_available),
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

/// Exports a finished cell where the study wants that. A failure is told; the cell is done all the same.
fn save_model(session: &Session, reporter: &mut Reporter, position: usize) {
    let Some(folder) = &session.options.save_models else { return };
    let cell = &session.cells[position];
    reporter.phase(Some(&cell.id), super::Phase::Export, 0, "tensors");
    let path = folder.join(&cell.id);
    match export::write(&session.folder, &session.checkpoints(Some(&cell.id)), cell, &path) {
        Ok(()) => reporter.event(Event::Exported { cell: cell.id.clone(), path }),
        Err(error) => reporter.event(Event::CellFailed {
            cell: Some(cell.id.clone()),
            message: format!("the cell is done but could not be saved as a model: {error}"),
        }),
    }
}

fn set_state(session: &mut Session, reporter: &Reporter, position: usize, state: CellState) -> Result<()> {
    session.cells[position].state = state;
    session.store.put_cell(session.study, position, &session.cells[position])?;
    reporter.event(Event::Cell { cell: Some(session.cells[position].id.clone()), state });
    Ok(())
}

fn insight(session: &Session) -> crate::results::Insight {
    let done: Vec<&Metrics> =
        session.cells.iter().filter(|c| c.state == CellState::Done).map(|c| &c.metrics).collect();
    scores::insight(&session.base.metrics, &done)
}

/// Everything found out, read back from the store: what is reported is what is kept.
fn report(session: &Session) -> Result<StudyResult> {
    Ok(session.store.study(session.study)?.result(insight(session)))
}

/// Lowers the priority of the calling thread, so that keys are answered while every core computes.
fn yield_to_the_screen() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(5);
}
