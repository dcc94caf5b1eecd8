//! What the methods' forms for devices share: weights and statistics lie there already, and no matrix crosses over.

use candle_core::{DType, Tensor};

use super::{Arguments, CompressionOutcome, InputStatistics, Zeroing, share};
use crate::error::Result;
use crate::kernels::device::columns::output_energy;
use crate::kernels::device::limits::MOST_NEIGHBOURS;
use crate::kernels::device::select::{kth_smallest_magnitude, lowest_of_groups, lowest_of_rows, zero_where};
use crate::kernels::device::{squared_norm, weighted_squares};
use crate::results::ErrorBasis;
use crate::study::{Level, Sparsity};

/// A matrix to compress where it lies.
#[derive(Debug, Clone, Copy)]
pub struct DeviceMatrix<'a> {
    /// `[rows, columns]`, that is `[out, in]`, in `f32`.
    pub weights: &'a Tensor,
    /// What the model's files hold it in, and scales are rounded to: f32, f16 or bf16.
    pub dtype: DType,
    /// What is zero already, or is to become so besides.
    pub zeroing: Zeroing,
}

impl<'a> DeviceMatrix<'a> {
    /// A matrix of a model in `f32`, as it came.
    pub fn new(weights: &'a Tensor) -> Self {
        Self { weights, dtype: DType::F32, zeroing: Zeroing::None }
    }
}

/// A method of compression that works where a matrix lies.
pub trait DeviceMethod: Sync {
    /// Compresses a matrix on its device and returns the new one. It is the one that [`super::Method::run`] makes, except where
    /// two scores are nearly equal.
    ///
    /// # Errors
    /// As [`super::Method::run`]; a tensor operation that fails.
    fn run_on_device(
        &self,
        matrix: DeviceMatrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)>;
}

/// Whether a device can select as many weights as a level asks for.
pub(super) fn can_select(level: Level) -> bool {
    match level {
        Level::Sparsity(Sparsity::Fraction(_)) => true,
        Level::Sparsity(Sparsity::SemiStructured { group, .. }) => group <= MOST_NEIGHBOURS,
        _ => false,
    }
}

/// Zeroes all weights whose score is at most the one at rank `floor(numel · s)`.
pub(super) fn zero_lowest_of_matrix(weights: &Tensor, scores: &Tensor, fraction: f64) -> Result<Tensor> {
    let threshold = kth_smallest_magnitude(scores, share(scores.elem_count(), fraction))?;
    zero_where(&scores.broadcast_le(&threshold)?, weights)
}

/// Zeroes the `floor(columns · s)` lowest scores of every row, of equal ones those of lower columns; N:M: the N lowest of
/// every M neighbours.
pub(super) fn zero_lowest_of_rows(weights: &Tensor, scores: &Tensor, sparsity: Sparsity) -> Result<Tensor> {
    let gone = match sparsity {
        Sparsity::Fraction(s) => lowest_of_rows(scores, share(scores.dim(1)?, s))?,
        Sparsity::SemiStructured { zeros, group } => lowest_of_groups(scores, zeros, group)?,
    };
    zero_where(&gone, weights)
}

/// The relative squared error of two stages together, by what is known of the inputs.
pub(super) fn error_of_all(
    before: &Tensor,
    after: &Tensor,
    inputs: Option<&InputStatistics>,
) -> Result<(f64, ErrorBasis)> {
    if let Some((gram, inputs)) = inputs.and_then(|inputs| Some((inputs.device_gram()?, inputs))) {
        let scale = 2.0 / inputs.sequences.max(1) as f64;
        let lost = output_energy(&(before - after)?, gram, scale, 0.0)?;
        let all = output_energy(before, gram, scale, 0.0)?;
        return Ok((if all > 0.0 { lost / all } else { 0.0 }, ErrorBasis::Hessian));
    }
    let norms = inputs.map(InputStatistics::input_norms_squared).transpose()?;
    let basis = if norms.is_some() { ErrorBasis::ColumnNorms } else { ErrorBasis::Weights };
    Ok((weighted_error(before, after, norms.as_deref())?, basis))
}

/// Relative squared error `Σ s_j (w − w')² / Σ s_j w²`, with a factor per column.
pub(super) fn weighted_error(before: &Tensor, after: &Tensor, factors: Option<&[f64]>) -> Result<f64> {
    let difference = (before - after)?;
    let (lost, all) = match factors {
        Some(factors) => {
            let factors = Tensor::from_slice(factors, factors.len(), before.device())?;
            (weighted_squares(&difference, &factors)?, weighted_squares(before, &factors)?)
        }
        None => (squared_norm(&difference)?, squared_norm(before)?),
    };
    Ok(if all > 0.0 { lost / all } else { 0.0 })
}
