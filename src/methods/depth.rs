//! Depth: whole decoder blocks go.
//!
//! By influence (ShortGPT, arXiv 2403.03853) those that change the hidden states least; by angle (Gromov et al., arXiv
//! 2403.17887) the span of neighbours across which the last state of a text turns least; by loss (SLEB, arXiv 2402.09025)
//! one after the other, each time the block without which a text is predicted best.

use super::removal::{BlockRemoval, DenseModel, lowest};
use super::{Arguments, Bound, Cost, Family, Method, Needs, Parameter, ParameterKind};
use crate::error::{Error, Result};

const INFLUENCE: &str = "influence";
const ANGULAR: &str = "angular";
const LOSS: &str = "loss";

const BY: Parameter = Parameter {
    name: "by",
    about: "what blocks are chosen by: their influence on hidden states, the angle across a span of them, or the loss \
            without them",
    kind: ParameterKind::Choice(&[INFLUENCE, ANGULAR, LOSS]),
};

/// Removes decoder blocks.
#[derive(Debug, Clone, Copy)]
pub struct Depth;

impl Method for Depth {
    fn name(&self) -> &'static str {
        "depth"
    }

    fn about(&self) -> &'static str {
        "removes decoder blocks that change the hidden states least (ShortGPT, Gromov et al., SLEB)"
    }

    fn family(&self) -> Family {
        Family::Structure
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[BY]
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

    fn block_removal(&self) -> Option<&dyn BlockRemoval> {
        Some(self)
    }
}

impl BlockRemoval for Depth {
    fn most(&self, blocks: usize, arguments: &Arguments) -> usize {
        // A model without any block is none. The first and the last are no candidates where the loss decides.
        let fixed = if arguments.text(&BY) == LOSS { 2 } else { 1 };
        blocks.saturating_sub(fixed)
    }

    fn trials(&self, blocks: usize, count: usize, arguments: &Arguments) -> usize {
        if arguments.text(&BY) != LOSS {
            return 0;
        }
        (0..count).map(|removed| blocks.saturating_sub(2 + removed)).sum()
    }

    fn choose(
        &self,
        model: &mut dyn DenseModel,
        blocks: usize,
        count: usize,
        arguments: &Arguments,
    ) -> Result<Vec<usize>> {
        let mut chosen = match arguments.text(&BY).as_str() {
            ANGULAR => least_turning(&model.survey()?.angles, count)?,
            LOSS => greedily(model, blocks, count)?,
            _ => lowest(&model.survey()?.influence, count),
        };
        chosen.sort_unstable();
        Ok(chosen)
    }
}

/// The blocks of the span with the least angle, which does not reach the last block.
fn least_turning(angles: &[Vec<f64>], count: usize) -> Result<Vec<usize>> {
    let spans = count.checked_sub(1).and_then(|place| angles.get(place)).map_or(&[][..], Vec::as_slice);
    let before_the_last = &spans[..spans.len().saturating_sub(1)];
    let first = lowest(before_the_last, 1).first().copied();
    let first = first.ok_or_else(|| Error::failure("the survey has no such span of blocks"))?;
    Ok((first..first + count).collect())
}

/// One block after the other, without which the loss is least; never the first or the last, of equals the first.
fn greedily(model: &mut dyn DenseModel, blocks: usize, count: usize) -> Result<Vec<usize>> {
    let mut removed: Vec<usize> = Vec::with_capacity(count);
    while removed.len() < count {
        let candidates: Vec<usize> = (1..blocks.saturating_sub(1)).filter(|b| !removed.contains(b)).collect();
        let losses = model.losses_without(&removed, &candidates)?;
        let best = lowest(&losses, 1).first().and_then(|place| candidates.get(*place)).copied();
        removed.push(best.ok_or_else(|| Error::failure("no block is left that could go"))?);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Survey;
    use crate::study::Parameters;

    /// A model of six blocks, each with a loss of its own that its absence adds.
    struct SixBlocks;

    const HARM: [f64; 6] = [0.0, 0.5, 0.2, 0.3, 0.2, 0.0];

    impl DenseModel for SixBlocks {
        fn survey(&mut self) -> Result<Survey> {
            Ok(Survey {
                windows: 1,
                influence: vec![0.9, 0.2, 0.3, 0.2, 0.1, 0.05],
                // The span that turns least reaches the last block.
                angles: vec![
                    vec![0.5, 0.4, 0.3, 0.2, 0.3, 0.1],
                    vec![0.5, 0.3, 0.4, 0.4, 0.1],
                    vec![0.5, 0.4, 0.3, 0.1],
                ],
                ..Survey::default()
            })
        }

        fn losses_without(&mut self, removed: &[usize], candidates: &[usize]) -> Result<Vec<f64>> {
            let before: f64 = removed.iter().map(|block| HARM[*block]).sum();
            Ok(candidates.iter().map(|block| 3.0 + before + HARM[*block]).collect())
        }
    }

    fn chosen(by: &str, count: usize) -> Vec<usize> {
        let given = Parameters::from([("by".to_owned(), by.to_owned())]);
        let arguments = Depth.arguments(&given, &Parameters::new()).unwrap();
        Depth.choose(&mut SixBlocks, 6, count, &arguments).unwrap()
    }

    #[test]
    fn influence_takes_the_lowest_wherever_they_are_and_of_equals_the_first() {
        assert_eq!(chosen("influence", 1), [5]);
        assert_eq!(chosen("influence", 3), [1, 4, 5]);
    }

    #[test]
    fn an_angle_takes_neighbours_and_never_the_last_block() {
        assert_eq!(chosen("angular", 1), [3]);
        assert_eq!(chosen("angular", 2), [1, 2]);
        assert_eq!(chosen("angular", 3), [2, 3, 4]);
    }

    #[test]
    fn loss_takes_one_after_the_other_and_neither_the_first_nor_the_last() {
        assert_eq!(chosen("loss", 1), [2]);
        assert_eq!(chosen("loss", 3), [2, 3, 4]);
        assert_eq!(chosen("loss", 4), [1, 2, 3, 4]);
    }
}
