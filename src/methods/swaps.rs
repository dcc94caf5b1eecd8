//! Swaps (SparseSwaps, arXiv 2512.10922): a mask becomes better while weights that stay take turns with weights that go.
//!
//! With the Gram matrix `G = Σ x xᵀ` of the inputs and `p` the pruned part of a row, the row's output is off by `pᵀGp`.
//! Pruning `u` and restoring `v` changes that by
//! `2 w_u c_u + w_u² G_uu − 2 w_v c_v + w_v² G_vv − 2 w_u w_v G_uv` with `c = Gp`. The best pair of a row is exchanged,
//! again and again, until none lowers the error. A row keeps its number of zeros, and so does a group of an N:M pattern.

mod bounds;
mod masked_row;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use self::masked_row::{Gram, MaskedRow, PairReach};
use super::{Arguments, InputStatistics, Parameter, ParameterKind, Statistics};
use crate::error::{Error, Result};
use crate::study::Sparsity;

/// Whether a mask is refined.
pub(super) const SWAPS: Parameter = Parameter {
    name: "swaps",
    about: "whether weights that go are exchanged for weights that stay, while that lowers the error of a row's output",
    kind: ParameterKind::Choice(&["no", "yes"]),
};

/// Name of the detail that tells how often weights were exchanged.
pub(super) const SWAPS_DETAIL: &str = "swaps";

/// Rows between two looks at whether to stop.
const ROWS: usize = 256;

/// A pair has to lower a row's first error by this share of it: less is rounding, and would never end.
const LEAST_SHARE: f64 = 1e-12;

/// Whether arguments ask for a better mask.
pub(super) fn is_asked(arguments: &Arguments) -> bool {
    arguments.text(&SWAPS) == "yes"
}

/// Floating-point operations for a matrix `[rows, columns]`, about: a row is gone through some times for every exchange, of
/// which there are a few in a hundred columns, and what is compared there takes longer than a product's operations. Measured
/// on SmolLM2 at 60% beside products of its shapes.
pub(super) fn operations(rows: usize, columns: usize) -> f64 {
    80.0 * rows as f64 * (columns as f64).powi(2)
}

/// Improves the mask of a matrix `[rows, columns]` that was `before`; returns how often weights were exchanged.
///
/// # Errors
/// [`Error::Failure`] where `inputs` has no Gram matrix on the host, [`Error::Cancelled`] when `stop` says so.
pub(super) fn refine(
    before: &[f32],
    weights: &mut [f32],
    inputs: &mut InputStatistics,
    sparsity: Sparsity,
    stop: &dyn Fn() -> bool,
) -> Result<usize> {
    let InputStatistics { statistics: Statistics::Gram(gram), width: columns, .. } = inputs else {
        return Err(Error::failure("a mask was to be refined without products of its inputs"));
    };
    mirror(gram, *columns);
    let span = match sparsity {
        Sparsity::Fraction(_) => *columns,
        Sparsity::SemiStructured { group, .. } => group,
    };
    let gram = Gram { values: gram, columns: *columns };
    let reach = PairReach::of(gram);
    let mut swaps = 0;
    for (before, weights) in before.chunks(ROWS * gram.columns).zip(weights.chunks_mut(ROWS * gram.columns)) {
        if stop() {
            return Err(Error::Cancelled);
        }
        let rows = before.par_chunks(gram.columns).zip(weights.par_chunks_mut(gram.columns));
        swaps +=
            rows.map(|(before, weights)| refine_row(before, weights, (gram, &reach), span)).sum::<usize>();
    }
    Ok(swaps)
}

/// Copies the lower triangle of a square matrix over the upper one.
fn mirror(square: &mut [f32], columns: usize) {
    for i in 0..columns {
        for j in 0..i {
            square[j * columns + i] = square[i * columns + j];
        }
    }
}

fn refine_row(
    before: &[f32],
    weights: &mut [f32],
    (gram, reach): (Gram<'_, f32>, &PairReach),
    span: usize,
) -> usize {
    let numbers: Vec<f64> = before.iter().map(|&w| f64::from(w)).collect();
    let pruned: Vec<bool> = weights.iter().map(|w| *w == 0.0).collect();
    let mut row = MaskedRow::new(&numbers, &pruned, gram, reach);
    let enough = -LEAST_SHARE * row.error();
    let mut swaps = 0;
    // Every exchange lowers the error, so none comes twice; the bound is for numbers that are none.
    while swaps < 100 * before.len() {
        let Some(pair) = row.best_pair(span, enough) else { break };
        row.apply(pair);
        swaps += 1;
    }
    for (at, (weight, &before)) in weights.iter_mut().zip(before).enumerate() {
        *weight = if row.keeps(at) { before } else { 0.0 };
    }
    swaps
}
