//! Methods that make every block narrower.

use super::{Arguments, SiteFigures};
use crate::error::Result;

/// What a block weighs, and what its parts do: weights of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockWeights {
    /// All of the block.
    pub all: usize,
    /// Key heads; `None` where none can go.
    pub groups: Option<usize>,
    /// A key head, with the query heads that share it.
    pub group: usize,
    /// Neurons of the MLP.
    pub neurons: usize,
    /// A neuron.
    pub neuron: usize,
    /// What the number of neurons that stay has to be a multiple of.
    pub multiple: usize,
}

/// Units that go from every block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WidthCounts {
    /// Key heads.
    pub groups: usize,
    /// Neurons.
    pub neurons: usize,
}

/// A method that removes heads and neurons, the same number from every block.
pub trait WidthRemoval: Sync {
    /// How many of them a share of a block's weights is.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] where none would go, or more than can.
    fn counts(&self, share: f64, block: &BlockWeights, arguments: &Arguments) -> Result<WidthCounts>;

    /// What the neurons that stay have to be a multiple of, as far as the method itself is asked.
    fn multiple(&self, arguments: &Arguments) -> usize;

    /// How much every unit of a part is worth, by the module that reads it: its weights, `[out, in]`, what its inputs are
    /// like, and how many neighbours among these are a unit.
    fn scores(&self, weights: &[f32], inputs: &SiteFigures, features: usize) -> Vec<f64>;
}

/// The `count` lowest that go, of equals the first; returns those that stay, in ascending order.
pub(crate) fn units_that_stay(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let mut stay = order.split_off(count.min(scores.len()));
    stay.sort_unstable();
    stay
}

/// What features give to a module's output in the mean, `[out]`: `Σ_j mean(x_j) · W[:, j]` over those that are not among
/// `kept`, in ascending order (FLAP, arXiv 2312.11983).
pub(crate) fn mean_output(weights: &[f32], means: &[f64], kept: &[usize]) -> Vec<f32> {
    let columns = means.len().max(1);
    let gone: Vec<usize> = (0..means.len()).filter(|column| kept.binary_search(column).is_err()).collect();
    let output = |row: &[f32]| gone.iter().map(|j| means[*j] * f64::from(row[*j])).sum::<f64>() as f32;
    weights.chunks_exact(columns).map(output).collect()
}
