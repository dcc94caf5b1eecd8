//! Matrix products of row-major slices.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// All of rayon's threads.
pub fn parallel() -> Par {
    Par::rayon(0)
}

/// A matrix of `n` rows of `width` elements, the beginnings of two rows `stride` elements apart.
///
/// faer 0.24's own constructor for this, `from_row_major_slice_with_stride`, swaps the two dimensions.
pub fn rows(x: &[f32], n: usize, width: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_column_major_slice_with_stride(x, width, n, stride).transpose()
}

/// The same to write to.
pub fn rows_mut(x: &mut [f32], n: usize, width: usize, stride: usize) -> MatMut<'_, f32> {
    MatMut::from_column_major_slice_with_stride_mut(x, width, n, stride).transpose_mut()
}

/// Rows and columns of a product that a task takes: faer's own threads wait for each other at barriers, while tasks of this
/// size leave a core that others use what it can do. What they read stays in the second cache.
const ROWS: usize = 512;
const COLUMNS: usize = 192;

/// `out = x · wᵀ` or `out += x · wᵀ`: `x` is `[n, inner]`, `w` is `[outer, inner]`, `out` is `[n, outer]`.
///
/// # Panics
/// If `out` has another length: faer itself checks no shapes in a release build.
pub fn linear(out: &mut [f32], x: &[f32], w: &[f32], inner: usize, accumulate: bool, par: Par) {
    if inner == 0 || x.is_empty() || w.is_empty() {
        return;
    }
    let (n, outer) = (x.len() / inner, w.len() / inner);
    assert!(out.len() == n * outer, "{} outputs for a product of {n} by {outer}", out.len());
    let accum = if accumulate { Accum::Add } else { Accum::Replace };
    let multiply = |out: MatMut<'_, f32>, x: MatRef<'_, f32>, w: MatRef<'_, f32>| {
        faer::linalg::matmul::matmul(out, accum, x, w.transpose(), 1.0, Par::Seq);
    };
    let out = MatMut::from_row_major_slice_mut(out, n, outer);
    let (x, w) = (MatRef::from_row_major_slice(x, n, inner), MatRef::from_row_major_slice(w, outer, inner));
    match par {
        Par::Seq => multiply(out, x, w),
        Par::Rayon(_) => out.par_row_chunks_mut(ROWS).zip(x.par_row_chunks(ROWS)).for_each(|(out, x)| {
            let columns = out.par_col_chunks_mut(COLUMNS).zip(w.par_row_chunks(COLUMNS));
            columns.for_each(|(out, w)| multiply(out, x, w));
        }),
    }
}

/// Rows and columns of a Gram matrix that a task takes.
const SQUARE: usize = 256;

/// Adds `xᵀ·x` to the lower triangle of `gram`: `x` is `[n, width]`, `gram` is `[width, width]`; the entries above
/// the diagonal are left alone.
pub fn gram_lower(gram: &mut [f32], x: &[f32], width: usize) {
    if x.is_empty() || width == 0 {
        return;
    }
    let x = MatRef::from_row_major_slice(x, x.len() / width, width);
    let gram = MatMut::from_row_major_slice_mut(gram, width, width);
    let rows = gram.par_row_chunks_mut(SQUARE).zip(x.par_col_chunks(SQUARE)).enumerate();
    rows.for_each(|(i, (gram, left))| {
        let squares = gram.par_col_chunks_mut(SQUARE).zip(x.par_col_chunks(SQUARE)).enumerate();
        squares.take(i + 1).for_each(|(j, (square, right))| {
            let shape = if i == j { BlockStructure::TriangularLower } else { BlockStructure::Rectangular };
            triangular::matmul(
                square,
                shape,
                Accum::Add,
                left.transpose(),
                BlockStructure::Rectangular,
                right,
                BlockStructure::Rectangular,
                1.0,
                Par::Seq,
            );
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(n: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-2f32..2.0, n..=n)
    }

    /// Few of them, or about as many as a task takes.
    fn sizes(task: usize) -> impl Strategy<Value = usize> {
        prop_oneof![1usize..9, task - 2..task + 3]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn products_are_sums_of_products(
            (n, inner, outer, x, w) in (sizes(ROWS), 1usize..40, sizes(COLUMNS)).prop_flat_map(|(n, inner, outer)| {
                (Just(n), Just(inner), Just(outer), numbers(n * inner), numbers(outer * inner))
            })
        ) {
            let mut out = vec![1f32; n * outer];
            linear(&mut out, &x, &w, inner, true, parallel());
            for i in 0..n {
                for o in 0..outer {
                    let truth: f32 = 1.0 + (0..inner).map(|k| x[i * inner + k] * w[o * inner + k]).sum::<f32>();
                    prop_assert!((out[i * outer + o] - truth).abs() < 1e-3);
                }
            }
        }

        #[test]
        fn gram_fills_one_triangle_and_leaves_the_other(
            (width, x) in (sizes(SQUARE), 1usize..20).prop_flat_map(|(w, n)| (Just(w), numbers(n * w)))
        ) {
            let mut gram = vec![0.5f32; width * width];
            gram_lower(&mut gram, &x, width);
            for i in 0..width {
                for j in 0..width {
                    let truth: f32 = x.chunks(width).map(|row| row[i] * row[j]).sum();
                    let expected = if j <= i { truth + 0.5 } else { 0.5 };
                    prop_assert!((gram[i * width + j] - expected).abs() < 1e-3);
                }
            }
        }
    }
}
