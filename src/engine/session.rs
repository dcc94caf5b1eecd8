//! A study while it runs: what is understood of it, where it is computed, and who writes down what is found out.

use std::sync::Arc;

use super::Reporter;
use super::assignment::Assignment;
use super::calibration::CalibrationSets;
use super::content;
use super::control::Control;
use super::draft::StudyDraft;
use super::event::{Event, RunOptions};
use super::ledger::Ledger;
use super::place::Place;
use super::study::Study;
use crate::error::Result;
use crate::model::RemovedParts;
use crate::results::{CellState, Seconds};
use crate::store::Store;
use crate::study::{CellSpec, StudyContent};

/// One study, one place, one ledger.
pub(super) struct Session {
    pub study: Arc<Study>,
    pub place: Place,
    pub ledger: Ledger,
    pub options: RunOptions,
    /// Bytes of memory that one process needs, as far as can be foretold.
    pub worker_memory: u64,
    sets: CalibrationSets,
}

impl Session {
    /// Enters the study into the store, or takes it up again: `known` is its number there.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn begin(
        draft: StudyDraft,
        content: StudyContent,
        store: Store,
        known: Option<i64>,
        options: RunOptions,
        reporter: &Reporter,
    ) -> Result<Self> {
        let place = draft.place();
        let StudyDraft { study, sets, .. } = draft;
        let create = |store: &Store, spec: &_| store.create_study(spec, &study.info, &study.environment);
        let ledger = Ledger::open(store, known, (study.spec.clone(), content), create, reporter.sender())?;
        let done = ledger.cells.iter().filter(|cell| cell.state == CellState::Done);
        place.leftovers.remove_all_states(done.map(|cell| ledger.folder(Some(&cell.id))).collect());
        if let (Some(study_id), Some(bits)) = (known, study.info.source_bits) {
            ledger.store.put_source_bits(study_id, bits)?;
        }
        Ok(Self { study: Arc::new(study), place, ledger, options, worker_memory: 0, sets })
    }

    /// Place of a cell in the study; one that is new is added at the end.
    ///
    /// # Errors
    /// [`Error::Mistake`](crate::Error::Mistake) for a cell that does not fit the model, or the other cells.
    pub fn position(&mut self, spec: &CellSpec) -> Result<usize> {
        if let Some(known) = self.ledger.position(spec)? {
            return Ok(known);
        }
        self.study.check_cell(spec)?;
        self.ledger.add_cell(spec)
    }

    /// Enters the cells that were added while others were computed.
    ///
    /// # Errors
    /// As [`enter_added`].
    pub fn enter_added(&mut self, control: &Control) -> Result<()> {
        enter_added(&self.study, &mut self.ledger, control)
    }

    /// The base, to be computed from wherever it was left.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn base_assignment(&self) -> Result<Assignment> {
        let ledger = &self.ledger;
        let is_known = ledger.base_state == CellState::Done;
        Ok(Assignment {
            cell: None,
            id: None,
            folder: ledger.folder(None),
            base_folder: ledger.folder(None),
            calibration: None,
            calibration_warnings: Vec::new(),
            removed: RemovedParts::default(),
            profile: None,
            narrowed: None,
            modules: Vec::new(),
            answers: ledger.store.answers(ledger.study, None)?,
            // What only brings back the states of a base that is done does not count as its measurement.
            seconds: if is_known { Seconds::default() } else { ledger.base.seconds },
            is_known,
            has_cells: !ledger.cells.is_empty(),
        })
    }

    /// A cell, to be computed from wherever it was left.
    ///
    /// # Errors
    /// A calibration set that cannot be read, or is not what it was; a store that cannot be read.
    pub fn cell_assignment(&mut self, position: usize, reporter: &mut Reporter) -> Result<Assignment> {
        let spec = self.ledger.cells[position].spec.clone();
        let (mut calibration, mut calibration_warnings) = (None, Vec::new());
        if let Some(set) = &spec.calibration {
            let found = self.sets.get((set, spec.seed), &self.study, reporter)?;
            let digest = content::of_windows(&found.windows);
            self.ledger.note_calibration((set, spec.seed), &digest, &found.contamination)?;
            calibration = Some(found.windows.clone());
            calibration_warnings.clone_from(&found.warnings);
        }
        let ledger = &self.ledger;
        let known = &ledger.cells[position];
        Ok(Assignment {
            id: Some(known.id.clone()),
            folder: ledger.folder(Some(&known.id)),
            base_folder: ledger.folder(None),
            calibration,
            calibration_warnings,
            removed: RemovedParts::default(),
            profile: None,
            narrowed: None,
            modules: known.modules.clone(),
            answers: ledger.store.answers(ledger.study, Some(&known.id))?,
            seconds: known.seconds,
            is_known: false,
            has_cells: false,
            cell: Some(spec),
        })
    }
}

/// Enters the cells that were added while others were computed into the study, so that they are not lost with the
/// process. Those that do not fit are taken out of the queue, and told.
///
/// # Errors
/// A store that cannot be written.
pub(super) fn enter_added(study: &Study, ledger: &mut Ledger, control: &Control) -> Result<()> {
    for spec in control.waiting_cells().1 {
        let entered = match ledger.position(&spec) {
            Ok(Some(_)) => continue,
            Ok(None) => study.check_cell(&spec).map(drop),
            Err(error) => Err(error),
        };
        match entered {
            Ok(()) => drop(ledger.add_cell(&spec)?),
            Err(error) => {
                control.refuse(&spec);
                ledger.tell(Event::cell_refused(&spec, &error));
            }
        }
    }
    Ok(())
}
