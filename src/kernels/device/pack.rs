//! Codes and masks as they are kept, packed where they lie: only bytes of them come to the host.

use candle_core::{DType, Tensor};

use super::grid::Grids;
use crate::error::Result;
use crate::kernels::codes::{Codes, GroupGrid, packed_row_bytes};

/// A matrix of codes, `[rows, columns]`, with its grids on the host, where it comes packed.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn codes_to_host(codes: &Tensor, grids: &Grids) -> Result<Codes> {
    let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
    let groups = values(&grids.scales)?.into_iter().zip(values(&grids.zeros)?);
    let groups = groups.map(|(scale, zero)| GroupGrid { scale, zero: zero as u8 }).collect();
    let packed = pack_codes(codes, grids.grid.bits)?.flatten_all()?.to_vec1()?;
    Codes::of_packed(codes.dims2()?.into(), grids.grid, packed, groups)
}

/// Codes of `bits` bits each, `[rows, columns]`, as [`crate::kernels::codes::Codes`] keeps them: `[rows, bytes]` in `u8`.
///
/// # Errors
/// A tensor operation that fails.
fn pack_codes(codes: &Tensor, bits: u8) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if codes.device().is_cuda() {
        return Ok(super::cuda::pack_codes(&codes.to_dtype(DType::U8)?, bits)?);
    }
    let (rows, columns) = codes.dims2()?;
    let codes = codes.to_dtype(DType::F32)?;
    let without = |bits: u8| codes.affine(0.5f64.powi(i32::from(bits)), 0.0)?.floor();
    let plane = |bit: u8| without(bit)? - without(bit + 1)?.affine(2.0, 0.0)?;
    let planes = (0..bits).map(plane).collect::<candle_core::Result<Vec<_>>>()?;
    let (used, bytes) = (columns * usize::from(bits), packed_row_bytes(columns, usize::from(bits)));
    let filled = Tensor::stack(&planes, 2)?.reshape((rows, used))?.pad_with_zeros(1, 0, 8 * bytes - used)?;
    Ok(bytes_of(&filled, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])?.reshape((rows, bytes))?)
}

/// One bit an element, 1 where it is not zero: row-major, the most significant bit of a byte first; the last byte is
/// filled up with zeroes. Only the bytes come to the host.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn mask_bytes(x: &Tensor) -> Result<Vec<u8>> {
    let flags = x.ne(0f64)?.flatten_all()?;
    let missing = flags.dim(0)?.next_multiple_of(8) - flags.dim(0)?;
    let flags = if missing == 0 { flags } else { flags.pad_with_zeros(0, 0, missing)? };
    let bytes = bytes_of(&flags, [128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0])?;
    Ok(bytes.to_vec1()?)
}

/// A byte for every eight flags, which have these weights in it.
fn bytes_of(flags: &Tensor, weights: [f32; 8]) -> Result<Tensor> {
    let weights = Tensor::from_slice(&weights, (8, 1), flags.device())?;
    let bytes = flags.elem_count() / 8;
    // Sums of few small powers of two are exact in any precision.
    let packed = flags.reshape((bytes, 8))?.to_dtype(DType::F32)?.matmul(&weights)?;
    Ok(packed.flatten_all()?.to_dtype(DType::U8)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::codes::Grid;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn codes_are_packed_as_on_the_host(
            bits in 1u8..=8, rows in 1usize..4, columns in 1usize..70, seed in any::<u32>(),
        ) {
            let code = |i: usize| (seed.wrapping_mul(i as u32 * 2 + 1) >> 11) as u8 & ((1u16 << bits) - 1) as u8;
            let codes: Vec<u8> = (0..rows * columns).map(code).collect();
            let grid = Grid { bits, group: columns, symmetric: true, scale_dtype: DType::F32 };
            let groups = vec![GroupGrid { scale: 1.0, zero: 0 }; rows];
            let expected = Codes::of([rows, columns], grid, &codes, groups);
            for dtype in [DType::U8, DType::F32] {
                let tensor = Tensor::from_slice(&codes, (rows, columns), &Device::Cpu).unwrap();
                let packed = pack_codes(&tensor.to_dtype(dtype).unwrap(), bits).unwrap();
                prop_assert_eq!(&packed.flatten_all().unwrap().to_vec1::<u8>().unwrap(), expected.packed());
            }
        }

        #[test]
        fn masks_are_packed_as_on_the_host(values in prop::collection::vec(prop_oneof![-1f32..1.0, Just(0f32)], 1..90)) {
            let x = Tensor::from_slice(&values, (1, values.len()), &Device::Cpu).unwrap();
            prop_assert_eq!(mask_bytes(&x).unwrap(), crate::store::stored::mask_of(&values));
        }
    }
}
