//! The column loop that SparseGPT and its relatives share: one column after the other is projected to what it may hold,
//! and the columns behind it make up for what that cost.

use candle_core::Tensor;

use super::fit::fit_grids;
use super::grid::{GridPart, Grids, check_groups, largest};
use super::projection::{GridTarget, Projection, Solved, Tile, Zeros};
use super::select::{kth_smallest_magnitude, lowest_of_groups};
use crate::error::{Error, Result};

/// Projects `weights`, `[rows, columns]` in `f32`, with the factor `U` of the inverse Hessian.
///
/// # Errors
/// [`Error::Cancelled`] when `stop` says so; groups of a grid that do not fill a row; a tensor operation that fails.
pub(crate) fn solve(
    weights: &Tensor,
    upper: &Tensor,
    projection: &Projection<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Solved> {
    if let Some(target) = &projection.grid {
        check_groups(target.grid, weights.dim(1)?)?;
    }
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
    projection: &Projection<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Solved> {
    let columns = weights.dim(1)?;
    let diagonal = Tensor::from_vec(super::factor::diagonal_of(upper)?, (1, columns), upper.device())?;
    let mut left = weights.clone();
    let (mut done, mut codes, mut loss) = (Vec::new(), Vec::new(), 0.0);
    let mut grids = projection.grid.as_ref().map(FittedGrids::new).transpose()?;
    let mut block_flags = match projection.zeros {
        Zeros::Kept => Some(weights.eq(0f64)?),
        _ => None,
    };
    for tile in projection.tiles(columns) {
        if stop() {
            return Err(Error::Cancelled);
        }
        let Tile { first, width, in_block, block } = tile;
        if let Some(grids) = &mut grids {
            grids.fit(&left, tile)?;
        }
        if let (Zeros::Share(share), 0) = (projection.zeros, in_block) {
            let scores = scores(&left.narrow(1, 0, block)?, &diagonal.narrow(1, first, block)?)?;
            let rank = (scores.elem_count() as f64 * share).floor() as usize;
            block_flags = Some(scores.broadcast_le(&kth_smallest_magnitude(&scores, rank)?)?);
        }
        // Those that were zero are known for all columns, those that a threshold chose for the block's.
        let first_of_flags = if projection.zeros == Zeros::Kept { first } else { in_block };
        let rows_of_upper = upper.narrow(0, first, width)?;
        let columns_of_tile = ColumnsOfTile {
            corner: rows_of_upper.narrow(1, first, width)?,
            diagonal: diagonal.narrow(1, first, width)?,
            flags: block_flags.as_ref().map(|flags| flags.narrow(1, first_of_flags, width)).transpose()?,
            zeros: projection.zeros,
            grids: grids.as_ref().map(|grids| grids.of(tile)),
        };
        let solved = columns_of_tile.solve(&left.narrow(1, 0, width)?)?;
        loss += super::squared_norm(&solved.errors)? / 2.0;
        done.push(solved.weights);
        codes.extend(solved.codes);
        let rest = columns - first - width;
        if rest > 0 {
            let later = rows_of_upper.narrow(1, first + width, rest)?.contiguous()?;
            left = (left.narrow(1, width, rest)? - solved.errors.matmul(&later)?)?;
        }
    }
    let codes = grids.map(|grids| Ok::<_, Error>((Tensor::cat(&codes, 1)?, grids.whole()?))).transpose()?;
    Ok(Solved { weights: Tensor::cat(&done, 1)?, loss, codes })
}

/// `w² / U_ii²`
fn scores(weights: &Tensor, diagonal: &Tensor) -> Result<Tensor> {
    Ok(weights.sqr()?.broadcast_mul(&diagonal.sqr()?.recip()?)?)
}

/// The grids of the groups that the loop has reached.
struct FittedGrids<'a> {
    target: &'a GridTarget<'a>,
    groups: Vec<GridPart>,
}

impl<'a> FittedGrids<'a> {
    fn new(target: &'a GridTarget<'a>) -> Result<Self> {
        let groups = match &target.fitted {
            Some(grids) => (0..grids.scales.dim(1)?).map(|group| grids.part(group)).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        Ok(Self { target, groups })
    }

    /// Finds the grids of the groups that begin in a tile's block; `left` are the columns from the tile's first one on.
    fn fit(&mut self, left: &Tensor, tile: Tile) -> Result<()> {
        let grid = self.target.grid;
        for group in self.target.groups_to_fit(tile) {
            let weights = left.narrow(1, group * grid.group - tile.first, grid.group)?;
            self.groups.push(fit_grids(&weights, grid)?.part(0)?);
        }
        Ok(())
    }

    /// The largest code, and the grid of every column of a tile.
    fn of(&self, tile: Tile) -> (f32, Vec<&GridPart>) {
        let columns = tile.first..tile.first + tile.width;
        let parts = columns.map(|column| &self.groups[self.target.group_of(column)]);
        (largest(self.target.grid), parts.collect())
    }

    fn whole(self) -> Result<Grids> {
        if let Some(grids) = &self.target.fitted {
            return Ok(grids.clone());
        }
        let all = |part: fn(&GridPart) -> &Tensor| {
            Tensor::cat(&self.groups.iter().map(part).collect::<Vec<_>>(), 1)
        };
        Ok(Grids { grid: self.target.grid, scales: all(|g| &g.scales)?, zeros: all(|g| &g.zeros)? })
    }
}

/// A tile's part of what the loop needs.
struct ColumnsOfTile<'a> {
    /// Of `U`, `[width, width]`.
    corner: Tensor,
    /// Of `U`, `[1, width]`.
    diagonal: Tensor,
    /// What goes, where that is known beforehand, `[rows, width]`.
    flags: Option<Tensor>,
    zeros: Zeros,
    grids: Option<(f32, Vec<&'a GridPart>)>,
}

/// What the loop made of a tile.
struct SolvedTile {
    /// The new columns, `[rows, width]`.
    weights: Tensor,
    /// The error of each that the columns behind it made up for, `[rows, width]`.
    errors: Tensor,
    /// `[rows, width]`, where there is a grid.
    codes: Option<Tensor>,
}

impl ColumnsOfTile<'_> {
    fn solve(&self, tile: &Tensor) -> Result<SolvedTile> {
        let width = tile.dim(1)?;
        let inverse = self.diagonal.recip()?;
        let (mut solved, mut errors, mut codes) =
            (Vec::with_capacity(width), Vec::with_capacity(width), Vec::new());
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
                (_, flags) => flags.as_ref().map(|flags| flags.narrow(1, i, 1)),
            };
            let column = left.narrow(1, 0, 1)?;
            let mut projected = match flags.transpose()? {
                Some(flags) => super::select::zero_where(&flags.contiguous()?, &column.contiguous()?)?,
                None => column.contiguous()?,
            };
            if let Some((largest, grids)) = &self.grids {
                let code = grids[i].codes(&projected, *largest)?;
                projected = grids[i].values(&code)?;
                codes.push(code);
            }
            let error = (column - &projected)?.broadcast_mul(&inverse.narrow(1, i, 1)?)?;
            if i + 1 < width {
                let behind = self.corner.narrow(0, i, 1)?.narrow(1, i + 1, width - i - 1)?;
                left = (left.narrow(1, 1, width - i - 1)? - error.broadcast_mul(&behind)?)?;
            }
            solved.push(projected);
            errors.push(error);
        }
        let codes = self.grids.is_some().then(|| Tensor::cat(&codes, 1)).transpose()?;
        Ok(SolvedTile { weights: Tensor::cat(&solved, 1)?, errors: Tensor::cat(&errors, 1)?, codes })
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
