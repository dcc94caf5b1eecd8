//! One pass over the blocks: prune a cell (or leave the base as it is), carry its hidden states to the end, measure.

use std::path::PathBuf;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::Reporter;
use super::collector::Collector;
use super::costs::Work;
use super::event::{Event, Phase};
use super::session::Session;
use super::snapshot::Snapshots;
use super::stream::{HiddenStates, Placement};
use super::written::BlockWriter;
use crate::error::{Error, Result};
use crate::kernels::scratch;
use crate::methods::{DeviceMethod, InputStatistics, Matrix, Needs, Outcome, Stage};
use crate::model::ops::with_elements;
use crate::model::{Block, InputSite, LmHead, ModuleId};
use crate::results::{CellState, Footprint, Metrics, ModuleResult, Seconds};
use crate::store::checkpoint::{self, States, Stored};
use crate::study::CellSpec;

/// A pass over the blocks in the making.
struct Pass<'a> {
    session: &'a Session,
    reporter: &'a mut Reporter,
    /// The cell; `None` is the base.
    cell: Option<&'a CellSpec>,
    id: Option<String>,
    dir: PathBuf,
    stage: Option<Stage>,
    calibration: Option<HiddenStates>,
    evaluation: HiddenStates,
    seconds: &'a mut Seconds,
    snapshots: Snapshots,
    /// Blocks that are not on the disk yet.
    written: BlockWriter,
}

/// What became of a module.
struct Compressed {
    /// As it is computed with.
    weight: Tensor,
    /// As it goes to the disk.
    stored: Stored,
    footprint: Footprint,
    outcome: Outcome,
}

/// Carries the evaluation windows of a cell through all blocks, pruning each on the way, or takes up such a pass where
/// it was left; returns the final hidden states of the evaluation windows, and what may still be putting them on the
/// disk. `calibration` are the windows that statistics come from. Time is added to `seconds` as it is spent. `on_module`
/// hears of every pruned module.
///
/// # Errors
/// [`Error::Cancelled`] with every whole block on disk; anything that fails.
pub(super) fn pass(
    session: &Session,
    reporter: &mut Reporter,
    cell: Option<&CellSpec>,
    calibration: Option<&[Vec<u32>]>,
    seconds: &mut Seconds,
    on_module: &mut dyn FnMut(&ModuleResult) -> Result<()>,
) -> Result<(HiddenStates, Snapshots)> {
    let id = cell.map(CellSpec::id);
    let dir = session.checkpoints(id.as_deref());
    std::fs::create_dir_all(&dir).map_err(|e| Error::io("cannot create", &dir, e))?;
    let pruned = if cell.is_some() { checkpoint::blocks_done(&dir)? } else { session.folder.config.blocks };
    let (first, calibration, evaluation) =
        starting_states(session, &dir, pruned, calibration, &mut || reporter.boundary())?;
    let stage = cell.map(|cell| session.stage(cell)).transpose()?;
    match &stage {
        Some(stage) => reporter.tracker.unit(&session.sizes.cell(stage, first, pruned)),
        None if session.base_state != CellState::Done => reporter.tracker.unit(&session.sizes.base(first)),
        None => {}
    }
    let mut pass = Pass {
        stage,
        session,
        reporter,
        cell,
        id,
        snapshots: Snapshots::new(&dir),
        written: BlockWriter::new(&dir),
        dir,
        calibration,
        evaluation,
        seconds,
    };
    let result = pass.run(first, if cell.is_some() { pruned } else { 0 }, on_module);
    scratch::release();
    result.map(|()| (pass.evaluation, pass.snapshots))
}

/// Where a pass begins: at the saved states if there are any that the checkpoints reach, else at the embeddings.
fn starting_states(
    session: &Session,
    dir: &std::path::Path,
    pruned: usize,
    calibration: Option<&[Vec<u32>]>,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<(usize, Option<HiddenStates>, HiddenStates)> {
    let compute = &session.spec.compute;
    let placement = Placement { batch_tokens: compute.batch_tokens, home: session.home() };
    let windows = session.evaluation_windows();
    if let Some((block, saved)) = checkpoint::read_states(dir, &Device::Cpu)?
        && block <= pruned
    {
        let of = |prefix: &str| -> Vec<Tensor> {
            saved.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, t)| t.clone()).collect()
        };
        let take = |prefix: &str, windows: &[Vec<u32>]| {
            let lengths: Vec<usize> = windows.iter().map(Vec::len).collect();
            HiddenStates::from_saved(&of(prefix), &lengths, placement)
        };
        let evaluation = take("evaluation", &windows);
        // Where all blocks are pruned nothing is calibrated any more, nor was it saved.
        let calibration = calibration.filter(|_| block < session.sizes.blocks.1);
        let calibrated = calibration.map(|c| take("calibration", c)).transpose();
        // States of another shape, or without calibration where it is needed, are of no use: start over.
        if let (Ok(evaluation), Ok(calibrated)) = (evaluation, calibrated) {
            return Ok((block, calibrated, evaluation));
        }
    }
    let mut embed =
        |windows: &[Vec<u32>]| HiddenStates::embed(&session.folder, windows, session.dtype, placement, check);
    Ok((0, calibration.map(&mut embed).transpose()?, embed(&windows)?))
}

impl Pass<'_> {
    /// Blocks before `pruned` are loaded from their checkpoints, those from there on are pruned.
    fn run(
        &mut self,
        first: usize,
        pruned: usize,
        on_module: &mut dyn FnMut(&ModuleResult) -> Result<()>,
    ) -> Result<()> {
        let blocks = self.session.folder.config.blocks;
        let phase = if self.cell.is_some() { Phase::Prune } else { Phase::Evaluate };
        let id = self.id.clone();
        self.reporter.phase(id.as_deref(), phase, blocks as u64, "blocks");
        self.reporter.tracker.step(first as u64);
        for index in first..blocks {
            self.reporter.check()?;
            let (started, spent) = (self.reporter.clock(), self.reporter.tracker.spent());
            let mut block =
                Block::load(&self.session.folder, index, self.session.dtype, &self.session.device)?;
            if self.cell.is_some() && index < pruned {
                apply_checkpoint(&mut block, self.session, &self.dir, index)?;
            }
            self.seconds.load += self.reporter.clock() - started;
            if self.cell.is_some() && index >= pruned {
                self.prune_block(&mut block, index, on_module)?;
            }
            let packing = self.reporter.clock();
            block.pack()?;
            self.seconds.load += self.reporter.clock() - packing;
            self.forward(&block, index)?;
            drop(block);
            if index + 1 == blocks {
                self.snapshots.begin(blocks, self.states(blocks))?;
            } else {
                self.snapshots.offer(index + 1, self.states(index + 1))?;
            }
            if self.cell.is_none() && self.session.base_state != CellState::Done {
                self.session.store.put_seconds(self.session.study, None, self.seconds)?;
            }
            let beside = self.reporter.clock() - started - (self.reporter.tracker.spent() - spent);
            self.reporter.tracker.did(Work::Block, self.session.sizes.block(), beside.max(0.0));
            self.reporter.tracker.step(index as u64 + 1);
            let stopping = self.reporter.boundary();
            if stopping.is_err() && index + 1 < blocks {
                self.snapshots.save(index + 1, self.states(index + 1))?;
                self.finish_writing()?;
                return stopping;
            }
        }
        self.finish_writing()
    }

    fn finish_writing(&mut self) -> Result<()> {
        let last = self.written.wait()?;
        self.tell_checkpoint(last);
        Ok(())
    }

    fn tell_checkpoint(&mut self, block: Option<usize>) {
        if let (Some(cell), Some(block)) = (self.id.clone(), block) {
            self.reporter.event(Event::Checkpoint { cell, block });
        }
    }

    /// Prunes one block's modules and begins to put what became of them on disk.
    fn prune_block(
        &mut self,
        block: &mut Block,
        index: usize,
        on_module: &mut dyn FnMut(&ModuleResult) -> Result<()>,
    ) -> Result<()> {
        let (Some(stage), Some(cell_id)) = (self.stage.clone(), self.id.clone()) else { return Ok(()) };
        let (first, end) = self.session.sizes.blocks;
        let mut written = Vec::new();
        if (first..end).contains(&index) {
            let mut statistics = self.observe(block, index)?;
            let stage = Stage { level: self.session.block_level(index, stage.level)?, ..stage };
            let modules = &self.session.modules[index];
            let work = self.session.sizes.prune(stage.method) / modules.len().max(1) as f64;
            for &id in modules {
                self.reporter.check()?;
                let started = self.reporter.clock();
                let module = block.layout().module(id).clone();
                let of_site = statistics.iter_mut().find(|(s, _)| *s == module.site).map(|(_, s)| s);
                let (result, weight) = self.prune_module(block, index, id, &stage, of_site)?;
                let seconds = self.reporter.clock() - started;
                self.seconds.prune += seconds;
                self.reporter.tracker.did(Work::compressing(stage.method), work, seconds);
                self.warn_of(&cell_id, &stage, &result);
                on_module(&result)?;
                self.reporter.event(Event::Module { cell: cell_id.clone(), module: result });
                written.push((module.name, weight));
            }
        }
        // In this order: a block on disk is not pruned again, so its time has to be known by then.
        self.session.store.put_seconds(self.session.study, Some(&cell_id), self.seconds)?;
        let last = self.written.begin(index, written)?;
        self.tell_checkpoint(last);
        Ok(())
    }

    /// The dense pass: statistics of every module input that this method needs.
    fn observe(&mut self, block: &Block, index: usize) -> Result<Vec<(InputSite, InputStatistics)>> {
        let needs = self.stage.as_ref().map_or(Needs::Nothing, |stage| stage.method.needs());
        let Some(calibration) = &self.calibration else { return Ok(Vec::new()) };
        let chosen = self.session.modules[index].iter();
        let mut sites: Vec<InputSite> = chosen.map(|id| block.layout().module(*id).site).collect();
        sites.dedup();
        if sites.is_empty() || needs == Needs::Nothing {
            return Ok(Vec::new());
        }
        let started = self.reporter.clock();
        let mut collector = Collector::new(needs);
        calibration.observe(
            block,
            &self.session.ropes,
            &self.session.device,
            &sites,
            &mut collector,
            &mut || self.reporter.check(),
        )?;
        let collect_seconds = collector.seconds();
        let statistics = collector.finish()?;
        let seconds = self.reporter.clock() - started;
        self.seconds.calibrate += seconds;
        self.reporter.tracker.throughput(calibration.tokens() as f64, 1.0);
        let sizes = &self.session.sizes;
        self.reporter.tracker.did(Work::Forward, sizes.observe(), seconds - collect_seconds);
        if needs == Needs::Hessian {
            self.reporter.tracker.did(Work::Collect, sizes.collect(), collect_seconds);
        }
        Ok(statistics)
    }

    fn prune_module(
        &self,
        block: &mut Block,
        index: usize,
        id: ModuleId,
        stage: &Stage,
        inputs: Option<&mut InputStatistics>,
    ) -> Result<(ModuleResult, Stored)> {
        let started = Instant::now();
        let module = block.layout().module(id).clone();
        let on_device = stage.method.on_device(stage.level).filter(|_| !self.session.device.is_cpu());
        let compressed = match on_device {
            Some(method) => self.compress_on_device(method, block, id, stage, inputs)?,
            None => self.compress_on_host(block, id, stage, inputs)?,
        };
        block.set_weight(id, compressed.weight.to_dtype(self.session.dtype)?);
        let Compressed { outcome, stored, footprint, .. } = compressed;
        let result = ModuleResult {
            block: index,
            name: module.full_name,
            footprint,
            reconstruction_error: outcome.error,
            error_basis: outcome.basis,
            dead_columns: outcome.dead_columns,
            details: outcome.details,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((result, stored))
    }

    fn compress_on_host(
        &self,
        block: &Block,
        id: ModuleId,
        stage: &Stage,
        mut inputs: Option<&mut InputStatistics>,
    ) -> Result<Compressed> {
        let module = block.layout().module(id);
        let (rows, columns) = module.shape;
        let source = self.session.folder.stored_dtype(module);
        let mut weights = self.source_weights(block, id)?;
        if let Some(inputs) = &mut inputs {
            inputs.move_to_host()?;
        }
        let control = self.reporter.control();
        let matrix = Matrix { weights: &mut weights, columns };
        let stop = || control.cancelled();
        let outcome = stage.method.run(matrix, inputs, stage.level, &stage.arguments, &stop)?;
        let device = &self.session.device;
        let stored = Stored::keep(&mut weights, [rows, columns], source, stage.method.updates_weights())?;
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
        method: &dyn DeviceMethod,
        block: &Block,
        id: ModuleId,
        stage: &Stage,
        inputs: Option<&mut InputStatistics>,
    ) -> Result<Compressed> {
        let module = block.layout().module(id);
        let source = self.session.folder.stored_dtype(module);
        let loaded = &block.module(id).weight;
        let weights = if loaded.dtype() == source || loaded.dtype() == DType::F32 {
            loaded.to_dtype(DType::F32)?
        } else {
            // The block's weights were rounded to the precision that is computed in.
            let name = module.weight();
            self.session.folder.weights.tensor(&name, DType::F32, &self.session.device)?
        };
        let control = self.reporter.control();
        let stop = || control.cancelled();
        let (weights, outcome) =
            method.run_on_device(&weights, inputs, stage.level, &stage.arguments, &stop)?;
        let (stored, weight, footprint) =
            Stored::keep_from_device(&weights, source, stage.method.updates_weights())?;
        Ok(Compressed { weight, stored, footprint, outcome })
    }

    /// A module's weights as the model's files have them, in `f32` on the host.
    fn source_weights(&self, block: &Block, id: ModuleId) -> Result<Vec<f32>> {
        let weight = &block.module(id).weight;
        if weight.device().is_cpu() && weight.dtype() == DType::F32 {
            return with_elements(weight, <[f32]>::to_vec);
        }
        let weights = &self.session.folder.weights;
        let weight = weights.tensor(&block.layout().module(id).weight(), DType::F32, &Device::Cpu)?;
        with_elements(&weight, <[f32]>::to_vec)
    }

    fn warn_of(&self, id: &str, stage: &Stage, module: &ModuleResult) {
        if let Some(message) = warning(stage, module) {
            self.reporter.warn(Some(id), message);
        }
    }

    /// Both streams go through the block as it is now. Calibration states end where no later block needs them.
    fn forward(&mut self, block: &Block, index: usize) -> Result<()> {
        let (ropes, device) = (&self.session.ropes, &self.session.device);
        let sizes = &self.session.sizes;
        let pruned = (sizes.blocks.0..sizes.blocks.1).contains(&index);
        let level = self.stage.as_ref().filter(|_| pruned).map(|stage| stage.level);
        let work = |windows: usize| match level {
            Some(level) => sizes.pruned_forward(windows, level),
            None => sizes.forward(windows),
        };
        if let Some(calibration) = &mut self.calibration
            && index + 1 < sizes.blocks.1
        {
            let started = self.reporter.clock();
            calibration.forward(block, ropes, device, &mut || self.reporter.check())?;
            let seconds = self.reporter.clock() - started;
            self.seconds.calibrate += seconds;
            self.reporter.tracker.throughput(calibration.tokens() as f64, 1.0);
            self.reporter.tracker.did(Work::Forward, work(calibration.sequences()), seconds);
        }
        let started = self.reporter.clock();
        self.evaluation.forward(block, ropes, device, &mut || self.reporter.check())?;
        let seconds = self.reporter.clock() - started;
        self.seconds.evaluate += seconds;
        self.reporter.tracker.throughput(self.evaluation.tokens() as f64, 1.0);
        self.reporter.tracker.did(Work::Forward, work(self.evaluation.sequences()), seconds);
        Ok(())
    }

    /// The states after `block` blocks, by name; those of the calibration only where another block needs them.
    fn states(&self, block: usize) -> States {
        let named = |prefix: &'static str, stream: &HiddenStates| -> States {
            let name = |(i, t): (usize, &Tensor)| (format!("{prefix}.{i:05}"), t.clone());
            stream.batches().iter().enumerate().map(name).collect()
        };
        let mut states = named("evaluation", &self.evaluation);
        if let Some(calibration) = self.calibration.as_ref().filter(|_| block < self.session.sizes.blocks.1) {
            states.extend(named("calibration", calibration));
        }
        states
    }
}

/// What a person should know of how a module was compressed.
pub(super) fn warning(stage: &Stage, module: &ModuleResult) -> Option<String> {
    let message = stage.method.warning(&module.details, &stage.arguments)?;
    Some(format!("{}: {message}", module.name))
}

/// Puts a checkpoint's weights into a block that was loaded from the source.
pub(super) fn apply_checkpoint(
    block: &mut Block,
    session: &Session,
    dir: &std::path::Path,
    index: usize,
) -> Result<()> {
    for (name, stored) in checkpoint::read_block(dir, index, &Device::Cpu)? {
        let id = block.layout().find(&name).ok_or_else(|| {
            Error::failure(format!(
                "the checkpoint {} is damaged: `{name}` is no module",
                checkpoint::block_path(dir, index).display()
            ))
        })?;
        let source = &block.module(id).weight;
        let weights = stored.weights(|| {
            // What stays is the source's, which the block holds; zeros are exact in any precision.
            let source = source.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            with_elements(&source, <[f32]>::to_vec)
        })?;
        block.set_weight(id, weights.to_device(&session.device)?.to_dtype(session.dtype)?);
    }
    Ok(())
}

/// Measures final states on every corpus.
pub(super) fn measure(
    session: &Session,
    reporter: &mut Reporter,
    id: Option<&str>,
    states: &HiddenStates,
    seconds: &mut Seconds,
) -> Result<Metrics> {
    if session.corpora.is_empty() {
        return Ok(Metrics::default());
    }
    let started = reporter.clock();
    let head = LmHead::load(&session.folder, session.dtype, &session.device)?;
    let base = id.and(session.base_states.as_ref());
    let windows = states.sequences();
    reporter.phase(id, Phase::Evaluate, windows as u64, "windows");
    let work = session.sizes.head(1 + usize::from(base.is_some())) / windows.max(1) as f64;
    let mut last = started;
    let metrics =
        super::evaluate::evaluate(&head, &session.device, &session.corpora, states, base, &mut |done| {
            let now = reporter.clock();
            reporter.tracker.did(Work::Head, work, now - last);
            last = now;
            reporter.tracker.step(done as u64);
            reporter.check()
        })?;
    scratch::release();
    seconds.evaluate += reporter.clock() - started;
    Ok(metrics)
}
