//! What share of its output the modules of a block lose at every share of their weights that goes.
//!
//! Of a module the relative squared error is `Σ_ij (W_ij ‖x_j‖)²` over the weights that go, over the same sum of all
//! weights, where in every row those with the lowest scores `|W_ij| ‖x_j‖` go, as with Wanda. Inputs count as if they did not
//! go together.

use rayon::prelude::*;

/// Shares of a hundred at which the error is known.
pub(crate) const ERROR_LEVELS: usize = 100;

/// Rows that one thread sorts.
const ROWS: usize = 16;

/// The mean over the weights of a block of what their modules lose.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ErrorCurve {
    /// At 1%, 2% and so on to all of the weights: sums over the modules, each with the number of its weights.
    sums: [f64; ERROR_LEVELS],
    weights: u64,
}

impl ErrorCurve {
    /// Of no module yet.
    pub fn new() -> Self {
        Self { sums: [0.0; ERROR_LEVELS], weights: 0 }
    }

    /// Adds a module with a matrix `[rows, columns]`, whose inputs have these norms.
    pub fn add(&mut self, weights: &[f32], norms: &[f32]) {
        let of_rows = |rows: &[f32]| lost(rows, norms);
        let parts: Vec<_> = weights.par_chunks(ROWS * norms.len().max(1)).map(of_rows).collect();
        let mut lost = [0.0; ERROR_LEVELS];
        // In the order of the rows, so that the sum is the same however many threads there are.
        for part in parts {
            for (lost, part) in lost.iter_mut().zip(part) {
                *lost += part;
            }
        }
        let all = lost[ERROR_LEVELS - 1];
        if all > 0.0 {
            let count = weights.len() as f64;
            for (sum, lost) in self.sums.iter_mut().zip(lost) {
                *sum += count * lost / all;
            }
        }
        self.weights += weights.len() as u64;
    }

    /// The mean at every level.
    pub fn finish(self) -> Vec<f64> {
        let count = self.weights.max(1) as f64;
        self.sums.iter().map(|sum| sum / count).collect()
    }
}

/// `Σ (W_ij ‖x_j‖)²` of the lowest of every row, at every level. Of a weight that a level falls into, its part.
fn lost(rows: &[f32], norms: &[f32]) -> [f64; ERROR_LEVELS] {
    let mut all = [0.0; ERROR_LEVELS];
    let mut scores: Vec<u32> = Vec::with_capacity(norms.len());
    for row in rows.chunks(norms.len().max(1)) {
        scores.clear();
        // What is not negative is in the order of its bits, which are sorted faster.
        scores.extend(row.iter().zip(norms).map(|(weight, norm)| (weight.abs() * norm).to_bits()));
        scores.sort_unstable();
        let square = |at: usize| scores.get(at).map_or(0.0, |bits| f64::from(f32::from_bits(*bits)).powi(2));
        let (mut gone, mut sum) = (0, 0.0);
        for (level, all) in (1..).zip(&mut all) {
            let hundredths = row.len() * level;
            let whole = hundredths / ERROR_LEVELS;
            sum += (gone..whole).map(square).sum::<f64>();
            gone = whole;
            *all += sum + square(whole) * (hundredths % ERROR_LEVELS) as f64 / ERROR_LEVELS as f64;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(modules: &[(&[f32], &[f32])]) -> Vec<f64> {
        let mut curve = ErrorCurve::new();
        for (weights, norms) in modules {
            curve.add(weights, norms);
        }
        curve.finish()
    }

    #[test]
    fn a_module_loses_the_squares_of_its_lowest_scores_row_by_row() {
        // Squared scores of the rows: 1, 4, 16, 4 and 0, 1, 100, 25; 151 in all.
        let found = curve(&[(&[1.0, -2.0, 2.0, 2.0, 0.0, 1.0, -5.0, 5.0], &[1.0, 1.0, 2.0, 1.0])]);
        assert_eq!(found.len(), 100);
        let half = 1.0 + 4.0 + 0.0 + 1.0;
        // The second row's third weight is 5, whose square is 25.
        let close = |at: usize, lost: f64| (found[at - 1] - lost / 151.0).abs() < 1e-12;
        assert!(close(25, 1.0) && close(50, half) && close(100, 151.0), "{found:?}");
        assert!(close(10, 0.4) && close(60, half + 0.4 * (4.0 + 25.0)), "parts of weights count as parts");
        let steps = found.windows(3).map(|three| (three[1] - three[0], three[2] - three[1]));
        assert!(
            steps.into_iter().all(|(first, second)| first <= second + 1e-12),
            "the more goes, the more each costs"
        );
    }

    #[test]
    fn modules_count_by_their_weights_and_one_without_output_loses_nothing() {
        let (large, small) = ([1.0f32, 1.0, 1.0, 1.0], [1.0f32, 3.0]);
        let found = curve(&[(&large, &[1.0, 1.0]), (&small, &[1.0, 1.0])]);
        assert!((found[49] - (4.0 * 0.5 + 2.0 * 0.1) / 6.0).abs() < 1e-12);
        assert!(curve(&[(&large, &[0.0, 0.0])]).iter().all(|lost| *lost == 0.0));
        assert_eq!(curve(&[]), vec![0.0; 100]);
    }
}
