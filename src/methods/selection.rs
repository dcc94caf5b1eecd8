//! Which weights of a row go, given a score for each.

use super::share;
use crate::kernels::select::mark_smallest;
use crate::study::Sparsity;

/// Scores of one row, with the buffers that choosing takes. One a thread.
pub(super) struct RowSelection {
    scores: Vec<f32>,
    ranked: Vec<f32>,
    marks: Vec<bool>,
}

impl RowSelection {
    /// For rows of so many columns.
    pub fn new(columns: usize) -> Self {
        Self { scores: vec![0.0; columns], ranked: vec![0.0; columns], marks: vec![false; columns] }
    }

    /// Sets the scores of a row's weights.
    pub fn score(&mut self, scores: impl Iterator<Item = f32>) {
        for (own, score) in self.scores.iter_mut().zip(scores) {
            *own = score;
        }
    }

    /// Zeroes the `floor(columns · s)` lowest scores, of equal ones those of lower columns; N:M: the N lowest of every
    /// M neighbours.
    pub fn zero_lowest(&mut self, row: &mut [f32], sparsity: Sparsity) {
        match sparsity {
            Sparsity::Fraction(s) => self.zero_count(row, share(row.len(), s)),
            Sparsity::SemiStructured { zeros, group } => {
                for (weights, scores) in row.chunks_exact_mut(group).zip(self.scores.chunks_exact(group)) {
                    mark_smallest(scores, zeros, &mut self.marks[..group]);
                    zero_marked(weights, &self.marks[..group]);
                }
            }
        }
    }

    /// All below the value at that rank go, then the first of those equal to it. That is what a stable sort would take,
    /// without sorting.
    fn zero_count(&mut self, row: &mut [f32], count: usize) {
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

/// Zeroes the weights that are marked.
pub(super) fn zero_marked(weights: &mut [f32], marks: &[bool]) {
    for (w, &gone) in weights.iter_mut().zip(marks) {
        if gone {
            *w = 0.0;
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
            let mut order: Vec<usize> = (0..columns).collect();
            order.sort_by(|&a, &b| row[a].abs().total_cmp(&row[b].abs()));
            let mut expected = row.clone();
            for &j in &order[..share(columns, fraction)] { expected[j] = 0.0; }
            let mut got = row.clone();
            let mut selection = RowSelection::new(columns);
            selection.score(row.iter().map(|w| 2.0 * w.abs()));
            selection.zero_lowest(&mut got, Sparsity::Fraction(fraction));
            prop_assert_eq!(got, expected);
        }
    }
}
