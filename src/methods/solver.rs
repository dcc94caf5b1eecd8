//! The solver of SparseGPT (Frantar & Alistarh, arXiv 2301.00774) and GPTQ (Frantar et al., arXiv 2210.17323): one loop
//! over the columns of a matrix, in which what a column loses is made up for by all columns behind it. What a column
//! becomes is asked of a [`Target`]: it loses weights, is put on a grid, or both.

mod device;

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

pub(super) use device::compress_on_device;

use super::factor::{DAMPING, DAMPING_USED, Factor};
use super::{
    Arguments, CompressionOutcome, Encoded, InputStatistics, Matrix, Parameter, ParameterKind, Zeroing, share,
};
use crate::error::{Error, Result};
use crate::kernels::codes::{Grid, GroupGrid, UnpackedCodes};
use crate::kernels::matmul::{rows, rows_mut};
use crate::kernels::select::{kth_smallest_magnitude, mark_smallest};
use crate::kernels::simd;
use crate::results::ErrorBasis;
use crate::study::Sparsity;

/// Rows of a matrix that a task takes: see [`crate::kernels::matmul`] for why faer's own threads do not.
const ROWS: usize = 128;

/// Columns solved together.
pub(super) const BLOCK_SIZE: Parameter = Parameter {
    name: "block_size",
    about: "columns solved together",
    kind: ParameterKind::Count { default: 128, least: 1 },
};

/// What the columns of a matrix become.
#[derive(Debug)]
pub struct Target<'a> {
    /// Which weights become zero.
    pub zeroing: Zeroing,
    /// The codes that the weights that stay get; else they keep their values.
    pub codes: Option<&'a mut UnpackedCodes>,
    /// Whether scales and zeros of the codes are there already. Else those of a group are found when the loop reaches
    /// the block of columns that the group begins in.
    pub fitted: bool,
    /// The columns of the matrix as it came, where they were put into another order. Groups are those of that order.
    pub order: Option<&'a [usize]>,
}

impl Target<'_> {
    /// Only zeros.
    pub fn zeros(sparsity: Sparsity) -> Self {
        Self { zeroing: Zeroing::Chosen(sparsity), codes: None, fitted: false, order: None }
    }
}

/// What modules with the same input share.
#[derive(Debug)]
pub struct PreparedInputs {
    factor: Factor,
    /// The columns in the order in which they are solved, and `Σ x xᵀ` in it.
    ordered: Option<(Vec<usize>, Vec<f32>)>,
}

impl PreparedInputs {
    fn new(gram: &[f32], width: usize, sequences: usize, damping: f64, by_importance: bool) -> Result<Self> {
        let ordered = by_importance.then(|| {
            let diagonal: Vec<f32> = gram.iter().step_by(width + 1).copied().collect();
            let order = by_importance_order(&diagonal, sequences);
            let moved = reordered_gram(gram, &order);
            (order, moved)
        });
        let gram = ordered.as_ref().map_or(gram, |(_, gram)| gram);
        Ok(Self { factor: Factor::new(gram, width, sequences, damping)?, ordered })
    }
}

/// Solves a matrix with the Hessian of its inputs, on a grid if there is one; `by_importance` takes the columns with the
/// largest inputs first.
///
/// # Errors
/// [`Error::Failure`] without a Hessian, or where it has no factor; [`Error::Cancelled`].
pub(super) fn compress(
    matrix: Matrix<'_>,
    inputs: Option<&mut InputStatistics>,
    grid: Option<Grid>,
    by_importance: bool,
    arguments: &Arguments,
    stop: &dyn Fn() -> bool,
) -> Result<CompressionOutcome> {
    let Matrix { weights, columns, zeroing, .. } = matrix;
    if let Zeroing::Chosen(sparsity) = zeroing {
        super::check_divides(sparsity, columns, "the matrix")?;
    }
    let missing = || Error::failure("the solver was called without the Hessian of the module's inputs");
    let inputs = inputs.ok_or_else(missing)?;
    let (width, sequences) = (inputs.width, inputs.sequences);
    if width != columns {
        return Err(Error::failure(format!(
            "a Hessian of {width} features for a matrix of {columns} columns"
        )));
    }
    let damping = inputs.damping(arguments.number(&DAMPING));
    let prepare = |s: &InputStatistics| {
        PreparedInputs::new(s.gram().ok_or_else(missing)?, width, sequences, damping, by_importance)
    };
    let (inputs, PreparedInputs { factor, ordered }) = inputs.prepared(prepare)?;
    let gram = match ordered {
        Some((_, gram)) => gram,
        None => inputs.gram().ok_or_else(missing)?,
    };
    if stop() {
        return Err(Error::Cancelled);
    }
    let order = ordered.as_ref().map(|(order, _)| order.as_slice());
    let mut codes = grid.map(|grid| UnpackedCodes::empty([weights.len() / columns, columns], grid));
    let whole_rows = grid.is_some_and(|grid| grid.group >= columns);
    if let Some(codes) = codes.as_mut().filter(|_| whole_rows) {
        // Of the row as it came: later grids see dead columns as zeros.
        codes.fit(weights);
    }
    zero_dead_columns(weights, &factor.dead, order);
    if let Some(codes) = codes.as_mut().filter(|_| order.is_some() && !whole_rows) {
        codes.fit(weights);
    }
    if let Some(order) = order {
        reorder(weights, order, |from, to| (from, to));
    }
    let nothing = grid.is_none() && zeroing == Zeroing::Chosen(Sparsity::Fraction(0.0));
    let loss = if nothing {
        0.0
    } else {
        let energy = output_energy(weights, gram, factor.added, sequences);
        let fitted = whole_rows || order.is_some();
        let mut target = Target { zeroing, codes: codes.as_mut(), fitted, order };
        let loss = solve(weights, columns, factor, &mut target, arguments.count(&BLOCK_SIZE), stop)?;
        // Half the squared error under H, as H is twice the mean of x xᵀ.
        if energy > 0.0 { 2.0 * loss / energy } else { 0.0 }
    };
    if let Some(order) = order {
        reorder(weights, order, |from, to| (to, from));
        if let Some(codes) = &mut codes {
            reorder(&mut codes.codes, order, |from, to| (to, from));
        }
    }
    Ok(CompressionOutcome {
        error: loss,
        basis: ErrorBasis::Hessian,
        dead_columns: factor.dead.iter().filter(|dead| **dead).count(),
        details: [(DAMPING_USED, factor.damping)].into_iter().collect(),
        encoded: codes.map(|codes| Encoded::Codes(codes.pack())),
    })
}

/// Columns by descending diagonal of the Hessian, of equal ones the lower first, given the diagonal of `Σ x xᵀ`. A dead
/// one counts as 1, as in the authors' code.
fn by_importance_order(diagonal: &[f32], sequences: usize) -> Vec<usize> {
    let scale = 2.0 / sequences.max(1) as f32;
    let importance = |i: usize| match diagonal[i] {
        0.0 => 1.0,
        sum => sum * scale,
    };
    let mut order: Vec<usize> = (0..diagonal.len()).collect();
    order.sort_by(|a, b| importance(*b).total_cmp(&importance(*a)));
    order
}

/// The lower triangle of `Σ x xᵀ` with the features in another order.
fn reordered_gram(gram: &[f32], order: &[usize]) -> Vec<f32> {
    let width = order.len();
    let mut moved = vec![0f32; gram.len()];
    moved.par_chunks_mut(width).enumerate().for_each(|(i, row)| {
        for (value, &column) in row.iter_mut().zip(order).take(i + 1) {
            let (low, high) = (order[i].min(column), order[i].max(column));
            *value = gram[high * width + low];
        }
    });
    moved
}

/// Moves the values of every row; `places` says from where to where, given a column as it came and its new place.
fn reorder<T: Copy + Send + Sync + Default>(
    values: &mut [T],
    order: &[usize],
    places: impl Fn(usize, usize) -> (usize, usize) + Sync,
) {
    values.par_chunks_mut(order.len()).for_each_init(Vec::new, |before: &mut Vec<T>, row| {
        before.clear();
        before.extend_from_slice(row);
        for (place, &column) in order.iter().enumerate() {
            let (from, to) = places(column, place);
            row[to] = before[from];
        }
    });
}

/// Zeroes the weights of features that were zero in every token; `dead` is in the solver's order.
fn zero_dead_columns(weights: &mut [f32], dead: &[bool], order: Option<&[usize]>) {
    let gone: Vec<usize> = (0..dead.len()).filter(|i| dead[*i]).collect();
    if gone.is_empty() {
        return;
    }
    for row in weights.chunks_exact_mut(dead.len()) {
        for &place in &gone {
            row[order.map_or(place, |order| order[place])] = 0.0;
        }
    }
}

/// `tr(W H Wᵀ)` with the Hessian and what was added to its diagonal: twice the strict lower triangle's share and the diagonal's.
pub(super) fn output_energy(weights: &[f32], gram: &[f32], added: f32, sequences: usize) -> f64 {
    let columns = gram.len().isqrt();
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
                w * w * (f64::from(added) - scale * f64::from(gram[j * columns + j]))
            });
            scale * pairs + squares.sum::<f64>()
        })
        .sum()
    };
    let chunks = weights.par_chunks(ROWS * columns);
    // Collected before they are added, so that the order is always the same.
    chunks.map_init(Vec::new, energy).collect::<Vec<_>>().iter().sum()
}

/// Solves `weights` (row-major, `columns` wide) in place and returns the loss `Σ (w − q)² / d² / 2`.
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
    target: &mut Target<'_>,
    block_size: usize,
    stop: &dyn Fn() -> bool,
) -> Result<f64> {
    let n = weights.len() / columns;
    // A group of N:M must not straddle two blocks.
    let block_size = match target.zeroing {
        Zeroing::Chosen(Sparsity::SemiStructured { group: m, .. }) => block_size.next_multiple_of(m),
        _ => block_size,
    };
    let kept_zeros = match target.zeroing {
        Zeroing::Kept => weights.par_iter().map(|w| *w == 0.0).collect(),
        _ => Vec::new(),
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
        let zeros = match target.zeroing {
            Zeroing::None => ColumnZeros::None,
            Zeroing::Kept => ColumnZeros::Of(&kept_zeros),
            Zeroing::Chosen(Sparsity::Fraction(s)) => ColumnZeros::UpTo(block.threshold(weights, s, errors)),
            Zeroing::Chosen(Sparsity::SemiStructured { zeros, group }) => ColumnZeros::Lowest(zeros, group),
        };
        loss += block.solve_rows(weights, errors, zeros, target);
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

/// Which weights of a block's columns become zero.
#[derive(Debug, Clone, Copy)]
enum ColumnZeros<'a> {
    None,
    /// Those that this says, one a weight of the whole matrix.
    Of(&'a [bool]),
    /// Those whose score is at most this.
    UpTo(f32),
    /// So many of every so many neighbours.
    Lowest(usize, usize),
}

/// A row on its way to the grid.
struct RowCodes<'a> {
    grid: Grid,
    /// Codes and groups of the whole row.
    codes: &'a mut [u8],
    groups: &'a mut [GroupGrid],
    fitted: bool,
    order: Option<&'a [usize]>,
}

impl RowCodes<'_> {
    /// Finds the grids of the groups that begin in these columns.
    fn fit(&mut self, row: &[f32], columns: std::ops::Range<usize>) {
        if self.fitted {
            return;
        }
        let size = self.grid.group;
        for start in columns.filter(|column| column.is_multiple_of(size)) {
            let group = row[start..(start + size).min(row.len())].iter().copied();
            self.groups[start / size] = self.grid.fit(group);
        }
    }

    /// The value that a weight gets, of which this takes the code down.
    #[inline(always)]
    fn put(&mut self, column: usize, weight: f32) -> f32 {
        let group = self.groups[self.order.map_or(column, |order| order[column]) / self.grid.group];
        let code = self.grid.code(weight, group);
        self.codes[column] = code;
        group.value(code)
    }
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

    /// Solves all rows of the block; returns their loss.
    fn solve_rows(
        &self,
        weights: &mut [f32],
        errors: &mut [f32],
        zeros: ColumnZeros<'_>,
        target: &mut Target<'_>,
    ) -> f64 {
        let total = self.total;
        let rows = weights.par_chunks_mut(total).zip(errors.par_chunks_mut(self.width));
        let losses: Vec<f64> = match target.codes.as_deref_mut() {
            None => rows
                .enumerate()
                .map(|(number, (row, errors))| self.solve_row(number, row, errors, zeros, None))
                .collect(),
            Some(codes) => {
                let (grid, fitted, order) = (codes.grid, target.fitted, target.order);
                let groups = codes.groups.par_chunks_mut(grid.groups(total));
                let codes = codes.codes.par_chunks_mut(total).zip(groups);
                rows.zip(codes)
                    .enumerate()
                    .map(|(number, ((row, errors), (codes, groups)))| {
                        let mut codes = RowCodes { grid, codes, groups, fitted, order };
                        codes.fit(row, self.first..self.first + self.width);
                        self.solve_row(number, row, errors, zeros, Some(codes))
                    })
                    .collect()
            }
        };
        losses.iter().sum()
    }

    /// Solves one row of the block: what a weight loses is spread over the columns behind it.
    fn solve_row(
        &self,
        number: usize,
        row: &mut [f32],
        errors: &mut [f32],
        zeros: ColumnZeros<'_>,
        mut codes: Option<RowCodes<'_>>,
    ) -> f64 {
        let row = &mut row[self.first..self.first + self.width];
        let mut gone = vec![false; self.width];
        match zeros {
            ColumnZeros::UpTo(threshold) => {
                for ((gone, w), d) in gone.iter_mut().zip(row.iter()).zip(&self.inverse_squared) {
                    *gone = w * w * d <= threshold;
                }
            }
            ColumnZeros::Of(zeros) => {
                gone.copy_from_slice(&zeros[number * self.total + self.first..][..self.width]);
            }
            ColumnZeros::None | ColumnZeros::Lowest(..) => {}
        }
        let mut loss = 0.0;
        for i in 0..self.width {
            if let ColumnZeros::Lowest(n, m) = zeros
                && (self.first + i).is_multiple_of(m)
            {
                let scores: Vec<f32> =
                    (i..i + m).map(|j| row[j] * row[j] * self.inverse_squared[j]).collect();
                mark_smallest(&scores, n, &mut gone[i..i + m]);
            }
            let wanted = if gone[i] { 0.0 } else { row[i] };
            let value = match codes.as_mut() {
                Some(codes) => codes.put(self.first + i, wanted),
                None => wanted,
            };
            if !gone[i] && codes.is_none() {
                errors[i] = 0.0;
                continue;
            }
            let error = (row[i] - value) * self.inverse[i];
            errors[i] = error;
            row[i] = value;
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
