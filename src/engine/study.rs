//! A study that has been understood: everything that stays as it is while it runs.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::{DType, Device};
use tokenizers::Tokenizer;

use super::choice_requests::PreparedChoices;
use super::costs::Sizes;
use super::evaluate::Corpus;
use super::prompts::PreparedTask;
use crate::error::{Error, Result};
use crate::export::{cell_model, narrow_config};
use crate::methods::{Procedure, Profile};
use crate::model::{Block, ExpertWeights, ModelFolder, ModuleId, RemovedParts, RopeTables, Tree, renumber};
use crate::results::{Environment, ModelInfo};
use crate::study::{CellSpec, Level, StudySpec};

/// What every place needs to compute any cell. Cells that are added while it runs are not in its `spec`.
pub(super) struct Study {
    pub spec: StudySpec,
    pub folder: ModelFolder,
    pub info: ModelInfo,
    pub environment: Environment,
    pub dtype: DType,
    pub tokenizer: Arc<Tokenizer>,
    pub ropes: RopeTables,
    /// The modules of every block that are pruned.
    pub modules: Vec<Vec<ModuleId>>,
    pub corpora: Vec<Corpus>,
    pub tasks: Vec<PreparedTask>,
    /// Tasks whose choices are compared.
    pub choices: Vec<PreparedChoices>,
    pub profile: Option<Profile>,
    pub sizes: Sizes,
}

/// What has to be known to read a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockLoader {
    /// Its number in the model.
    place: usize,
    dtype: DType,
    experts: ExpertWeights,
}

impl BlockLoader {
    /// Reads it from the model that it is of.
    ///
    /// # Errors
    /// As [`Block::load_with`].
    pub fn load(self, model: &ModelFolder, device: &Device) -> Result<Block> {
        Block::load_with(model, self.place, self.dtype, device, self.experts)
    }
}

impl Study {
    /// What goes through the blocks to be measured: the windows of one corpus after the other, then the questions of one
    /// task with choices after the other.
    pub fn evaluation_sequences(&self) -> Vec<Tree<Vec<u32>>> {
        let windows = self.corpora.iter().flat_map(|c| c.windows.iter().cloned()).map(Tree::alone);
        windows.chain(self.choices.iter().flat_map(|task| task.trees.iter().cloned())).collect()
    }

    /// What a cell's recipe asks for.
    ///
    /// # Errors
    /// A recipe that is not understood.
    pub fn procedure(&self, cell: &CellSpec) -> Result<Procedure> {
        Procedure::of(&cell.recipe, &self.spec.prune.parameters())
    }

    /// The model with embedding and head as a cell's recipe has them (the base: `None`).
    ///
    /// # Errors
    /// A recipe that is not understood, or that the model does not fit.
    pub fn model_of(&self, cell: Option<&CellSpec>) -> Result<Cow<'_, ModelFolder>> {
        let Some(cell) = cell else { return Ok(Cow::Borrowed(&self.folder)) };
        cell_model(&self.folder, &self.procedure(cell)?, &RemovedParts::default())
    }

    /// Loads a block of the base. Experts that would take too much memory are read when they are needed.
    ///
    /// # Errors
    /// As [`Block::load`].
    pub fn load_block(&self, index: usize, device: &Device) -> Result<Block> {
        self.load_block_of(&self.folder, index, device)
    }

    /// Loads the block of a cell's model that has the number `index` in the files, with the weights of these.
    ///
    /// # Errors
    /// As [`Block::load`]; a block that the model is without.
    pub fn load_block_of(&self, model: &ModelFolder, index: usize, device: &Device) -> Result<Block> {
        self.block_loader(model, index)?.load(model, device)
    }

    /// Whether the final states of a cell, or of the base, have to be on the disk before it is measured: cells are compared
    /// with the base's, and answering takes longer than saving. To measure a cell takes less.
    pub fn needs_final_states(&self, is_cell: bool) -> bool {
        !is_cell || !self.tasks.is_empty() || !self.choices.is_empty()
    }

    /// How [`Self::load_block_of`] reads a block, for another thread.
    ///
    /// # Errors
    /// A block that the model is without.
    pub fn block_loader(&self, model: &ModelFolder, index: usize) -> Result<BlockLoader> {
        let gone = || Error::failure(format!("block {index} is left out of the model"));
        let place = model.config.place_of(index).ok_or_else(gone)?;
        let held = self.sizes.holds_experts(model.config.layout(place));
        let experts = if held { ExpertWeights::Held } else { ExpertWeights::ReadWhenNeeded };
        Ok(BlockLoader { place, dtype: self.dtype, experts })
    }

    /// The level of one block of a cell, by the cell's own profile or the study's.
    ///
    /// # Errors
    /// A level that the profile takes out of its range.
    pub fn block_level(&self, own: Option<&Profile>, block: usize, level: Level) -> Result<Level> {
        own.or(self.profile.as_ref()).map_or(Ok(level), |p| p.at(block, level))
    }

    /// Understands a cell's recipe, and checks what can be wrong with it, given the model.
    ///
    /// # Errors
    /// [`Error::Mistake`] naming the cell's recipe, what of the model it does not fit, and what does.
    pub fn check_cell(&self, cell: &CellSpec) -> Result<Procedure> {
        let procedure = self.procedure(cell)?;
        let of_cell = |e: Error| Error::mistake(format!("{}: {e}", cell.label()));
        let narrow = narrow_config(&self.folder, &procedure).map_err(of_cell)?;
        let config = narrow.as_ref().map_or(&self.folder.config, |narrow| &narrow.config);
        for (layout, chosen) in config.layouts().zip(&self.modules) {
            for module in chosen.iter().map(|id| layout.module(*id)) {
                procedure.check(module.shape.1, module.short_name())?;
            }
        }
        let removed = procedure.blocks_removed(self.folder.config.blocks).map_err(of_cell)?;
        if let Some(why) = self.folder.config.needs_all_blocks.filter(|_| removed > 0) {
            return Err(Error::mistake(format!(
                "{}: no block of this {} can be left out: {why}",
                cell.label(),
                self.folder.config.architecture
            )));
        }
        if procedure.experts_removed(self.folder.config.experts()).map_err(of_cell)? > 0
            && let Some(why) = renumber::refuses_experts(&self.folder)
        {
            return Err(of_cell(Error::mistake(why)));
        }
        self.model_of(Some(cell))?;
        if let Some(profile) = &self.profile {
            if let Some((allocation, _)) = procedure.allocation() {
                return Err(Error::mistake(format!(
                    "{}: allocation={} chooses what every block loses, and the study's profile does so too; accepted is \
                     one of both (--profile, or the parameter `allocation`)",
                    cell.label(),
                    allocation.name()
                ))
                .at("profile"));
            }
            for block in 0..self.folder.config.blocks {
                procedure.with_levels(|level| profile.at(block, level))?;
            }
        }
        if let (Some(method), None) = (procedure.looks_at_data(), &cell.calibration) {
            return Err(Error::mistake(format!(
                "{}: {} looks at data and needs a calibration set (--calibration)",
                cell.label(),
                method.name()
            ))
            .at("calibration"));
        }
        Ok(procedure)
    }
}
