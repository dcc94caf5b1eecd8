//! Sums over a matrix in `f64`, and those over activations.

use candle_core::{DType, Tensor};

use crate::error::Result;

/// Rows whose `f64` copies exist at the same time.
const ROWS: usize = 1024;

/// `Σ a·b` of two matrices of one shape.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn product_sum(a: &Tensor, b: &Tensor) -> Result<f64> {
    by_rows(a, |first, count| {
        let rows = |x: &Tensor| x.narrow(0, first, count)?.to_dtype(DType::F64);
        Ok((rows(a)? * rows(b)?)?)
    })
}

/// `Σ a²` of a matrix.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn squared_norm(a: &Tensor) -> Result<f64> {
    by_rows(a, |first, count| Ok(a.narrow(0, first, count)?.to_dtype(DType::F64)?.sqr()?))
}

/// `Σ f_j·a_ij²` with a factor per column, `[columns]` in `f64`.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn weighted_squares(a: &Tensor, factors: &Tensor) -> Result<f64> {
    by_rows(a, |first, count| {
        Ok(a.narrow(0, first, count)?.to_dtype(DType::F64)?.sqr()?.broadcast_mul(factors)?)
    })
}

/// `Σ_j |a_ij|` of every row, and `Σ_i |a_ij|` of every column.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn magnitude_sums(a: &Tensor) -> Result<(Vec<f64>, Vec<f64>)> {
    let (rows, columns) = a.dims2()?;
    let (mut of_rows, mut of_columns) = (Vec::with_capacity(rows), vec![0f64; columns]);
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        let part = a.narrow(0, first, count)?.abs()?.to_dtype(DType::F64)?;
        of_rows.extend(part.sum(1)?.to_vec1::<f64>()?);
        let ones = Tensor::ones((1, count), DType::F64, a.device())?;
        let sums = ones.matmul(&part)?.squeeze(0)?.to_vec1::<f64>()?;
        for (total, sum) in of_columns.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    Ok((of_rows, of_columns))
}

/// How many elements of a matrix are zero.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn count_zeros(a: &Tensor) -> Result<usize> {
    count(&a.eq(0f64)?)
}

/// How many of a matrix's flags are set.
pub(super) fn count(flags: &Tensor) -> Result<usize> {
    // A row at a time first: candle sums a whole matrix in one thread block of a GPU.
    let rows = flags.to_dtype(DType::U32)?.sum(1)?.to_vec1::<u32>()?;
    Ok(rows.into_iter().map(|n| n as usize).sum())
}

/// Adds `xᵀ·x` of activations, `[n, width]`, to a matrix in `f32`.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn add_gram(gram: &mut Tensor, x: &Tensor) -> Result<()> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Ok(gram.inplace_op2(&x.contiguous()?, &super::cuda_passes::AddGram)?);
    }
    let wide = x.to_dtype(DType::F32)?;
    *gram = (&*gram + wide.t()?.matmul(&wide)?)?;
    Ok(())
}

/// Adds the sum of squares of every column of activations, `[n, width]`, to a vector in `f64`.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn add_squares(sums: &mut Tensor, x: &Tensor) -> Result<()> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Ok(sums.inplace_op2(&x.contiguous()?, &super::cuda_passes::AddSquares)?);
    }
    // A product with ones: devices sum columns far faster that way than by a reduction.
    let squares = x.to_dtype(DType::F32)?.sqr()?;
    let ones = Tensor::ones((1, squares.dim(0)?), DType::F32, x.device())?;
    let squares = ones.matmul(&squares)?.squeeze(0)?;
    *sums = (&*sums + squares.to_dtype(DType::F64)?)?;
    Ok(())
}

fn by_rows(a: &Tensor, part: impl Fn(usize, usize) -> Result<Tensor>) -> Result<f64> {
    let rows = a.dim(0)?;
    let mut total = 0.0;
    for first in (0..rows).step_by(ROWS) {
        let sums = part(first, ROWS.min(rows - first))?.sum(1)?.to_vec1::<f64>()?;
        total += sums.into_iter().sum::<f64>();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn sums_over_activations_grow_by_those_of_every_batch() {
        let device = &Device::Cpu;
        let mut gram = Tensor::zeros((2, 2), DType::F32, device).unwrap();
        let mut squares = Tensor::zeros(2, DType::F64, device).unwrap();
        for batch in [&[1f32, 2.0, 3.0, 0.0, 0.0, -1.0][..], &[2.0, -4.0]] {
            let batch = Tensor::from_slice(batch, (batch.len() / 2, 2), device).unwrap();
            add_gram(&mut gram, &batch).unwrap();
            add_squares(&mut squares, &batch).unwrap();
        }
        assert_eq!(gram.to_vec2::<f32>().unwrap(), [[14.0, -6.0], [-6.0, 21.0]]);
        assert_eq!(squares.to_vec1::<f64>().unwrap(), [14.0, 21.0]);
    }
}
