//! The computing thread: takes jobs, runs studies cell by cell, survives what goes wrong in one of them.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use super::compute::{choose_and_compute, compute};
use super::control::{Control, Job, Next};
use super::draft::StudyDraft;
use super::event::{Event, PlannedCell, ResourceEstimate, RunOptions};
use super::finding::Finding;
use super::gpu::Gpu;
use super::options::EngineOptions;
use super::places::{self, FollowOptions};
use super::plan::{check_saves, check_where_saved, is_saved};
use super::reporter::Reporter;
use super::resources::Sampler;
use super::session::{Session, enter_added};
use super::study::Study;
use super::survey::tell_surveys;
use crate::demo;
use crate::error::{Error, Result};
use crate::export::{self, ExportModel};
use crate::interrupt::panic_message;
use crate::results::{CellResult, CellState, Environment};
use crate::store::{Store, checkpoint};
use crate::study::{CellSpec, StudyContent, StudySpec};

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
        let entered = self.session.as_mut().map_or(Ok(()), |session| session.enter_added(&self.control));
        if let Err(error) = entered {
            self.reporter.warn(None, format!("cells that were added are not kept: {error}"));
        }
        let resumable =
            self.session.as_ref().map(|s| &s.ledger).filter(|l| !l.unfinished().is_empty()).map(|l| l.study);
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
        let mut last = self.session.take_if(|session| session.ledger.study == study);
        if let Some(session) = &mut last {
            // Nobody else may change the folder that goes.
            session.place.leftovers.finish();
        }
        let store = match last.as_ref().or(self.session.as_ref()) {
            Some(session) => session.ledger.store.delete_study(study),
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
                let mut spec = store.study(study)?.spec;
                demo::find_files(&mut spec)?;
                self.start_study(&spec, Some((store, study)), options)
            }
        }
    }

    fn start_study(
        &mut self,
        spec: &StudySpec,
        known: Option<(Store, i64)>,
        mut options: RunOptions,
    ) -> Result<()> {
        // A store that cannot be used is found out before a model is fetched.
        let (store, mut study) = match known {
            Some((store, study)) => (Some(store), Some(study)),
            None => (Store::open_existing(&self.options.store)?, None),
        };
        places::check(&options.places)?;
        check_where_saved(&options)?;
        let mut draft =
            StudyDraft::new(spec.clone(), &options.places, self.options.offline, &mut self.reporter)?;
        if let Some(bytes) = options.held_experts {
            draft.study.sizes.held_experts = bytes;
        }
        draft.study.sizes.held_experts /= options.places.processes_here();
        let estimate = draft.estimate(&self.options.store);
        self.reporter.tracker.begin(draft.speed);
        if !options.force && !options.places.compute_base() {
            estimate.check_memory()?;
            self.fit_workers(&mut options, &estimate);
        }
        if let Some(message) = estimate.too_little_disk() {
            self.reporter.warn(None, message);
        }
        let worker_memory = estimate.host_bytes;
        let estimate = estimate.of_workers(&options.places);
        check_saves(&draft, &options)?;
        // A new store is made when nothing stands in the way of the study any more.
        let store = match store {
            Some(store) => store,
            None => Store::open(&self.options.store)?,
        };
        let content = draft.content(&mut self.reporter)?;
        if let Some(study) = study {
            check_content(&store, study, &content)?;
        } else if options.resume {
            study = store.resumable(spec, Some(&content))?;
            if study.is_none() {
                let why = why_not_resumed(&store, spec, &content)?;
                self.reporter.warn(None, format!("{why}: the study starts from the beginning"));
            }
        }
        if let Some(study) = study {
            check_precision(&store, study, &draft.study.environment)?;
        }
        let session = Session::begin(draft, content, store, study, options, &self.reporter)?;
        let ledger = &session.ledger;
        let planned = |c: &CellResult| PlannedCell {
            id: c.id.clone(),
            spec: c.spec.clone(),
            state: if c.state == CellState::Done { CellState::Done } else { CellState::Queued },
            blocks_done: checkpoint::blocks_done(&ledger.folder(Some(&c.id))).unwrap_or(0),
        };
        self.reporter.event(Event::Plan {
            study: ledger.study,
            model: Box::new(session.study.info.clone()),
            environment: session.study.environment.clone(),
            cells: ledger.cells.iter().map(planned).collect(),
            estimate,
        });
        let spent = ledger.cells.iter().map(|cell| cell.seconds.total()).sum::<f64>();
        self.reporter.tracker.continues(ledger.base.seconds.total() + spent);
        let (folder, blocks) = (ledger.folder(None), session.study.folder.config.blocks);
        tell_surveys(&folder, blocks, &mut BTreeSet::new(), &mut self.reporter)?;
        self.control.fill(ledger.unfinished());
        self.reporter.study(&session.study.sizes);
        let gpu = Gpu::of(&session.place.device);
        let session = self.session.insert(session);
        session.worker_memory = worker_memory;
        let _sampler = Sampler::start(self.reporter.sender(), gpu);
        if !session.options.places.are_elsewhere() {
            places::settle(session, &mut self.reporter)?;
            self.run_base()?;
        }
        self.save_done_models();
        self.run_cells()
    }

    /// Lets only as many workers compute as there is memory for.
    fn fit_workers(&self, options: &mut RunOptions, estimate: &ResourceEstimate) {
        let wanted = options.places.processes_here();
        let fitting = estimate.fitting_workers(&options.places);
        if fitting >= wanted {
            return;
        }
        let needed = estimate.clone().of_workers(&options.places);
        options.places = std::mem::take(&mut options.places).at_most(fitting);
        let instead =
            if fitting == 1 { "this process computes alone".into() } else { format!("{fitting} compute") };
        self.reporter.warn(
            None,
            format!(
                "{wanted} workers need {}, and {} are free: {instead} (--force starts all of them)",
                in_mebibytes(needed.host_bytes, Some(needed.device_bytes)),
                in_mebibytes(needed.host_available, needed.device_available)
            ),
        );
    }

    /// Measures the base, or takes up what an earlier run measured.
    fn run_base(&mut self) -> Result<()> {
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        let reporter = &mut self.reporter;
        let assignment = session.base_assignment()?;
        let Session { study, place, ledger, .. } = session;
        if !assignment.is_known {
            reporter.event(Event::Cell { cell: None, state: CellState::Running });
            ledger.base_state = CellState::Running;
            ledger.store.put_base(ledger.study, &ledger.base, CellState::Running)?;
        }
        let base = compute(study, place, &assignment, reporter, &mut |finding| ledger.record(None, finding));
        reporter.tracker.unit(&Vec::new());
        match base {
            Ok(base) => place.base = base,
            // What is known of it stays known: only its states were to be brought back.
            Err(error) if assignment.is_known => return Err(error),
            Err(error) => {
                let cancelled = matches!(error, Error::Cancelled);
                ledger.set_state(None, if cancelled { CellState::Cancelled } else { CellState::Failed })?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Exports what an earlier run finished but did not come to save.
    fn save_done_models(&mut self) {
        let Some(session) = self.session.as_ref() else { return };
        let Some(folder) = &session.options.save_models else { return };
        for (position, cell) in session.ledger.cells.iter().enumerate() {
            let target = session.options.save_as.0.path_in(folder, &cell.id);
            if cell.state == CellState::Done && !is_saved(&target) {
                save_model(session, &mut self.reporter, position);
            }
        }
    }

    /// Runs the waiting cells, then reports.
    fn run_cells(&mut self) -> Result<()> {
        if self.session.as_ref().is_some_and(|s| s.options.places.are_elsewhere()) {
            return self.run_cells_elsewhere();
        }
        if self.session.as_ref().is_some_and(|s| s.place.base.is_none()) {
            // A base that failed is tried again: without it there is nothing to compare cells with.
            self.run_base()?;
        }
        loop {
            if let Some(session) = self.session.as_mut() {
                session.enter_added(&self.control)?;
            }
            let Some(spec) = self.control.take_cell() else { break };
            let outcome = self.run_cell(&spec);
            self.control.cell_ended();
            outcome?;
            // By now they are there, and nobody waits.
            self.finish_saving_base()?;
        }
        self.finish()
    }

    /// Has the waiting cells computed by workers, then reports.
    fn run_cells_elsewhere(&mut self) -> Result<()> {
        let measures_base = |session: &Session| {
            session.ledger.base_state != CellState::Done && !session.options.places.compute_base()
        };
        if self.session.as_ref().is_some_and(measures_base) {
            self.run_base()?;
        }
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        let follow = FollowOptions {
            threads: rayon::current_num_threads(),
            memory: session.worker_memory,
            when_done: save_model,
        };
        places::compute_elsewhere(session, &mut self.reporter, follow)?;
        self.finish()
    }

    /// Reports what was found out of all cells that were asked for.
    fn finish(&mut self) -> Result<()> {
        self.note_withdrawn()?;
        self.finish_saving_base()?;
        let Some(session) = &self.session else { return Ok(()) };
        // A wish to stop that came too late to stop anything changes nothing.
        if self.control.stopping() && !session.ledger.unfinished().is_empty() {
            return Err(Error::Cancelled);
        }
        let result = Box::new(session.ledger.report()?);
        self.reporter.event(Event::Finished { result });
        Ok(())
    }

    /// Waits until the base's final states are on the disk. Where that fails and nothing is left to be compared with them,
    /// the study is whole all the same.
    fn finish_saving_base(&mut self) -> Result<()> {
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        match session.place.finish_saving_base() {
            Err(error) if session.ledger.unfinished().is_empty() => {
                let message =
                    format!("{error}: cells that are added later bring the base's states back first");
                self.reporter.warn(None, message);
                Ok(())
            }
            saved => saved,
        }
    }

    /// Keeps which waiting cells the client has withdrawn.
    fn note_withdrawn(&mut self) -> Result<()> {
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        session.ledger.withdraw(&self.control.withdrawn())
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
                reporter.event(Event::cell_refused(spec, &error));
                return Ok(());
            }
        };
        if session.ledger.cells[position].state == CellState::Done {
            reporter.event(Event::Cell { cell: Some(id), state: CellState::Done });
            return Ok(());
        }
        session.ledger.set_state(Some(position), CellState::Running)?;
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| compute_cell(session, reporter, position)))
            .unwrap_or_else(|panic| {
                Err(Error::failure(format!("a defect in secateur: {}", panic_message(&*panic))))
            });
        reporter.tracker.unit(&Vec::new());
        match result {
            Ok(()) => {
                reporter.event(Event::RankCorrelations { found: session.ledger.rank_correlations() });
                Ok(())
            }
            Err(Error::Cancelled) => session.ledger.set_state(Some(position), CellState::Cancelled),
            Err(error) => {
                session.ledger.set_state(Some(position), CellState::Failed)?;
                let message = error.to_string();
                reporter.event(Event::CellFailed { cell: Some(id), message });
                if error.is_of_storage() { Err(error) } else { Ok(()) }
            }
        }
    }
}

/// One cell from wherever it was left to its export.
fn compute_cell(session: &mut Session, reporter: &mut Reporter, position: usize) -> Result<()> {
    let mut assignment = session.cell_assignment(position, reporter)?;
    let control = reporter.control();
    let Session { study, place, ledger, .. } = session;
    let record = &mut |finding| {
        // Once a block is soon enough.
        if matches!(finding, Finding::Checkpoint { .. }) {
            enter_added(study, ledger, &control)?;
        }
        ledger.record(Some(position), finding)
    };
    choose_and_compute(study, place, &mut assignment, reporter, record)?;
    save_model(session, reporter, position);
    Ok(())
}

/// Memory of the host, and of a device where there is one.
fn in_mebibytes(host: u64, device: Option<u64>) -> String {
    match device.filter(|bytes| *bytes > 0) {
        Some(device) => format!("{} MiB of memory and {} MiB of the device's", host >> 20, device >> 20),
        None => format!("{} MiB of memory", host >> 20),
    }
}

/// Why no study of the store can be resumed as this one.
fn why_not_resumed(store: &Store, spec: &StudySpec, content: &StudyContent) -> Result<String> {
    let same_but_for_content = store.resumable(spec, None)?;
    let before = match same_but_for_content {
        Some(study) => store.content(study)?.map(|before| (study, before)),
        None => None,
    };
    let changed = before.and_then(|(study, before)| Some((study, before.difference(content)?)));
    Ok(match changed {
        None => "nothing to resume in this store".to_owned(),
        Some((study, part)) => {
            format!(
                "nothing to resume in this store, since {part} is not what it was when study {study} began"
            )
        }
    })
}

/// Refuses to go on with a study whose files hold something else than when it began.
fn check_content(store: &Store, study: i64, now: &StudyContent) -> Result<()> {
    let before = store.content(study)?;
    let changed = before.as_ref().and_then(|before| before.difference(now));
    changed.map_or(Ok(()), |part| {
        Err(Error::mistake(format!(
            "study {study} cannot be resumed: {part} is not what it was when the study began; accepted are the same \
             files, or a new study"
        )))
    })
}

/// Refuses to go on with a study in another precision: cells are compared with a base that was measured in the first one.
fn check_precision(store: &Store, study: i64, now: &Environment) -> Result<()> {
    let before = store.study(study)?.environment;
    if before.compute_dtype == now.compute_dtype {
        return Ok(());
    }
    Err(Error::mistake(format!(
        "study {study} cannot be resumed here: it computes in {} (on {}), and this run would in {} (on {}); accepted are \
         a device that computes in {0} (--device), or a new study",
        before.compute_dtype, before.device, now.compute_dtype, now.device
    )))
}

/// The texts that an export is compared on.
fn verification_texts(study: &Study) -> Result<Vec<Vec<u32>>> {
    let windows = study.corpora.first().map_or(&[][..], |corpus| &corpus.windows);
    export::passages(windows, &|| Ok((*study.tokenizer).clone()))
}

/// Exports a finished cell where the study wants that. A failure is told; the cell is done all the same.
fn save_model(session: &Session, reporter: &mut Reporter, position: usize) {
    let Some(folder) = &session.options.save_models else { return };
    let cell = &session.ledger.cells[position];
    reporter.phase(Some(&cell.id), super::Phase::Export, 0, "tensors");
    let format = session.options.save_as.0;
    let path = format.path_in(folder, &cell.id);
    let checkpoints = session.ledger.folder(Some(&cell.id));
    let saved = verification_texts(&session.study).and_then(|texts| {
        let procedure = session.study.procedure(&cell.spec)?;
        let folder = export::stored_model(&session.study.folder, &procedure, &checkpoints)?;
        let model = ExportModel::cell(&folder, &checkpoints, cell);
        export::export(format, &model, &session.options.save_options, &path, Some(&texts))
    });
    match saved {
        Ok(_) => reporter.event(Event::Exported { cell: cell.id.clone(), path }),
        Err(error) => reporter.event(Event::CellFailed {
            cell: Some(cell.id.clone()),
            message: format!("the cell is done but could not be saved as a model: {error}"),
        }),
    }
}

/// Lowers the priority of the calling thread, so that keys are answered while every core computes.
fn yield_to_the_screen() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(5);
}
