//! Parts of a model that are left out.

use serde::{Deserialize, Serialize};

/// What is left out of a model, by the numbers that its files have for blocks and experts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RemovedParts {
    /// Blocks, in ascending order.
    pub blocks: Vec<usize>,
    /// Experts of every block of the files, in ascending order; empty where no expert of any block is left out.
    pub experts: Vec<Vec<usize>>,
}

impl RemovedParts {
    /// Whether the model is whole.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.experts.iter().all(Vec::is_empty)
    }
}
