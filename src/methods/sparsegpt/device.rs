//! SparseGPT where the weights and the Hessian lie on a device already.

use candle_core::Tensor;

use super::{BLOCK_SIZE, DAMPING, SparseGpt};
use crate::error::{Error, Result};
use crate::kernels::device::columns::{output_energy, solve};
use crate::kernels::device::factor::{add_to_diagonal, diagonal_of, inverse_factor};
use crate::kernels::device::projection::{Projection, Zeros};
use crate::kernels::device::select::zero_where;
use crate::methods::factor::{DAMPING_USED, mean_diagonal, next_damping};
use crate::methods::{Arguments, CompressionOutcome, DeviceMethod, InputStatistics, check_divides};
use crate::results::ErrorBasis;
use crate::study::{Level, Sparsity};

/// As [`super::Factor`], on a device.
struct DeviceFactor {
    /// The upper triangle `U` with `UᵀU = H⁻¹`, `[in, in]`.
    upper: Tensor,
    /// The damping that the factorisation went through with.
    damping: f64,
    /// 1 for features that were zero in every calibration token, `[in]` in `u8`.
    dead: Tensor,
    dead_columns: usize,
    /// What was added to the diagonal.
    added: f32,
}

impl DeviceFactor {
    /// Factorises `H⁻¹` with the damping that [`super::Factor::new`] would choose.
    fn new(gram: &Tensor, sequences: usize, damping: f64) -> Result<Self> {
        let scale = 2.0 / sequences.max(1) as f32;
        let mut diagonal: Vec<f32> = diagonal_of(gram)?.into_iter().map(|d| d * scale).collect();
        let dead: Vec<u8> = diagonal.iter().map(|&d| u8::from(d == 0.0)).collect();
        for (d, _) in diagonal.iter_mut().zip(&dead).filter(|(_, dead)| **dead != 0) {
            *d = 1.0;
        }
        let mean = mean_diagonal(&diagonal)?;
        let mut attempt = damping;
        loop {
            let added = (attempt * mean) as f32;
            let missing: Vec<f32> =
                dead.iter().map(|&dead| if dead != 0 { 1.0 + added } else { added }).collect();
            if let Some(upper) =
                inverse_factor(add_to_diagonal(&gram.affine(f64::from(scale), 0.0)?, &missing)?)?
            {
                let dead_columns = dead.iter().filter(|dead| **dead != 0).count();
                let dead = Tensor::from_vec(dead, diagonal.len(), gram.device())?;
                return Ok(Self { upper, damping: attempt, dead, dead_columns, added });
            }
            attempt = next_damping(attempt)?;
        }
    }
}

impl DeviceMethod for SparseGpt {
    fn run_on_device(
        &self,
        weights: &Tensor,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let sparsity = crate::methods::sparsity(level)?;
        let columns = weights.dim(1)?;
        check_divides(sparsity, columns, "the matrix")?;
        let missing = || Error::failure("SparseGPT was called without the Hessian of its inputs");
        let inputs = inputs.ok_or_else(missing)?;
        let (width, sequences) = (inputs.width, inputs.sequences);
        if width != columns {
            return Err(Error::failure(format!(
                "a Hessian of {width} features for a matrix of {columns} columns"
            )));
        }
        let damping = inputs.damping(arguments.number(&DAMPING));
        let factorise =
            |s: &InputStatistics| DeviceFactor::new(s.device_gram().ok_or_else(missing)?, sequences, damping);
        let (inputs, factor) = inputs.prepared(factorise)?;
        let gram = inputs.device_gram().ok_or_else(missing)?;
        if stop() {
            return Err(Error::Cancelled);
        }
        let outcome = |error| CompressionOutcome {
            error,
            basis: ErrorBasis::Hessian,
            dead_columns: factor.dead_columns,
            details: [(DAMPING_USED, factor.damping)].into_iter().collect(),
            encoded: None,
        };
        let zeros = match sparsity {
            Sparsity::Fraction(0.0) => return Ok((weights.clone(), outcome(0.0))),
            Sparsity::Fraction(share) => Zeros::Share(share),
            Sparsity::SemiStructured { zeros, group } => Zeros::OfGroups { n: zeros, m: group },
        };
        let weights = if factor.dead_columns > 0 {
            zero_where(&factor.dead.broadcast_as(weights.shape())?.contiguous()?, weights)?
        } else {
            weights.clone()
        };
        let scale = 2.0 / sequences.max(1) as f64;
        let energy = output_energy(&weights, gram, scale, f64::from(factor.added))?;
        let projection = Projection { zeros, block_size: arguments.count(&BLOCK_SIZE) };
        let solved = solve(&weights, &factor.upper, projection, stop)?;
        // The solver's loss is half the squared error under H, as H is twice the mean of x xᵀ.
        Ok((solved.weights, outcome(if energy > 0.0 { 2.0 * solved.loss / energy } else { 0.0 })))
    }
}
