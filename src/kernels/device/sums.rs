//! Sums over a matrix in `f64`.

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

fn by_rows(a: &Tensor, part: impl Fn(usize, usize) -> Result<Tensor>) -> Result<f64> {
    let rows = a.dim(0)?;
    let mut total = 0.0;
    for first in (0..rows).step_by(ROWS) {
        let sums = part(first, ROWS.min(rows - first))?.sum(1)?.to_vec1::<f64>()?;
        total += sums.into_iter().sum::<f64>();
    }
    Ok(total)
}
