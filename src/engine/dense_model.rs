//! The dense model of a study, as choices ask for it: its survey, and losses of models without some blocks.

use std::path::Path;

use super::Reporter;
use super::assignment::Assignment;
use super::costs::Work;
use super::evaluate::{Heads, window};
use super::event::{Event, Phase};
use super::place::Place;
use super::stream::{HiddenStates, Placement};
use super::study::Study;
use super::survey::{SurveyRequest, take_survey};
use crate::error::{Error, Result};
use crate::methods::{DenseModel, Survey};
use crate::model::LmHead;
use crate::store::survey as kept_survey;
use crate::store::trials::{self, Trial};
use crate::study::{ScoredPositions, StudyContent};

/// Windows that losses are measured on, as SLEB's authors do.
pub(super) const LOSS_WINDOWS: usize = 8;

/// Most bytes of hidden states of models that are tried together.
const TRIAL_BYTES: usize = 1 << 30;

/// The dense model of a study, which is surveyed once for each calibration set.
pub(super) struct SurveyedModel<'a> {
    pub study: &'a Study,
    pub place: &'a Place,
    pub assignment: &'a Assignment,
    pub reporter: &'a mut Reporter,
}

impl SurveyedModel<'_> {
    fn windows(&self) -> Result<&[Vec<u32>]> {
        let windows = self.assignment.calibration.as_ref().map(|windows| windows.as_slice());
        windows.ok_or_else(|| Error::failure("a cell that needs a survey has no calibration windows"))
    }

    /// A survey that also knows what the inputs of modules are like. Of a model of which blocks are left out, it is that of
    /// the others, and is not kept: what is chosen by it is.
    ///
    /// # Errors
    /// As [`DenseModel::survey`].
    pub fn survey_with_sites(&mut self) -> Result<Survey> {
        if self.assignment.removed.blocks.is_empty() {
            return self.survey();
        }
        let path = kept_survey::path(&self.assignment.folder, &self.key()?);
        let found = self.take(&path)?;
        kept_survey::remove_unfinished(&path)?;
        Ok(found)
    }

    /// The calibration set's key within the study.
    fn key(&self) -> Result<String> {
        let cell = self.assignment.cell.as_ref();
        let set = cell.and_then(|cell| Some((cell.calibration.as_deref()?, cell.seed)));
        let (set, seed) = set.ok_or_else(|| Error::failure("a survey needs a calibration set"))?;
        Ok(StudyContent::calibration_key(set, seed))
    }

    /// Takes the survey that will lie at `path`.
    fn take(&mut self, path: &Path) -> Result<Survey> {
        let (study, assignment) = (self.study, self.assignment);
        let windows = self.windows()?.to_vec();
        let request = SurveyRequest {
            windows: &windows,
            dropped: &assignment.removed.blocks,
            path,
            cell: assignment.id.as_deref(),
        };
        take_survey(study, self.place, &request, self.reporter)
    }
}

impl DenseModel for SurveyedModel<'_> {
    fn survey(&mut self) -> Result<Survey> {
        let key = self.key()?;
        let path = kept_survey::path(&self.assignment.base_folder, &key);
        let known = kept_survey::read(&path, self.study.folder.config.blocks)?;
        if let Some(known) = known.filter(Survey::is_complete) {
            // Another process may have taken it at the same time, and been killed.
            kept_survey::remove_unfinished(&path)?;
            return Ok(known);
        }
        let found = self.take(&path)?;
        kept_survey::write(&path, &found)?;
        kept_survey::remove_unfinished(&path)?;
        self.reporter.event(Event::Surveyed { calibration: key, influence: found.influence.clone() });
        Ok(found)
    }

    fn losses_without(&mut self, removed: &[usize], candidates: &[usize]) -> Result<Vec<f64>> {
        let path = trials::path(&self.assignment.base_folder, &self.key()?);
        let mut trials = trials::read(&path)?;
        let known = |trials: &[Trial], candidate: usize| {
            let is_it = |trial: &&Trial| trial.removed == removed && trial.candidate == candidate;
            trials.iter().find(is_it).map(|trial| trial.loss)
        };
        let untried = candidates.iter().copied().filter(|candidate| known(&trials, *candidate).is_none());
        let untried: Vec<usize> = untried.collect();
        if !untried.is_empty() {
            self.try_without(removed, &untried, &path, &mut trials)?;
        }
        let losses: Option<_> = candidates.iter().map(|candidate| known(&trials, *candidate)).collect();
        losses.ok_or_else(|| Error::failure("a model without one of the blocks was not tried"))
    }
}

impl SurveyedModel<'_> {
    /// Measures the model without the blocks `removed` and each candidate in turn. What is known of one group of candidates
    /// is kept at `path` before the next begins.
    fn try_without(
        &mut self,
        removed: &[usize],
        candidates: &[usize],
        path: &Path,
        trials: &mut Vec<Trial>,
    ) -> Result<()> {
        let (study, place) = (self.study, self.place);
        let windows: Vec<Vec<u32>> = self.windows()?.iter().take(LOSS_WINDOWS).cloned().collect();
        let id = self.assignment.id.clone();
        self.reporter.phase(id.as_deref(), Phase::Survey, candidates.len() as u64, "trials");
        if let Some(cell) = &self.assignment.cell {
            let procedure = study.procedure(cell)?;
            self.reporter.tracker.unit(&study.sizes.trials(&procedure, LOSS_WINDOWS, trials.len()));
        }
        let placement = Placement { batch_tokens: study.spec.compute.batch_tokens, home: &place.home };
        let start = HiddenStates::embed(&study.folder, &windows, study.dtype, placement, &mut || {
            self.reporter.boundary()
        })?;
        let heads = Heads::new(LmHead::load(&study.folder, study.dtype, &place.device)?, None);
        let bytes = start.tokens() * study.folder.config.hidden_size * study.sizes.compute_bytes;
        let together = (TRIAL_BYTES / bytes.max(1)).max(1);
        let mut tried = 0;
        for group in candidates.chunks(together) {
            let streams = self.try_together(&start, removed, group)?;
            for (&candidate, states) in group.iter().zip(&streams) {
                self.reporter.check()?;
                let loss = mean_loss(&heads, place, &windows, states)?;
                trials.push(Trial { removed: removed.to_vec(), candidate, loss });
                tried += 1;
                self.reporter.tracker.step(tried);
            }
            trials::add(path, trials)?;
        }
        Ok(())
    }

    /// The losses of some candidates, which are tried together: each is a stream of states that leaves one block out.
    fn try_together(
        &mut self,
        start: &HiddenStates,
        removed: &[usize],
        candidates: &[usize],
    ) -> Result<Vec<HiddenStates>> {
        let (study, place) = (self.study, self.place);
        let (mut whole, mut trials) = (start.clone(), Vec::<HiddenStates>::new());
        for index in (0..study.folder.config.blocks).filter(|index| !removed.contains(index)) {
            self.reporter.boundary()?;
            let started = self.reporter.clock();
            let block = study.load_block(index, &place.device)?;
            let loaded = self.reporter.clock();
            self.reporter.tracker.did(Work::Block, study.sizes.block(), loaded - started);
            let is_candidate = candidates.contains(&index);
            let left_out = is_candidate.then(|| whole.clone());
            // Once all candidates are on their way, nobody needs the model with all blocks.
            let needs_whole = candidates.iter().any(|candidate| *candidate > index);
            for states in trials.iter_mut().chain(needs_whole.then_some(&mut whole)) {
                let began = self.reporter.clock();
                states.forward(&block, &study.ropes, &place.device, &mut || self.reporter.check())?;
                let seconds = self.reporter.clock() - began;
                self.reporter.tracker.did(Work::Forward, study.sizes.forward(states.tokens()), seconds);
                self.reporter.tracker.throughput(states.tokens() as f64, 1.0);
            }
            trials.extend(left_out);
        }
        Ok(trials)
    }
}

/// The mean over windows of their mean negative log-likelihood.
fn mean_loss(heads: &Heads, place: &Place, windows: &[Vec<u32>], states: &HiddenStates) -> Result<f64> {
    let mut total = 0.0;
    for (index, tokens) in windows.iter().enumerate() {
        let scored = (tokens.as_slice(), ScoredPositions::default());
        let found = window(heads, &place.device, scored, &states.sequence(index)?, None)?;
        let predicted = found.with_target();
        total += predicted.iter().map(|at| at.nll).sum::<f64>() / predicted.len().max(1) as f64;
    }
    Ok(total / windows.len().max(1) as f64)
}
