//! Magnitude pruning: the smallest weights of a matrix go.

use candle_core::Tensor;
use rayon::prelude::*;

use super::allocation::ALLOCATION;
use super::device::{self, DeviceMatrix, DeviceMethod};
use super::selection::zero_marked;
use super::swaps::SWAPS;
use super::{
    Arguments, Bound, CompressionOutcome, Cost, InputStatistics, Matrix, Method, Needs, Parameter, share,
    weighted_error,
};
use crate::error::Result;
use crate::kernels::select::{kth_smallest_magnitude, mark_smallest};
use crate::results::ErrorBasis;
use crate::study::{Level, Sparsity};

/// Per matrix: every weight up to the magnitude at rank `floor(numel · s)` goes, ties included (as in the Wanda
/// authors' code). N:M: the N smallest magnitudes of every M neighbours go.
#[derive(Debug, Clone, Copy)]
pub struct Magnitude;

impl Method for Magnitude {
    fn name(&self) -> &'static str {
        "magnitude"
    }

    fn about(&self) -> &'static str {
        "removes the smallest weights of each matrix"
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[SWAPS, ALLOCATION]
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn updates_weights(&self) -> bool {
        false
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        Cost { operations: 60.0 * (rows * columns) as f64, bound: Bound::Memory }
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        _: Option<&mut InputStatistics>,
        level: Level,
        _: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let sparsity = super::sparsity(level)?;
        super::check_divides(sparsity, matrix.columns, "the matrix")?;
        let before = matrix.weights.to_vec();
        match sparsity {
            Sparsity::Fraction(s) if s > 0.0 => {
                let threshold = kth_smallest_magnitude(matrix.weights, share(matrix.weights.len(), s));
                matrix.weights.par_iter_mut().with_min_len(1 << 14).for_each(|w| {
                    if w.abs() <= threshold {
                        *w = 0.0;
                    }
                });
            }
            Sparsity::Fraction(_) => {}
            Sparsity::SemiStructured { zeros: n, group: m } => {
                matrix.weights.par_chunks_mut(matrix.columns).for_each(|row| {
                    let (mut sizes, mut marks) = (vec![0f32; m], vec![false; m]);
                    for group in row.chunks_exact_mut(m) {
                        for (size, w) in sizes.iter_mut().zip(group.iter()) {
                            *size = w.abs();
                        }
                        mark_smallest(&sizes, n, &mut marks);
                        zero_marked(group, &marks);
                    }
                });
            }
        }
        let error = weighted_error(&before, matrix.weights, None, matrix.columns);
        Ok(CompressionOutcome::of_mask(error, ErrorBasis::Weights, 0))
    }

    fn on_device(&self, level: Level) -> Option<&dyn DeviceMethod> {
        device::can_select(level).then_some(self as _)
    }
}

impl DeviceMethod for Magnitude {
    fn run_on_device(
        &self,
        DeviceMatrix { weights, .. }: DeviceMatrix<'_>,
        _: Option<&mut InputStatistics>,
        level: Level,
        _: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let sparsity = super::sparsity(level)?;
        super::check_divides(sparsity, weights.dim(1)?, "the matrix")?;
        let pruned = match sparsity {
            Sparsity::Fraction(s) if s > 0.0 => device::zero_lowest_of_matrix(weights, &weights.abs()?, s)?,
            Sparsity::Fraction(_) => weights.clone(),
            Sparsity::SemiStructured { .. } => {
                device::zero_lowest_of_rows(weights, &weights.abs()?, sparsity)?
            }
        };
        let error = device::weighted_error(weights, &pruned, None)?;
        let outcome = CompressionOutcome::of_mask(error, ErrorBasis::Weights, 0);
        Ok((pruned, outcome))
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the numbers are copies or exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prune(weights: &[f32], columns: usize, sparsity: Sparsity) -> Result<(Vec<f32>, CompressionOutcome)> {
        let mut pruned = weights.to_vec();
        let matrix = Matrix::new(&mut pruned, columns);
        let arguments = Magnitude.default_arguments();
        let outcome = Magnitude.run(matrix, None, sparsity.into(), &arguments, &|| false)?;
        Ok((pruned, outcome))
    }

    /// A matrix whose magnitudes are often equal.
    fn matrix() -> impl Strategy<Value = (usize, Vec<f32>)> {
        let weight = prop_oneof![3 => -1f32..1.0, 1 => Just(0.25f32), 1 => Just(-0.25f32), 1 => Just(0f32)];
        (1usize..8, 1usize..12).prop_flat_map(move |(rows, groups)| {
            (Just(groups * 4), prop::collection::vec(weight.clone(), rows * groups * 4))
        })
    }

    proptest! {
        #[test]
        fn everything_up_to_the_value_at_the_rank_goes((columns, weights) in matrix(), fraction in 1e-9f64..0.999) {
            let mut sizes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
            sizes.sort_by(f32::total_cmp);
            let rank = (weights.len() as f64 * fraction).floor() as usize;
            let (pruned, outcome) = prune(&weights, columns, Sparsity::Fraction(fraction)).unwrap();
            for (after, before) in pruned.iter().zip(&weights) {
                prop_assert_eq!(*after, if before.abs() <= sizes[rank] { 0.0 } else { *before });
            }
            let ties = sizes[rank + 1..].iter().filter(|s| **s == sizes[rank]).count();
            prop_assert_eq!(pruned.iter().filter(|w| **w == 0.0).count(), rank + 1 + ties);
            let energy = |w: &[f32]| w.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
            let lost = energy(&weights) - energy(&pruned);
            prop_assert!((outcome.error * energy(&weights) - lost).abs() < 1e-6);
        }

        #[test]
        fn groups_lose_their_smallest((columns, weights) in matrix(), n in 0usize..4) {
            let (pruned, _) = prune(&weights, columns, Sparsity::SemiStructured { zeros: n, group: 4 }).unwrap();
            for (after, before) in pruned.chunks(4).zip(weights.chunks(4)) {
                let mut sizes: Vec<f32> = before.iter().map(|w| w.abs()).collect();
                sizes.sort_by(f32::total_cmp);
                // Which of equal ones go is the selection's business; what is left is sorted the same either way.
                let mut left: Vec<f32> = after.iter().map(|w| w.abs()).collect();
                left.sort_by(f32::total_cmp);
                sizes[..n].fill(0.0);
                prop_assert_eq!(left, sizes);
                prop_assert!(after.iter().zip(before).all(|(a, b)| *a == *b || *a == 0.0));
            }
        }
    }

    #[test]
    fn the_authors_count_is_one_more_than_the_share() {
        let weights: Vec<f32> =
            (1..=1000u16).map(|i| f32::from(i) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        for (fraction, zeroes) in [(0.5, 501), (0.3, 301), (0.0015, 2), (0.999, 1000)] {
            let (pruned, _) = prune(&weights, 50, Sparsity::Fraction(fraction)).unwrap();
            assert_eq!(pruned.iter().filter(|w| **w == 0.0).count(), zeroes, "{fraction}");
        }
    }

    #[test]
    fn nothing_goes_where_nothing_is_asked() {
        let weights = [1.0, -0.5, 2.0, 0.0];
        for sparsity in [Sparsity::Fraction(0.0), Sparsity::SemiStructured { zeros: 0, group: 2 }] {
            let (pruned, outcome) = prune(&weights, 2, sparsity).unwrap();
            assert_eq!((pruned.as_slice(), outcome.error), (weights.as_slice(), 0.0));
        }
    }

    #[test]
    fn groups_that_do_not_fill_a_row_are_refused() {
        let error = prune(&[1.0; 20], 10, Sparsity::SemiStructured { zeros: 3, group: 7 }).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("3:7") && error.to_string().contains("10 columns"), "{error}");
    }
}
