//! One pass over the blocks: prune a cell (or leave the base as it is), and carry its hidden states to the end.

use std::borrow::Cow;
use std::collections::HashSet;

use candle_core::{Device, Tensor};

use super::Reporter;
use super::ahead::BlocksAhead;
use super::assignment::Assignment;
use super::checkpointed::apply_checkpoint;
use super::collector::Collector;
use super::compressor::Compressor;
use super::costs::Work;
use super::event::Phase;
use super::experts::{compressed_reader, grouped};
use super::finding::{Finding, Findings};
use super::place::Place;
use super::snapshot::Snapshots;
use super::stream::{HiddenStates, Placement, shapes};
use super::structure::dropped_modules;
use super::study::Study;
use super::written::BlockWriter;
use crate::error::{Error, Result};
use crate::kernels::scratch;
use crate::methods::{InputStatistics, Needs, Procedure};
use crate::model::{Block, InputSite, ModelFolder, ModuleId, Tree};
use crate::results::Seconds;
use crate::store::checkpoint::{self, States, Stored};

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

/// What a pass leaves.
pub(super) struct Passed {
    /// The final hidden states of what is measured.
    pub states: HiddenStates,
    /// The last block, which may still be on its way to the disk.
    pub written: BlockWriter,
    /// The same of hidden states.
    pub snapshots: Snapshots,
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
/// it was left. Time is added to `seconds` as it is spent. Every pruned module is told, and every block that is on the
/// disk but the last.
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
) -> Result<Passed> {
    let dir = &assignment.folder;
    std::fs::create_dir_all(dir).map_err(|e| Error::io("cannot create", dir, e))?;
    let is_cell = assignment.cell.is_some();
    let procedure = assignment.cell.as_ref().map(|cell| study.procedure(cell)).transpose()?;
    let needs = procedure.as_ref().map_or(Needs::Nothing, Procedure::needs);
    let pruned = if is_cell { checkpoint::blocks_done(dir)? } else { study.folder.config.blocks };
    let model = assignment.model(study)?;
    let mut ahead = BlocksAhead::new(study, &model, &place.device);
    if !checkpoint::states_path(dir).exists() {
        ahead.expect(assignment.next_block(study, 0))?;
    }
    let (first, calibration, evaluation) =
        starting_states(study, place, (assignment, needs), pruned, &mut || reporter.boundary())?;
    match &procedure {
        Some(procedure) => reporter.tracker.unit(&study.sizes.cell(procedure, first, pruned)),
        None if !assignment.is_known => reporter.tracker.unit(&study.sizes.base(first)),
        None => {}
    }
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
        snapshots: Snapshots::new(checkpoint::states_path(dir)),
        written: BlockWriter::new(dir),
        ahead,
    };
    let result = pass.run(first, if is_cell { pruned } else { 0 });
    if result.is_err() {
        // What is whole is kept, and told. The error that ended the pass is the one to report.
        let _ = pass.finish_writing();
    }
    scratch::release();
    let Pass { evaluation, written, snapshots, .. } = pass;
    result.map(|()| Passed { states: evaluation, written, snapshots })
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
    if let Some((block, saved)) =
        checkpoint::read_states(&checkpoint::states_path(&assignment.folder), &Device::Cpu)?
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
                let states = self.states(index + 1);
                self.snapshots.begin(index + 1, states, self.written.when_written())?;
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
        Ok(())
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

    fn compressor(&self) -> Compressor<'_> {
        let Self { study, place, assignment, .. } = *self;
        Compressor { study, place, assignment, model: &self.model, control: self.reporter.control() }
    }

    /// Loads a block, prunes it or takes up what was pruned, and sends the states through.
    fn run_block(&mut self, index: usize, to_prune: bool) -> Result<()> {
        let (study, place) = (self.study, self.place);
        let started = self.reporter.clock();
        let mut block = self.ahead.take(index, self.assignment.next_block(study, index + 1))?;
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
                let module = self.compressor().unchanged(block, index, id)?;
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
            let (result, mut stored, weight) =
                self.compressor().compress(block, index, id, procedure, of_site)?;
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
