//! The ledger's part where workers compute: it puts cells on the list, reads what is found out, and writes it down.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choice::Places;
use super::claims::{CellOrder, ClaimEnd};
use super::folder::{BASE, PlacesFolder, StopRequest, WorkerStatus};
use super::followed::OwnLedger;
use super::identity::ProcessIdentity;
use super::liveness::HeartbeatObserver;
use super::offer::{CellsOnOffer, OfferedCells, share_study};
use super::processes::WorkerProcesses;
use super::record::FollowedCell;
use super::settle::{PATIENCE, all_positions, living_workers};
use super::slurm::{self, SlurmJobs};
use super::starter::{WaitingWork, WorkerStarter};
use super::watching::{PaceElsewhere, WorkersWatch};
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

/// Least time between two rankings of the cells.
const RANKING: Duration = Duration::from_secs(1);

/// How long workers get to end when the ledger does.
const GRACE: Duration = Duration::from_secs(20);

/// What is done with a cell that is done: its place in the study is given.
pub(crate) type WhenDone = fn(&Session, &mut Reporter, usize);

/// What the ledger does beside following.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FollowOptions {
    /// Threads for all workers of this machine together.
    pub threads: usize,
    /// Bytes of memory that one worker needs, as far as can be foretold.
    pub memory: u64,
    pub when_done: WhenDone,
}

/// Has the waiting cells computed by workers, and the base where this process does not compute it, until none is left or
/// the engine is to stop.
///
/// # Errors
/// A store or files that cannot be used; workers that cannot be started, or die again and again.
pub(crate) fn compute_elsewhere(
    session: &mut Session,
    reporter: &mut Reporter,
    options: FollowOptions,
) -> Result<()> {
    // Workers bring back their own, from the disk.
    session.place.finish_saving_base()?;
    session.place.base = None;
    let mut following = Following::begin(session, reporter, options)?;
    let outcome = following.run();
    if outcome.is_err() && !following.own.is_lost {
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
    own: OwnLedger,
    starter: Box<dyn WorkerStarter>,
    observer: HeartbeatObserver,
    watch: WorkersWatch,
    /// The cells on the list, by id; the base among them, where workers measure it.
    cells: BTreeMap<String, FollowedCell>,
    /// When every cell was last looked at.
    looked: Option<Instant>,
    /// The newest claims that workers name, by cell.
    named: BTreeMap<String, u32>,
    /// The state of the queue that is known here.
    queue: Option<u64>,
    offer: CellsOnOffer,
    stop: Option<StopRequest>,
    when_done: WhenDone,
    /// When cells were last ranked.
    ranked: Option<Instant>,
    /// The surveys that were told.
    surveyed: BTreeSet<String>,
}

impl<'a> Following<'a> {
    fn begin(session: &'a mut Session, reporter: &'a mut Reporter, options: FollowOptions) -> Result<Self> {
        let folder = PlacesFolder::new(&session.ledger.study_folder());
        let places = &session.options.places;
        folder.create()?;
        let own = OwnLedger::claim(&folder, reporter)?;
        share_study(session, &folder)?;
        let starter: Box<dyn WorkerStarter> = match places {
            Places::Slurm(choice) => {
                let scripts = slurm::scripts(folder.study_folder(), &choice.options, options.memory)?;
                Box::new(SlurmJobs::new(scripts, choice)?)
            }
            Places::Processes { count, devices } => {
                Box::new(WorkerProcesses::new(&folder, *count, options.threads, devices.clone())?)
            }
            Places::Here => Box::new(WorkerProcesses::new(&folder, 1, options.threads, Vec::new())?),
        };
        let offer = CellsOnOffer::new(starter.tick());
        let control = reporter.control();
        // Those of an earlier run were told when this one began.
        let known_surveys = kept_survey::keys(&session.ledger.folder(None))?.into_iter().collect();
        Ok(Self {
            session,
            reporter,
            control,
            own,
            starter,
            observer: HeartbeatObserver::new(PATIENCE),
            watch: WorkersWatch::new(),
            folder,
            cells: BTreeMap::new(),
            looked: None,
            named: BTreeMap::new(),
            queue: None,
            offer,
            stop: None,
            when_done: options.when_done,
            ranked: None,
            surveyed: known_surveys,
        })
    }

    fn run(&mut self) -> Result<()> {
        self.offer_base()?;
        loop {
            self.own.beat(&self.folder)?;
            self.heed()?;
            self.collect()?;
            self.tend()?;
            if self.is_over()? {
                return Ok(());
            }
            self.control.wait(self.starter.tick());
        }
    }

    /// Puts the base on the list, unless it is measured.
    fn offer_base(&mut self) -> Result<()> {
        if self.session.ledger.base_state == CellState::Done {
            return Ok(());
        }
        match self.order(None)? {
            Some(base) => drop(self.cells.insert(BASE.into(), base)),
            None => self.reporter.event(Event::Cell { cell: None, state: CellState::Done }),
        }
        Ok(())
    }

    /// Does what the client asked for since it was last looked at.
    fn heed(&mut self) -> Result<()> {
        if let Some(after_block) = self.control.stops_after_block() {
            let how = if after_block { StopRequest::AfterBlock } else { StopRequest::Now };
            if self.stop != Some(how) {
                self.folder.ask_to_stop(how)?;
                self.starter.stop(how);
                self.stop = Some(how);
            }
        }
        self.session.ledger.withdraw(&self.control.withdrawn())?;
        let (queue, waiting) = self.control.waiting_cells();
        if self.queue != Some(queue) {
            let ids: HashSet<String> = waiting.iter().map(CellSpec::id).collect();
            self.cells.retain(|id, cell| cell.is_running || id == BASE || ids.contains(id));
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

    /// Tells the workers which cells are wanted.
    fn put_list(&mut self, waiting: &[CellSpec]) -> Result<()> {
        let offered = OfferedCells {
            cells: &self.cells,
            waiting,
            cancelled: &self.control.cancelled_elsewhere(),
            is_paused: self.control.paused(),
            expects_more: self.stop.is_none() && self.control.expects_cells(),
        };
        self.offer.put(&self.folder, &offered)
    }

    /// Writes down what a worker needs to compute a cell from wherever it was left.
    fn offer(&mut self, spec: &CellSpec) -> Result<()> {
        let id = spec.id();
        match self.position(spec).and_then(|position| self.order(Some(position))) {
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
                self.reporter.event(Event::cell_refused(spec, &error));
                if error.is_of_storage() { Err(error) } else { Ok(()) }
            }
        }
    }

    fn position(&mut self, spec: &CellSpec) -> Result<usize> {
        self.session.position(spec)
    }

    /// `None` for a cell, or a base, that is done already.
    fn order(&mut self, position: Option<usize>) -> Result<Option<FollowedCell>> {
        let id = self.session.ledger.id(position);
        if self.session.ledger.state(position) == CellState::Done {
            self.reporter.event(Event::Cell { cell: id, state: CellState::Done });
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
        if self.session.ledger.state(position) == CellState::Done {
            self.done(&cell)?;
            return Ok(None);
        }
        let assignment = match position {
            Some(position) => self.session.cell_assignment(position, self.reporter)?,
            None => self.session.base_assignment()?,
        };
        let windows = assignment.calibration.as_ref();
        cell.work.put_order(&CellOrder {
            cell: assignment.cell.clone(),
            id: id.unwrap_or_else(|| BASE.into()),
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
        if self.cells.contains_key(BASE) {
            // What is found out of cells is compared with what the store has of it.
            return self.collect_of(BASE.into());
        }
        let is_full_look = self.looked.is_none_or(|looked| looked.elapsed() >= self.starter.full_look());
        if is_full_look {
            self.looked = Some(Instant::now());
        }
        let is_worth_a_look = |(id, cell): &(&String, &FollowedCell)| {
            is_full_look || cell.is_running || self.named.get(*id).is_some_and(|claim| *claim > cell.claim)
        };
        let ids: Vec<String> = self.cells.iter().filter(is_worth_a_look).map(|(id, _)| id.clone()).collect();
        ids.into_iter().try_for_each(|id| self.collect_of(id))
    }

    fn collect_of(&mut self, id: String) -> Result<()> {
        let Some(mut cell) = self.cells.remove(&id) else { return Ok(()) };
        while cell.work.is_claimed(cell.claim + 1) {
            self.note_claim(&id, &mut cell)?;
        }
        if !cell.is_running {
            self.cells.insert(id, cell);
            return Ok(());
        }
        // In this order: whoever has written the end has found out everything before.
        let end = cell.work.end(cell.claim)?;
        if cell.read(&mut self.session.ledger)? {
            self.starter.forgive();
        }
        if let Some(end) = end {
            return self.note_end(&id, cell, end);
        }
        self.cells.insert(id, cell);
        Ok(())
    }

    fn note_claim(&mut self, id: &str, cell: &mut FollowedCell) -> Result<()> {
        let before = cell.claim;
        // Where a worker dies between its last finding and its end, the next one only says so.
        let is_done = self.session.ledger.state(cell.position) == CellState::Done;
        if !is_done && before > 0 && cell.is_running && cell.work.end(before)?.is_none() {
            let who = cell.work.claim(before)?.map(|claim| claim.identity);
            let name = who.as_ref().map_or_else(|| "an unknown one".into(), ProcessIdentity::describe);
            let position = cell.position.map(|_| id);
            self.reporter
                .warn(position, format!("its worker ({name}) ended without a word; another one continues"));
            if let Some(who) = who {
                self.watch.note_gone(&who, &self.label(cell.position));
            }
        }
        cell.claim = before + 1;
        self.control.begin_elsewhere(id);
        let is_known = cell.is_running && self.session.ledger.state(cell.position) == CellState::Running;
        if !is_done && !is_known {
            self.session.ledger.set_state(cell.position, CellState::Running)?;
        }
        cell.is_running = true;
        Ok(())
    }

    fn note_end(&mut self, id: &str, mut cell: FollowedCell, end: ClaimEnd) -> Result<()> {
        let ledger = &mut self.session.ledger;
        match end {
            // Whatever its worker met since.
            _ if ledger.state(cell.position) == CellState::Done => {
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
                    ledger.set_state(cell.position, CellState::Cancelled)?;
                    self.forget(id);
                    return Ok(());
                }
                // Somebody stopped that worker alone. The next one continues.
                cell.is_running = false;
                ledger.set_state(cell.position, CellState::Queued)?;
                let spec = cell.position.map(|position| ledger.cells[position].spec.clone());
                self.cells.insert(id.to_owned(), cell);
                self.control.end_elsewhere(id, spec);
                Ok(())
            }
        }
    }

    fn note_failure(&mut self, id: &str, cell: &FollowedCell, message: String) -> Result<()> {
        self.forget(id);
        self.session.ledger.set_state(cell.position, CellState::Failed)?;
        if cell.position.is_none() {
            // Without it there is nothing to compare cells with.
            return Err(Error::failure(message));
        }
        self.reporter.event(Event::CellFailed { cell: Some(id.to_owned()), message });
        Ok(())
    }

    fn done(&mut self, cell: &FollowedCell) -> Result<()> {
        cell.tidy(&self.session.ledger)?;
        let Some(position) = cell.position else { return Ok(()) };
        (self.when_done)(self.session, self.reporter, position);
        // They are the result's in any case. With many places, cells end faster than they can be ranked.
        if self.ranked.is_none_or(|ranked| ranked.elapsed() > RANKING) {
            let found = self.session.ledger.rank_correlations();
            self.reporter.event(Event::RankCorrelations { found });
            self.ranked = Some(Instant::now());
        }
        let base_folder = self.session.ledger.folder(None);
        tell_surveys(&base_folder, self.session.study.folder.config.blocks, &mut self.surveyed, self.reporter)
    }

    /// Sees to it that there are workers, and tells what they do.
    fn tend(&mut self) -> Result<()> {
        for message in self.starter.reap()? {
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
            if self.stop.is_none() {
                let living = living_workers(&self.folder, statuses.clone(), &mut self.observer)?;
                let others = living.iter().filter(|worker| !self.starter.has(worker)).count();
                self.starter.fill(&self.work(&statuses), others)?;
            }
            let claims = statuses.values().filter_map(|status| Some((status.cell.clone()?, status.claim)));
            self.named = claims.collect();
            let is_running = |id: &str| self.cells.get(id).is_some_and(|cell| cell.is_running);
            self.watch.tell(&statuses, self.starter.queued(), &self.pace(), &is_running, self.reporter);
        }
        Ok(())
    }

    /// The work that is left for workers.
    fn work(&self, statuses: &BTreeMap<String, WorkerStatus>) -> WaitingWork {
        let idle = statuses.values().filter(|status| status.cell.is_none());
        let base = self.cells.contains_key(BASE);
        let idle_jobs = idle.filter_map(|status| status.identity.job.clone());
        WaitingWork {
            base,
            cells: self.cells.len() - usize::from(base),
            idle_jobs: if self.offer.waits_for_more() { Vec::new() } else { idle_jobs.collect() },
        }
    }

    /// How fast places that share nothing with this process compute.
    fn pace(&self) -> PaceElsewhere {
        let cells = &self.session.ledger.cells;
        let done = cells.iter().filter(|cell| cell.state == CellState::Done).map(|cell| cell.seconds.total());
        PaceElsewhere {
            apart: self.session.options.places.machines(),
            is_other_hardware: self.session.options.places.compute_base(),
            waiting: self.cells.values().filter(|cell| !cell.is_running && cell.position.is_some()).count(),
            done: done.collect(),
        }
    }

    /// How people call a cell, or the base.
    fn label(&self, position: Option<usize>) -> String {
        position.map_or_else(|| "the base".into(), |at| self.session.ledger.cells[at].spec.label())
    }

    fn is_over(&mut self) -> Result<bool> {
        if self.stop.is_some() {
            // Who was killed meanwhile will not say that they have stopped.
            for id in self.cells.keys().cloned().collect::<Vec<_>>() {
                let Some(cell) = self.cells.get(&id).filter(|cell| cell.is_running) else { continue };
                let Some(claim) = cell.work.claim(cell.claim)? else { continue };
                if self.observer.has_gone(&self.folder, &claim)? && cell.work.end(cell.claim)?.is_none() {
                    let position = cell.position;
                    self.session.ledger.set_state(position, CellState::Cancelled)?;
                    self.forget(&id);
                }
            }
            return Ok(self.starter.is_empty() && self.cells.values().all(|cell| !cell.is_running));
        }
        Ok(self.cells.is_empty() && self.starter.is_empty() && self.control.waiting_cells().1.is_empty())
    }

    /// The ledger cannot continue: workers stop, and what they have found out stays in their files.
    fn abandon(&mut self) {
        let began = Instant::now();
        self.cells.keys().for_each(|id| self.control.end_elsewhere(id, None));
        // The error that led here is the one to report.
        let _ = self.folder.ask_to_stop(StopRequest::Now);
        self.starter.stop(StopRequest::Now);
        while !self.starter.is_empty() && began.elapsed() < GRACE {
            if self.starter.reap().is_err() {
                return;
            }
            std::thread::sleep(self.starter.tick());
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
            self.control.wait(self.starter.tick());
        }
        let ledger = &self.session.ledger;
        for position in all_positions(ledger) {
            FollowedCell::new(ledger, position)?.work.remove()?;
        }
        crate::store::remove_unfinished(&ledger.folder(None));
        self.folder.remove()
    }
}
