//! Wanda (Sun et al., arXiv 2306.11695): weights times the norm of their input, compared within an output row.

use candle_core::Tensor;
use rayon::prelude::*;

use super::allocation::ALLOCATION;
use super::device::{self, DeviceMatrix, DeviceMethod};
use super::selection::RowSelection;
use super::swaps::SWAPS;
use super::{
    Arguments, Bound, CompressionOutcome, Cost, InputStatistics, Matrix, Method, Needs, Parameter,
    weighted_error,
};
use crate::error::{Error, Result};
use crate::results::ErrorBasis;
use crate::study::Level;

/// Score `|W_ij| · sqrt(scaler_j)`, `scaler_j` the mean over calibration sequences of the feature's sum of squares.
/// Of every row the `floor(columns · s)` lowest scores go, of equal ones those of lower columns; N:M: the N lowest of
/// every M neighbours. Weights that stay are not touched.
#[derive(Debug, Clone, Copy)]
pub struct Wanda;

impl Method for Wanda {
    fn name(&self) -> &'static str {
        "wanda"
    }

    fn about(&self) -> &'static str {
        "removes the smallest products of weight and input norm in each output row"
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[SWAPS, ALLOCATION]
    }

    fn needs(&self) -> Needs {
        Needs::ColumnNorms
    }

    fn updates_weights(&self) -> bool {
        false
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        Cost { operations: 60.0 * (rows * columns) as f64, bound: Bound::Memory }
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        _: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let sparsity = super::sparsity(level)?;
        super::check_divides(sparsity, matrix.columns, "the matrix")?;
        let scalers = scalers(inputs, matrix.columns)?;
        let norms: Vec<f32> = scalers.iter().map(|&s| (s as f32).sqrt()).collect();
        let before = matrix.weights.to_vec();
        matrix.weights.par_chunks_mut(matrix.columns).for_each_init(
            || RowSelection::new(matrix.columns),
            |selection, row| {
                selection.score(row.iter().zip(&norms).map(|(w, norm)| w.abs() * norm));
                selection.zero_lowest(row, sparsity);
            },
        );
        let error = weighted_error(&before, matrix.weights, Some(&scalers), matrix.columns);
        let dead_columns = scalers.iter().filter(|&&s| s == 0.0).count();
        Ok(CompressionOutcome::of_mask(error, ErrorBasis::ColumnNorms, dead_columns))
    }

    fn on_device(&self, level: Level) -> Option<&dyn DeviceMethod> {
        device::can_select(level).then_some(self as _)
    }
}

impl DeviceMethod for Wanda {
    fn run_on_device(
        &self,
        DeviceMatrix { weights, .. }: DeviceMatrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        _: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let sparsity = super::sparsity(level)?;
        let columns = weights.dim(1)?;
        super::check_divides(sparsity, columns, "the matrix")?;
        let scalers = scalers(inputs, columns)?;
        let norms: Vec<f32> = scalers.iter().map(|&s| (s as f32).sqrt()).collect();
        let scores = weights.abs()?.broadcast_mul(&Tensor::from_vec(norms, columns, weights.device())?)?;
        let pruned = device::zero_lowest_of_rows(weights, &scores, sparsity)?;
        let error = device::weighted_error(weights, &pruned, Some(&scalers))?;
        let dead_columns = scalers.iter().filter(|&&s| s == 0.0).count();
        let basis = ErrorBasis::ColumnNorms;
        Ok((pruned, CompressionOutcome::of_mask(error, basis, dead_columns)))
    }
}

fn scalers(inputs: Option<&mut InputStatistics>, columns: usize) -> Result<Vec<f64>> {
    let scalers = inputs.map(|inputs| inputs.input_norms_squared()).transpose()?;
    scalers
        .filter(|s| s.len() == columns)
        .ok_or_else(|| Error::failure("Wanda was called without the norms of its inputs"))
}
