//! Magnitude pruning: the smallest weights of a matrix go.

use rayon::prelude::*;

use super::{Matrix, Needs, Outcome, Pruner, Statistics, share, weighted_error};
use crate::error::Result;
use crate::kernels::select::{kth_smallest_magnitude, mark_smallest};
use crate::results::ErrorBasis;
use crate::study::Sparsity;

/// Per matrix: every weight up to the magnitude at rank `floor(numel · s)` goes, ties included (as in the Wanda
/// authors' code). N:M: the N smallest magnitudes of every M neighbours go, of equal ones the earlier.
#[derive(Debug, Clone, Copy)]
pub struct Magnitude;

impl Pruner for Magnitude {
    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn prune(
        &self,
        matrix: Matrix<'_>,
        _: Option<&mut Statistics>,
        sparsity: Sparsity,
        _: &dyn Fn() -> bool,
    ) -> Result<Outcome> {
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
            Sparsity::NOfM { n, m } => matrix.weights.par_chunks_mut(matrix.columns).for_each(|row| {
                let (mut sizes, mut marks) = (vec![0f32; m], vec![false; m]);
                for group in row.chunks_exact_mut(m) {
                    for (size, w) in sizes.iter_mut().zip(group.iter()) {
                        *size = w.abs();
                    }
                    mark_smallest(&sizes, n, &mut marks);
                    zero_marked(group, &marks);
                }
            }),
        }
        let error = weighted_error(&before, matrix.weights, None, matrix.columns);
        Ok(Outcome { error, basis: ErrorBasis::Weights, damping: None, dead_columns: 0 })
    }
}

pub(super) fn zero_marked(group: &mut [f32], marks: &[bool]) {
    for (w, &gone) in group.iter_mut().zip(marks) {
        if gone {
            *w = 0.0;
        }
    }
}
