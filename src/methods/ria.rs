//! RIA, relative importance and activations (ICLR 2024, "Plug-and-Play: An Efficient Post-training Pruning Method for
//! Large Language Models"): a weight counts by its share of its row and of its column, and by its input.

use candle_core::Tensor;
use rayon::prelude::*;

use super::allocation::ALLOCATION;
use super::device::{self, DeviceMatrix, DeviceMethod};
use super::selection::RowSelection;
use super::swaps::SWAPS;
use super::{
    Arguments, Bound, CompressionOutcome, Cost, InputStatistics, Matrix, Method, Needs, Parameter,
    ParameterKind, share, weighted_error,
};
use crate::error::{Error, Result};
use crate::kernels::device::{magnitude_sums, select::zero_where};
use crate::kernels::select::kth_smallest_magnitude;
use crate::results::ErrorBasis;
use crate::study::{Level, Sparsity};

/// Exponent of the input norm.
const EXPONENT: Parameter = Parameter {
    name: "a",
    about: "exponent of the input norm: 0 looks at weights alone",
    kind: ParameterKind::Number { default: 0.5, least: 0.0, most: 10.0 },
};

/// Over what a fraction is taken.
const COMPARE: Parameter = Parameter {
    name: "compare",
    about: "what a fraction is taken of: the whole matrix, or every output row",
    kind: ParameterKind::Choice(&["matrix", "row"]),
};

/// Score `(|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · ‖x_j‖^a`: the first sum over a column (all outputs), the second
/// over a row (all inputs); `‖x_j‖` is the root of Wanda's mean over sequences.
///
/// A fraction takes every score up to the one at rank `floor(numel · s)` of the whole matrix, as the authors' code does
/// by default and as magnitude does; with `compare=row`, and for N:M, the lowest of a row, as Wanda. The reallocation of
/// channels that the paper has for N:M is not done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ria;

impl Method for Ria {
    fn name(&self) -> &'static str {
        "ria"
    }

    fn about(&self) -> &'static str {
        "removes the smallest products of a weight's share of its row and column and the input norm"
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[EXPONENT, COMPARE, SWAPS, ALLOCATION]
    }

    fn needs(&self) -> Needs {
        Needs::ColumnNorms
    }

    fn updates_weights(&self) -> bool {
        false
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        Cost { operations: 80.0 * (rows * columns) as f64, bound: Bound::Memory }
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let sparsity = super::sparsity(level)?;
        super::check_divides(sparsity, matrix.columns, "the matrix")?;
        let scalers = scalers(inputs, matrix.columns)?;
        let exponent = arguments.number(&EXPONENT) as f32;
        let scores = Scores::new(matrix.weights, &scalers, exponent);
        let before = matrix.weights.to_vec();
        match sparsity {
            Sparsity::Fraction(s) if s > 0.0 && arguments.text(&COMPARE) == "matrix" => {
                scores.zero_lowest_of_matrix(matrix.weights, s);
            }
            _ => scores.zero_lowest_of_rows(matrix.weights, sparsity),
        }
        let error = weighted_error(&before, matrix.weights, Some(&scalers), matrix.columns);
        let dead_columns = scalers.iter().filter(|&&s| s == 0.0).count();
        Ok(CompressionOutcome::of_mask(error, ErrorBasis::ColumnNorms, dead_columns))
    }

    fn on_device(&self, level: Level) -> Option<&dyn DeviceMethod> {
        device::can_select(level).then_some(self as _)
    }
}

impl DeviceMethod for Ria {
    fn run_on_device(
        &self,
        DeviceMatrix { weights, .. }: DeviceMatrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let sparsity = super::sparsity(level)?;
        let columns = weights.dim(1)?;
        super::check_divides(sparsity, columns, "the matrix")?;
        let scalers = scalers(inputs, columns)?;
        let scores = scores_on_device(weights, &scalers, arguments.number(&EXPONENT) as f32)?;
        let pruned = match sparsity {
            Sparsity::Fraction(s) if s > 0.0 && arguments.text(&COMPARE) == "matrix" => {
                device::zero_lowest_of_matrix(weights, &scores, s)?
            }
            _ => device::zero_lowest_of_rows(weights, &scores, sparsity)?,
        };
        let error = device::weighted_error(weights, &pruned, Some(&scalers))?;
        let dead_columns = scalers.iter().filter(|&&s| s == 0.0).count();
        let basis = ErrorBasis::ColumnNorms;
        Ok((pruned, CompressionOutcome::of_mask(error, basis, dead_columns)))
    }
}

fn scalers(inputs: Option<&mut InputStatistics>, columns: usize) -> Result<Vec<f64>> {
    let scalers = inputs.map(|inputs| inputs.input_norms_squared()).transpose()?;
    scalers
        .filter(|s| s.len() == columns)
        .ok_or_else(|| Error::failure("RIA was called without the norms of its inputs"))
}

fn norms(scalers: &[f64], exponent: f32) -> Vec<f32> {
    scalers.iter().map(|&s| (s as f32).sqrt().powf(exponent)).collect()
}

/// As [`Scores::of_row`] for every row, where the weights lie.
fn scores_on_device(weights: &Tensor, scalers: &[f64], exponent: f32) -> Result<Tensor> {
    let (rows, columns) = weights.dims2()?;
    let (row_sums, column_sums) = magnitude_sums(weights)?;
    let narrow = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>();
    let row_sums = Tensor::from_vec(narrow(row_sums), (rows, 1), weights.device())?;
    let column_sums = Tensor::from_vec(narrow(column_sums), columns, weights.device())?;
    let norms = Tensor::from_vec(norms(scalers, exponent), columns, weights.device())?;
    let sizes = weights.abs()?;
    let shares = (sizes.broadcast_div(&column_sums)? + sizes.broadcast_div(&row_sums)?)?;
    zero_where(&sizes.eq(0f32)?, &shares.broadcast_mul(&norms)?)
}

/// What the score of a weight depends on beside its value.
struct Scores {
    /// Sum of magnitudes of every column.
    column_sums: Vec<f32>,
    /// Input norm to the exponent, of every column.
    norms: Vec<f32>,
}

impl Scores {
    fn new(weights: &[f32], scalers: &[f64], exponent: f32) -> Self {
        let columns = scalers.len();
        let sums = weights.chunks_exact(columns).fold(vec![0f64; columns], |mut sums, row| {
            for (sum, w) in sums.iter_mut().zip(row) {
                *sum += f64::from(w.abs());
            }
            sums
        });
        Self {
            column_sums: sums.into_iter().map(|sum| sum as f32).collect(),
            norms: norms(scalers, exponent),
        }
    }

    /// The scores of one row. A weight without a share, in a row or column of zeros, is zero itself and scores 0.
    fn of_row<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let row_sum = row.iter().map(|w| f64::from(w.abs())).sum::<f64>() as f32;
        row.iter().zip(&self.column_sums).zip(&self.norms).map(move |((w, column_sum), norm)| {
            let size = w.abs();
            if size == 0.0 { 0.0 } else { (size / column_sum + size / row_sum) * norm }
        })
    }

    /// Everything up to the score at rank `floor(numel · s)` goes, ties included.
    fn zero_lowest_of_matrix(&self, weights: &mut [f32], fraction: f64) {
        let columns = self.norms.len();
        let mut scores = vec![0f32; weights.len()];
        scores.par_chunks_mut(columns).zip(weights.par_chunks(columns)).for_each(|(scores, row)| {
            for (own, score) in scores.iter_mut().zip(self.of_row(row)) {
                *own = score;
            }
        });
        let threshold = kth_smallest_magnitude(&scores, share(scores.len(), fraction));
        weights.par_iter_mut().zip(&scores).with_min_len(1 << 14).for_each(|(w, score)| {
            if *score <= threshold {
                *w = 0.0;
            }
        });
    }

    fn zero_lowest_of_rows(&self, weights: &mut [f32], sparsity: Sparsity) {
        let columns = self.norms.len();
        weights.par_chunks_mut(columns).for_each_init(
            || RowSelection::new(columns),
            |selection, row| {
                selection.score(self.of_row(row));
                selection.zero_lowest(row, sparsity);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Statistics;
    use super::*;
    use crate::study::Parameters;

    const COLUMNS: usize = 8;

    fn prune(weights: &[f32], norms: &[f64], recipe: &str) -> Vec<f32> {
        let stage = super::super::Stage::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap();
        let mut pruned = weights.to_vec();
        let mut inputs = InputStatistics::new(Statistics::ColumnNorms(norms.to_vec()), COLUMNS, 2);
        let matrix = Matrix::new(&mut pruned, COLUMNS);
        Ria.run(matrix, Some(&mut inputs), stage.level, &stage.arguments, &|| false).unwrap();
        pruned
    }

    /// The paper's formula, written down plainly in `f64`.
    fn score(weights: &[f32], norms: &[f64], row: usize, column: usize, exponent: f64) -> f64 {
        let size = |i: usize, j: usize| f64::from(weights[i * COLUMNS + j].abs());
        let rows = weights.len() / COLUMNS;
        let column_sum: f64 = (0..rows).map(|i| size(i, column)).sum();
        let row_sum: f64 = (0..COLUMNS).map(|j| size(row, j)).sum();
        (size(row, column) / column_sum + size(row, column) / row_sum)
            * (norms[column] / 2.0).sqrt().powf(exponent)
    }

    proptest! {
        #[test]
        fn what_stays_has_the_higher_scores(
            weights in prop::collection::vec(0.01f32..1.0, 4 * COLUMNS),
            norms in prop::collection::vec(0.1f64..10.0, COLUMNS),
            percent in 1u32..90,
        ) {
            for (compare, rows) in [("matrix", vec![(0, 4)]), ("row", (0..4).map(|i| (i, i + 1)).collect())] {
                for exponent in [0.0, 0.5, 1.0] {
                    let recipe = format!("ria@{percent}%,a={exponent},compare={compare}");
                    let pruned = prune(&weights, &norms, &recipe);
                    for &(first, end) in &rows {
                        let cells = (first..end).flat_map(|i| (0..COLUMNS).map(move |j| (i, j)));
                        let (gone, left): (Vec<_>, Vec<_>) = cells
                            .map(|(i, j)| (pruned[i * COLUMNS + j] == 0.0, score(&weights, &norms, i, j, exponent)))
                            .partition(|(gone, _)| *gone);
                        let most = gone.iter().map(|(_, s)| *s).fold(0.0, f64::max);
                        let least = left.iter().map(|(_, s)| *s).fold(f64::INFINITY, f64::min);
                        prop_assert!(most <= least * (1.0 + 1e-5), "{recipe}: {most} went, {least} stays");
                    }
                }
            }
        }
    }

    #[test]
    fn the_authors_count_is_one_more_than_the_share_of_a_matrix() {
        let weights: Vec<f32> = (1..=32u8).map(f32::from).collect();
        let zeros = |recipe| prune(&weights, &[1.0; COLUMNS], recipe).iter().filter(|w| **w == 0.0).count();
        assert_eq!((zeros("ria@50%"), zeros("ria@50%,compare=row")), (17, 16));
        assert_eq!((zeros("ria@0%"), zeros("ria@2:4")), (0, 16));
    }

    #[test]
    fn weights_that_are_zero_already_go_first_and_break_nothing() {
        let mut weights = vec![1f32; 4 * COLUMNS];
        weights[..COLUMNS].fill(0.0);
        (0..4).for_each(|i| weights[i * COLUMNS + 3] = 0.0);
        let pruned = prune(&weights, &[1.0; COLUMNS], "ria@30%");
        assert_eq!(pruned, weights, "eleven of 32 are zero, and the tenth rank is among them");
    }
}
