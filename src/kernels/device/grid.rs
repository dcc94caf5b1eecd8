//! Weights on a grid where they lie: as [`crate::kernels::codes`] has it for slices.

use candle_core::{D, DType, Tensor};
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::kernels::codes::{Codes, Grid, GroupGrid};

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
    /// The grids that fit a matrix `[rows, columns]` in `f32`: those of [`Grid::fit`].
    ///
    /// # Errors
    /// Groups that do not fill a row; a tensor operation that fails.
    pub fn fit(weights: &Tensor, grid: Grid) -> Result<Self> {
        check_groups(grid, weights.dim(1)?)?;
        #[cfg(feature = "cuda")]
        if weights.device().is_cuda() {
            return super::cuda::fit(weights, grid);
        }
        Self::fit_by_operations(weights, grid)
    }

    fn fit_by_operations(weights: &Tensor, grid: Grid) -> Result<Self> {
        let (rows, columns) = weights.dims2()?;
        let groups = weights.contiguous()?.reshape((rows, columns / grid.group, grid.group))?;
        let mut low = groups.min(D::Minus1)?.minimum(0f64)?;
        let mut high = groups.max(D::Minus1)?.maximum(0f64)?;
        if grid.symmetric {
            high = high.maximum(&low.neg()?)?;
            low = high.neg()?;
        }
        let empty = (&high - &low)?.eq(0f64)?;
        low = empty.where_cond(&low.ones_like()?.neg()?, &low)?;
        high = empty.where_cond(&high.ones_like()?, &high)?;
        let largest = f64::from(largest(grid));
        let divisor = Tensor::new(largest as f32, weights.device())?;
        let scales = round_scales(&(high - &low)?.broadcast_div(&divisor)?, grid.scale_dtype)?;
        let zeros = if grid.symmetric {
            (scales.ones_like()? * f64::from(1u32 << (grid.bits - 1)))?
        } else {
            whole(&(low.neg()? / &scales)?)?.clamp(0f64, largest)?
        };
        Ok(Self { grid, scales, zeros })
    }

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

    /// A matrix of codes, `[rows, columns]`, with these grids on the host.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn to_host(&self, codes: &Tensor) -> Result<Codes> {
        let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        let groups = values(&self.scales)?.into_iter().zip(values(&self.zeros)?);
        Ok(Codes {
            shape: codes.dims2()?.into(),
            grid: self.grid,
            codes: codes.to_dtype(DType::U8)?.flatten_all()?.to_vec1()?,
            groups: groups.map(|(scale, zero)| GroupGrid { scale, zero: zero as u8 }).collect(),
        })
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
fn whole(x: &Tensor) -> Result<Tensor> {
    let near = x.clamp(-BEYOND_CODES, BEYOND_CODES)?;
    Ok(near.affine(1.0, WITHOUT_FRACTION)?.affine(1.0, -WITHOUT_FRACTION)?)
}

/// Scales as an export holds them; never 0, which nothing can be divided by.
fn round_scales(scales: &Tensor, dtype: DType) -> Result<Tensor> {
    let least = match dtype {
        DType::F16 => f16::MIN_POSITIVE_SUBNORMAL.to_f32(),
        DType::BF16 => bf16::MIN_POSITIVE_SUBNORMAL.to_f32(),
        _ => f32::from_bits(1),
    };
    let rounded = match dtype {
        DType::F16 | DType::BF16 => scales.to_dtype(dtype)?.to_dtype(DType::F32)?,
        _ => scales.clone(),
    };
    Ok(rounded.maximum(f64::from(least))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn grids_and_codes_are_the_hosts(
            bits in 2u8..=8,
            group in prop::sample::select(vec![8usize, 24]),
            symmetric in any::<bool>(),
            scale_dtype in prop::sample::select(vec![DType::F32, DType::F16, DType::BF16]),
            size in prop::sample::select(vec![1f32, 1e-8, 3e4]),
            weights in prop::collection::vec(prop_oneof![4 => -1f32..1.0, 1 => Just(0.5f32), 1 => Just(0f32)], 72),
            zeros in 0usize..72,
        ) {
            let grid = Grid { bits, group, symmetric, scale_dtype };
            let mut values: Vec<f32> = weights.into_iter().map(|w| w * size).collect();
            // Groups in which nothing is left have a grid too.
            values[..zeros].fill(0.0);
            let tensor = Tensor::from_slice(&values, (3, 24), &Device::Cpu).unwrap();
            let grids = Grids::fit(&tensor, grid).unwrap();
            let (codes, nearest) = grids.nearest(&tensor).unwrap();
            let expected = Codes::nearest(&mut values, 24, grid);
            prop_assert_eq!(grids.to_host(&codes).unwrap(), expected);
            prop_assert_eq!(nearest.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
        }
    }

    #[test]
    fn groups_that_do_not_fill_a_row_are_refused() {
        let weights = Tensor::ones((2, 10), DType::F32, &Device::Cpu).unwrap();
        let grid = Grid { bits: 4, group: 4, symmetric: false, scale_dtype: DType::F32 };
        let message = Grids::fit(&weights, grid).unwrap_err().to_string();
        assert!(message.contains("groups of 4") && message.contains("10 columns"), "{message}");
    }
}
