//! Experts: those of a mixture that add least go (REAP, arXiv 2510.13999).

use super::removal::{DenseModel, ExpertRemoval, lowest};
use super::{Arguments, Bound, Cost, Family, Method, Needs};
use crate::error::{Error, Result};
use crate::study::Level;

/// Removes experts of every block.
#[derive(Debug, Clone, Copy)]
pub struct Experts;

impl Method for Experts {
    fn name(&self) -> &'static str {
        "experts"
    }

    fn about(&self) -> &'static str {
        "removes experts of a mixture by router weight times output norm (REAP)"
    }

    fn family(&self) -> Family {
        Family::Structure
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn looks_at_data(&self, _arguments: &Arguments) -> bool {
        true
    }

    fn updates_weights(&self) -> bool {
        false
    }

    fn cost(&self, _rows: usize, _columns: usize) -> Cost {
        Cost { operations: 0.0, bound: Bound::Memory }
    }

    fn takes(&self, level: Level) -> bool {
        matches!(level, Level::Share(_))
    }

    fn levels(&self) -> Option<&'static str> {
        Some("a share above 0 (0.25 or 25%)")
    }

    fn suits_every_model(&self) -> bool {
        false
    }

    fn searched_levels(&self) -> Option<Vec<Level>> {
        // Whole experts of a block of eight, of which a token goes through two, and of larger ones.
        Some((1..=6).map(|eighths| Level::Share(f64::from(eighths) / 8.0)).collect())
    }

    fn expert_removal(&self) -> Option<&dyn ExpertRemoval> {
        Some(self)
    }
}

impl ExpertRemoval for Experts {
    fn choose(&self, model: &mut dyn DenseModel, count: usize) -> Result<Vec<Vec<usize>>> {
        let chosen = |(block, scores): (usize, &Vec<f64>)| {
            // A forward pass that shows no expert would have the first ones go.
            if scores.iter().all(|score| *score == 0.0) {
                return Err(Error::failure(format!("no expert of block {block} has a score")));
            }
            let mut chosen = lowest(scores, count);
            chosen.sort_unstable();
            Ok(chosen)
        };
        model.survey()?.experts.iter().enumerate().map(chosen).collect()
    }
}

/// REAP's score of every expert of a block: the mean, over the tokens that are routed to it, of what the router has its
/// output multiplied by, times the length of that output. An expert that no token reaches has 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ExpertScores {
    /// Sum and number of tokens of every expert.
    seen: Vec<(f64, usize)>,
}

impl ExpertScores {
    /// Of so many experts, none of which has seen a token.
    pub fn new(experts: usize) -> Self {
        Self { seen: vec![(0.0, 0); experts] }
    }

    /// Adds tokens that were routed to an expert: a gate and the length of the output for each.
    pub fn add(&mut self, expert: usize, gates: &[f32], norms: &[f64]) {
        let Some((sum, tokens)) = self.seen.get_mut(expert) else { return };
        for (gate, norm) in gates.iter().zip(norms) {
            *sum += f64::from(*gate) * norm;
            *tokens += 1;
        }
    }

    /// The scores.
    pub fn finish(self) -> Vec<f64> {
        let mean = |(sum, tokens): (f64, usize)| if tokens == 0 { 0.0 } else { sum / tokens as f64 };
        self.seen.into_iter().map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Survey;

    #[test]
    fn a_score_is_a_mean_over_the_tokens_of_an_expert_and_zero_where_there_are_none() {
        let mut scores = ExpertScores::new(3);
        scores.add(0, &[0.5, 0.25], &[2.0, 4.0]);
        scores.add(2, &[1.0], &[3.0]);
        scores.add(0, &[1.0], &[1.0]);
        assert_eq!(scores.finish(), [1.0, 0.0, 3.0]);
    }

    struct TwoBlocks;

    impl DenseModel for TwoBlocks {
        fn survey(&mut self) -> Result<Survey> {
            let experts = vec![vec![0.5, 0.1, 0.3, 0.2], vec![0.0, 2.0, 0.0, 0.0]];
            Ok(Survey { experts, ..Survey::default() })
        }

        fn losses_without(&mut self, _removed: &[usize], _candidates: &[usize]) -> Result<Vec<f64>> {
            Err(Error::failure("nobody asks for losses"))
        }
    }

    #[test]
    fn the_lowest_of_every_block_go_and_of_equals_the_first() {
        assert_eq!(Experts.choose(&mut TwoBlocks, 1).unwrap(), [[1], [0]]);
        assert_eq!(Experts.choose(&mut TwoBlocks, 2).unwrap(), [[1, 3], [0, 2]]);
    }

    struct Unseen;

    impl DenseModel for Unseen {
        fn survey(&mut self) -> Result<Survey> {
            Ok(Survey { experts: vec![vec![1.0, 0.5], vec![0.0, 0.0]], ..Survey::default() })
        }

        fn losses_without(&mut self, _removed: &[usize], _candidates: &[usize]) -> Result<Vec<f64>> {
            Err(Error::failure("nobody asks for losses"))
        }
    }

    #[test]
    fn nothing_is_chosen_among_experts_that_nobody_saw() {
        let error = Experts.choose(&mut Unseen, 1).unwrap_err();
        assert_eq!(error.to_string(), "no expert of block 1 has a score");
    }
}
