//! The ledger's part where workers compute: it puts cells on the list, reads what is found out, and writes it down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claims::{CellOrder, ClaimEnd};
use super::folder::{FORMAT, PlacesFolder, SharedStudy, StopRequest, WaitingList};
use super::liveness::HeartbeatObserver;
use super::processes::WorkerProcesses;
use super::record::FollowedCell;
use super::settle::{PATIENCE, living_workers};
use super::watching::WorkersWatch;
use crate::engine::Reporter;
use crate::engine::content;
use crate::engine::control::Control;
use crate::engine::event::Event;
use crate::engine::session::Session;
use crate::engine::survey::tell_surveys;
use crate::error::{Error, Result};
use crate::results::CellState;
use crate::store::survey as kept_survey;
use crate::study::CellSpec;

/// How long the ledger waits before it looks again.
const TICK: Duration = Duration::from_millis(50);

/// How long workers get to end when the ledger does.
const GRACE: Duration = Duration::from_secs(20);

/// What is done with a cell that is done: its place in the study is given.
pub(crate) type WhenDone = fn(&Session, &mut Reporter, usize);

/// Has the waiting cells computed by workers, `threads` for all of them together, until none is left or the engine is to
/// stop.
///
/// # Errors
/// A store or files that cannot be used; workers that cannot be started, or die again and again.
pub(crate) fn compute_elsewhere(
    session: &mut Session,
    reporter: &mut Reporter,
    threads: usize,
    when_done: WhenDone,
) -> Result<()> {
    // Workers bring back their own.
    session.place.base_states = None;
    let mut following = Following::begin(session, reporter, threads, when_done)?;
    let outcome = following.run();
    if outcome.is_err() {
        following.abandon();
    }
    outcome?;
    following.tidy()
}

struct Following<'a> {
    session: &'a mut Session,
    reporter: &'a mut Reporter,
    control: Arc<Control>,
    folder: PlacesFolder,
    processes: WorkerProcesses,
    observer: HeartbeatObserver,
    watch: WorkersWatch,
    /// The cells on the list, by id.
    cells: BTreeMap<String, FollowedCell>,
    /// The state of the queue that is known here.
    queue: Option<u64>,
    list: Option<WaitingList>,
    stop: Option<StopRequest>,
    when_done: WhenDone,
    /// The surveys that were told.
    surveyed: BTreeSet<String>,
}

impl<'a> Following<'a> {
    fn begin(
        session: &'a mut Session,
        reporter: &'a mut Reporter,
        threads: usize,
        when_done: WhenDone,
    ) -> Result<Self> {
        let folder = PlacesFolder::new(&session.ledger.study_folder());
        let working = std::env::current_dir()
            .map_err(|e| Error::Io { context: "cannot find the current folder".into(), source: e })?;
        let workers = session.options.workers;
        folder.open(&SharedStudy {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            spec: session.study.spec.clone(),
            content: session.ledger.content().clone(),
            working_folder: working,
            offline: session.offline,
            held_experts: session.study.sizes.held_experts,
            patience_seconds: PATIENCE.as_secs(),
        })?;
        let processes = WorkerProcesses::new(&folder, workers, (threads / workers).max(1))?;
        let control = reporter.control();
        // Those of an earlier run were told when this one began.
        let known_surveys = kept_survey::keys(&session.ledger.folder(None))?.into_iter().collect();
        Ok(Self {
            session,
            reporter,
            control,
            processes,
            observer: HeartbeatObserver::new(PATIENCE),
            watch: WorkersWatch::new(),
            folder,
            cells: BTreeMap::new(),
            queue: None,
            list: None,
            stop: None,
            when_done,
            surveyed: known_surveys,
        })
    }

    fn run(&mut self) -> Result<()> {
        loop {
            self.heed()?;
            self.collect()?;
            self.tend()?;
            if self.is_over()? {
                return Ok(());
            }
            self.control.wait(TICK);
        }
    }

    /// Does what the client asked for since it was last looked at.
    fn heed(&mut self) -> Result<()> {
        if let Some(after_block) = self.control.stops_after_block() {
            let how = if after_block { StopRequest::AfterBlock } else { StopRequest::Now };
            if self.stop != Some(how) {
                self.folder.ask_to_stop(how)?;
                self.stop = Some(how);
            }
        }
        self.session.ledger.withdraw(&self.control.withdrawn())?;
        let (queue, waiting) = self.control.waiting_cells();
        if self.queue != Some(queue) {
            self.cells.retain(|id, cell| cell.is_running || waiting.iter().any(|cell| cell.id() == *id));
            let offered: &[CellSpec] = if self.stop.is_none() { &waiting } else { &[] };
            for spec in offered {
                if !self.cells.contains_key(&spec.id()) {
                    self.offer(spec)?;
                }
            }
            self.reporter.follow_queue();
            self.queue = Some(queue);
        }
        self.reporter.tracker.paused(self.control.paused());
        self.put_list(&waiting)
    }

    /// Tells the workers which cells are wanted, those that are computed first.
    fn put_list(&mut self, waiting: &[CellSpec]) -> Result<()> {
        let cancelled = self.control.cancelled_elsewhere();
        let running = self.cells.iter().filter(|(id, cell)| cell.is_running && !cancelled.contains(id));
        let mut cells: Vec<String> = running.map(|(id, _)| id.clone()).collect();
        let known = waiting.iter().map(CellSpec::id).filter(|id| self.cells.contains_key(id));
        cells.extend(known.filter(|id| !cancelled.contains(id)));
        cells.dedup();
        let list = WaitingList { paused: self.control.paused(), cells };
        if self.list.as_ref() != Some(&list) {
            self.folder.put_waiting(&list)?;
            self.list = Some(list);
        }
        Ok(())
    }

    /// Writes down what a worker needs to compute a cell from wherever it was left.
    fn offer(&mut self, spec: &CellSpec) -> Result<()> {
        let id = spec.id();
        match self.order(spec) {
            Ok(Some(cell)) => {
                self.cells.insert(id, cell);
                Ok(())
            }
            Ok(None) => {
                self.forget(&id);
                Ok(())
            }
            Err(error) => {
                self.forget(&id);
                if !matches!(error, Error::Cancelled)
                    && let Some(position) = self.session.ledger.position(spec).ok().flatten()
                {
                    self.session.ledger.set_state(Some(position), CellState::Failed)?;
                }
                if matches!(error, Error::Cancelled) {
                    return Ok(());
                }
                self.reporter.event(Event::CellFailed { cell: Some(id), message: error.to_string() });
                if error.is_of_storage() { Err(error) } else { Ok(()) }
            }
        }
    }

    /// `None` for a cell that is done already.
    fn order(&mut self, spec: &CellSpec) -> Result<Option<FollowedCell>> {
        let position = self.session.position(spec)?;
        let id = spec.id();
        if self.session.ledger.cells[position].state == CellState::Done {
            self.reporter.event(Event::Cell { cell: Some(id), state: CellState::Done });
            return Ok(None);
        }
        let mut cell = FollowedCell::new(&self.session.ledger, position)?;
        let newest = cell.work.newest()?;
        let is_unended = newest > 0 && cell.work.end(newest)?.is_none();
        if let (true, Some(claim)) = (is_unended, cell.work.claim(newest)?)
            && !self.observer.has_gone(&self.folder, &claim)?
        {
            // A worker of an earlier ledger computes it: what it finds out is read from where that ledger was.
            return Ok(Some(cell));
        }
        cell.read_all(&mut self.session.ledger)?;
        if self.session.ledger.cells[position].state == CellState::Done {
            self.done(&cell)?;
            return Ok(None);
        }
        let assignment = self.session.cell_assignment(position, self.reporter)?;
        let windows = assignment.calibration.as_ref();
        cell.work.put_order(&CellOrder {
            cell: spec.clone(),
            id,
            known_claims: newest,
            calibration: windows.map(|windows| content::of_windows(windows)),
            calibration_warnings: assignment.calibration_warnings,
            modules: assignment.modules,
            answers: assignment.answers,
            seconds: assignment.seconds,
        })?;
        Ok(Some(cell))
    }

    /// Takes a cell off the list.
    fn forget(&mut self, id: &str) {
        self.control.begin_elsewhere(id);
        self.control.end_elsewhere(id, None);
        self.cells.remove(id);
    }

    /// Reads what workers have written since it was last looked at.
    fn collect(&mut self) -> Result<()> {
        let ids: Vec<String> = self.cells.keys().cloned().collect();
        for id in ids {
            let Some(mut cell) = self.cells.remove(&id) else { continue };
            while cell.work.is_claimed(cell.claim + 1) {
                self.note_claim(&id, &mut cell)?;
            }
            if !cell.is_running {
                self.cells.insert(id, cell);
                continue;
            }
            // In this order: whoever has written the end has found out everything before.
            let end = cell.work.end(cell.claim)?;
            if cell.read(&mut self.session.ledger)? {
                self.processes.forgive();
            }
            match end {
                Some(end) => self.note_end(&id, cell, end)?,
                None => {
                    self.cells.insert(id, cell);
                }
            }
        }
        Ok(())
    }

    fn note_claim(&mut self, id: &str, cell: &mut FollowedCell) -> Result<()> {
        let before = cell.claim;
        if before > 0 && cell.is_running && cell.work.end(before)?.is_none() {
            let who = cell.work.claim(before)?.map(|claim| claim.identity.describe());
            self.reporter.warn(
                Some(id),
                format!(
                    "its worker ({}) ended without a word; another one continues",
                    who.unwrap_or_else(|| "an unknown one".into())
                ),
            );
        }
        cell.claim = before + 1;
        self.control.begin_elsewhere(id);
        if !cell.is_running || self.session.ledger.cells[cell.position].state != CellState::Running {
            self.session.ledger.set_state(Some(cell.position), CellState::Running)?;
        }
        cell.is_running = true;
        Ok(())
    }

    fn note_end(&mut self, id: &str, mut cell: FollowedCell, end: ClaimEnd) -> Result<()> {
        let ledger = &mut self.session.ledger;
        match end {
            ClaimEnd::Done if ledger.cells[cell.position].state == CellState::Done => {
                self.forget(id);
                self.done(&cell)
            }
            ClaimEnd::Done => {
                self.note_failure(id, &cell, "its worker ended without its last finding".into())
            }
            ClaimEnd::Failed { message, of_storage } => {
                self.note_failure(id, &cell, message.clone())?;
                if of_storage { Err(Error::failure(message)) } else { Ok(()) }
            }
            ClaimEnd::Stopped | ClaimEnd::Cancelled => {
                let is_cancelled = self.control.cancelled_elsewhere().iter().any(|known| known == id);
                if is_cancelled || self.stop.is_some() {
                    ledger.set_state(Some(cell.position), CellState::Cancelled)?;
                    self.forget(id);
                    return Ok(());
                }
                // Somebody stopped that worker alone. The next one continues.
                cell.is_running = false;
                ledger.set_state(Some(cell.position), CellState::Queued)?;
                let spec = ledger.cells[cell.position].spec.clone();
                self.cells.insert(id.to_owned(), cell);
                self.control.end_elsewhere(id, Some(spec));
                Ok(())
            }
        }
    }

    fn note_failure(&mut self, id: &str, cell: &FollowedCell, message: String) -> Result<()> {
        self.forget(id);
        self.session.ledger.set_state(Some(cell.position), CellState::Failed)?;
        self.reporter.event(Event::CellFailed { cell: Some(id.to_owned()), message });
        Ok(())
    }

    fn done(&mut self, cell: &FollowedCell) -> Result<()> {
        cell.tidy(&self.session.ledger)?;
        (self.when_done)(self.session, self.reporter, cell.position);
        let found = self.session.ledger.rank_correlations();
        self.reporter.event(Event::RankCorrelations { found });
        let base_folder = self.session.ledger.folder(None);
        tell_surveys(&base_folder, self.session.study.folder.config.blocks, &mut self.surveyed, self.reporter)
    }

    /// Sees to it that there are workers, and tells what they do.
    fn tend(&mut self) -> Result<()> {
        for message in self.processes.reap()? {
            self.reporter.warn(None, message);
        }
        if self.watch.is_due() {
            let mut statuses = self.folder.statuses()?;
            // What those that were killed have left.
            for (worker, status) in &statuses {
                if status.identity.has_ended() == Some(true) {
                    self.folder.remove_status(worker)?;
                }
            }
            statuses.retain(|_, status| status.identity.has_ended() != Some(true));
            if self.stop.is_none() && !self.cells.is_empty() {
                let living = living_workers(&self.folder, statuses.clone(), &mut self.observer)?;
                let others = living.iter().filter(|worker| !self.processes.has(worker)).count();
                self.processes.fill(self.cells.len(), others)?;
            }
            let is_running = |id: &str| self.cells.get(id).is_some_and(|cell| cell.is_running);
            self.watch.tell(&statuses, &is_running, self.reporter);
        }
        Ok(())
    }

    fn is_over(&mut self) -> Result<bool> {
        if self.stop.is_some() {
            // Who was killed meanwhile will not say that they have stopped.
            for id in self.cells.keys().cloned().collect::<Vec<_>>() {
                let Some(cell) = self.cells.get(&id).filter(|cell| cell.is_running) else { continue };
                let Some(claim) = cell.work.claim(cell.claim)? else { continue };
                if self.observer.has_gone(&self.folder, &claim)? && cell.work.end(cell.claim)?.is_none() {
                    let position = cell.position;
                    self.session.ledger.set_state(Some(position), CellState::Cancelled)?;
                    self.forget(&id);
                }
            }
            return Ok(self.processes.is_empty() && self.cells.values().all(|cell| !cell.is_running));
        }
        Ok(self.cells.is_empty() && self.processes.is_empty() && self.control.waiting_cells().1.is_empty())
    }

    /// The ledger cannot continue: workers stop, and what they have found out stays in their files.
    fn abandon(&mut self) {
        let began = Instant::now();
        self.cells.keys().for_each(|id| self.control.end_elsewhere(id, None));
        // The error that led here is the one to report.
        let _ = self.folder.ask_to_stop(StopRequest::Now);
        while !self.processes.is_empty() && began.elapsed() < GRACE {
            if self.processes.reap().is_err() {
                return;
            }
            std::thread::sleep(TICK);
        }
    }

    /// Removes what ledger and workers shared, unless somebody still works.
    fn tidy(&mut self) -> Result<()> {
        if self.stop.is_some() {
            return Ok(());
        }
        let began = Instant::now();
        // Workers that others started end too, when they see that no cell is left.
        while !living_workers(&self.folder, self.folder.statuses()?, &mut self.observer)?.is_empty() {
            if began.elapsed() > GRACE {
                return Ok(());
            }
            self.control.wait(TICK);
        }
        let ledger = &self.session.ledger;
        for position in 0..ledger.cells.len() {
            FollowedCell::new(ledger, position)?.work.remove()?;
        }
        crate::store::remove_unfinished(&ledger.folder(None));
        self.folder.remove()
    }
}
