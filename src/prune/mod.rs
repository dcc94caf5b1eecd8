//! The pruning methods: which weights of a matrix go, and what happens to those that stay.
//!
//! A method sees one matrix of `f32` on the host and what was collected of its inputs; it knows neither models nor
//! devices nor the engine.

mod magnitude;
mod profile;
mod sparsegpt;
mod statistics;
mod wanda;

pub use magnitude::Magnitude;
pub use profile::Profile;
pub use sparsegpt::{Factor, SparseGpt, solve};
pub use statistics::{Collector, Statistics};
pub use wanda::Wanda;

use crate::error::{Error, Result};
use crate::results::ErrorBasis;
use crate::study::{Method, PruneSpec, Sparsity};

/// What a method needs to know of a module's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Sum of squares of every input feature.
    ColumnNorms,
    /// Products of every pair of input features.
    Hessian,
}

/// What pruning a matrix did.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Relative squared error of the module's output.
    pub error: f64,
    /// What the error was measured with.
    pub basis: ErrorBasis,
    /// SparseGPT: the damping that was needed.
    pub damping: Option<f64>,
    /// Input features that were zero in every calibration token.
    pub dead_columns: usize,
}

/// A matrix to prune in place.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// Row-major `[rows, columns]`, that is `[out, in]`.
    pub weights: &'a mut [f32],
    /// Input features.
    pub columns: usize,
}

/// A pruning method.
pub trait Pruner: Send + Sync {
    /// What has to be collected first.
    fn needs(&self) -> Needs;

    /// Prunes a matrix in place.
    ///
    /// `statistics` are those of the matrix's input and are there whenever [`Pruner::needs`] asks for any. `stop` is
    /// asked now and then and ends the work with [`Error::Cancelled`].
    ///
    /// # Errors
    /// [`Error::Mistake`] for an N:M that does not divide a row, [`Error::Failure`] when the method cannot work.
    fn prune(
        &self,
        matrix: Matrix<'_>,
        statistics: Option<&mut Statistics>,
        sparsity: Sparsity,
        stop: &dyn Fn() -> bool,
    ) -> Result<Outcome>;
}

/// The method by its name, set up as the study asks.
pub fn pruner(method: Method, spec: &PruneSpec) -> Box<dyn Pruner> {
    match method {
        Method::Magnitude => Box::new(Magnitude),
        Method::Wanda => Box::new(Wanda),
        Method::SparseGpt => Box::new(SparseGpt { damping: spec.damping, block_size: spec.block_size }),
    }
}

/// Refuses an N:M whose groups do not fill a row.
///
/// # Errors
/// [`Error::Mistake`] naming the module, the group and the row.
pub fn check_divides(sparsity: Sparsity, columns: usize, module: &str) -> Result<()> {
    match sparsity {
        Sparsity::NOfM { m, .. } if !columns.is_multiple_of(m) => Err(Error::mistake(format!(
            "sparsity {sparsity}: groups of {m} do not fill the {columns} columns of {module}; M must divide every row"
        ))),
        _ => Ok(()),
    }
}

/// How many of `count` elements a fraction takes: `floor(count · s)`.
fn share(count: usize, fraction: f64) -> usize {
    (count as f64 * fraction).floor() as usize
}

/// Relative squared error `Σ s_j (w − w')² / Σ s_j w²` of rows before and after, with a factor per column.
fn weighted_error(before: &[f32], after: &[f32], factors: Option<&[f64]>, columns: usize) -> f64 {
    use rayon::prelude::*;
    let sums: Vec<(f64, f64)> = before
        .par_chunks(columns)
        .zip(after.par_chunks(columns))
        .map(|(before, after)| {
            let (mut lost, mut all) = (0.0, 0.0);
            for (j, (&b, &a)) in before.iter().zip(after).enumerate() {
                let factor = factors.map_or(1.0, |f| f[j]);
                let (b, a) = (f64::from(b), f64::from(a));
                lost += factor * (b - a) * (b - a);
                all += factor * b * b;
            }
            (lost, all)
        })
        .collect();
    let (lost, all) = sums.iter().fold((0.0, 0.0), |(l, a), (lost, all)| (l + lost, a + all));
    if all > 0.0 { lost / all } else { 0.0 }
}
