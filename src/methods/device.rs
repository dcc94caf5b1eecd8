//! What the methods' forms for devices share: weights and statistics lie there already, and no matrix crosses over.

use candle_core::Tensor;

use super::{Arguments, CompressionOutcome, InputStatistics, share};
use crate::error::Result;
use crate::kernels::device::limits::MOST_NEIGHBOURS;
use crate::kernels::device::select::{kth_smallest_magnitude, lowest_of_groups, lowest_of_rows, zero_where};
use crate::kernels::device::{squared_norm, weighted_squares};
use crate::study::{Level, Sparsity};

/// A method of compression that works where a matrix lies.
pub trait DeviceMethod: Sync {
    /// Compresses a matrix `[out, in]` in `f32` to a new one on its device: what [`super::Method::run`] makes of it, but
    /// for near ties.
    ///
    /// # Errors
    /// As [`super::Method::run`]; a tensor operation that fails.
    fn run_on_device(
        &self,
        weights: &Tensor,
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
