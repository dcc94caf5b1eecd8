//! What is exported: a source model with what a cell made of its matrices, block by block.

use std::borrow::Cow;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::methods::{Family, Procedure, find};
use crate::model::{Block, ModelFolder, ModuleId};
use crate::results::CellResult;
use crate::store::checkpoint::{self, Stored};
use crate::study::{Recipe, Step};

/// A model to be written.
#[derive(Debug, Clone, Copy)]
pub struct ExportModel<'a> {
    /// The source.
    pub folder: &'a ModelFolder,
    /// What a cell made of it; `None` is the base.
    pub cell: Option<ExportCell<'a>>,
}

/// A finished cell.
#[derive(Debug, Clone, Copy)]
pub struct ExportCell<'a> {
    /// The folder of its checkpoints, one a block.
    pub checkpoints: &'a Path,
    /// What was found out about it.
    pub result: &'a CellResult,
}

impl<'a> ExportModel<'a> {
    /// The base.
    pub fn base(folder: &'a ModelFolder) -> Self {
        Self { folder, cell: None }
    }

    /// A cell, whose checkpoints are in a folder (see [`checkpoint::write_block`]).
    pub fn cell(folder: &'a ModelFolder, checkpoints: &'a Path, result: &'a CellResult) -> Self {
        Self { folder, cell: Some(ExportCell { checkpoints, result }) }
    }

    /// Whether some of its matrices are codes or blocks, whose values are products.
    pub(super) fn has_products(&self) -> bool {
        let mut steps = self.cell.iter().flat_map(|cell| cell.result.spec.recipe.steps());
        steps.any(|step| find(&step.method).is_ok_and(|method| method.bits(step.level).is_some()))
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        self.cell.map_or("the base", |cell| &cell.result.id)
    }

    /// Refuses a cell whose checkpoints are not all there.
    ///
    /// # Errors
    /// [`Error::Mistake`] with how many are.
    pub(super) fn check_finished(&self) -> Result<()> {
        let Some(ExportCell { checkpoints, result }) = self.cell else { return Ok(()) };
        let blocks = self.folder.config.blocks_in_files();
        // Whether a file is sound shows when it is read.
        let done = (0..blocks).filter(|&b| checkpoint::block_path(checkpoints, b).is_file()).count();
        if done == blocks {
            return Ok(());
        }
        Err(Error::mistake(format!(
            "the cell {} is not finished: {done} of {blocks} blocks are in {}; run its study with --resume first",
            result.id,
            checkpoints.display()
        )))
    }
}

/// The model that a cell begins and ends with: its embedding and head are as the recipe has them, and the blocks `dropped`
/// are left out.
///
/// # Errors
/// [`Error::Mistake`] where the recipe gives two formats to what is one matrix in this model.
pub fn cell_model<'a>(
    folder: &'a ModelFolder,
    procedure: &Procedure,
    dropped: &[usize],
) -> Result<Cow<'a, ModelFolder>> {
    let model = folder.without_blocks(dropped);
    let config = &model.config;
    let ends = procedure.end_types(config.embedding.width, config.blocks, config.head.tied)?;
    if ends == model.ends {
        return Ok(model);
    }
    Ok(Cow::Owned(ModelFolder { ends, ..model.into_owned() }))
}

/// Whether a recipe removes blocks.
pub(super) fn removes_blocks(recipe: &Recipe) -> bool {
    recipe.steps().any(|step| find(&step.method).is_ok_and(|method| method.block_removal().is_some()))
}

/// Whether a step puts weights on a grid.
pub(super) fn quantises(step: &Step) -> bool {
    find(&step.method).is_ok_and(|method| method.family() == Family::Quantise)
}

/// The blocks of a model to be written, of which one checkpoint is held.
pub(super) struct Blocks<'a> {
    folder: &'a ModelFolder,
    checkpoints: Option<&'a Path>,
    held: Option<(usize, Vec<(String, Stored)>)>,
}

impl<'a> Blocks<'a> {
    pub fn new(model: &ExportModel<'a>) -> Self {
        Self { folder: model.folder, checkpoints: model.cell.map(|cell| cell.checkpoints), held: None }
    }

    /// What became of a matrix; `None` when it was left alone.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another model.
    pub fn stored(&mut self, block: usize, id: ModuleId) -> Result<Option<&Stored>> {
        let Some(checkpoints) = self.checkpoints else { return Ok(None) };
        if self.held.as_ref().is_none_or(|(held, _)| *held != block) {
            // Let go of one before the next is read.
            self.held = None;
            let number = self.folder.config.number_in_files(block);
            self.held = Some((block, checkpoint::read_block(checkpoints, number, &Device::Cpu)?));
        }
        let module = self.folder.config.layout(block).module(id);
        let modules = self.held.iter().flat_map(|(_, modules)| modules);
        let found = modules.into_iter().find(|(name, _)| *name == module.name);
        let Some((name, stored)) = found else { return Ok(None) };
        let tensor = module.weight();
        let info = self.folder.weights.required(&tensor)?;
        let shape = [module.shape.0, module.shape.1];
        if stored.fits(&shape, info.dtype.as_str()) {
            return Ok(Some(stored));
        }
        Err(Error::mistake(format!(
            "{}: {name} does not fit `{tensor}` of {}, which is {:?} of {}: the checkpoints are of another model",
            checkpoint::block_path(checkpoints, self.folder.config.number_in_files(block)).display(),
            self.folder.root.display(),
            shape,
            info.dtype.as_str().to_uppercase()
        )))
    }

    /// A matrix as it is computed with, `[out, in]` in `f32`.
    ///
    /// # Errors
    /// As [`Self::stored`], and weights that are no numbers.
    pub fn weight(&mut self, block: usize, id: ModuleId) -> Result<Tensor> {
        let folder = self.folder;
        let module = folder.config.layout(block).module(id);
        let source = || folder.matrix(module, DType::F32, &Device::Cpu);
        match self.stored(block, id)? {
            Some(stored) => {
                let weights = stored.weights(|| Ok(source()?.flatten_all()?.to_vec1()?))?;
                Ok(weights.to_dtype(DType::F32)?)
            }
            None => source(),
        }
    }

    /// A block as it is computed with, in `f32` on the host.
    ///
    /// # Errors
    /// As [`Self::weight`].
    pub fn load(&mut self, block: usize) -> Result<Block> {
        let folder = self.folder;
        let mut loaded = Block::load(folder, block, DType::F32, &Device::Cpu)?;
        if self.checkpoints.is_some() {
            for (id, _) in folder.config.layout(block).modules() {
                loaded.set_weight(id, self.weight(block, id)?);
            }
        }
        Ok(loaded)
    }
}
