//! The study that is shown: as the store and the engine's events describe it.

use std::collections::{BTreeMap, HashMap};

use crate::demo;
use crate::engine::{Event, PlannedCell};
use crate::error::Result;
use crate::results::{
    Answer, BaseResult, CellResult, CellState, Environment, Metrics, ModelInfo, ModuleResult,
    RankCorrelations, StudyResult,
};
use crate::scores;
use crate::store::{Store, StudyRecord, survey};
use crate::study::{CellSpec, Contamination, StudyContent, StudySpec, contamination_warning, short_name};

/// What a model is called: the path or hub id that was given, and a name for the built-in one, whose path tells nobody
/// anything.
pub(crate) fn model_name(source: &str) -> &str {
    if demo::is_model(source) { "the built-in model" } else { source }
}

/// A study with everything known of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StudyView {
    pub study: i64,
    /// What was asked for; `None` until it has been read from the store.
    pub spec: Option<StudySpec>,
    pub model: ModelInfo,
    pub environment: Environment,
    pub base: BaseResult,
    pub base_state: CellState,
    /// Every cell, in the order of the grid.
    pub cells: Vec<CellResult>,
    /// Which metric ranks the cells as the tasks do.
    pub rank_correlations: RankCorrelations,
    /// How much of every corpus and task stands in every calibration set, as far as the store knew when it was read: the
    /// engine tells it before its plan, when another study may still be shown.
    pub contamination: Vec<Contamination>,
    /// Why cells failed, by id; the base is `None`.
    pub failures: HashMap<Option<String>, String>,
    /// Answers by cell; the base is `None`. Read when they are first shown.
    pub answers: HashMap<Option<String>, Vec<Answer>>,
    /// Blocks of a cell that are safe on disk.
    pub blocks_done: HashMap<String, usize>,
    /// Influence of every block by the key of the calibration set that was surveyed.
    pub influence: BTreeMap<String, Vec<f64>>,
}

impl StudyView {
    /// A study that the engine is about to run.
    pub(crate) fn planned(
        study: i64,
        model: ModelInfo,
        environment: Environment,
        cells: &[PlannedCell],
    ) -> Self {
        let known = |cell: &PlannedCell| CellResult { state: cell.state, ..CellResult::queued(&cell.spec) };
        Self {
            study,
            spec: None,
            model,
            environment,
            base: BaseResult::default(),
            base_state: CellState::Queued,
            cells: cells.iter().map(known).collect(),
            rank_correlations: RankCorrelations::default(),
            contamination: Vec::new(),
            failures: HashMap::new(),
            answers: HashMap::new(),
            blocks_done: cells.iter().map(|cell| (cell.id.clone(), cell.blocks_done)).collect(),
            influence: BTreeMap::new(),
        }
    }

    pub(crate) fn of_record(record: StudyRecord) -> Self {
        let rank_correlations = scores::rank_done_cells(&record.base.metrics, &record.cells);
        let blocks = |cell: &CellResult| cell.modules.iter().map(|m| m.block + 1).max().unwrap_or(0);
        let blocks_done = record.cells.iter().map(|cell| (cell.id.clone(), blocks(cell))).collect();
        Self {
            study: record.id,
            spec: Some(record.spec),
            model: record.model,
            environment: record.environment,
            base: record.base,
            base_state: record.base_state,
            cells: record.cells,
            rank_correlations,
            contamination: record.contamination,
            failures: HashMap::new(),
            answers: HashMap::new(),
            blocks_done,
            influence: BTreeMap::new(),
        }
    }

    /// A study of a store, with the surveys that lie beside it.
    ///
    /// # Errors
    /// A study or a survey that cannot be read.
    pub(crate) fn of_store(store: &Store, study: i64) -> Result<Self> {
        let record = store.study(study)?;
        let surveys = survey::all(&store.folder(study, None), record.model.blocks)?;
        let influence = surveys.into_iter().map(|(key, survey)| (key, survey.influence)).collect();
        Ok(Self { influence, ..Self::of_record(record) })
    }

    /// The influence of every block on the calibration set of a cell, if that was surveyed; of a cell without data, on any
    /// set that was.
    pub(crate) fn influence_for(&self, cell: &CellSpec) -> Option<&[f64]> {
        let found = match &cell.calibration {
            Some(set) => self.influence.get(&StudyContent::calibration_key(set, cell.seed)),
            None => self.influence.values().next(),
        };
        found.map(Vec::as_slice)
    }

    /// Takes over what another look at the same study found, and keeps what only this one knows.
    pub(crate) fn refresh(&mut self, found: Self) {
        let engine = std::mem::replace(self, found);
        // Cells that were added since the store was read.
        let added = engine.cells.into_iter().filter(|cell| self.cell(&cell.id).is_none()).collect::<Vec<_>>();
        self.cells.extend(added);
        self.failures = engine.failures;
        self.answers = engine.answers;
        self.influence.extend(engine.influence);
        for (id, blocks) in engine.blocks_done {
            let known = self.blocks_done.entry(id).or_default();
            *known = (*known).max(blocks);
        }
    }

    pub(crate) fn cell(&self, id: &str) -> Option<&CellResult> {
        self.cells.iter().find(|cell| cell.id == id)
    }

    fn cell_mut(&mut self, id: &str) -> Option<&mut CellResult> {
        self.cells.iter_mut().find(|cell| cell.id == id)
    }

    /// What a person should know of what a cell was calibrated on.
    pub(crate) fn contamination_warning(&self, cell: &CellSpec) -> Option<String> {
        let set = short_name(cell.calibration.as_deref()?);
        contamination_warning(&self.contamination, (&set, cell.seed))
    }

    /// Measurements of a cell, or of the base.
    pub(crate) fn metrics(&self, cell: Option<&str>) -> Option<&Metrics> {
        match cell {
            None => Some(&self.base.metrics),
            Some(id) => self.cell(id).map(|cell| &cell.metrics),
        }
    }

    /// Name of a cell as people read it; the base is `base`.
    pub(crate) fn label(&self, cell: Option<&str>) -> String {
        match cell {
            None => "base".into(),
            Some(id) => self.cell(id).map_or_else(|| id.to_owned(), |cell| cell.spec.label()),
        }
    }

    /// Adds a cell that is to be run, where it is not there yet.
    pub(crate) fn add(&mut self, spec: &CellSpec) {
        if self.cell(&spec.id()).is_none() {
            self.cells.push(CellResult::queued(spec));
        }
    }

    /// The whole study, as it is reported.
    pub(crate) fn result(&self) -> StudyResult {
        let (model, environment) = (self.model.clone(), self.environment.clone());
        let (base, cells, rank_correlations) =
            (self.base.clone(), self.cells.clone(), self.rank_correlations.clone());
        let result = StudyResult::new(self.study, model, environment, base, cells, rank_correlations);
        StudyResult { contamination: self.contamination.clone(), ..result }
    }

    /// Cells that are done, and all of them.
    pub(crate) fn progress(&self) -> (usize, usize) {
        (self.cells.iter().filter(|cell| cell.state == CellState::Done).count(), self.cells.len())
    }

    /// Takes in the answers of a cell that the store had. Those that the engine has sent since then stay.
    pub(crate) fn take_answers(&mut self, cell: Option<String>, mut read: Vec<Answer>) {
        let known = self.answers.entry(cell).or_default();
        known.retain(|known| !read.iter().any(|a| a.task == known.task && a.record == known.record));
        read.append(known);
        *known = read;
    }

    /// Takes in what the engine tells of this study.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Cell { cell: None, state } => self.base_state = *state,
            Event::Cell { cell: Some(id), state } => {
                if let Some(cell) = self.cell_mut(id) {
                    cell.state = *state;
                }
            }
            Event::Module { cell, module } => self.module(cell, module),
            Event::Checkpoint { cell, block } => {
                self.blocks_done.insert(cell.clone(), block + 1);
            }
            Event::Metrics { cell: None, metrics } => self.base.metrics = metrics.clone(),
            Event::Metrics { cell: Some(id), metrics } => {
                if let Some(cell) = self.cell_mut(id) {
                    cell.metrics = metrics.clone();
                }
            }
            Event::Answer { cell, answer } => {
                let answers = self.answers.entry(cell.clone()).or_default();
                match answers.iter_mut().find(|a| a.task == answer.task && a.record == answer.record) {
                    Some(known) => *known = answer.clone(),
                    None => answers.push(answer.clone()),
                }
            }
            Event::Disagreement { cell, task, record, bits } => {
                let answers = self.answers.get_mut(&Some(cell.clone()));
                let known = answers.into_iter().flatten().find(|a| a.task == *task && a.record == *record);
                if let Some(answer) = known {
                    answer.disagreement_bits.clone_from(bits);
                }
            }
            Event::CellDone { cell: None, seconds, .. } => self.base.seconds = *seconds,
            Event::CellDone { cell: Some(id), seconds, footprint } => {
                if let Some(cell) = self.cell_mut(id) {
                    cell.seconds = *seconds;
                    cell.footprint = *footprint;
                }
            }
            Event::Surveyed { calibration, influence } => {
                self.influence.insert(calibration.clone(), influence.clone());
            }
            Event::RankCorrelations { found } => self.rank_correlations.clone_from(found),
            Event::Warning { cell: Some(id), message } => {
                if let Some(cell) = self.cell_mut(id)
                    && !cell.warnings.contains(message)
                {
                    cell.warnings.push(message.clone());
                }
            }
            Event::CellFailed { cell, message } => {
                self.failures.insert(cell.clone(), message.clone());
            }
            Event::Finished { result } => {
                self.base = result.base.clone();
                self.cells.clone_from(&result.cells);
                self.rank_correlations.clone_from(&result.rank_correlations);
                self.contamination.clone_from(&result.contamination);
            }
            Event::Failed { .. } | Event::Stopped { .. } => self.interrupted(),
            _ => {}
        }
    }

    /// Nothing runs any more: what did waits for a resume.
    pub(crate) fn interrupted(&mut self) {
        let states = self.cells.iter_mut().map(|cell| &mut cell.state).chain([&mut self.base_state]);
        for state in states.filter(|state| **state == CellState::Running) {
            *state = CellState::Queued;
        }
    }

    fn module(&mut self, id: &str, module: &ModuleResult) {
        let Some(cell) = self.cell_mut(id) else { return };
        match cell.modules.iter_mut().find(|m| m.name == module.name) {
            Some(known) => *known = module.clone(),
            None => cell.modules.push(module.clone()),
        }
    }
}
