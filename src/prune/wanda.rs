//! Wanda (Sun et al., arXiv 2306.11695): weights times the norm of their input, compared within an output row.

use rayon::prelude::*;

use super::magnitude::zero_marked;
use super::{Matrix, Needs, Outcome, Pruner, Statistics, share, weighted_error};
use crate::error::{Error, Result};
use crate::kernels::select::mark_smallest;
use crate::results::ErrorBasis;
use crate::study::Sparsity;

/// Score `|W_ij| · sqrt(scaler_j)`, `scaler_j` the mean over calibration sequences of the feature's sum of squares.
/// Of every row the `floor(columns · s)` lowest scores go, of equal ones those of lower columns; N:M: the N lowest of
/// every M neighbours. Weights that stay are not touched.
#[derive(Debug, Clone, Copy)]
pub struct Wanda;

impl Pruner for Wanda {
    fn needs(&self) -> Needs {
        Needs::ColumnNorms
    }

    fn prune(
        &self,
        matrix: Matrix<'_>,
        statistics: Option<&mut Statistics>,
        sparsity: Sparsity,
        _: &dyn Fn() -> bool,
    ) -> Result<Outcome> {
        super::check_divides(sparsity, matrix.columns, "the matrix")?;
        let scalers = statistics
            .and_then(|s| s.column_means())
            .filter(|s| s.len() == matrix.columns)
            .ok_or_else(|| Error::failure("Wanda was called without the norms of its inputs"))?;
        let norms: Vec<f32> = scalers.iter().map(|&s| (s as f32).sqrt()).collect();
        let before = matrix.weights.to_vec();
        matrix.weights.par_chunks_mut(matrix.columns).for_each_init(
            || Scratch::new(matrix.columns),
            |scratch, row| scratch.prune_row(row, &norms, sparsity),
        );
        let error = weighted_error(&before, matrix.weights, Some(&scalers), matrix.columns);
        let dead_columns = scalers.iter().filter(|&&s| s == 0.0).count();
        Ok(Outcome { error, basis: ErrorBasis::ColumnNorms, damping: None, dead_columns })
    }
}

/// Buffers of one thread.
struct Scratch {
    scores: Vec<f32>,
    ranked: Vec<f32>,
    marks: Vec<bool>,
}

impl Scratch {
    fn new(columns: usize) -> Self {
        Self { scores: vec![0.0; columns], ranked: vec![0.0; columns], marks: vec![false; columns] }
    }

    fn prune_row(&mut self, row: &mut [f32], norms: &[f32], sparsity: Sparsity) {
        for ((score, w), norm) in self.scores.iter_mut().zip(row.iter()).zip(norms) {
            *score = w.abs() * norm;
        }
        match sparsity {
            Sparsity::Fraction(s) => self.drop_lowest(row, share(row.len(), s)),
            Sparsity::NOfM { n, m } => {
                for (group, scores) in row.chunks_exact_mut(m).zip(self.scores.chunks_exact(m)) {
                    mark_smallest(scores, n, &mut self.marks[..m]);
                    zero_marked(group, &self.marks[..m]);
                }
            }
        }
    }

    /// Zeroes the `count` lowest scores: all below the value at that rank, then the first of those equal to it. That
    /// is what a stable sort would take, without sorting.
    fn drop_lowest(&mut self, row: &mut [f32], count: usize) {
        if count == 0 {
            return;
        }
        self.ranked.copy_from_slice(&self.scores);
        let (_, &mut threshold, _) = self.ranked.select_nth_unstable_by(count - 1, f32::total_cmp);
        let below = self.scores.iter().filter(|s| s.total_cmp(&threshold).is_lt()).count();
        let mut equal_left = count - below;
        for (w, score) in row.iter_mut().zip(&self.scores) {
            match score.total_cmp(&threshold) {
                std::cmp::Ordering::Less => *w = 0.0,
                std::cmp::Ordering::Equal if equal_left > 0 => {
                    equal_left -= 1;
                    *w = 0.0;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_loses_what_a_stable_sort_puts_first(
            row in prop::collection::vec(prop_oneof![-1f32..1.0, Just(0.5f32), Just(-0.5), Just(0.0)], 1..80),
            fraction in 0f64..1.0,
        ) {
            let columns = row.len();
            let norms = vec![2f32; columns];
            let mut order: Vec<usize> = (0..columns).collect();
            order.sort_by(|&a, &b| row[a].abs().total_cmp(&row[b].abs()));
            let mut expected = row.clone();
            for &j in &order[..share(columns, fraction)] { expected[j] = 0.0; }
            let mut got = row.clone();
            Scratch::new(columns).prune_row(&mut got, &norms, Sparsity::Fraction(fraction));
            prop_assert_eq!(got, expected);
        }
    }
}
