//! The one who writes: findings go into the store, and then to the client.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::event::Event;
use super::finding::Finding;
use crate::error::{Error, Result};
use crate::results::{
    Answer, BaseResult, CellResult, CellState, Footprint, Measurement, Metrics, ModuleResult,
    RankCorrelations, StudyResult,
};
use crate::scores;
use crate::scores::judges::measure_flips;
use crate::store::Store;
use crate::study::{CellSpec, Contamination, StudyContent, StudySpec, short_name};

/// What is known of a study while it runs: the store's copy, and the same in memory.
pub(super) struct Ledger {
    pub store: Store,
    /// Number of the study in the store.
    pub study: i64,
    pub base: BaseResult,
    pub base_state: CellState,
    pub cells: Vec<CellResult>,
    /// Modules that the client was told of and the store does not have yet, each with the place of its cell.
    held: Vec<(usize, ModuleResult)>,
    spec: StudySpec,
    content: StudyContent,
    events: mpsc::Sender<Event>,
}

impl Ledger {
    /// Enters a study into the store, or takes it up again: `known` is its number there.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn open(
        store: Store,
        known: Option<i64>,
        (mut spec, mut content): (StudySpec, StudyContent),
        create: impl FnOnce(&Store, &StudySpec) -> Result<i64>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self> {
        let (study, base, base_state, mut cells) = if let Some(study) = known {
            let mut record = store.study(study)?;
            follow_moved_sets(&mut record.cells, &spec.cells);
            if let Some(before) = store.content(study)? {
                // Sets that this run has not read yet.
                for (key, digest) in before.calibration {
                    content.calibration.entry(key).or_insert(digest);
                }
                content.add_contamination(&before.contamination);
            }
            (study, record.base, record.base_state, record.cells)
        } else {
            (create(&store, &spec)?, BaseResult::default(), CellState::Queued, Vec::new())
        };
        for cell in &spec.cells {
            if !cells.iter().any(|c| c.id == cell.id()) {
                cells.push(CellResult::queued(cell));
            }
        }
        store.hold(study)?;
        spec.cells = cells.iter().map(|cell| cell.spec.clone()).collect();
        store.put_spec(study, &spec, Some(&content))?;
        for (position, cell) in cells.iter().enumerate() {
            store.put_cell(study, position, cell)?;
        }
        Ok(Self { store, study, base, base_state, cells, held: Vec::new(), spec, content, events })
    }

    /// The cells that are not done, in order.
    pub fn unfinished(&self) -> Vec<CellSpec> {
        self.cells.iter().filter(|c| c.state != CellState::Done).map(|cell| cell.spec.clone()).collect()
    }

    /// Folder of a cell's checkpoints, or of the base's.
    pub fn folder(&self, cell: Option<&str>) -> PathBuf {
        self.store.folder(self.study, cell)
    }

    /// The folder in which those folders are.
    pub fn study_folder(&self) -> PathBuf {
        self.store.study_folder(self.study)
    }

    /// What the files of the study hold.
    pub fn content(&self) -> &StudyContent {
        &self.content
    }

    /// The state of a cell, or of the base.
    pub fn state(&self, position: Option<usize>) -> CellState {
        position.map_or(self.base_state, |position| self.cells[position].state)
    }

    /// Place of a cell in the study; `None` where it is new.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a cell that has the id of another one with other calibration data.
    pub fn position(&self, spec: &CellSpec) -> Result<Option<usize>> {
        let id = spec.id();
        let Some(at) = self.cells.iter().position(|c| c.id == id) else { return Ok(None) };
        let known = &self.cells[at];
        if known.spec.calibration == spec.calibration {
            return Ok(Some(at));
        }
        Err(Error::mistake(format!(
            "cell `{id}` is in the study already, calibrated on {}; accepted beside it is a set whose file name \
             differs, not {}",
            known.spec.calibration.as_deref().unwrap_or("nothing"),
            spec.calibration.as_deref().unwrap_or("nothing")
        )))
    }

    /// Adds a cell at the end; returns its place.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn add_cell(&mut self, spec: &CellSpec) -> Result<usize> {
        self.cells.push(CellResult::queued(spec));
        self.spec.cells.push(spec.clone());
        self.store.put_spec(self.study, &self.spec, Some(&self.content))?;
        Ok(self.cells.len() - 1)
    }

    /// Keeps which windows a calibration set gave, and how much of what is measured they hold.
    ///
    /// # Errors
    /// [`Error::Mistake`] where an earlier run of the study was given others.
    pub fn note_calibration(
        &mut self,
        (set, seed): (&str, u64),
        digest: &str,
        contamination: &[Contamination],
    ) -> Result<()> {
        let key = StudyContent::calibration_key(set, seed);
        match self.content.calibration.get(&key) {
            Some(known) if known == digest => {
                if self.content.add_contamination(contamination) {
                    self.store.put_spec(self.study, &self.spec, Some(&self.content))?;
                }
                Ok(())
            }
            Some(_) => Err(Error::mistake(format!(
                "the calibration set {set} gives other windows than when the study began: accepted is the text as it \
                 was, or a new study"
            ))),
            None => {
                self.content.calibration.insert(key, digest.to_owned());
                self.content.add_contamination(contamination);
                self.store.put_spec(self.study, &self.spec, Some(&self.content))
            }
        }
    }

    /// Keeps a new state of a cell, or of the base, and tells it.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn set_state(&mut self, position: Option<usize>, state: CellState) -> Result<()> {
        self.keep_held()?;
        match position {
            None => {
                self.base_state = state;
                self.store.put_base(self.study, &self.base, state)?;
            }
            Some(position) => {
                self.cells[position].state = state;
                self.put_cell(position)?;
            }
        }
        self.tell(Event::Cell { cell: self.id(position), state });
        Ok(())
    }

    /// Keeps what was found out of a cell, or of the base, then tells it. A module is told at once and kept with what comes
    /// next, which is found before its block is on the disk: one flush of the disk for a block, not one for each module.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn record(&mut self, position: Option<usize>, finding: Finding) -> Result<()> {
        match finding {
            Finding::Module { module } => {
                self.hold_module(position, module);
                Ok(())
            }
            Finding::Warning { .. } | Finding::Checkpoint { .. } => self.put(position, finding),
            finding if self.held.is_empty() => self.put(position, finding),
            finding => self.together(|ledger| {
                ledger.keep_held()?;
                ledger.put(position, finding)
            }),
        }
    }

    /// The same for several findings, as one change of the store.
    ///
    /// # Errors
    /// As [`Self::record`]; then none of them is kept.
    pub fn record_all(&mut self, position: Option<usize>, findings: Vec<Finding>) -> Result<()> {
        if findings.is_empty() {
            return Ok(());
        }
        self.together(|ledger| {
            findings.into_iter().try_for_each(|finding| ledger.put(position, finding))?;
            ledger.keep_held()
        })
    }

    fn put(&mut self, position: Option<usize>, finding: Finding) -> Result<()> {
        let cell = self.id(position);
        match finding {
            Finding::Warning { message } => self.tell(Event::Warning { cell, message }),
            Finding::Module { module } => self.hold_module(position, module),
            Finding::Checkpoint { block } => self.tell_of(cell, |cell| Event::Checkpoint { cell, block }),
            Finding::Seconds { seconds } => {
                self.store.put_seconds(self.study, cell.as_deref(), &seconds)?;
                *match position {
                    None => &mut self.base.seconds,
                    Some(position) => &mut self.cells[position].seconds,
                } = seconds;
            }
            Finding::Measured { metrics, warnings, saved_at_ends, removed } => {
                *self.metrics(position) = metrics;
                match position {
                    None => self.store.put_base(self.study, &self.base, CellState::Running)?,
                    Some(position) => {
                        let cell = &mut self.cells[position];
                        cell.warnings = warnings;
                        let of_modules: Footprint = cell.modules.iter().map(|m| m.footprint).sum();
                        cell.footprint = Some(Footprint { saved_at_ends, removed, ..of_modules });
                        self.put_cell(position)?;
                    }
                }
                self.tell_metrics(position);
            }
            Finding::Answers { answers } => {
                self.store.put_answers(self.study, cell.as_deref(), &answers)?;
                for answer in answers {
                    self.tell(Event::Answer { cell: cell.clone(), answer });
                }
            }
            Finding::Disagreements { task, found } => {
                let Some(cell) = cell else { return Ok(()) };
                let rows: Vec<(&str, usize, Vec<f32>)> =
                    found.iter().map(|d| (task.as_str(), d.record, d.bits.clone())).collect();
                self.store.put_disagreements(self.study, &cell, &rows)?;
                for found in found {
                    let (cell, task) = (cell.clone(), task.clone());
                    self.tell(Event::Disagreement { cell, task, record: found.record, bits: found.bits });
                }
            }
            Finding::Scored { measurements } => {
                let flips = self.flips(cell.as_deref(), &measurements)?;
                let found: Vec<Measurement> = measurements.into_iter().chain(flips).collect();
                let values = &mut self.metrics(position).values;
                // A finding that is read from a file a second time changes nothing.
                values.retain(|known| found.iter().all(|new| !is_same_score(new, known)));
                values.extend(found);
                // A worker's findings are read once: whoever follows after this run finds it in the store.
                match position {
                    None => self.store.put_base(self.study, &self.base, self.base_state)?,
                    Some(position) => self.put_cell(position)?,
                }
                self.tell_metrics(position);
            }
            Finding::Done { peak_rss_bytes } => self.record_done(position, peak_rss_bytes)?,
        }
        Ok(())
    }

    /// Makes several changes of the store one.
    fn together(&mut self, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.store.begin_together()?;
        let changed = std::panic::catch_unwind(AssertUnwindSafe(|| change(self)));
        let ended = self.store.end_together(matches!(changed, Ok(Ok(()))));
        match changed {
            Ok(changed) => changed.and(ended),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// The flips of a cell on the tasks that were scored: its answers are compared with the base's.
    fn flips(&self, cell: Option<&str>, scored: &[Measurement]) -> Result<Vec<Measurement>> {
        let Some(cell) = cell else { return Ok(Vec::new()) };
        let (base, cell) =
            (self.store.answers(self.study, None)?, self.store.answers(self.study, Some(cell))?);
        let mut tasks: Vec<&str> = scored.iter().map(|value| value.data_set.as_str()).collect();
        tasks.dedup();
        let flips = |task: &&str| {
            let of_task = |answer: &&Answer| answer.task == *task;
            let (base, cell): (Vec<&Answer>, Vec<&Answer>) =
                (base.iter().filter(of_task).collect(), cell.iter().filter(of_task).collect());
            measure_flips(task, &base, &cell, self.spec.seed)
        };
        Ok(tasks.iter().filter_map(flips).collect())
    }

    fn hold_module(&mut self, position: Option<usize>, module: ModuleResult) {
        let Some(position) = position else { return };
        let cell = &mut self.cells[position];
        replace_module(&mut cell.modules, &module);
        let cell = cell.id.clone();
        self.held.push((position, module.clone()));
        self.tell(Event::Module { cell, module });
    }

    fn keep_held(&mut self) -> Result<()> {
        for (position, module) in self.held.drain(..) {
            self.store.put_module(self.study, &self.cells[position].id, &module)?;
        }
        Ok(())
    }

    fn record_done(&mut self, position: Option<usize>, peak_rss_bytes: u64) -> Result<()> {
        let (seconds, footprint) = match position {
            None => (self.base.seconds, None),
            Some(position) => {
                let cell = &mut self.cells[position];
                cell.peak_rss_bytes = peak_rss_bytes;
                (cell.seconds, cell.footprint)
            }
        };
        self.tell(Event::CellDone { cell: self.id(position), seconds, footprint });
        self.set_state(position, CellState::Done)
    }

    /// Keeps which waiting cells the client has withdrawn. It knows already.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn withdraw(&mut self, ids: &[String]) -> Result<()> {
        for id in ids {
            if let Some(position) = self.cells.iter().position(|c| c.id == *id) {
                self.cells[position].state = CellState::Cancelled;
                self.put_cell(position)?;
            }
        }
        Ok(())
    }

    /// Which metric ranks the cells as the tasks do, over those that are done.
    pub fn rank_correlations(&self) -> RankCorrelations {
        scores::rank_done_cells(&self.base.metrics, &self.cells)
    }

    /// Everything found out, read back from the store: what is reported is what is kept.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn report(&self) -> Result<StudyResult> {
        Ok(self.store.study(self.study)?.result(self.rank_correlations()))
    }

    /// Tells the client.
    pub fn tell(&self, event: Event) {
        // A client that is gone hears nothing.
        let _ = self.events.blocking_send(event);
    }

    fn tell_of(&self, cell: Option<String>, event: impl FnOnce(String) -> Event) {
        if let Some(cell) = cell {
            self.tell(event(cell));
        }
    }

    fn tell_metrics(&mut self, position: Option<usize>) {
        let metrics = self.metrics(position).clone();
        self.tell(Event::Metrics { cell: self.id(position), metrics });
    }

    /// Id of a cell; `None` for the base.
    pub fn id(&self, position: Option<usize>) -> Option<String> {
        position.map(|position| self.cells[position].id.clone())
    }

    fn metrics(&mut self, position: Option<usize>) -> &mut Metrics {
        match position {
            None => &mut self.base.metrics,
            Some(position) => &mut self.cells[position].metrics,
        }
    }

    fn put_cell(&self, position: usize) -> Result<()> {
        self.store.put_cell(self.study, position, &self.cells[position])
    }
}

fn is_same_score(one: &Measurement, other: &Measurement) -> bool {
    one.score == other.score && one.data_set == other.data_set
}

/// Puts a module in the place of what was known of it.
pub(super) fn replace_module(modules: &mut Vec<ModuleResult>, module: &ModuleResult) {
    match modules.iter_mut().find(|known| known.name == module.name) {
        Some(known) => *known = module.clone(),
        None => modules.push(module.clone()),
    }
}

/// Lets cells that were computed before read their calibration sets where `wanted` has them now.
fn follow_moved_sets(cells: &mut [CellResult], wanted: &[CellSpec]) {
    for cell in cells {
        let known = cell.spec.calibration.as_deref().map(short_name);
        let moved = wanted.iter().filter_map(|cell| cell.calibration.as_ref());
        if let Some(set) = moved.into_iter().find(|set| Some(short_name(set)) == known) {
            cell.spec.calibration = Some(set.clone());
        }
    }
}
