//! What one pass of the dense model over a calibration set shows of its blocks.

use serde::{Deserialize, Serialize};

/// The figures of every block, by which parts of a model are chosen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Survey {
    /// Windows that were read.
    pub windows: usize,
    /// Block Influence: the mean over all positions of all windows of `1 − cos(h_i, h_i+1)`, where `h_i` are the hidden
    /// states before block `i` and `h_i+1` those behind it, before any final norm (ShortGPT, arXiv 2403.03853).
    pub influence: Vec<f64>,
    /// Angular distances of spans of blocks: entry `[n − 1][l]` is the mean over the windows of
    /// `arccos(cos(h_l, h_l+n)) / π` at their last position (Gromov et al., arXiv 2403.17887).
    pub angles: Vec<Vec<f64>>,
    /// Of every block, the score of each of its experts: the mean, over the tokens that are routed to it, of what the router
    /// has its output multiplied by, times the Euclidean length of that output (REAP, arXiv 2510.13999). A block without
    /// experts has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub experts: Vec<Vec<f64>>,
    /// Weights whose score `|W_ij| · sqrt(scaler_j)` is above five times the mean over all modules of their block, in
    /// percent (OWL, arXiv 2310.05175). Empty in surveys of before these were counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outlier_ratio: Vec<f64>,
    /// Of every block, the relative squared error of its pruned modules where they lose 1%, 2% and so on to all of their
    /// weights: the mean over the weights. Empty in surveys of before these were measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Vec<f64>>,
    /// Of every block, what the inputs of the modules that give the outputs of attention and of the MLP are like, in their
    /// order. A survey that an earlier version made has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<Vec<SiteFigures>>,
}

/// What the survey shows of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlockFigures {
    /// Its number in the files.
    pub block: usize,
    /// As in [`Survey`].
    pub influence: f64,
    /// As in [`Survey`].
    pub experts: Vec<f64>,
    /// As in [`Survey`].
    pub outlier_ratio: f64,
    /// As in [`Survey`].
    pub errors: Vec<f64>,
    /// As in [`Survey`].
    pub sites: Vec<SiteFigures>,
}

/// What the input of a module is like, feature by feature, over all tokens of all windows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteFigures {
    /// The module's path within the block.
    pub module: String,
    /// The mean of every feature.
    pub mean: Vec<f64>,
    /// Its variance, over one less than the tokens.
    pub variance: Vec<f64>,
}

impl Survey {
    /// The survey of a model of `blocks` blocks, some of which were left out. `last` are the states of the last token of every
    /// window before each block that was not, and at the end those behind the last, `[windows, hidden]` each.
    pub(crate) fn of_blocks(
        figures: Vec<BlockFigures>,
        blocks: usize,
        last: &[Vec<f32>],
        (windows, hidden): (usize, usize),
    ) -> Self {
        let angles = span_angles(last, hidden);
        let mut survey = Self { windows, angles, sites: vec![Vec::new(); blocks], ..Self::default() };
        for of_block in figures {
            survey.influence.push(of_block.influence);
            survey.experts.push(of_block.experts);
            survey.outlier_ratio.push(of_block.outlier_ratio);
            survey.errors.push(of_block.errors);
            if let Some(sites) = survey.sites.get_mut(of_block.block) {
                *sites = of_block.sites;
            }
        }
        survey
    }

    /// Blocks that it is about.
    pub fn blocks(&self) -> usize {
        self.influence.len()
    }

    /// Whether it has all that a survey has today: one of an earlier version may not.
    pub fn is_complete(&self) -> bool {
        let known = [self.outlier_ratio.len(), self.errors.len(), self.sites.len(), self.experts.len()];
        known == [self.blocks(); 4]
    }

    /// What the input of a module of a block is like; `None` where that was not looked at.
    pub fn site(&self, block: usize, module: &str) -> Option<&SiteFigures> {
        self.sites.get(block)?.iter().find(|site| site.module == module)
    }
}

/// The cosine of the angle between two states. Of a state that is zero there is none: it counts as 0.5, as in ShortGPT's
/// code.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut product, mut a_squared, mut b_squared) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        product += a * b;
        a_squared += a * a;
        b_squared += b * b;
    }
    let cosine = product / (a_squared * b_squared).sqrt();
    if cosine.is_nan() { 0.5 } else { cosine.clamp(-1.0, 1.0) }
}

/// Mean angles of all spans from the last states of the windows: `states[i]` are those before block `i`, and at the end
/// those behind the last, `[windows, hidden]` each.
pub(crate) fn span_angles(states: &[Vec<f32>], hidden: usize) -> Vec<Vec<f64>> {
    let mean = |from: &[f32], to: &[f32]| {
        let pairs = from.chunks_exact(hidden).zip(to.chunks_exact(hidden));
        let angles = pairs.map(|(from, to)| cosine(from, to).acos() / std::f64::consts::PI);
        angles.sum::<f64>() / (from.len() / hidden).max(1) as f64
    };
    let of_length = |n: usize| states.iter().zip(&states[n..]).map(|(from, to)| mean(from, to)).collect();
    (1..states.len()).map(of_length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_is_that_of_the_angle_and_a_half_where_there_is_none() {
        assert!((cosine(&[1.0, 0.0], &[3.0, 3.0]) - 0.5_f64.sqrt()).abs() < 1e-12);
        assert!((cosine(&[1.0, 2.0], &[-2.0, -4.0]) + 1.0).abs() < 1e-12);
        assert!((cosine(&[0.0, 0.0], &[1.0, 2.0]) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn angles_are_the_mean_over_windows_for_every_span() {
        // Two windows in the plane, turned by a right angle by the first block; by the second only one is turned back.
        let states = [vec![1.0, 0.0, 0.0, 1.0], vec![0.0, 1.0, 1.0, 0.0], vec![2.0, 0.0, 5.0, 0.0]];
        let angles = span_angles(&states, 2);
        let expected = [vec![0.5, 0.25], vec![0.25]];
        assert_eq!(angles.len(), 2);
        for (found, expected) in angles.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{angles:?}");
        }
    }
}
