//! The solver where the weights and the Hessian lie on a device already.

use candle_core::Tensor;

use super::{BLOCK_SIZE, by_importance_order};
use crate::error::{Error, Result};
use crate::kernels::codes::Grid;
use crate::kernels::device::columns::{output_energy, solve};
use crate::kernels::device::factor::{add_to_diagonal, diagonal_of, inverse_factor};
use crate::kernels::device::fit::fit_grids;
use crate::kernels::device::grid::Grids;
use crate::kernels::device::pack::codes_to_host;
use crate::kernels::device::projection::{GridTarget, Projection, Zeros};
use crate::kernels::device::select::zero_where;
use crate::methods::device::DeviceMatrix;
use crate::methods::factor::{DAMPING, DAMPING_USED, mean_diagonal, next_damping};
use crate::methods::{Arguments, CompressionOutcome, Encoded, InputStatistics, Zeroing, check_divides};
use crate::results::ErrorBasis;
use crate::study::Sparsity;

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

/// As [`super::PreparedInputs`], on a device.
struct DeviceInputs {
    factor: DeviceFactor,
    ordered: Option<OrderedInputs>,
}

/// The columns in the order in which they are solved.
struct OrderedInputs {
    order: Vec<usize>,
    /// The same on the device, `[in]` in `u32`.
    columns: Tensor,
    /// Where the columns as they came have gone, `[in]` in `u32`.
    places: Tensor,
    /// `Σ x xᵀ` in this order.
    gram: Tensor,
}

impl OrderedInputs {
    fn new(gram: &Tensor, sequences: usize) -> Result<Self> {
        let (device, diagonal) = (gram.device(), diagonal_of(gram)?);
        let order = by_importance_order(&diagonal, sequences);
        let mut places = vec![0u32; order.len()];
        for (place, &column) in order.iter().enumerate() {
            places[column] = place as u32;
        }
        let columns = Tensor::from_vec(order.iter().map(|&c| c as u32).collect(), order.len(), device)?;
        let places = Tensor::from_vec(places, order.len(), device)?;
        let gram = gram.contiguous()?.index_select(&columns, 0)?.index_select(&columns, 1)?;
        Ok(Self { order, columns, places, gram })
    }
}

impl DeviceInputs {
    fn new(gram: &Tensor, sequences: usize, damping: f64, by_importance: bool) -> Result<Self> {
        let ordered = by_importance.then(|| OrderedInputs::new(gram, sequences)).transpose()?;
        let gram = ordered.as_ref().map_or(gram, |ordered| &ordered.gram);
        Ok(Self { factor: DeviceFactor::new(gram, sequences, damping)?, ordered })
    }
}

/// As [`super::compress`], on the device of the weights and the Hessian.
///
/// # Errors
/// As [`super::compress`]; a tensor operation that fails.
pub(in crate::methods) fn compress_on_device(
    matrix: DeviceMatrix<'_>,
    inputs: Option<&mut InputStatistics>,
    grid: Option<Grid>,
    by_importance: bool,
    arguments: &Arguments,
    stop: &dyn Fn() -> bool,
) -> Result<(Tensor, CompressionOutcome)> {
    let columns = matrix.weights.dim(1)?;
    if let Zeroing::Chosen(sparsity) = matrix.zeroing {
        check_divides(sparsity, columns, "the matrix")?;
    }
    let missing = || Error::failure("the solver was called without the Hessian of the module's inputs");
    let inputs = inputs.ok_or_else(missing)?;
    let (width, sequences) = (inputs.width, inputs.sequences);
    if width != columns {
        return Err(Error::failure(format!(
            "a Hessian of {width} features for a matrix of {columns} columns"
        )));
    }
    let damping = inputs.damping(arguments.number(&DAMPING));
    let prepare = |s: &InputStatistics| {
        DeviceInputs::new(s.device_gram().ok_or_else(missing)?, sequences, damping, by_importance)
    };
    let (inputs, DeviceInputs { factor, ordered }) = inputs.prepared(prepare)?;
    let gram = match ordered {
        Some(ordered) => &ordered.gram,
        None => inputs.device_gram().ok_or_else(missing)?,
    };
    if stop() {
        return Err(Error::Cancelled);
    }
    let (weights, fitted) = weights_to_solve(matrix.weights, factor, ordered.as_ref(), grid)?;
    let nothing = grid.is_none() && matrix.zeroing == Zeroing::Chosen(Sparsity::Fraction(0.0));
    let (weights, error, codes) = if nothing {
        (weights, 0.0, None)
    } else {
        let scale = 2.0 / sequences.max(1) as f64;
        let energy = output_energy(&weights, gram, scale, f64::from(factor.added))?;
        let order = ordered.as_ref().map(|ordered| ordered.order.as_slice());
        let projection = Projection {
            zeros: zeros_of(matrix.zeroing),
            block_size: arguments.count(&BLOCK_SIZE),
            grid: grid.map(|grid| GridTarget { grid, fitted, order }),
        };
        let solved = solve(&weights, &factor.upper, &projection, stop)?;
        // The solver's loss is half the squared error under H, as H is twice the mean of x xᵀ.
        let error = if energy > 0.0 { 2.0 * solved.loss / energy } else { 0.0 };
        (solved.weights, error, solved.codes)
    };
    let as_it_came = |x: Tensor| match ordered {
        Some(ordered) => x.contiguous()?.index_select(&ordered.places, 1),
        None => Ok(x),
    };
    let codes = codes.map(|(codes, grids)| codes_to_host(&as_it_came(codes)?, &grids)).transpose()?;
    let outcome = CompressionOutcome {
        error,
        basis: ErrorBasis::Hessian,
        dead_columns: factor.dead_columns,
        details: [(DAMPING_USED, factor.damping)].into_iter().collect(),
        encoded: codes.map(Encoded::Codes),
    };
    Ok((as_it_came(weights)?, outcome))
}

fn zeros_of(zeroing: Zeroing) -> Zeros {
    match zeroing {
        Zeroing::None => Zeros::None,
        Zeroing::Kept => Zeros::Kept,
        Zeroing::Chosen(Sparsity::Fraction(share)) => Zeros::Share(share),
        Zeroing::Chosen(Sparsity::SemiStructured { zeros, group }) => Zeros::OfGroups { n: zeros, m: group },
    }
}

/// The weights in the solver's order, those of dead features zero, and the grids that are found before the loop.
fn weights_to_solve(
    weights: &Tensor,
    factor: &DeviceFactor,
    ordered: Option<&OrderedInputs>,
    grid: Option<Grid>,
) -> Result<(Tensor, Option<Grids>)> {
    let whole_rows = grid.is_some_and(|grid| grid.group >= factor.dead.elem_count());
    let fit = |weights: &Tensor| grid.map(|grid| fit_grids(weights, grid)).transpose();
    // Of the row as it came: later grids see dead columns as zeros.
    let of_rows = if whole_rows { fit(weights)? } else { None };
    let mut weights = weights.clone();
    if factor.dead_columns > 0 {
        let dead = match ordered {
            Some(ordered) => factor.dead.index_select(&ordered.places, 0)?,
            None => factor.dead.clone(),
        };
        weights = zero_where(&dead.broadcast_as(weights.shape())?.contiguous()?, &weights.contiguous()?)?;
    }
    let Some(ordered) = ordered else { return Ok((weights, of_rows)) };
    let fitted = if whole_rows { of_rows } else { fit(&weights)? };
    Ok((weights.contiguous()?.index_select(&ordered.columns, 1)?, fitted))
}
