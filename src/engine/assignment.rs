//! What a place is given to compute: a cell or the base, with everything that an earlier run left of it.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::study::Study;
use crate::error::Result;
use crate::export::cell_model;
use crate::methods::Profile;
use crate::model::{ModelFolder, RemovedParts};
use crate::results::{Answer, ModuleResult, Seconds};
use crate::study::CellSpec;

/// A cell or the base to be computed from wherever it was left.
pub(super) struct Assignment {
    /// The cell; `None` is the base.
    pub cell: Option<CellSpec>,
    /// The cell's id.
    pub id: Option<String>,
    /// Folder of its checkpoints.
    pub folder: PathBuf,
    /// Folder of the base's.
    pub base_folder: PathBuf,
    /// The windows that statistics come from, and what a person should know of them.
    pub calibration: Option<Arc<Vec<Vec<u32>>>>,
    pub calibration_warnings: Vec<String>,
    /// Blocks and experts that are left out of the model.
    pub removed: RemovedParts,
    /// The model whose blocks were made narrower, still with all blocks of its files, where that is done.
    pub narrowed: Option<Arc<ModelFolder>>,
    /// How the cell's fraction is spread over the blocks, where its recipe says how.
    pub profile: Option<Profile>,
    /// Modules that are compressed already.
    pub modules: Vec<ModuleResult>,
    /// Records that are answered already.
    pub answers: Vec<Answer>,
    /// Time that was spent already.
    pub seconds: Seconds,
    /// Whether everything is known of it, so that only its final states are wanted.
    pub is_known: bool,
    /// Whether it is the base of cells, whose answers will be compared with it.
    pub has_cells: bool,
}

impl Assignment {
    /// The model that blocks are loaded of, by their numbers in the files.
    pub fn files<'a>(&'a self, study: &'a Study) -> &'a ModelFolder {
        self.narrowed.as_deref().unwrap_or(&study.folder)
    }

    /// The model that it begins and ends with: without the blocks that are left out, with its embedding and head as the recipe
    /// has them.
    ///
    /// # Errors
    /// A recipe that is not understood, or that the model does not fit.
    pub fn model<'a>(&'a self, study: &'a Study) -> Result<Cow<'a, ModelFolder>> {
        let Some(cell) = &self.cell else { return Ok(Cow::Borrowed(&study.folder)) };
        cell_model(self.files(study), &study.procedure(cell)?, &self.removed)
    }

    /// The first block from `from` on that is not left out, by its number in the files.
    pub fn next_block(&self, study: &Study, from: usize) -> Option<usize> {
        (from..study.folder.config.blocks).find(|block| !self.removed.blocks.contains(block))
    }
}
