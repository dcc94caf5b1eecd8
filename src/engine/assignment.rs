//! What a place is given to compute: a cell or the base, with everything that an earlier run left of it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::methods::Profile;
use crate::model::RemovedParts;
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
