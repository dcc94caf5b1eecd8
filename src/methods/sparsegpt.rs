//! SparseGPT (Frantar & Alistarh, arXiv 2301.00774): weights go where the others can best make up for them, and do.

mod device;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::{
    Arguments, Bound, CompressionOutcome, Cost, DeviceMethod, InputStatistics, Matrix, Method, Needs,
    Parameter, ParameterKind, share,
};
use crate::error::{Error, Result};
use crate::kernels::matmul::{parallel, rows, rows_mut};
use crate::kernels::select::{kth_smallest_magnitude, mark_smallest};
use crate::kernels::simd;
use crate::number::NamedNumbers;
use crate::results::ErrorBasis;
use crate::study::{Level, Sparsity};

/// Most damping that a Cholesky factorisation is retried with.
const MOST_DAMPING: f64 = 1.0;
/// What is tried next where no damping at all was asked for and does not do.
const FIRST_DAMPING: f64 = 0.01;
/// Rows of a matrix that a task takes: see [`crate::kernels::matmul`] for why faer's own threads do not.
const ROWS: usize = 128;

/// Share of the Hessian's mean diagonal that is added to its diagonal.
const DAMPING: Parameter = Parameter {
    name: "damping",
    about: "share of the Hessian's mean diagonal that is added to its diagonal",
    kind: ParameterKind::Number { default: 0.01, least: 0.0, most: f64::INFINITY },
};

/// Columns solved together.
const BLOCK_SIZE: Parameter = Parameter {
    name: "block_size",
    about: "columns solved together",
    kind: ParameterKind::Count { default: 128, least: 1 },
};

/// Name of the detail that says with which damping the factorisation succeeded.
const DAMPING_USED: &str = "damping";

/// SparseGPT.
#[derive(Debug, Clone, Copy)]
pub struct SparseGpt;

/// What the solver needs of the Hessian `H = (2/n)·Σ x xᵀ` of an input.
#[derive(Debug, Clone)]
pub struct Factor {
    /// Row-major upper triangle `U` with `UᵀU = H⁻¹`, `[in, in]`.
    pub upper: Vec<f32>,
    /// The damping that the factorisation went through with.
    pub damping: f64,
    /// Features that were zero in every calibration token.
    pub dead: Vec<bool>,
    /// Diagonal that was added: damping times the mean diagonal.
    added: f32,
}

impl Factor {
    /// Factorises `H⁻¹` from the lower triangle of `Σ x xᵀ` (`[width, width]`) over `sequences` sequences.
    ///
    /// `U` comes from one Cholesky factorisation and one triangular inverse: with `J` the reversal of rows and
    /// columns, `J H J = M Mᵀ` gives `H = R Rᵀ` for the upper triangle `R = J M J`, so that `U = R⁻¹ = J M⁻¹ J`
    /// satisfies `UᵀU = R⁻ᵀR⁻¹ = H⁻¹`. The references invert `H` and factorise once more.
    ///
    /// A factorisation that fails is retried with ten times the damping, up to 1.
    ///
    /// # Errors
    /// [`Error::Failure`] when activations were not finite, or no damping up to 1 makes `H` positive definite.
    pub fn new(gram: &[f32], width: usize, sequences: usize, damping: f64) -> Result<Self> {
        let scale = 2.0 / sequences.max(1) as f32;
        let mut diagonal: Vec<f32> = (0..width).map(|i| gram[i * width + i] * scale).collect();
        let dead: Vec<bool> = diagonal.iter().map(|&d| d == 0.0).collect();
        for (d, _) in diagonal.iter_mut().zip(&dead).filter(|(_, dead)| **dead) {
            *d = 1.0;
        }
        let mean = mean_diagonal(&diagonal)?;
        let mut attempt = damping;
        loop {
            let added = (attempt * mean) as f32;
            if let Some(upper) = factorise(gram, width, scale, &diagonal, added) {
                return Ok(Self { upper, damping: attempt, dead, added });
            }
            attempt = next_damping(attempt)?;
        }
    }
}

/// The mean of a Hessian's diagonal.
///
/// # Errors
/// [`Error::Failure`] where it is not finite: a broken activation shows in its feature's sum of squares.
fn mean_diagonal(diagonal: &[f32]) -> Result<f64> {
    let mean = diagonal.iter().map(|&d| f64::from(d)).sum::<f64>() / diagonal.len() as f64;
    if mean.is_finite() {
        return Ok(mean);
    }
    Err(Error::failure(
        "SparseGPT: the Hessian of the calibration inputs is not finite: the model's activations hold NaN or \
         infinite values",
    ))
}

/// The damping to try after one that failed: ten times as much, up to 1.
///
/// # Errors
/// [`Error::Failure`] where there is no more.
fn next_damping(failed: f64) -> Result<f64> {
    if failed >= MOST_DAMPING {
        return Err(Error::failure(format!(
            "SparseGPT: the Hessian of the calibration inputs is not positive definite even with damping {failed}"
        )));
    }
    Ok(if failed > 0.0 { (failed * 10.0).min(MOST_DAMPING) } else { FIRST_DAMPING })
}

/// `U` for one damping; `None` where the matrix is not positive definite.
fn factorise(gram: &[f32], width: usize, scale: f32, diagonal: &[f32], added: f32) -> Option<Vec<f32>> {
    let last = width - 1;
    // Column-major lower triangle of J H J: entry (r, c) is H[last − r, last − c], whose mirror image
    // H[last − c, last − r] lies in the lower triangle that was collected.
    let mut flipped = vec![0f32; width * width];
    flipped.par_chunks_mut(width).enumerate().for_each(|(c, column)| {
        let row = &gram[(last - c) * width..(last - c + 1) * width];
        for r in c + 1..width {
            column[r] = row[last - r] * scale;
        }
        column[c] = diagonal[last - c] + added;
    });
    let mut memory =
        MemBuffer::new(cholesky_in_place_scratch::<f32>(width, parallel(), faer::Spec::default()));
    let mut matrix = MatMut::from_column_major_slice_mut(&mut flipped, width, width);
    cholesky_in_place(
        matrix.rb_mut(),
        faer::linalg::cholesky::llt::factor::LltRegularization::default(),
        parallel(),
        MemStack::new(&mut memory),
        faer::Spec::default(),
    )
    .ok()?;
    let mut inverse = vec![0f32; width * width];
    invert_lower_triangular(
        MatMut::from_column_major_slice_mut(&mut inverse, width, width),
        matrix.rb(),
        parallel(),
    );
    drop(flipped);
    // U[i, j] = M⁻¹[last − i, last − j], which stands at column last − j.
    let mut upper = vec![0f32; width * width];
    upper.par_chunks_mut(width).enumerate().for_each(|(i, row)| {
        for j in i..width {
            row[j] = inverse[(last - j) * width + last - i];
        }
    });
    upper.iter().all(|v| v.is_finite()).then_some(upper)
}

impl Method for SparseGpt {
    fn name(&self) -> &'static str {
        "sparsegpt"
    }

    fn about(&self) -> &'static str {
        "removes the weights that cost the layer's output least, and adjusts the others to compensate"
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[DAMPING, BLOCK_SIZE]
    }

    fn needs(&self) -> Needs {
        Needs::Hessian
    }

    fn updates_weights(&self) -> bool {
        true
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        let (weights, width) = ((rows * columns) as f64, columns as f64);
        Cost { operations: 3.0 * weights * width + width.powi(3), bound: Bound::Arithmetic }
    }

    fn warning(&self, details: &NamedNumbers, arguments: &Arguments) -> Option<String> {
        let asked = arguments.number(&DAMPING);
        let used = details.get(DAMPING_USED).filter(|used| *used > asked)?;
        Some(format!("the Hessian was not positive definite; damping was raised from {asked} to {used}"))
    }

    fn on_device(&self, level: Level) -> Option<&dyn DeviceMethod> {
        super::device::can_select(level).then_some(self as _)
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        stop: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let Level::Sparsity(sparsity) = level;
        super::check_divides(sparsity, matrix.columns, "the matrix")?;
        let missing = || Error::failure("SparseGPT was called without the Hessian of its inputs");
        let inputs = inputs.ok_or_else(missing)?;
        let (width, sequences) = (inputs.width, inputs.sequences);
        if width != matrix.columns {
            return Err(Error::failure(format!(
                "a Hessian of {width} features for a matrix of {} columns",
                matrix.columns
            )));
        }
        let damping = arguments.number(&DAMPING);
        let factorise =
            |s: &InputStatistics| Factor::new(s.gram().ok_or_else(missing)?, width, sequences, damping);
        let (inputs, factor) = inputs.prepared(factorise)?;
        let gram = inputs.gram().ok_or_else(missing)?;
        if stop() {
            return Err(Error::Cancelled);
        }
        let dead_columns = factor.dead.iter().filter(|d| **d).count();
        let outcome = |error| CompressionOutcome {
            error,
            basis: ErrorBasis::Hessian,
            dead_columns,
            details: [(DAMPING_USED, factor.damping)].into_iter().collect(),
        };
        if sparsity == Sparsity::Fraction(0.0) {
            return Ok(outcome(0.0));
        }
        if dead_columns > 0 {
            for row in matrix.weights.chunks_exact_mut(matrix.columns) {
                for (w, _) in row.iter_mut().zip(&factor.dead).filter(|(_, dead)| **dead) {
                    *w = 0.0;
                }
            }
        }
        let energy = output_energy(matrix.weights, gram, factor, sequences);
        let block_size = arguments.count(&BLOCK_SIZE);
        let loss = solve(matrix.weights, matrix.columns, factor, sparsity, block_size, stop)?;
        // The solver's loss is half the squared error under H, as H is twice the mean of x xᵀ.
        Ok(outcome(if energy > 0.0 { 2.0 * loss / energy } else { 0.0 }))
    }
}

/// `tr(W H Wᵀ)` with the damped Hessian: twice the strict lower triangle's share and the diagonal's.
fn output_energy(weights: &[f32], gram: &[f32], factor: &Factor, sequences: usize) -> f64 {
    let columns = factor.dead.len();
    let scale = 2.0 / sequences.max(1) as f64;
    let energy = |product: &mut Vec<f32>, chunk: &[f32]| -> f64 {
        let n = chunk.len() / columns;
        product.resize(chunk.len(), 0.0);
        triangular::matmul(
            MatMut::from_row_major_slice_mut(product, n, columns),
            BlockStructure::Rectangular,
            Accum::Replace,
            MatRef::from_row_major_slice(chunk, n, columns),
            BlockStructure::Rectangular,
            MatRef::from_row_major_slice(gram, columns, columns),
            BlockStructure::TriangularLower,
            1.0,
            Par::Seq,
        );
        let rows = chunk.chunks(columns).zip(product.chunks(columns));
        rows.map(|(row, product)| {
            let pairs: f64 = row.iter().zip(product).map(|(&w, &p)| 2.0 * f64::from(w) * f64::from(p)).sum();
            let squares = row.iter().enumerate().map(|(j, &w)| {
                let w = f64::from(w);
                // The diagonal came twice with the pairs; damping is not in the collected sums.
                w * w * (f64::from(factor.added) - scale * f64::from(gram[j * columns + j]))
            });
            scale * pairs + squares.sum::<f64>()
        })
        .sum()
    };
    let chunks = weights.par_chunks(ROWS * columns);
    // Collected before they are added, so that the order is always the same.
    chunks.map_init(Vec::new, energy).collect::<Vec<_>>().iter().sum()
}

/// Prunes `weights` (row-major, `columns` wide) in place and returns the loss `Σ (w − q)² / d² / 2`.
///
/// Columns go in blocks of `block_size`. Within a block every row is solved on its own, so rows run in parallel and a
/// row's part of the block stays in the cache; only the threshold of an unstructured mask looks at all rows. What the
/// block could not absorb is passed on to all later columns as one matrix product.
///
/// # Errors
/// [`Error::Cancelled`] when `stop` says so; the weights are then half solved.
pub fn solve(
    weights: &mut [f32],
    columns: usize,
    factor: &Factor,
    sparsity: Sparsity,
    block_size: usize,
    stop: &dyn Fn() -> bool,
) -> Result<f64> {
    let n = weights.len() / columns;
    // A group of N:M must not straddle two blocks.
    let block_size = match sparsity {
        Sparsity::SemiStructured { group: m, .. } => block_size.next_multiple_of(m),
        Sparsity::Fraction(_) => block_size,
    };
    let mut errors = vec![0f32; n * block_size.min(columns)];
    let mut loss = 0.0;
    for first in (0..columns).step_by(block_size) {
        if stop() {
            return Err(Error::Cancelled);
        }
        let width = block_size.min(columns - first);
        let block = Columns::new(factor, columns, first, width);
        let errors = &mut errors[..n * width];
        let threshold = match sparsity {
            Sparsity::Fraction(s) => Some(block.threshold(weights, s, errors)),
            Sparsity::SemiStructured { .. } => None,
        };
        let losses: Vec<f64> = weights
            .par_chunks_mut(columns)
            .zip(errors.par_chunks_mut(width))
            .map(|(row, errors)| block.solve_row(&mut row[first..first + width], errors, threshold, sparsity))
            .collect();
        loss += losses.iter().sum::<f64>();
        let end = first + width;
        if end < columns {
            let later = rows(&factor.upper[first * columns + end..], width, columns - end, columns);
            weights.par_chunks_mut(ROWS * columns).zip(errors.par_chunks(ROWS * width)).for_each(
                |(weights, errors)| {
                    let n = weights.len() / columns;
                    faer::linalg::matmul::matmul(
                        rows_mut(&mut weights[end..], n, columns - end, columns),
                        Accum::Add,
                        MatRef::from_row_major_slice(errors, n, width),
                        later,
                        -1.0,
                        Par::Seq,
                    );
                },
            );
        }
    }
    Ok(loss)
}

/// One block of columns, with its corner of `U` packed.
struct Columns {
    /// Columns of the whole matrix.
    total: usize,
    first: usize,
    width: usize,
    /// `[width, width]`
    corner: Vec<f32>,
    /// `1 / d` and `1 / d²` of every column.
    inverse: Vec<f32>,
    inverse_squared: Vec<f32>,
}

impl Columns {
    fn new(factor: &Factor, columns: usize, first: usize, width: usize) -> Self {
        let mut corner = Vec::with_capacity(width * width);
        for i in first..first + width {
            corner.extend_from_slice(&factor.upper[i * columns + first..i * columns + first + width]);
        }
        let diagonal: Vec<f32> = (0..width).map(|i| corner[i * width + i]).collect();
        Self {
            total: columns,
            first,
            width,
            corner,
            inverse: diagonal.iter().map(|d| 1.0 / d).collect(),
            inverse_squared: diagonal.iter().map(|d| 1.0 / (d * d)).collect(),
        }
    }

    /// The score at rank `floor(numel · s)` over all rows of the block; `scratch` is overwritten.
    fn threshold(&self, weights: &[f32], fraction: f64, scratch: &mut [f32]) -> f32 {
        scratch.par_chunks_mut(self.width).zip(weights.par_chunks(self.total)).for_each(|(scores, row)| {
            let row = &row[self.first..self.first + self.width];
            for ((score, w), d) in scores.iter_mut().zip(row).zip(&self.inverse_squared) {
                *score = w * w * d;
            }
        });
        kth_smallest_magnitude(scratch, share(scratch.len(), fraction))
    }

    /// Solves one row of the block: what goes becomes zero and its error is spread over the columns behind it.
    fn solve_row(
        &self,
        row: &mut [f32],
        errors: &mut [f32],
        threshold: Option<f32>,
        sparsity: Sparsity,
    ) -> f64 {
        let mut gone = vec![false; self.width];
        if let Some(threshold) = threshold {
            for ((gone, w), d) in gone.iter_mut().zip(row.iter()).zip(&self.inverse_squared) {
                *gone = w * w * d <= threshold;
            }
        }
        let mut loss = 0.0;
        for i in 0..self.width {
            if let Sparsity::SemiStructured { zeros: n, group: m } = sparsity
                && (self.first + i).is_multiple_of(m)
            {
                let scores: Vec<f32> =
                    (i..i + m).map(|j| row[j] * row[j] * self.inverse_squared[j]).collect();
                mark_smallest(&scores, n, &mut gone[i..i + m]);
            }
            if !gone[i] {
                errors[i] = 0.0;
                continue;
            }
            let error = row[i] * self.inverse[i];
            errors[i] = error;
            row[i] = 0.0;
            loss += f64::from(error) * f64::from(error) / 2.0;
            let upper = &self.corner[i * self.width + i + 1..(i + 1) * self.width];
            simd(
                #[inline(always)]
                || {
                    for (w, u) in row[i + 1..].iter_mut().zip(upper) {
                        *w = u.mul_add(-error, *w);
                    }
                },
            );
        }
        loss
    }
}
