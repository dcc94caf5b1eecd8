//! Which blocks and experts a cell removes: chosen once, from the dense model, and kept in its folder.

use std::fs;
use std::path::PathBuf;

use super::Reporter;
use super::assignment::Assignment;
use super::costs::Work;
use super::evaluate::{Heads, window};
use super::event::{Event, Phase};
use super::place::Place;
use super::stream::{HiddenStates, Placement};
use super::study::Study;
use super::survey::take_survey;
use crate::error::{Error, Result};
use crate::methods::{DenseModel, Survey};
use crate::model::{LmHead, ModelFolder, ModuleDef, RemovedParts};
use crate::results::{ErrorBasis, Footprint, ModuleResult};
use crate::store::checkpoint::removed::{read_experts, write_experts};
use crate::store::checkpoint::{self, Stored};
use crate::store::survey as kept_survey;
use crate::study::StudyContent;

/// Windows that losses are measured on, as SLEB's authors do.
pub(super) const LOSS_WINDOWS: usize = 8;

/// Most bytes of hidden states of models that are tried together.
const TRIAL_BYTES: usize = 1 << 30;

/// The parts of the model that a cell removes, chosen when they are first asked for.
///
/// # Errors
/// [`Error::Cancelled`] when it is to end; anything that fails.
pub(super) fn removed_parts(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
) -> Result<RemovedParts> {
    let blocks = dropped_blocks(study, place, assignment, reporter)?;
    Ok(RemovedParts { blocks, experts: dropped_experts(study, place, assignment, reporter)? })
}

/// The experts of every block of the files that a cell removes, in ascending order; an empty list where it removes none.
fn dropped_experts(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
) -> Result<Vec<Vec<usize>>> {
    let Some(cell) = &assignment.cell else { return Ok(Vec::new()) };
    let procedure = study.procedure(cell)?;
    let Some((_, removal)) = procedure.expert_removal() else { return Ok(Vec::new()) };
    let config = &study.folder.config;
    let count = procedure.experts_removed(config.experts())?;
    let dir = &assignment.folder;
    let known = read_experts(dir, config.blocks)?;
    if let Some(known) = known.filter(|known| known.iter().all(|experts| experts.len() == count)) {
        return Ok(known);
    }
    let mut model = SurveyedModel { study, place, assignment, reporter };
    let chosen = removal.choose(&mut model, count)?;
    fs::create_dir_all(dir).map_err(|e| Error::io("cannot create", dir, e))?;
    write_experts(dir, &chosen)?;
    Ok(chosen)
}

/// The blocks that a cell removes, in ascending order. They are chosen when they are first asked for, and get their
/// checkpoints with that.
///
/// # Errors
/// [`Error::Cancelled`] when it is to end; anything that fails.
fn dropped_blocks(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
) -> Result<Vec<usize>> {
    let Some(cell) = &assignment.cell else { return Ok(Vec::new()) };
    let procedure = study.procedure(cell)?;
    let Some((stage, removal)) = procedure.removal() else { return Ok(Vec::new()) };
    let blocks = study.folder.config.blocks;
    let count = procedure.blocks_removed(blocks)?;
    let dir = &assignment.folder;
    let known = checkpoint::dropped_blocks(dir, blocks)?;
    // Fewer where an earlier run ended while it wrote them.
    if known.len() == count {
        return Ok(known);
    }
    let mut model = SurveyedModel { study, place, assignment, reporter };
    let chosen = removal.choose(&mut model, blocks, count, &stage.arguments)?;
    fs::create_dir_all(dir).map_err(|e| Error::io("cannot create", dir, e))?;
    for &block in &chosen {
        let modules = study.folder.config.layout(block).modules();
        let gone =
            modules.map(|(_, module)| (&module.name, Stored::Dropped([module.shape.0, module.shape.1])));
        checkpoint::write_block(dir, block, &gone.collect::<Vec<_>>())?;
    }
    Ok(chosen)
}

/// What becomes of the modules of blocks and experts that are gone.
pub(super) fn dropped_modules(study: &Study, removed: &RemovedParts) -> Vec<ModuleResult> {
    let config = &study.folder.config;
    let of_block = |block: usize| {
        let is_gone = removed.blocks.contains(&block);
        let experts = removed.experts.get(block).map_or(&[][..], Vec::as_slice);
        let goes = move |module: &ModuleDef| {
            is_gone || module.expert.is_some_and(|expert| experts.contains(&expert.index))
        };
        let modules = config.layout(block).modules().filter(move |(_, module)| goes(module));
        modules.map(move |(_, module)| untouched(block, &module.full_name, Footprint::default()))
    };
    (0..config.blocks).flat_map(of_block).collect()
}

/// A module that no method worked on.
pub(super) fn untouched(block: usize, name: &str, footprint: Footprint) -> ModuleResult {
    ModuleResult {
        block,
        name: name.to_owned(),
        footprint,
        reconstruction_error: 0.0,
        error_basis: ErrorBasis::Weights,
        dead_columns: 0,
        details: crate::number::NamedNumbers::default(),
        seconds: 0.0,
    }
}

/// Bits that a cell's model takes less than the source beside its compressed modules, and parameters that are gone.
pub(super) fn savings(study: &Study, model: &ModelFolder) -> (u64, u64) {
    let all = study.folder.source_bits(std::iter::empty()).all;
    let left = model.source_bits(std::iter::empty()).all;
    // Modules that are compressed count as they are kept: those that are gone take nothing already.
    let (first, end) = study.sizes.blocks;
    let chosen = |folder: &ModelFolder| -> Vec<ModuleDef> {
        let config = &folder.config;
        let modules = (0..config.blocks).flat_map(|block| {
            let number = config.number_in_files(block);
            let ids = study.modules[number].iter().filter(move |_| (first..end).contains(&number));
            let layout = config.layout(block);
            ids.filter(|id| layout.has(**id)).map(|id| layout.module(*id).clone())
        });
        modules.collect()
    };
    let compressed = |folder: &ModelFolder| {
        let bits = folder.source_bits(chosen(folder).iter());
        bits.all - bits.untouched
    };
    // Biases that the files do not have count with their modules.
    let added: u64 = chosen(model).iter().map(|module| added_bias_bits(study, model, module)).sum();
    let gone = (all + added).saturating_sub(left + compressed(&study.folder) - compressed(model));
    (model.saved_at_ends() + gone, study.folder.parameters() - model.parameters())
}

/// Bits of the biases of a module that the files do not have.
pub(super) fn added_bias_bits(study: &Study, model: &ModelFolder, module: &ModuleDef) -> u64 {
    let added = module.bias().filter(|name| study.folder.weights.info(name).is_none());
    let info = added.as_ref().and_then(|name| model.weights.info(name));
    info.map_or(0, |info| (info.elements() * 8 * info.dtype.size_in_bytes()) as u64)
}

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

impl SurveyedModel<'_> {
    /// A survey that also knows what the inputs of modules are like. Of a model of which blocks are left out, it is that of
    /// the others, and is not kept: what is chosen by it is.
    ///
    /// # Errors
    /// As [`DenseModel::survey`].
    pub fn survey_with_sites(&mut self) -> Result<Survey> {
        if self.assignment.removed.blocks.is_empty() { self.survey() } else { self.take() }
    }

    /// The calibration set, and where its survey is kept.
    fn path(&self) -> Result<(String, PathBuf)> {
        let assignment = self.assignment;
        let cell = assignment.cell.as_ref();
        let set = cell.and_then(|cell| Some((cell.calibration.as_deref()?, cell.seed)));
        let (set, seed) = set.ok_or_else(|| Error::failure("a survey needs a calibration set"))?;
        let key = StudyContent::calibration_key(set, seed);
        let path = kept_survey::path(&assignment.base_folder, &key);
        Ok((key, path))
    }

    fn take(&mut self) -> Result<Survey> {
        let (study, assignment) = (self.study, self.assignment);
        let windows = self.windows()?.to_vec();
        self.reporter.tracker.unit(&study.sizes.survey());
        let read = (windows.as_slice(), assignment.removed.blocks.as_slice());
        take_survey(study, self.place, read, assignment.id.as_deref(), self.reporter)
    }
}

impl DenseModel for SurveyedModel<'_> {
    fn survey(&mut self) -> Result<Survey> {
        let (key, path) = self.path()?;
        let known = kept_survey::read(&path, self.study.folder.config.blocks)?;
        if let Some(known) = known.filter(Survey::is_complete) {
            return Ok(known);
        }
        let found = self.take()?;
        kept_survey::write(&path, &found)?;
        self.reporter.event(Event::Surveyed { calibration: key, influence: found.influence.clone() });
        Ok(found)
    }

    fn losses_without(&mut self, removed: &[usize], candidates: &[usize]) -> Result<Vec<f64>> {
        let (study, place) = (self.study, self.place);
        let windows: Vec<Vec<u32>> = self.windows()?.iter().take(LOSS_WINDOWS).cloned().collect();
        let id = self.assignment.id.clone();
        self.reporter.phase(id.as_deref(), Phase::Survey, candidates.len() as u64, "trials");
        if let (true, Some(cell)) = (removed.is_empty(), &self.assignment.cell) {
            let procedure = study.procedure(cell)?;
            self.reporter.tracker.unit(&study.sizes.trials(&procedure, LOSS_WINDOWS));
        }
        let placement = Placement { batch_tokens: study.spec.compute.batch_tokens, home: &place.home };
        let start = HiddenStates::embed(&study.folder, &windows, study.dtype, placement, &mut || {
            self.reporter.boundary()
        })?;
        let heads = Heads::new(LmHead::load(&study.folder, study.dtype, &place.device)?, None);
        let bytes = start.tokens() * study.folder.config.hidden_size * study.sizes.compute_bytes;
        let together = (TRIAL_BYTES / bytes.max(1)).max(1);
        let mut losses = Vec::with_capacity(candidates.len());
        for group in candidates.chunks(together) {
            for states in self.try_together(&start, removed, group)? {
                self.reporter.check()?;
                let mut total = 0.0;
                for (index, tokens) in windows.iter().enumerate() {
                    let scored = (tokens.as_slice(), crate::study::ScoredPositions::default());
                    let found = window(&heads, &place.device, scored, &states.sequence(index)?, None)?;
                    let predicted = found.with_target();
                    total += predicted.iter().map(|at| at.nll).sum::<f64>() / predicted.len().max(1) as f64;
                }
                losses.push(total / windows.len().max(1) as f64);
                self.reporter.tracker.step(losses.len() as u64);
            }
        }
        Ok(losses)
    }
}
