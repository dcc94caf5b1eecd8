//! Rounding to nearest: every weight goes to the closest point of its group's grid. No data is looked at.

use candle_core::Tensor;

use super::device::{self, DeviceMatrix, DeviceMethod};
use super::quantise::{GROUP, SYMMETRIC, grid, warn_of_empty_groups};
use super::{
    Arguments, Bound, CompressionOutcome, Cost, Encoded, Family, InputStatistics, Matrix, Method,
    ModuleWarning, Needs, Parameter, weighted_error,
};
use crate::error::Result;
use crate::kernels::codes::Codes;
use crate::kernels::device::fit::fit_grids;
use crate::kernels::device::pack::codes_to_host;
use crate::number::NamedNumbers;
use crate::results::ErrorBasis;
use crate::study::Level;

/// Rounding to nearest.
#[derive(Debug, Clone, Copy)]
pub struct Rtn;

impl Method for Rtn {
    fn name(&self) -> &'static str {
        "rtn"
    }

    fn about(&self) -> &'static str {
        "rounds every weight to the nearest value of a grid of a few bits"
    }

    fn family(&self) -> Family {
        Family::Quantise
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[GROUP, SYMMETRIC]
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn updates_weights(&self) -> bool {
        true
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        Cost { operations: 30.0 * (rows * columns) as f64, bound: Bound::Memory }
    }

    fn warnings(&self, details: &NamedNumbers, _: &Arguments) -> Vec<ModuleWarning> {
        warn_of_empty_groups(details).into_iter().collect()
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        _: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        // A zero is on every grid, so those of a step before stay what they are.
        let grid = grid(level, arguments, matrix.columns, matrix.dtype)?;
        let before = matrix.weights.to_vec();
        let codes = Codes::nearest(matrix.weights, matrix.columns, grid);
        Ok(CompressionOutcome {
            error: weighted_error(&before, matrix.weights, None, matrix.columns),
            basis: ErrorBasis::Weights,
            dead_columns: 0,
            details: super::quantise::details(&codes),
            encoded: Some(Encoded::Codes(codes)),
        })
    }

    fn on_device(&self, _: Level) -> Option<&dyn DeviceMethod> {
        Some(self)
    }
}

impl DeviceMethod for Rtn {
    fn run_on_device(
        &self,
        matrix: DeviceMatrix<'_>,
        _: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let grids = fit_grids(matrix.weights, grid(level, arguments, matrix.weights.dim(1)?, matrix.dtype)?)?;
        let (codes, values) = grids.nearest(matrix.weights)?;
        let error = device::weighted_error(matrix.weights, &values, None)?;
        let codes = codes_to_host(&codes, &grids)?;
        let outcome = CompressionOutcome {
            error,
            basis: ErrorBasis::Weights,
            dead_columns: 0,
            details: super::quantise::details(&codes),
            encoded: Some(Encoded::Codes(codes)),
        };
        Ok((values, outcome))
    }
}
