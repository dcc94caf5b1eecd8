//! Weights on a grid where they lie: as [`crate::kernels::codes`] has it for slices.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::kernels::codes::Grid;

/// Farther from zero than any code: what lies beyond it becomes the first code or the last one either way.
const BEYOND_CODES: f64 = 1024.0;
/// `1.5 · 2²³`: a small number that this is added to keeps no fraction, and ties have gone to even.
const WITHOUT_FRACTION: f64 = 12_582_912.0;

/// The grids of all groups of a matrix on a device.
#[derive(Debug, Clone)]
pub(crate) struct Grids {
    /// How they were made.
    pub grid: Grid,
    /// `[rows, groups]` in `f32`.
    pub scales: Tensor,
    /// The codes that stand for 0, `[rows, groups]` in `f32`.
    pub zeros: Tensor,
}

/// The largest code of a grid.
pub(super) fn largest(grid: Grid) -> f32 {
    ((1u32 << grid.bits) - 1) as f32
}

/// Refuses groups that do not fill a row.
pub(super) fn check_groups(grid: Grid, columns: usize) -> Result<()> {
    if grid.group > 0 && columns.is_multiple_of(grid.group) {
        return Ok(());
    }
    Err(Error::failure(format!("groups of {} do not fill {columns} columns", grid.group)))
}

impl Grids {
    /// The nearest code of every weight, and what it stands for; both `[rows, columns]` in `f32`.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn nearest(&self, weights: &Tensor) -> Result<(Tensor, Tensor)> {
        let (rows, columns) = weights.dims2()?;
        let groups = weights.contiguous()?.reshape((rows, columns / self.grid.group, self.grid.group))?;
        let part = GridPart { scales: self.scales.unsqueeze(2)?, zeros: self.zeros.unsqueeze(2)? };
        let codes = part.codes(&groups, largest(self.grid))?;
        let values = part.values(&codes)?;
        Ok((codes.reshape((rows, columns))?, values.reshape((rows, columns))?))
    }

    /// The grids of one group of columns, `[rows, 1]` each.
    pub(super) fn part(&self, group: usize) -> Result<GridPart> {
        Ok(GridPart { scales: self.scales.narrow(1, group, 1)?, zeros: self.zeros.narrow(1, group, 1)? })
    }
}

/// Scales and zeros of some groups, in shapes that go together with the weights.
#[derive(Debug, Clone)]
pub(super) struct GridPart {
    pub scales: Tensor,
    pub zeros: Tensor,
}

impl GridPart {
    /// `clamp(round(w/s) + z, 0, largest)`, in `f32`.
    pub fn codes(&self, weights: &Tensor, largest: f32) -> Result<Tensor> {
        let steps = whole(&weights.broadcast_div(&self.scales)?)?;
        Ok(steps.broadcast_add(&self.zeros)?.clamp(0f64, f64::from(largest))?)
    }

    /// `s·(code − z)`
    pub fn values(&self, codes: &Tensor) -> Result<Tensor> {
        Ok(codes.broadcast_sub(&self.zeros)?.broadcast_mul(&self.scales)?)
    }
}

/// Rounds to whole numbers, ties to even, which candle's own rounding puts away from zero.
pub(super) fn whole(x: &Tensor) -> Result<Tensor> {
    let near = x.clamp(-BEYOND_CODES, BEYOND_CODES)?;
    Ok(near.affine(1.0, WITHOUT_FRACTION)?.affine(1.0, -WITHOUT_FRACTION)?)
}
