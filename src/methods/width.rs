//! Width: heads and neurons go, the same number from every block.
//!
//! FLAP (arXiv 2312.11983) with one structure for all blocks. A feature is worth how much its value fluctuates, times
//! what the weights make of it; what it gives in the mean stays as a bias, where the architecture has one.

use super::narrowing::{BlockWeights, WidthCounts, WidthRemoval};
use super::{Arguments, Bound, Cost, Family, Method, Needs, Parameter, ParameterKind, SiteFigures};
use crate::error::{Error, Result};
use crate::study::Level;

const AUTO: &str = "auto";
const BOTH: &str = "both";
const MLP: &str = "mlp";

/// Key heads from which on some go where nothing is said. One of fewer is a large part of the attention, and costs more
/// than as many weights of the MLP.
const ENOUGH_GROUPS: usize = 8;

const OF: Parameter = Parameter {
    name: "of",
    about: "what goes: key heads with their query heads and neurons of the MLP, or neurons alone; auto takes heads \
            from models with at least 8 key heads",
    kind: ParameterKind::Choice(&[AUTO, BOTH, MLP]),
};

const MULTIPLE: Parameter = Parameter {
    name: "multiple",
    about: "the number of neurons that stay is a multiple of this; fewer go for that",
    kind: ParameterKind::Count { default: 1, least: 1 },
};

/// Removes heads and neurons.
#[derive(Debug, Clone, Copy)]
pub struct Width;

impl Method for Width {
    fn name(&self) -> &'static str {
        "width"
    }

    fn about(&self) -> &'static str {
        "removes the heads and neurons whose outputs fluctuate least from every block (FLAP)"
    }

    fn family(&self) -> Family {
        Family::Structure
    }

    fn takes(&self, level: Level) -> bool {
        matches!(level, Level::Share(_))
    }

    fn levels(&self) -> Option<&'static str> {
        Some("a share above 0 (0.2 or 20%)")
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[OF, MULTIPLE]
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

    fn width_removal(&self) -> Option<&dyn WidthRemoval> {
        Some(self)
    }
}

impl WidthRemoval for Width {
    fn counts(&self, share: f64, block: &BlockWeights, arguments: &Arguments) -> Result<WidthCounts> {
        let of = arguments.text(&OF);
        let groups = match (of.as_str(), block.groups) {
            (MLP, _) | (AUTO, None) => 0,
            (AUTO, Some(groups)) if groups < ENOUGH_GROUPS => 0,
            (_, groups) => {
                ((share * groups.unwrap_or(0) as f64).floor() as usize).min(groups.unwrap_or(1) - 1)
            }
        };
        let rest = share * block.all as f64 - (groups * block.group) as f64;
        let wanted = (rest.max(0.0) / block.neuron.max(1) as f64).floor() as usize;
        let most = block.neurons.saturating_sub(1);
        if wanted > most {
            let most_share = (most * block.neuron + groups * block.group) as f64 / block.all.max(1) as f64;
            return Err(Error::mistake(format!(
                "{share} of a block's weights are {wanted} of {} neurons{}: accepted is less than {:.1}%",
                block.neurons,
                if groups > 0 { format!(" beside {groups} key heads") } else { String::new() },
                100.0 * most_share
            )));
        }
        let multiple = block.multiple.max(1);
        let kept = (block.neurons - wanted).next_multiple_of(multiple).min(block.neurons);
        let counts = WidthCounts { groups, neurons: block.neurons - kept };
        if counts == WidthCounts::default() {
            return Err(Error::mistake(format!(
                "{share} of a block's weights are {wanted} of {} neurons, of which a multiple of {multiple} stays: none \
                 would go; accepted is a larger share",
                block.neurons
            )));
        }
        Ok(counts)
    }

    fn multiple(&self, arguments: &Arguments) -> usize {
        arguments.count(&MULTIPLE)
    }

    fn scores(&self, weights: &[f32], inputs: &SiteFigures, features: usize) -> Vec<f64> {
        let of_features = fluctuations(weights, &inputs.variance);
        if features == 1 {
            return of_features;
        }
        // Of a head, the squares are summed, as FLAP's authors do.
        of_features.chunks(features).map(|unit| unit.iter().map(|score| score * score).sum()).collect()
    }
}

/// How much each input feature makes a module's output fluctuate: `Var(x_j) · Σ_i W_ij²`, with `W` `[out, in]`.
fn fluctuations(weights: &[f32], variances: &[f64]) -> Vec<f64> {
    let mut squares = vec![0.0; variances.len()];
    for row in weights.chunks_exact(variances.len().max(1)) {
        for (sum, weight) in squares.iter_mut().zip(row) {
            *sum += f64::from(*weight) * f64::from(*weight);
        }
    }
    squares.iter().zip(variances).map(|(squares, variance)| squares * variance).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "exact values are meant")]

    use super::super::narrowing::{mean_output, units_that_stay};
    use super::*;
    use crate::study::Parameters;

    /// The blocks of `SmolLM2-135M`: hidden size 576, 9 query and 3 key heads of 64, 1536 neurons.
    const SMOL: BlockWeights = BlockWeights {
        all: 3_538_944,
        groups: Some(3),
        group: 512 * 576,
        neurons: 1536,
        neuron: 3 * 576,
        multiple: 1,
    };

    fn counts(share: f64, block: &BlockWeights, of: &str) -> Result<WidthCounts> {
        let given = Parameters::from([("of".to_owned(), of.to_owned())]);
        Width.counts(share, block, &Width.arguments(&given, &Parameters::new()).unwrap())
    }

    fn found(share: f64, block: &BlockWeights, of: &str) -> (usize, usize) {
        let WidthCounts { groups, neurons } = counts(share, block, of).unwrap();
        (groups, neurons)
    }

    #[test]
    fn a_share_of_the_weights_is_whole_groups_and_neurons_for_the_rest() {
        assert_eq!(found(0.15, &SMOL, "both"), (0, 307));
        assert_eq!(found(0.2, &SMOL, "both"), (0, 409), "a fifth of three groups is none");
        assert_eq!(found(0.4, &SMOL, "both"), (1, 648));
        assert_eq!(found(0.4, &SMOL, "auto"), (0, 819), "few groups stay");
        let many = BlockWeights { groups: Some(8), group: 512 * 216, ..SMOL };
        assert_eq!(found(0.4, &many, "auto").0, 3);
        assert_eq!(found(0.4, &many, "mlp"), (0, 819));
        assert_eq!(found(0.4, &BlockWeights { groups: None, ..many }, "auto"), (0, 819));
    }

    #[test]
    fn neurons_that_stay_are_a_multiple_where_one_is_asked_for() {
        let of = |multiple| found(0.2, &BlockWeights { multiple, ..SMOL }, "mlp").1;
        assert_eq!((of(1), of(32), of(64), of(256)), (409, 384, 384, 256));
    }

    #[test]
    fn what_cannot_go_is_refused_with_what_can() {
        for (share, multiple, part) in [
            (0.8, 1, "accepted is less than 75.0%"),
            (0.0001, 1, "none would go"),
            (0.01, 512, "multiple of 512"),
        ] {
            let error = counts(share, &BlockWeights { multiple, ..SMOL }, "mlp").unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn scores_are_variances_times_squared_weights_and_of_heads_the_squares_of_these() {
        let inputs = SiteFigures {
            module: "o".into(),
            mean: vec![1.0, -2.0, 0.5, 0.0],
            variance: vec![2.0, 0.5, 1.0, 3.0],
        };
        let weights = [1.0, 2.0, 0.0, 1.0, 3.0, 0.0, 1.0, -1.0_f32];
        assert_eq!(Width.scores(&weights, &inputs, 1), [2.0 * 10.0, 0.5 * 4.0, 1.0, 3.0 * 2.0]);
        assert_eq!(Width.scores(&weights, &inputs, 2), [400.0 + 4.0, 1.0 + 36.0]);
        assert_eq!(mean_output(&weights, &inputs.mean, &[0, 3]), [-2.0 * 2.0, 0.5]);
        assert_eq!(mean_output(&weights, &inputs.mean, &[0, 1, 2, 3]), [0.0, 0.0]);
    }

    #[test]
    fn the_lowest_go_and_of_equals_the_first() {
        assert_eq!(units_that_stay(&[0.3, 0.1, 0.2, 0.1], 1), [0, 2, 3]);
        assert_eq!(units_that_stay(&[0.3, 0.1, 0.2, 0.1], 3), [0]);
        assert_eq!(units_that_stay(&[0.3, 0.1], 0), [0, 1]);
    }
}
