//! The grids that fit the groups of a matrix, found where it lies.

use candle_core::{D, DType, Tensor};
use half::{bf16, f16};

use super::grid::{Grids, check_groups, largest, whole};
use crate::error::Result;
use crate::kernels::codes::Grid;

/// The grids that fit a matrix `[rows, columns]` in `f32`: those of [`Grid::fit`].
///
/// # Errors
/// Groups that do not fill a row; a tensor operation that fails.
pub(crate) fn fit_grids(weights: &Tensor, grid: Grid) -> Result<Grids> {
    check_groups(grid, weights.dim(1)?)?;
    #[cfg(feature = "cuda")]
    if weights.device().is_cuda() {
        return super::cuda::fit_grids(weights, grid);
    }
    fit_by_operations(weights, grid)
}

fn fit_by_operations(weights: &Tensor, grid: Grid) -> Result<Grids> {
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
    Ok(Grids { grid, scales, zeros })
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

    use super::super::pack::codes_to_host;
    use super::*;
    use crate::kernels::codes::Codes;

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
            let grids = fit_grids(&tensor, grid).unwrap();
            let (codes, nearest) = grids.nearest(&tensor).unwrap();
            let expected = Codes::nearest(&mut values, 24, grid);
            prop_assert_eq!(codes_to_host(&codes, &grids).unwrap(), expected);
            prop_assert_eq!(nearest.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
        }
    }

    #[test]
    fn groups_that_do_not_fill_a_row_are_refused() {
        let weights = Tensor::ones((2, 10), DType::F32, &Device::Cpu).unwrap();
        let grid = Grid { bits: 4, group: 4, symmetric: false, scale_dtype: DType::F32 };
        let message = fit_grids(&weights, grid).unwrap_err().to_string();
        assert!(message.contains("groups of 4") && message.contains("10 columns"), "{message}");
    }
}
