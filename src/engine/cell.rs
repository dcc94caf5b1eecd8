//! One pass over the blocks: prune a cell (or leave the base as it is), carry its hidden states to the end, measure.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::Reporter;
use super::ahead::BlocksAhead;
use super::allocation::SHARE_DETAIL;
use super::assignment::Assignment;
use super::collector::Collector;
use super::costs::Work;
use super::evaluate::Heads;
use super::event::Phase;
use super::experts::{compressed_reader, grouped};
use super::finding::{Finding, Findings};
use super::place::Place;
use super::snapshot::Snapshots;
use super::stream::{HiddenStates, Placement, shapes};
use super::structure::{added_bias_bits, dropped_modules, untouched};
use super::study::Study;
use super::written::BlockWriter;
use crate::error::{Error, Result};
use crate::kernels::scratch;
use crate::methods::{
    CompressionOutcome, DeviceMatrix, Encoded, InputStatistics, Matrix, Needs, Procedure, RoutedTokens,
};
use crate::model::ops::with_elements;
use crate::model::{Block, InputSite, LmHead, ModelFolder, ModuleId, Tree};
use crate::results::{Footprint, Metrics, ModuleResult, Seconds};
use crate::store::checkpoint::block_file::BlockFile;
use crate::store::checkpoint::{self, States, Stored};
use crate::store::stored::footprint;
use crate::study::CellSpec;

/// A pass over the blocks in the making.
struct Pass<'a> {
    study: &'a Study,
    /// The model that comes out: without the blocks that are left out.
    model: Cow<'a, ModelFolder>,
    place: &'a Place,
    assignment: &'a Assignment,
    reporter: &'a mut Reporter,
    findings: &'a mut Findings<'a>,
    procedure: Option<Procedure>,
    calibration: Option<HiddenStates>,
    evaluation: HiddenStates,
    seconds: &'a mut Seconds,
    snapshots: Snapshots,
    /// Blocks that are not on the disk yet.
    written: BlockWriter,
    ahead: BlocksAhead<'a>,
}

/// What became of a module.
struct Compressed {
    /// As it is computed with.
    weight: Tensor,
    /// As it goes to the disk.
    stored: Stored,
    footprint: Footprint,
    outcome: CompressionOutcome,
}

/// What became of the modules of a block so far.
#[derive(Default)]
struct PrunedModules {
    /// Whether statistics are collected for one part of the modules after the other.
    in_parts: bool,
    written: Vec<(String, Stored)>,
    /// Statistics are those of the dense block: what the inputs of other parts depend on stays as it is until the last
    /// part is pruned.
    waiting: Vec<(ModuleId, Stored, Tensor)>,
}

/// Carries the evaluation windows of a cell through all blocks, pruning each on the way, or takes up such a pass where
/// it was left; returns the final hidden states of the evaluation windows, and what may still be putting them on the
/// disk. Time is added to `seconds` as it is spent. Every pruned module is told.
///
/// # Errors
/// [`Error::Cancelled`] with every whole block on disk; anything that fails.
pub(super) fn pass<'a>(
    study: &'a Study,
    place: &'a Place,
    assignment: &'a Assignment,
    reporter: &'a mut Reporter,
    seconds: &'a mut Seconds,
    findings: &'a mut Findings<'a>,
) -> Result<(HiddenStates, Snapshots)> {
    let dir = &assignment.folder;
    std::fs::create_dir_all(dir).map_err(|e| Error::io("cannot create", dir, e))?;
    let is_cell = assignment.cell.is_some();
    let procedure = assignment.cell.as_ref().map(|cell| study.procedure(cell)).transpose()?;
    let needs = procedure.as_ref().map_or(Needs::Nothing, Procedure::needs);
    let pruned = if is_cell { checkpoint::blocks_done(dir)? } else { study.folder.config.blocks };
    let (first, calibration, evaluation) =
        starting_states(study, place, (assignment, needs), pruned, &mut || reporter.boundary())?;
    match &procedure {
        Some(procedure) => reporter.tracker.unit(&study.sizes.cell(procedure, first, pruned)),
        None if !assignment.is_known => reporter.tracker.unit(&study.sizes.base(first)),
        None => {}
    }
    let model = assignment.model(study)?;
    let ahead = BlocksAhead::new(study, &model, &place.device);
    let mut pass = Pass {
        study,
        model,
        place,
        assignment,
        reporter,
        findings,
        procedure,
        calibration,
        evaluation,
        seconds,
        snapshots: Snapshots::new(dir),
        written: BlockWriter::new(dir),
        ahead,
    };
    let result = pass.run(first, if is_cell { pruned } else { 0 });
    if result.is_err() {
        // What is whole is kept, and told. The error that ended the pass is the one to report.
        let _ = pass.finish_writing();
    }
    scratch::release();
    result.map(|()| (pass.evaluation, pass.snapshots))
}

/// Where a pass begins: at the saved states if there are any that the checkpoints reach, else at the embeddings.
fn starting_states(
    study: &Study,
    place: &Place,
    (assignment, needs): (&Assignment, Needs),
    pruned: usize,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<(usize, Option<HiddenStates>, HiddenStates)> {
    let placement = Placement { batch_tokens: study.spec.compute.batch_tokens, home: &place.home };
    // What only chose the blocks that are left out was read for that.
    let calibration = assignment.calibration.as_ref().filter(|_| needs != Needs::Nothing);
    let calibration = calibration.map(|windows| windows.as_slice());
    let sequences = study.evaluation_sequences();
    if let Some((block, saved)) = checkpoint::read_states(&assignment.folder, &Device::Cpu)?
        && block <= pruned
    {
        let of = |prefix: &str| -> Vec<Tensor> {
            saved.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, t)| t.clone()).collect()
        };
        let take =
            |prefix: &str, shapes: &[Tree<usize>]| HiddenStates::from_saved(&of(prefix), shapes, placement);
        let evaluation = take("evaluation", &shapes(&sequences));
        // Where all blocks are pruned nothing is calibrated any more, nor was it saved.
        let calibration = calibration.filter(|_| block < study.sizes.blocks.1);
        let lengths =
            |windows: &[Vec<u32>]| -> Vec<_> { windows.iter().map(|w| Tree::alone(w.len())).collect() };
        let calibrated = calibration.map(|c| take("calibration", &lengths(c))).transpose();
        // States of another shape, or without calibration where it is needed, are of no use: start over.
        if let (Ok(evaluation), Ok(calibrated)) = (evaluation, calibrated) {
            return Ok((block, calibrated, evaluation));
        }
    }
    let model = assignment.model(study)?;
    let calibration =
        calibration.map(|windows| HiddenStates::embed(&model, windows, study.dtype, placement, check));
    let evaluation = HiddenStates::embed_trees(&model, &sequences, study.dtype, placement, check)?;
    Ok((0, calibration.transpose()?, evaluation))
}

impl Pass<'_> {
    /// Blocks before `pruned` are loaded from their checkpoints, those from there on are pruned.
    fn run(&mut self, first: usize, pruned: usize) -> Result<()> {
        let study = self.study;
        let blocks = study.folder.config.blocks;
        let is_cell = self.assignment.cell.is_some();
        let phase = if is_cell { Phase::Prune } else { Phase::Evaluate };
        self.reporter.phase(self.assignment.id.as_deref(), phase, blocks as u64, "blocks");
        self.reporter.tracker.step(first as u64);
        self.tell_dropped()?;
        for index in first..blocks {
            self.reporter.check()?;
            let (started, spent) = (self.reporter.clock(), self.reporter.tracker.spent());
            let is_there = !self.assignment.removed.blocks.contains(&index);
            if is_there {
                self.run_block(index, is_cell && index >= pruned)?;
            } else if index >= pruned {
                self.finish_writing()?;
                self.tell_checkpoint(Some(index))?;
            }
            let is_last = index + 1 == blocks;
            let saving = (is_last && study.needs_final_states(is_cell)) || self.snapshots.is_due()?;
            if saving {
                // States that are ahead of the checkpoints would be of no use.
                self.finish_writing()?;
                self.snapshots.begin(index + 1, self.states(index + 1))?;
            }
            if !is_cell {
                (self.findings)(Finding::Seconds { seconds: *self.seconds })?;
            }
            if is_there {
                let beside = self.reporter.clock() - started - (self.reporter.tracker.spent() - spent);
                self.reporter.tracker.did(Work::Block, study.sizes.block(), beside.max(0.0));
            }
            self.reporter.tracker.step(index as u64 + 1);
            let stopping = self.reporter.boundary();
            if stopping.is_err() && !(is_last && saving) {
                self.finish_writing()?;
                self.snapshots.save(index + 1, self.states(index + 1))?;
                return stopping;
            }
        }
        self.finish_writing()
    }

    /// Tells what became of the modules of blocks and experts that are left out, unless an earlier run has.
    fn tell_dropped(&mut self) -> Result<()> {
        let Assignment { removed, modules: known, .. } = self.assignment;
        let known: HashSet<&str> = known.iter().map(|known| known.name.as_str()).collect();
        for module in dropped_modules(self.study, removed) {
            if !known.contains(module.name.as_str()) {
                (self.findings)(Finding::Module { module })?;
            }
        }
        Ok(())
    }

    /// The model that blocks are loaded of.
    fn files(&self) -> &ModelFolder {
        self.assignment.files(self.study)
    }

    /// Loads a block, prunes it or takes up what was pruned, and sends the states through.
    fn run_block(&mut self, index: usize, to_prune: bool) -> Result<()> {
        let (study, place) = (self.study, self.place);
        let started = self.reporter.clock();
        let is_there = |block: &usize| !self.assignment.removed.blocks.contains(block);
        let next = (index + 1..study.folder.config.blocks).find(is_there);
        let mut block = self.ahead.take(index, next)?;
        if self.assignment.cell.is_some() && !to_prune {
            apply_checkpoint(&mut block, study, place, &self.assignment.folder, index)?;
        }
        self.seconds.load += self.reporter.clock() - started;
        if to_prune {
            self.prune_block(&mut block, index)?;
        }
        let packing = self.reporter.clock();
        block.pack()?;
        self.seconds.load += self.reporter.clock() - packing;
        self.forward(&block, index)
    }

    fn finish_writing(&mut self) -> Result<()> {
        let last = self.written.wait()?;
        self.tell_checkpoint(last)
    }

    fn tell_checkpoint(&mut self, block: Option<usize>) -> Result<()> {
        block.map_or(Ok(()), |block| (self.findings)(Finding::Checkpoint { block }))
    }

    /// Prunes one block's modules and begins to put what became of them on disk.
    fn prune_block(&mut self, block: &mut Block, index: usize) -> Result<()> {
        let (study, Some(procedure)) = (self.study, self.procedure.clone()) else { return Ok(()) };
        let (first, end) = study.sizes.blocks;
        let modules = study.modules[index].iter().copied().filter(|id| block.layout().has(*id));
        let modules: Vec<ModuleId> = modules.collect();
        let mut written = Vec::new();
        if procedure.stages().is_empty() {
            for &id in modules.iter().filter(|_| (first..end).contains(&index)) {
                let module = self.unchanged(block, index, id)?;
                (self.findings)(Finding::Module { module })?;
            }
        } else if (first..end).contains(&index) {
            let own = self.assignment.profile.as_ref();
            let procedure = procedure.with_levels(|level| study.block_level(own, index, level))?;
            let groups = grouped(block.layout(), &modules, procedure.needs(), study.sizes.held_experts);
            let mut pruned = PrunedModules { in_parts: groups.len() > 1, ..PrunedModules::default() };
            for group in groups {
                self.prune_group(block, index, &modules[group], &procedure, &mut pruned)?;
            }
            for (id, stored, weight) in pruned.waiting {
                self.put(block, id, &stored, &weight)?;
            }
            written = pruned.written;
        }
        // In this order: a block on disk is not pruned again, so its time has to be known by then.
        (self.findings)(Finding::Seconds { seconds: *self.seconds })?;
        let last = self.written.begin(index, written)?;
        self.tell_checkpoint(last)
    }

    /// Prunes modules whose statistics are held at the same time.
    fn prune_group(
        &mut self,
        block: &mut Block,
        index: usize,
        modules: &[ModuleId],
        procedure: &Procedure,
        pruned: &mut PrunedModules,
    ) -> Result<()> {
        let study = self.study;
        let mut statistics = self.observe(block, index, modules)?;
        let work = study.sizes.prune(procedure) / study.modules[index].len().max(1) as f64;
        for &id in modules {
            self.reporter.check()?;
            let started = self.reporter.clock();
            let module = block.layout().module(id).clone();
            let of_site = statistics.iter_mut().find(|(s, _)| *s == module.site).map(|(_, s)| s);
            let (result, mut stored, weight) = self.prune_module(block, index, id, procedure, of_site)?;
            if block.reader(id).is_some() {
                // There is no room on the device for what is not held there.
                stored = stored.on_host()?;
            }
            let seconds = self.reporter.clock() - started;
            self.seconds.prune += seconds;
            self.reporter.tracker.did(Work::compressing(procedure), work, seconds);
            (self.findings)(Finding::Module { module: result })?;
            if pruned.in_parts && module.expert.is_none() {
                pruned.waiting.push((id, stored.clone(), weight));
            } else {
                self.put(block, id, &stored, &weight)?;
            }
            pruned.written.push((module.name, stored));
        }
        Ok(())
    }

    /// Puts what became of a module into its block.
    fn put(&self, block: &mut Block, id: ModuleId, stored: &Stored, weight: &Tensor) -> Result<()> {
        match block.reader(id) {
            None => block.set_weight(id, weight.to_dtype(self.study.dtype)?),
            Some(source) => {
                let device = self.place.device.clone();
                block.set_reader(id, compressed_reader(source, stored.clone(), self.study.dtype, device));
            }
        }
        Ok(())
    }

    /// A module that stays as it is in a cell that only leaves blocks out.
    fn unchanged(&self, block: &Block, index: usize, id: ModuleId) -> Result<ModuleResult> {
        let weights = self.source_weights(block, id)?;
        let module = block.layout().module(id);
        let zeros = weights.iter().filter(|weight| **weight == 0.0).count() as u64;
        let bits = 8 * self.files().stored_dtype(module).size_in_bytes();
        let footprint = footprint(weights.len() as u64, zeros, bits);
        Ok(untouched(index, &module.full_name, self.with_bias((index, id), footprint)))
    }

    /// The dense pass: statistics of the inputs of some modules that this method needs.
    fn observe(
        &mut self,
        block: &Block,
        index: usize,
        modules: &[ModuleId],
    ) -> Result<Vec<(InputSite, InputStatistics)>> {
        let needs = self.procedure.as_ref().map_or(Needs::Nothing, Procedure::needs);
        let Some(calibration) = &self.calibration else { return Ok(Vec::new()) };
        let mut sites: Vec<InputSite> = modules.iter().map(|id| block.layout().module(*id).site).collect();
        sites.dedup();
        if sites.is_empty() || needs == Needs::Nothing {
            return Ok(Vec::new());
        }
        let started = self.reporter.clock();
        let mut collector = Collector::new(needs);
        calibration.observe(
            block,
            &self.study.ropes,
            &self.place.device,
            &sites,
            &mut collector,
            &mut || self.reporter.check(),
        )?;
        let collect_seconds = collector.seconds();
        let statistics = collector.finish(block.layout(), &sites, &self.place.device)?;
        let seconds = self.reporter.clock() - started;
        self.seconds.calibrate += seconds;
        self.reporter.tracker.throughput(calibration.tokens() as f64, 1.0);
        let sizes = &self.study.sizes;
        let share = modules.len() as f64 / self.study.modules[index].len().max(1) as f64;
        self.reporter.tracker.did(Work::Forward, sizes.observe() * share, seconds - collect_seconds);
        if needs == Needs::Hessian {
            self.reporter.tracker.did(Work::Collect, sizes.collect() * share, collect_seconds);
        }
        Ok(statistics)
    }

    /// What a module takes, with the bias that it has only because its block is narrower.
    fn with_bias(&self, (index, id): (usize, ModuleId), footprint: Footprint) -> Footprint {
        let module = self.files().config.layout(index).module(id);
        let bits = added_bias_bits(self.study, self.files(), module);
        let (stored_bits, packed_bits) = (footprint.stored_bits + bits, footprint.packed_bits + bits);
        Footprint { stored_bits, packed_bits, ..footprint }
    }

    fn prune_module(
        &self,
        block: &Block,
        index: usize,
        id: ModuleId,
        procedure: &Procedure,
        inputs: Option<&mut InputStatistics>,
    ) -> Result<(ModuleResult, Stored, Tensor)> {
        let started = Instant::now();
        let module = block.layout().module(id).clone();
        let routed = inputs.as_ref().and_then(|inputs| inputs.routed);
        let compressed = if procedure.works_on_device() && !self.place.device.is_cpu() {
            self.compress_on_device(block, id, procedure, inputs)?
        } else {
            self.compress_on_host(block, (index, id), procedure, inputs)?
        };
        let Compressed { mut outcome, stored, footprint, weight } = compressed;
        outcome.details.extend(routed.map(RoutedTokens::details));
        if self.assignment.profile.is_some() {
            // As people read it; the profile has all digits.
            outcome.details.put(SHARE_DETAIL, (procedure.zeros() * 1e6).round() / 1e6);
        }
        let result = ModuleResult {
            block: index,
            name: module.full_name,
            footprint: self.with_bias((index, id), footprint),
            reconstruction_error: outcome.error,
            error_basis: outcome.basis,
            dead_columns: outcome.dead_columns,
            details: outcome.details,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((result, stored, weight))
    }

    fn compress_on_host(
        &self,
        block: &Block,
        (index, id): (usize, ModuleId),
        procedure: &Procedure,
        mut inputs: Option<&mut InputStatistics>,
    ) -> Result<Compressed> {
        let module = block.layout().module(id);
        let (rows, columns) = module.shape;
        let source = self.files().stored_dtype(module);
        let mut weights = self.source_weights(block, id)?;
        if let Some(inputs) = &mut inputs {
            inputs.move_to_host()?;
        }
        let control = self.reporter.control();
        let left_out = self.assignment.removed.blocks.iter().filter(|dropped| **dropped < index).count();
        let place = self.model.config.matrix_place(index - left_out, id);
        let matrix = Matrix { dtype: source, place, ..Matrix::new(&mut weights, columns) };
        let stop = || control.cancelled();
        let mut outcome = procedure.run(matrix, inputs, &stop)?;
        let device = &self.place.device;
        let stored = match outcome.encoded.take() {
            Some(Encoded::Codes(codes)) => Stored::Codes(codes),
            Some(Encoded::Blocks(blocks)) => Stored::Blocks(blocks),
            None => Stored::keep(&mut weights, [rows, columns], source, procedure.updates_weights())?,
        };
        let footprint = stored.footprint(&weights, 8 * source.size_in_bytes());
        let weight = if device.is_cpu() {
            Tensor::from_vec(weights, (rows, columns), device)?
        } else {
            stored.for_device(&mut weights, source)?.to_device(device)?
        };
        Ok(Compressed { weight, stored, footprint, outcome })
    }

    /// As on the host, except that only what is stored comes there.
    fn compress_on_device(
        &self,
        block: &Block,
        id: ModuleId,
        procedure: &Procedure,
        inputs: Option<&mut InputStatistics>,
    ) -> Result<Compressed> {
        let module = block.layout().module(id);
        let source = self.files().stored_dtype(module);
        let loaded = block.module(id)?.weight;
        let weights = if loaded.dtype() == source || loaded.dtype() == DType::F32 {
            loaded.to_dtype(DType::F32)?
        } else {
            // The block's weights were rounded to the precision that is computed in.
            self.files().matrix(module, DType::F32, &self.place.device)?
        };
        let control = self.reporter.control();
        let stop = || control.cancelled();
        let matrix = DeviceMatrix { dtype: source, ..DeviceMatrix::new(&weights) };
        let (weights, mut outcome) = procedure.run_on_device(matrix, inputs, &stop)?;
        let (stored, weight, footprint) = match outcome.encoded.take() {
            Some(Encoded::Codes(codes)) => Stored::keep_codes_from_device(codes, weights)?,
            Some(Encoded::Blocks(_)) => return Err(Error::failure("blocks of a format came from a device")),
            None => Stored::keep_from_device(&weights, source, procedure.updates_weights())?,
        };
        Ok(Compressed { weight, stored, footprint, outcome })
    }

    /// A module's weights as the model's files have them, in `f32` on the host.
    fn source_weights(&self, block: &Block, id: ModuleId) -> Result<Vec<f32>> {
        let weight = block.module(id)?.weight;
        if weight.device().is_cpu() && weight.dtype() == DType::F32 {
            return with_elements(&weight, <[f32]>::to_vec);
        }
        let module = block.layout().module(id);
        let weight = self.files().matrix(module, DType::F32, &Device::Cpu)?;
        with_elements(&weight, <[f32]>::to_vec)
    }

    /// Both streams go through the block as it is now. Calibration states end where no later block needs them.
    fn forward(&mut self, block: &Block, index: usize) -> Result<()> {
        let (ropes, device) = (&self.study.ropes, &self.place.device);
        let sizes = &self.study.sizes;
        let pruned = (sizes.blocks.0..sizes.blocks.1).contains(&index);
        let procedure = self.procedure.as_ref().filter(|_| pruned);
        let work = |tokens: usize| match procedure {
            Some(procedure) => sizes.pruned_forward(tokens, procedure),
            None => sizes.forward(tokens),
        };
        if let Some(calibration) = &mut self.calibration
            && index + 1 < sizes.blocks.1
        {
            let started = self.reporter.clock();
            calibration.forward(block, ropes, device, &mut || self.reporter.check())?;
            let seconds = self.reporter.clock() - started;
            self.seconds.calibrate += seconds;
            self.reporter.tracker.throughput(calibration.tokens() as f64, 1.0);
            self.reporter.tracker.did(Work::Forward, work(calibration.tokens()), seconds);
        }
        let started = self.reporter.clock();
        self.evaluation.forward(block, ropes, device, &mut || self.reporter.check())?;
        let seconds = self.reporter.clock() - started;
        self.seconds.evaluate += seconds;
        self.reporter.tracker.throughput(self.evaluation.tokens() as f64, 1.0);
        self.reporter.tracker.did(Work::Forward, work(self.evaluation.tokens()), seconds);
        Ok(())
    }

    /// The states after `block` blocks, by name; those of the calibration only where another block needs them.
    fn states(&self, block: usize) -> States {
        let named = |prefix: &'static str, stream: &HiddenStates| -> States {
            let name = |(i, t): (usize, &Tensor)| (format!("{prefix}.{i:05}"), t.clone());
            stream.batches().iter().enumerate().map(name).collect()
        };
        let mut states = named("evaluation", &self.evaluation);
        if let Some(calibration) = self.calibration.as_ref().filter(|_| block < self.study.sizes.blocks.1) {
            states.extend(named("calibration", calibration));
        }
        states
    }
}

/// Puts a checkpoint's weights into a block that was loaded from the source.
pub(super) fn apply_checkpoint(
    block: &mut Block,
    study: &Study,
    place: &Place,
    dir: &Path,
    index: usize,
) -> Result<()> {
    let file = Arc::new(Mutex::new(BlockFile::open(dir, index)?));
    let open = || file.lock().unwrap_or_else(PoisonError::into_inner);
    let names = open().modules();
    for name in names {
        let id = block.layout().find(&name).ok_or_else(|| {
            Error::failure(format!(
                "the checkpoint {} is damaged: `{name}` is no module",
                checkpoint::block_path(dir, index).display()
            ))
        })?;
        if let Some(source) = block.reader(id) {
            let target = (study.dtype, place.device.clone());
            block.set_reader(id, BlockFile::reader(file.clone(), name, source, target));
            continue;
        }
        let Some(stored) = open().module(&name)? else { continue };
        let source = block.module(id)?.weight;
        let weights = stored.weights(|| {
            // What stays is the source's, which the block holds; zeros are exact in any precision.
            let source = source.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            with_elements(&source, <[f32]>::to_vec)
        })?;
        block.set_weight(id, weights.to_device(&place.device)?.to_dtype(study.dtype)?);
    }
    Ok(())
}

/// The heads of a cell and the base; the base's (`None`) for both. `own` is the cell's, where it is in memory already.
pub(super) fn load_heads(
    study: &Study,
    place: &Place,
    cell: Option<&CellSpec>,
    own: Option<LmHead>,
) -> Result<Heads> {
    let load = |model: &ModelFolder| LmHead::load(model, study.dtype, &place.device);
    let model = study.model_of(cell)?;
    let base = model.ends.head.map(|_| load(&study.folder)).transpose()?;
    Ok(Heads::new(own.map_or_else(|| load(&model), Ok)?, base))
}

/// Measures final states on every corpus, and keeps what every position showed.
pub(super) fn measure(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    states: &HiddenStates,
    seconds: &mut Seconds,
) -> Result<Metrics> {
    if study.corpora.is_empty() {
        return Ok(Metrics::default());
    }
    let started = reporter.clock();
    let heads = load_heads(study, place, assignment.cell.as_ref(), None)?;
    let base = assignment.cell.as_ref().and(place.base_states.as_ref());
    let windows = study.sizes.evaluation_windows;
    reporter.phase(assignment.id.as_deref(), Phase::Evaluate, windows as u64, "windows");
    let work = study.sizes.head(1 + usize::from(base.is_some())) / windows.max(1) as f64;
    let mut last = started;
    let corpora = (study.corpora.as_slice(), study.spec.evaluation.score);
    let (metrics, positions) =
        super::evaluate::evaluate(&heads, &place.device, corpora, states, base, &mut |done| {
            let now = reporter.clock();
            reporter.tracker.did(Work::Head, work, now - last);
            last = now;
            reporter.tracker.step(done as u64);
            reporter.check()
        })?;
    scratch::release();
    checkpoint::positions::write(&assignment.folder, &positions)?;
    seconds.evaluate += reporter.clock() - started;
    Ok(metrics)
}
