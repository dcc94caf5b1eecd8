//! What is exported: a source model with what a cell made of its matrices, block by block.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::methods::{Family, Procedure, find};
use crate::model::{Block, ExpertWeights, ModelFolder, ModuleId, RemovedParts, renumber};
use crate::results::{CellResult, CellState};
use crate::store::checkpoint::block_file::BlockFile;
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
        let (id, folder) = (&result.id, checkpoints.display());
        Err(Error::mistake(if result.state == CellState::Done {
            format!(
                "the checkpoints of the cell {id} are gone: {done} of {blocks} blocks are in {folder}; accepted is another \
                 study with this cell"
            )
        } else {
            format!(
                "the cell {id} is not finished: {done} of {blocks} blocks are in {folder}; run its study with --resume \
                 first"
            )
        }))
    }
}

/// The model that a cell begins and ends with: its embedding and head are as the recipe has them, and the parts `removed`
/// are left out.
///
/// # Errors
/// [`Error::Mistake`] where the recipe gives two formats to what is one matrix in this model.
pub fn cell_model<'a>(
    folder: &'a ModelFolder,
    procedure: &Procedure,
    removed: &RemovedParts,
) -> Result<Cow<'a, ModelFolder>> {
    let model = folder.without(removed);
    let config = &model.config;
    let ends = procedure.end_types(config.embedding.width, config.blocks, config.head.tied)?;
    if ends == model.ends {
        return Ok(model);
    }
    Ok(Cow::Owned(ModelFolder { ends, ..model.into_owned() }))
}

/// Why a folder of files cannot hold what a recipe leaves of a model; `None` is nothing.
pub(super) fn refuses_removal(folder: &ModelFolder, recipe: &Recipe) -> Option<String> {
    let methods = || recipe.steps().filter_map(|step| find(&step.method).ok());
    let blocks = methods().any(|method| method.block_removal().is_some());
    let experts = methods().any(|method| method.expert_removal().is_some());
    let of_blocks = blocks.then(|| renumber::refuses(folder)).flatten();
    of_blocks.or_else(|| experts.then(|| renumber::refuses_experts(folder)).flatten())
}

/// Whether a step puts weights on a grid.
pub(super) fn quantises(step: &Step) -> bool {
    find(&step.method).is_ok_and(|method| method.family() == Family::Quantise)
}

/// The blocks of a model to be written, of which one matrix is held.
pub(super) struct Blocks<'a> {
    folder: &'a ModelFolder,
    checkpoints: Option<&'a Path>,
    /// The checkpoint that was read last, and its block.
    open: Option<(usize, Arc<Mutex<BlockFile>>)>,
}

impl<'a> Blocks<'a> {
    pub fn new(model: &ExportModel<'a>) -> Self {
        Self { folder: model.folder, checkpoints: model.cell.map(|cell| cell.checkpoints), open: None }
    }

    /// What became of a matrix; `None` when it was left alone.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another model.
    pub fn stored(&mut self, block: usize, id: ModuleId) -> Result<Option<Stored>> {
        let Some(checkpoints) = self.checkpoints else { return Ok(None) };
        let file = self.file(checkpoints, block)?;
        let module = self.folder.config.layout(block).module(id);
        let Some(stored) = file.lock().unwrap_or_else(PoisonError::into_inner).module(&module.name)? else {
            return Ok(None);
        };
        let tensor = module.weight();
        let info = self.folder.weights.required(&tensor)?;
        let shape = [module.shape.0, module.shape.1];
        if stored.fits(&shape, info.dtype.as_str()) {
            return Ok(Some(stored));
        }
        Err(Error::mistake(format!(
            "{}: {} does not fit `{tensor}` of {}, which is {:?} of {}: the checkpoints are of another model",
            checkpoint::block_path(checkpoints, self.folder.config.number_in_files(block)).display(),
            module.name,
            self.folder.root.display(),
            shape,
            info.dtype.as_str().to_uppercase()
        )))
    }

    /// The checkpoint of a block.
    fn file(&mut self, checkpoints: &Path, block: usize) -> Result<Arc<Mutex<BlockFile>>> {
        match &self.open {
            Some((open, file)) if *open == block => Ok(file.clone()),
            _ => {
                let number = self.folder.config.number_in_files(block);
                let file = Arc::new(Mutex::new(BlockFile::open(checkpoints, number)?));
                self.open = Some((block, file.clone()));
                Ok(file)
            }
        }
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

    /// A block as it is computed with, in `f32` on the host. Experts are read when tokens reach them, so that a large
    /// mixture is never in memory as a whole.
    ///
    /// # Errors
    /// As [`Self::weight`].
    pub fn load(&mut self, block: usize) -> Result<Block> {
        let folder = self.folder;
        let (dtype, device) = (DType::F32, Device::Cpu);
        let mut loaded = Block::load_with(folder, block, dtype, &device, ExpertWeights::ReadWhenNeeded)?;
        let Some(checkpoints) = self.checkpoints else { return Ok(loaded) };
        for (id, module) in folder.config.layout(block).modules() {
            match loaded.reader(id) {
                None => loaded.set_weight(id, self.weight(block, id)?),
                Some(source) => {
                    let file = self.file(checkpoints, block)?;
                    let target = (dtype, device.clone());
                    loaded.set_reader(id, BlockFile::reader(file, module.name.clone(), source, target));
                }
            }
        }
        Ok(loaded)
    }
}
