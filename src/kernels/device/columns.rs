//! The column loop that SparseGPT and its relatives share: one column after the other is projected to what it may hold,
//! and the columns behind it make up for what that cost.

use candle_core::Tensor;

use super::projection::{Projection, Solved, Tile, Zeros};
use super::select::{kth_smallest_magnitude, lowest_of_groups};
use crate::error::{Error, Result};

/// Projects `weights`, `[rows, columns]` in `f32`, with the factor `U` of the inverse Hessian.
///
/// # Errors
/// [`Error::Cancelled`] when `stop` says so; a tensor operation that fails.
pub(crate) fn solve(
    weights: &Tensor,
    upper: &Tensor,
    projection: Projection,
    stop: &dyn Fn() -> bool,
) -> Result<Solved> {
    #[cfg(feature = "cuda")]
    if weights.device().is_cuda() {
        return super::cuda::solve(weights, upper, projection, stop);
    }
    solve_by_tiles(weights, upper, projection, stop)
}

/// The loop composed of operations on tensors.
fn solve_by_tiles(
    weights: &Tensor,
    upper: &Tensor,
    projection: Projection,
    stop: &dyn Fn() -> bool,
) -> Result<Solved> {
    let columns = weights.dim(1)?;
    let diagonal = Tensor::from_vec(super::factor::diagonal_of(upper)?, (1, columns), upper.device())?;
    let mut left = weights.clone();
    let (mut done, mut loss) = (Vec::new(), 0.0);
    let mut block_flags = None;
    for tile in projection.tiles(columns) {
        if stop() {
            return Err(Error::Cancelled);
        }
        let Tile { first, width, in_block, block } = tile;
        if let (Zeros::Share(share), 0) = (projection.zeros, in_block) {
            let scores = scores(&left.narrow(1, 0, block)?, &diagonal.narrow(1, first, block)?)?;
            let rank = (scores.elem_count() as f64 * share).floor() as usize;
            block_flags = Some(scores.broadcast_le(&kth_smallest_magnitude(&scores, rank)?)?);
        }
        let rows_of_upper = upper.narrow(0, first, width)?;
        let columns_of_tile = ColumnsOfTile {
            corner: rows_of_upper.narrow(1, first, width)?,
            diagonal: diagonal.narrow(1, first, width)?,
            flags: block_flags.as_ref().map(|flags| flags.narrow(1, in_block, width)).transpose()?,
            zeros: projection.zeros,
        };
        let (solved, errors) = columns_of_tile.solve(&left.narrow(1, 0, width)?)?;
        loss += super::squared_norm(&errors)? / 2.0;
        done.push(solved);
        let rest = columns - first - width;
        if rest > 0 {
            let passed_on = errors.matmul(&rows_of_upper.narrow(1, first + width, rest)?.contiguous()?)?;
            left = (left.narrow(1, width, rest)? - passed_on)?;
        }
    }
    Ok(Solved { weights: Tensor::cat(&done, 1)?, loss })
}

/// `w² / U_ii²`
fn scores(weights: &Tensor, diagonal: &Tensor) -> Result<Tensor> {
    Ok(weights.sqr()?.broadcast_mul(&diagonal.sqr()?.recip()?)?)
}

/// A tile's part of what the loop needs.
struct ColumnsOfTile {
    /// Of `U`, `[width, width]`.
    corner: Tensor,
    /// Of `U`, `[1, width]`.
    diagonal: Tensor,
    /// What goes, where that is known beforehand, `[rows, width]`.
    flags: Option<Tensor>,
    zeros: Zeros,
}

impl ColumnsOfTile {
    /// The new columns, and the error of each that the columns behind it made up for; both `[rows, width]`.
    fn solve(&self, tile: &Tensor) -> Result<(Tensor, Tensor)> {
        let width = tile.dim(1)?;
        let inverse = self.diagonal.recip()?;
        let (mut solved, mut errors) = (Vec::with_capacity(width), Vec::with_capacity(width));
        let mut left = tile.clone();
        let mut group = None;
        for i in 0..width {
            let flags = match (self.zeros, &self.flags) {
                (Zeros::OfGroups { n, m }, _) => {
                    if i % m == 0 {
                        let scores = scores(&left.narrow(1, 0, m)?, &self.diagonal.narrow(1, i, m)?)?;
                        group = Some(lowest_of_groups(&scores, n, m)?);
                    }
                    group.as_ref().map(|group| group.narrow(1, i % m, 1))
                }
                (Zeros::Share(_), flags) => flags.as_ref().map(|flags| flags.narrow(1, i, 1)),
            };
            let column = left.narrow(1, 0, 1)?;
            let projected = match flags.transpose()? {
                Some(flags) => super::select::zero_where(&flags.contiguous()?, &column.contiguous()?)?,
                None => column.contiguous()?,
            };
            let error = (column - &projected)?.broadcast_mul(&inverse.narrow(1, i, 1)?)?;
            if i + 1 < width {
                let behind = self.corner.narrow(0, i, 1)?.narrow(1, i + 1, width - i - 1)?;
                left = (left.narrow(1, 1, width - i - 1)? - error.broadcast_mul(&behind)?)?;
            }
            solved.push(projected);
            errors.push(error);
        }
        Ok((Tensor::cat(&solved, 1)?, Tensor::cat(&errors, 1)?))
    }
}

/// `tr(W H Wᵀ)` of the Hessian `scale · gram` with `added` on its diagonal.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn output_energy(weights: &Tensor, gram: &Tensor, scale: f64, added: f64) -> Result<f64> {
    let products = weights.matmul(gram)?;
    let pairs = super::product_sum(weights, &products)?;
    let squares = super::squared_norm(weights)?;
    Ok(scale * pairs + added * squares)
}
