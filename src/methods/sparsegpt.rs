//! SparseGPT (Frantar & Alistarh, arXiv 2301.00774): weights go where the others can best make up for them, and do.

use candle_core::Tensor;

use super::allocation::ALLOCATION;
use super::device::{self, DeviceMatrix, DeviceMethod};
use super::factor::{self, DAMPING};
use super::solver::{self, BLOCK_SIZE};
use super::{
    Arguments, Bound, CompressionOutcome, Cost, InputStatistics, Matrix, Method, ModuleWarning, Needs,
    Parameter, Zeroing,
};
use crate::error::Result;
use crate::number::NamedNumbers;
use crate::study::Level;

/// SparseGPT.
#[derive(Debug, Clone, Copy)]
pub struct SparseGpt;

impl Method for SparseGpt {
    fn name(&self) -> &'static str {
        "sparsegpt"
    }

    fn about(&self) -> &'static str {
        "removes the weights that cost the layer's output least, and adjusts the others to compensate"
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[DAMPING, BLOCK_SIZE, ALLOCATION]
    }

    fn needs(&self) -> Needs {
        Needs::Hessian
    }

    fn updates_weights(&self) -> bool {
        true
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        let (weights, width) = ((rows * columns) as f64, columns as f64);
        Cost { operations: 3.0 * weights * width + width.powi(3), bound: Bound::Arithmetic }
    }

    fn warnings(&self, details: &NamedNumbers, arguments: &Arguments) -> Vec<ModuleWarning> {
        factor::warning(details, arguments).into_iter().collect()
    }

    fn chooses_while_solving(&self) -> bool {
        true
    }

    fn on_device(&self, level: Level) -> Option<&dyn DeviceMethod> {
        device::can_select(level).then_some(self as _)
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        stop: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let matrix = Matrix { zeroing: Zeroing::Chosen(super::sparsity(level)?), ..matrix };
        solver::compress(matrix, inputs, None, false, arguments, stop)
    }
}

impl DeviceMethod for SparseGpt {
    fn run_on_device(
        &self,
        matrix: DeviceMatrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let matrix = DeviceMatrix { zeroing: Zeroing::Chosen(super::sparsity(level)?), ..matrix };
        solver::compress_on_device(matrix, inputs, None, false, arguments, stop)
    }
}
