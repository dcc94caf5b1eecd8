//! Methods that remove decoder blocks, or experts of blocks, as a whole.

use super::{Arguments, Survey};
use crate::error::{Error, Result};
use crate::study::Level;

/// The dense model, as far as a choice of blocks may ask for it.
pub trait DenseModel {
    /// What one pass over the calibration set shows of every block.
    ///
    /// # Errors
    /// A pass that fails or is stopped.
    fn survey(&mut self) -> Result<Survey>;

    /// The mean negative log-likelihood of the first calibration windows, in nats a token, without the blocks `removed`
    /// and, in turn, without each of `candidates` besides.
    ///
    /// # Errors
    /// A pass that fails or is stopped.
    fn losses_without(&mut self, removed: &[usize], candidates: &[usize]) -> Result<Vec<f64>>;
}

/// A method that removes decoder blocks.
pub trait BlockRemoval: Sync {
    /// Most blocks of a model that it can remove.
    fn most(&self, blocks: usize, arguments: &Arguments) -> usize;

    /// Models with some blocks left out that it tries before it has chosen; 0 where the survey says enough.
    fn trials(&self, blocks: usize, count: usize, arguments: &Arguments) -> usize;

    /// Chooses `count` blocks of a model of `blocks`, at most [`Self::most`]; they come back in ascending order.
    ///
    /// # Errors
    /// What the model says.
    fn choose(
        &self,
        model: &mut dyn DenseModel,
        blocks: usize,
        count: usize,
        arguments: &Arguments,
    ) -> Result<Vec<usize>>;
}

/// A method that removes experts of every block.
pub trait ExpertRemoval: Sync {
    /// Chooses `count` experts of every block; a list for each, in ascending order.
    ///
    /// # Errors
    /// What the model says.
    fn choose(&self, model: &mut dyn DenseModel, count: usize) -> Result<Vec<Vec<usize>>>;
}

/// The `count` lowest, of equals the first.
pub(super) fn lowest(figures: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..figures.len()).collect();
    order.sort_by(|a, b| figures[*a].total_cmp(&figures[*b]));
    order.truncate(count);
    order
}

/// How many of `experts` a level removes from every block; `chosen` is how many a token goes through, and so many have to
/// stay.
///
/// # Errors
/// [`Error::Mistake`] where none would go, or too few would stay.
pub(super) fn experts_removed(level: Level, (experts, chosen): (usize, usize)) -> Result<usize> {
    let Level::Share(share) = level else {
        return Err(Error::failure("a method that removes experts needs a share of them"));
    };
    // A share of a hundred is seldom a sum of powers of two: 0.58 · 50 are 29 experts and not 28.
    let count = (share * experts as f64 + 1e-9).floor() as usize;
    let most = experts.saturating_sub(chosen);
    if (1..=most).contains(&count) {
        return Ok(count);
    }
    let accepted = if most == 0 {
        "a token goes through all of them, so none can go".to_owned()
    } else {
        let (fewest, largest) = (100.0 / experts as f64, 100.0 * most as f64 / experts as f64);
        format!(
            "a token goes through {chosen} of them, so accepted are 1 to {most}, that is {:.0}% to {:.0}%",
            fewest.ceil(),
            largest.floor()
        )
    };
    Err(Error::mistake(format!(
        "level `{level}` removes {count} of the {experts} experts of a block: {accepted}"
    )))
}

/// How many of a model's blocks a level removes; shares are rounded to whole blocks, and to at least one.
///
/// # Errors
/// [`Error::Mistake`] where none would go, or more than can.
pub(super) fn blocks_removed(level: Level, blocks: usize, most: usize) -> Result<usize> {
    let count = match level {
        Level::Share(share) => ((share * blocks as f64).round() as usize).max(1),
        Level::Blocks(count) => count,
        _ => return Err(Error::failure("a method that removes blocks needs a share or a number of them")),
    };
    if (1..=most).contains(&count) {
        return Ok(count);
    }
    Err(Error::mistake(format!(
        "level `{level}` removes {count} of the {blocks} blocks of the model: accepted are 1 to {most}"
    )))
}
