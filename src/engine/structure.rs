//! Which blocks and experts a cell removes: chosen once, from the dense model, and kept in its folder.

use std::fs;

use super::Reporter;
use super::assignment::Assignment;
use super::dense_model::SurveyedModel;
use super::place::Place;
use super::study::Study;
use crate::error::{Error, Result};
use crate::model::{ModelFolder, ModuleDef, RemovedParts};
use crate::results::{ErrorBasis, Footprint, ModuleResult};
use crate::store::checkpoint::removed::{read_experts, write_experts};
use crate::store::checkpoint::{self, Stored};

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
