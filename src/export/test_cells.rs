//! Cells whose matrices are codes, for tests.

use std::path::Path;

use candle_core::{DType, Device};

use crate::kernels::codes::{Codes, Grid};
use crate::model::ModelFolder;
use crate::results::{CellResult, CellState};
use crate::store::checkpoint::{Stored, write_block};
use crate::study::CellSpec;

/// A finished cell of a recipe, without any numbers.
pub(super) fn cell(recipe: &str) -> CellResult {
    let spec = CellSpec { recipe: recipe.parse().unwrap(), calibration: None, seed: 0 };
    CellResult { state: CellState::Done, ..CellResult::queued(&spec) }
}

/// The source's weights of a module, row-major.
pub(super) fn weights(folder: &ModelFolder, tensor: &str) -> Vec<f32> {
    let weights = folder.weights.tensor(tensor, DType::F32, &Device::Cpu).unwrap();
    weights.flatten_all().unwrap().to_vec1().unwrap()
}

/// Writes checkpoints in which every module of every block but the last is on a grid.
pub(super) fn write_codes(folder: &ModelFolder, checkpoints: &Path, bits: u8, group: usize, symmetric: bool) {
    for block in 0..folder.config.blocks {
        let mut modules = Vec::new();
        let layout = folder.config.layout(block);
        for (_, module) in layout.modules().filter(|_| block + 1 < folder.config.blocks) {
            let scale_dtype = folder.stored_dtype(module);
            let grid = Grid { bits, group: group.min(module.shape.1), symmetric, scale_dtype };
            let codes = Codes::nearest(&mut weights(folder, &module.weight()), module.shape.1, grid);
            modules.push((module.name.clone(), Stored::Codes(codes)));
        }
        write_block(checkpoints, block, &modules).unwrap();
    }
}
