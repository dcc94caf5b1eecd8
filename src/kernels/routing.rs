//! Which experts of a mixture a token goes to.

use rayon::prelude::*;

/// An expert that a token goes to, and what its output is multiplied by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExpertChoice {
    /// Number of the expert.
    pub expert: usize,
    /// Its share.
    pub weight: f32,
}

/// The `chosen` most likely experts of every row of `logits`, `[n, experts]`, the likeliest first and of equally likely
/// ones the lower number first: `[n, chosen]`. A weight is the softmax over all experts in `f32`; `renormalise` divides
/// by the sum of those that are chosen (`norm_topk_prob` of transformers).
pub fn choose_experts(logits: &[f32], experts: usize, chosen: usize, renormalise: bool) -> Vec<ExpertChoice> {
    let rows = logits.len() / experts;
    let mut choices = vec![ExpertChoice::default(); rows * chosen];
    choices.par_chunks_mut(chosen).zip(logits.par_chunks_exact(experts)).with_min_len(256).for_each_init(
        || Vec::with_capacity(experts),
        |order, (choices, logits)| choose_of_row(choices, logits, order, renormalise),
    );
    choices
}

fn choose_of_row(choices: &mut [ExpertChoice], logits: &[f32], order: &mut Vec<usize>, renormalise: bool) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let likelihood = |expert: usize| (logits[expert] - largest).exp();
    let total: f32 = (0..logits.len()).map(likelihood).sum();
    order.clear();
    order.extend(0..logits.len());
    // Stable, so that equal ones keep their order.
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    for (choice, &expert) in choices.iter_mut().zip(&*order) {
        *choice = ExpertChoice { expert, weight: likelihood(expert) / total };
    }
    if renormalise {
        let total: f32 = choices.iter().map(|choice| choice.weight).sum();
        for choice in choices.iter_mut() {
            choice.weight /= total;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn weights_are_the_largest_of_the_softmax(
            logits in prop::collection::vec(-8f32..8.0, 24), chosen in 1usize..=6, renormalise: bool,
        ) {
            let choices = choose_experts(&logits, 6, chosen, renormalise);
            for (row, choices) in logits.chunks(6).zip(choices.chunks(chosen)) {
                let likelihoods: Vec<f64> = row.iter().map(|v| f64::from(*v).exp()).collect();
                let mut sorted = likelihoods.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let all: f64 = if renormalise { sorted[..chosen].iter().sum() } else { sorted.iter().sum() };
                for (choice, want) in choices.iter().zip(&sorted) {
                    prop_assert!((likelihoods[choice.expert] - want).abs() <= 1e-9 * want);
                    prop_assert!((f64::from(choice.weight) - want / all).abs() < 1e-5);
                }
            }
        }
    }
}
