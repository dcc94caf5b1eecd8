//! GPTQ (Frantar et al., arXiv 2210.17323): columns go on the grid one after another, and those behind make up for what
//! rounding lost.

use candle_core::Tensor;

use super::device::{DeviceMatrix, DeviceMethod};
use super::factor::{self, DAMPING};
use super::quantise::{self, GROUP, SYMMETRIC, grid, warn_of_empty_groups};
use super::solver::{self, BLOCK_SIZE};
use super::{
    Arguments, Bound, CompressionOutcome, Cost, Encoded, Family, InputStatistics, Matrix, Method,
    ModuleWarning, Needs, Parameter, ParameterKind,
};
use crate::error::{Error, Result};
use crate::number::NamedNumbers;
use crate::study::Level;

/// Whether the columns with the largest inputs go first. Groups then have the grids of the matrix as it came.
const ACT_ORDER: Parameter = Parameter {
    name: "act_order",
    about: "whether the columns with the largest inputs go first",
    kind: ParameterKind::Choice(&["no", "yes"]),
};

/// GPTQ.
#[derive(Debug, Clone, Copy)]
pub struct Gptq;

impl Method for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn about(&self) -> &'static str {
        "rounds the weights to a grid column by column, and adjusts the others to compensate"
    }

    fn family(&self) -> Family {
        Family::Quantise
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[GROUP, SYMMETRIC, ACT_ORDER, DAMPING, BLOCK_SIZE]
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
        factor::warning(details, arguments).into_iter().chain(warn_of_empty_groups(details)).collect()
    }

    fn joins_a_solver(&self) -> bool {
        true
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        stop: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let grid = grid(level, arguments, matrix.columns, matrix.dtype)?;
        let by_importance = arguments.text(&ACT_ORDER) == "yes";
        let outcome = solver::compress(matrix, inputs, Some(grid), by_importance, arguments, stop)?;
        with_details(outcome)
    }

    fn on_device(&self, _: Level) -> Option<&dyn DeviceMethod> {
        Some(self)
    }
}

impl DeviceMethod for Gptq {
    fn run_on_device(
        &self,
        matrix: DeviceMatrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let grid = Some(grid(level, arguments, matrix.weights.dim(1)?, matrix.dtype)?);
        let by_importance = arguments.text(&ACT_ORDER) == "yes";
        let (weights, outcome) =
            solver::compress_on_device(matrix, inputs, grid, by_importance, arguments, stop)?;
        Ok((weights, with_details(outcome)?))
    }
}

/// Tells of the grid too.
fn with_details(mut outcome: CompressionOutcome) -> Result<CompressionOutcome> {
    let Some(Encoded::Codes(codes)) = &outcome.encoded else {
        return Err(Error::failure("the solver gave no codes"));
    };
    let details = quantise::details(codes);
    outcome.details.extend([details]);
    Ok(outcome)
}
