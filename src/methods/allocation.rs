//! Where the zeros of a fraction go: the same share from every block, or more from blocks that can spare them.

use super::{Arguments, Parameter, ParameterKind, Profile, Survey};
use crate::error::{Error, Result};
use crate::study::{Level, Sparsity};

/// The same share everywhere.
const UNIFORM: &str = "uniform";

/// How a fraction is spread over the blocks.
pub(super) const ALLOCATION: Parameter = Parameter {
    name: "allocation",
    about: "how a fraction is spread over the blocks: the same share of each, or less of blocks with more outliers (owl)",
    kind: ParameterKind::Choice(&[UNIFORM, "owl"]),
};

/// All that are not [`UNIFORM`].
const ALLOCATIONS: &[&dyn Allocation] = &[&Owl];

/// Least and largest share of a block's weights that goes.
const RANGE: (f64, f64) = (0.01, 0.99);

/// A way to spread a fraction over the blocks of a model.
pub trait Allocation: Sync {
    /// The name that recipes give.
    fn name(&self) -> &'static str;

    /// The share of its weights that each of some blocks of a surveyed model loses, in their order, where all of them
    /// together are to lose a fraction.
    ///
    /// # Errors
    /// A survey that lacks what is needed.
    fn shares(&self, survey: &Survey, blocks: &[usize], fraction: f64) -> Result<Vec<f64>>;
}

impl dyn Allocation {
    /// The profile of a cell of some blocks of a surveyed model that is to lose a fraction. Where nothing tells the blocks
    /// apart, all of them lose the same.
    ///
    /// # Errors
    /// What [`Allocation::shares`] says.
    pub(crate) fn profile(&self, survey: &Survey, blocks: &[usize], fraction: f64) -> Result<Profile> {
        let shares = self.shares(survey, blocks, fraction)?;
        let kept = shares.into_iter().map(|share| share.clamp(RANGE.0, RANGE.1));
        let shares: Vec<(usize, f64)> = blocks.iter().copied().zip(kept).collect();
        Ok(Profile::of_shares(self.name(), survey.blocks(), &shares, fraction))
    }
}

/// What arguments ask for, unless that is the same share everywhere.
pub(super) fn asked(arguments: &Arguments) -> Option<&'static dyn Allocation> {
    let name = arguments.text(&ALLOCATION);
    ALLOCATIONS.iter().copied().find(|allocation| allocation.name() == name)
}

/// Refuses to spread what is the same everywhere by its nature.
///
/// # Errors
/// [`Error::Mistake`] for N:M.
pub(super) fn check(level: Level, arguments: &Arguments) -> Result<()> {
    match (asked(arguments), level) {
        (Some(found), Level::Sparsity(groups @ Sparsity::SemiStructured { .. })) => {
            Err(Error::mistake(format!(
                "allocation={} spreads a fraction over the blocks, and {groups} is the same in each; accepted with it \
                 is a fraction (70%), or allocation={UNIFORM}",
                found.name()
            )))
        }
        _ => Ok(()),
    }
}

/// OWL (Yin et al., arXiv 2310.05175): blocks with more outliers keep more of their weights.
///
/// With the outlier ratio `D` of every block, a block keeps `1 − s + 2λ·(D − min D)/(max D − min D)`, less the mean of
/// the last part over the blocks, of which each counts the same.
#[derive(Debug, Clone, Copy)]
struct Owl;

/// Half the width of the band that shares lie in: `λ` of the paper.
const LAMBDA: f64 = 0.08;

impl Allocation for Owl {
    fn name(&self) -> &'static str {
        "owl"
    }

    fn shares(&self, survey: &Survey, blocks: &[usize], fraction: f64) -> Result<Vec<f64>> {
        let ratio = |block: &usize| survey.outlier_ratio.get(*block).copied();
        let ratios: Option<Vec<f64>> = blocks.iter().map(ratio).collect();
        let ratios = ratios.ok_or_else(|| Error::failure("the survey has no outliers of some blocks"))?;
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if high <= low {
            return Ok(vec![fraction; ratios.len()]);
        }
        let more: Vec<f64> = ratios.iter().map(|ratio| (ratio - low) / (high - low) * 2.0 * LAMBDA).collect();
        let mean = more.iter().sum::<f64>() / more.len() as f64;
        Ok(more.iter().map(|more| fraction - (more - mean)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Procedure;
    use crate::study::Parameters;

    fn survey(outlier_ratio: &[f64]) -> Survey {
        let blocks = outlier_ratio.len();
        Survey { influence: vec![0.1; blocks], outlier_ratio: outlier_ratio.to_vec(), ..Survey::default() }
    }

    fn shares(ratios: &[f64], blocks: &[usize], fraction: f64) -> Vec<f64> {
        let profile = <dyn Allocation>::profile(&Owl, &survey(ratios), blocks, fraction).unwrap();
        let share = |block: &usize| profile.at(*block, Sparsity::Fraction(fraction).into()).unwrap().zeros();
        blocks.iter().map(share).collect()
    }

    #[test]
    fn every_word_of_the_parameter_has_an_allocation() {
        let ParameterKind::Choice(words) = ALLOCATION.kind else { panic!("words") };
        let names: Vec<&str> = ALLOCATIONS.iter().map(|allocation| allocation.name()).collect();
        assert_eq!(words.split_first(), Some((&UNIFORM, &names[..])));
    }

    #[test]
    fn owl_keeps_more_of_blocks_with_more_outliers_and_the_mean_is_the_fraction() {
        let found = shares(&[0.5, 1.5, 1.0, 0.5], &[0, 1, 2, 3], 0.7);
        // Of the band of 0.16: none, all, half, none; 0.06 in the mean.
        for (found, wanted) in found.iter().zip([0.76, 0.60, 0.68, 0.76]) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
        // Blocks that are gone, or are not pruned, do not count.
        let found = shares(&[0.5, 9.0, 1.0, 0.75], &[0, 2, 3], 0.5);
        for (found, wanted) in found.iter().zip([0.58, 0.42, 0.50]) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
    }

    #[test]
    fn shares_stay_between_a_hundredth_and_the_rest_of_it_and_equal_blocks_lose_the_same() {
        assert!((shares(&[0.0, 1.0], &[0, 1], 0.05)[1] - 0.01).abs() < 1e-12);
        assert!((shares(&[0.0, 1.0], &[0, 1], 0.95)[0] - 0.99).abs() < 1e-12);
        let profile = <dyn Allocation>::profile(&Owl, &survey(&[0.3; 4]), &[0, 1, 2, 3], 0.6).unwrap();
        assert!(profile.is_uniform());
        assert!(<dyn Allocation>::profile(&Owl, &survey(&[0.3]), &[0, 1], 0.6).is_err());
    }

    #[test]
    fn only_fractions_can_be_spread() {
        let procedure = |text: &str| Procedure::of(&text.parse().unwrap(), &Parameters::new());
        for (text, name) in [
            ("wanda@70%", None),
            ("wanda@70%,allocation=uniform", None),
            ("wanda@2:4,allocation=uniform", None),
            ("wanda@0,allocation=owl", None),
            ("wanda@70%,allocation=owl", Some("owl")),
            ("depth@25%+sparsegpt@70%,allocation=owl+gptq@4bit", Some("owl")),
            ("magnitude@70%,allocation=owl+rtn@4bit", Some("owl")),
        ] {
            let found = procedure(text).unwrap();
            assert_eq!(found.allocation().map(|(allocation, _)| allocation.name()), name, "{text}");
            assert!(name.is_none() || found.looks_at_data().is_some(), "{text}");
        }
        for method in ["magnitude", "wanda", "sparsegpt", "ria"] {
            let error = procedure(&format!("{method}@2:4,allocation=owl")).unwrap_err();
            let said = error.to_string();
            assert!(error.exit_code() == 2, "{said}");
            assert!(said.contains("allocation=owl spreads a fraction") && said.contains("2:4"), "{said}");
        }
        assert!(procedure("gptq@4bit,allocation=owl").unwrap_err().to_string().contains("no parameter"));
    }
}
