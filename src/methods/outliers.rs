//! Outliers among the scores of a block's weights, by which OWL (Yin et al., arXiv 2310.05175) tells blocks apart.
//!
//! The score of a weight is Wanda's, `|W_ij| · sqrt(scaler_j)` in `f32`; all matrices of a block count together.

use rayon::prelude::*;

/// A score above so many times the mean of its block is an outlier: `M` of the paper.
const TIMES_THE_MEAN: f32 = 5.0;

/// Rows whose scores one thread adds up.
const ROWS: usize = 64;

/// The scores of a block's weights, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ScoreSum {
    sum: f64,
    weights: u64,
}

impl ScoreSum {
    /// Adds the scores of a matrix `[rows, columns]`, whose inputs have these norms.
    pub fn add(&mut self, weights: &[f32], norms: &[f32]) {
        let of_rows = |rows: &[f32]| scores(rows, norms).map(f64::from).sum::<f64>();
        let sums: Vec<f64> = weights.par_chunks(ROWS * norms.len().max(1)).map(of_rows).collect();
        // In the order of the rows, so that the sum is the same however many threads there are.
        self.sum += sums.iter().sum::<f64>();
        self.weights += weights.len() as u64;
    }

    /// What a score has to be above to be an outlier.
    pub fn threshold(&self) -> f32 {
        TIMES_THE_MEAN * (self.sum / self.weights.max(1) as f64) as f32
    }

    /// A number of outliers as percent of the weights.
    pub fn percent(&self, outliers: u64) -> f64 {
        100.0 * outliers as f64 / self.weights.max(1) as f64
    }
}

/// How many scores of a matrix `[rows, columns]` are above a threshold.
pub(crate) fn count_above(weights: &[f32], norms: &[f32], threshold: f32) -> u64 {
    let of_rows = |rows: &[f32]| scores(rows, norms).filter(|score| *score > threshold).count() as u64;
    weights.par_chunks(ROWS * norms.len().max(1)).map(of_rows).sum()
}

fn scores<'a>(rows: &'a [f32], norms: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    rows.chunks(norms.len().max(1)).flat_map(move |row| row.iter().zip(norms).map(|(w, norm)| w.abs() * norm))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "exact values are meant")]

    use super::*;

    #[test]
    fn an_outlier_is_above_five_times_the_mean_over_all_matrices() {
        // Ten weights whose scores add up to 20.75: an outlier is above 10.375, and the largest score is 10.
        let (first, second) = ([-10.0f32, 0.5, 0.25, 0.25], [1.0f32, -1.0, 1.0, 1.0, 1.0, 1.0]);
        let (of_first, of_second) = ([1.0f32, 2.0], [1.0f32, 2.0]);
        let mut sum = ScoreSum::default();
        sum.add(&first, &of_first);
        assert_eq!(sum.sum, 10.0 + 1.0 + 0.25 + 0.5);
        sum.add(&second, &of_second);
        assert_eq!((sum.sum, sum.weights), (20.75, 10));
        assert_eq!(sum.threshold(), 10.375);
        assert_eq!(count_above(&first, &of_first, sum.threshold()), 0);
        assert_eq!(count_above(&first, &of_first, 9.9), 1);
        assert_eq!(count_above(&first, &of_first, 10.0), 0, "strictly greater");
        assert_eq!(sum.percent(1), 10.0);
    }
}
