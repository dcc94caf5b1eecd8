//! Where the zeros of a fraction go: the same share from every block, or more from blocks that can spare them.

use super::{Arguments, ERROR_LEVELS, Parameter, ParameterKind, Profile, Survey};
use crate::error::{Error, Result};
use crate::study::{Level, Sparsity};

/// The same share everywhere.
const UNIFORM: &str = "uniform";

/// How a fraction is spread over the blocks.
pub(super) const ALLOCATION: Parameter = Parameter {
    name: "allocation",
    about: "how a fraction is spread over the blocks: the same share of each, less of blocks with more outliers (owl), or so \
            that the least error reaches the hidden states (error)",
    kind: ParameterKind::Choice(&[UNIFORM, "owl", "error"]),
};

/// All that are not [`UNIFORM`].
const ALLOCATIONS: &[&dyn Allocation] = &[&Owl, &LeastError];

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

/// The shares with the least sum of errors over the blocks, no further than [`LAMBDA`] from the fraction.
///
/// A block that loses the share `s` of its weights costs `I · e(s)`: `e` is the relative squared error of its modules, and
/// the influence `I` is how much the block changes the hidden states. Every hundredth goes where it costs least.
#[derive(Debug, Clone, Copy)]
struct LeastError;

/// A part of the share of a block that may go, and what it costs.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The block's place among those that are pruned.
    place: usize,
    width: f64,
    /// Error for each unit of the share.
    slope: f64,
}

impl Allocation for LeastError {
    fn name(&self) -> &'static str {
        "error"
    }

    fn shares(&self, survey: &Survey, blocks: &[usize], fraction: f64) -> Result<Vec<f64>> {
        let (low, high) = ((fraction - LAMBDA).max(RANGE.0), (fraction + LAMBDA).min(RANGE.1));
        let mut pieces = Vec::new();
        for (place, block) in blocks.iter().enumerate() {
            let known = survey.errors.get(*block).filter(|errors| errors.len() == ERROR_LEVELS);
            let (Some(errors), Some(influence)) = (known, survey.influence.get(*block)) else {
                return Err(Error::failure(format!("the survey has no errors of block {block}")));
            };
            pieces.extend(pieces_of(place, errors, *influence, (low, high)));
        }
        if fraction <= low || fraction >= high {
            return Ok(vec![fraction; blocks.len()]);
        }
        pieces.sort_by(|a, b| a.slope.total_cmp(&b.slope));
        let mut shares = vec![low; blocks.len()];
        let mut left = (fraction - low) * blocks.len() as f64;
        // Of pieces that cost the same, each gives the same part, so that equal blocks lose the same.
        for equal in pieces.chunk_by(|a, b| a.slope.total_cmp(&b.slope).is_eq()) {
            let width: f64 = equal.iter().map(|piece| piece.width).sum();
            let part = (left / width).min(1.0);
            for piece in equal {
                shares[piece.place] += part * piece.width;
            }
            left = (left - width).max(0.0);
        }
        Ok(shares)
    }
}

/// The parts of a block's share between two bounds, hundredth by hundredth.
fn pieces_of(place: usize, errors: &[f64], influence: f64, (low, high): (f64, f64)) -> Vec<Piece> {
    let mut before = 0.0;
    let mut pieces = Vec::new();
    for (level, error) in errors.iter().enumerate() {
        let share = |level: usize| level as f64 / errors.len() as f64;
        let width = share(level + 1).min(high) - share(level).max(low);
        if width > 0.0 {
            let slope = influence * (error - before) * errors.len() as f64;
            pieces.push(Piece { place, width, slope });
        }
        before = *error;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::methods::Procedure;
    use crate::study::Parameters;

    fn survey(outlier_ratio: &[f64]) -> Survey {
        let blocks = outlier_ratio.len();
        Survey { influence: vec![0.1; blocks], outlier_ratio: outlier_ratio.to_vec(), ..Survey::default() }
    }

    fn shares(ratios: &[f64], blocks: &[usize], fraction: f64) -> Vec<f64> {
        shares_of(&Owl, &survey(ratios), blocks, fraction)
    }

    fn shares_of(
        allocation: &'static dyn Allocation,
        survey: &Survey,
        blocks: &[usize],
        fraction: f64,
    ) -> Vec<f64> {
        let profile = allocation.profile(survey, blocks, fraction).unwrap();
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
        for (method, name) in ["magnitude", "wanda", "sparsegpt", "ria"]
            .iter()
            .flat_map(|method| [(method, "owl"), (method, "error")])
        {
            let found = procedure(&format!("{method}@70%,allocation={name}")).unwrap();
            assert_eq!(found.allocation().map(|(allocation, _)| allocation.name()), Some(name));
            let error = procedure(&format!("{method}@2:4,allocation={name}")).unwrap_err();
            let said = error.to_string();
            assert!(error.exit_code() == 2, "{said}");
            assert!(
                said.contains(&format!("allocation={name} spreads a fraction")) && said.contains("2:4"),
                "{said}"
            );
        }
        assert!(procedure("gptq@4bit,allocation=owl").unwrap_err().to_string().contains("no parameter"));
    }

    /// Blocks whose modules lose `s^exponent` where they lose the share `s`, each with its influence.
    fn with_errors(blocks: &[(f64, f64)]) -> Survey {
        let curve = |(_, exponent): &(f64, f64)| -> Vec<f64> {
            (1..=ERROR_LEVELS).map(|level| (level as f64 / ERROR_LEVELS as f64).powf(*exponent)).collect()
        };
        Survey {
            influence: blocks.iter().map(|(influence, _)| *influence).collect(),
            errors: blocks.iter().map(curve).collect(),
            ..Survey::default()
        }
    }

    fn all(survey: &Survey) -> Vec<usize> {
        (0..survey.blocks()).collect()
    }

    /// What shares cost, by the definition.
    fn cost(survey: &Survey, shares: &[f64]) -> f64 {
        let of_block = |(block, share): (usize, &f64)| {
            let (errors, hundredths) = (&survey.errors[block], share * ERROR_LEVELS as f64);
            let at = |level: usize| if level == 0 { 0.0 } else { errors[level - 1] };
            let level = (hundredths.floor() as usize).min(ERROR_LEVELS - 1);
            let error = at(level) + (hundredths - level as f64) * (at(level + 1) - at(level));
            survey.influence[block] * error
        };
        shares.iter().enumerate().map(of_block).sum()
    }

    #[test]
    fn least_error_takes_from_blocks_that_matter_less_and_equal_blocks_lose_the_same() {
        let survey = with_errors(&[(0.1, 2.0), (0.4, 2.0), (0.1, 2.0), (0.4, 2.0)]);
        let found = shares_of(&LeastError, &survey, &all(&survey), 0.7);
        for (found, wanted) in found.iter().zip([0.78, 0.62, 0.78, 0.62]) {
            assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        }
        let survey = with_errors(&[(0.1, 3.0); 5]);
        let profile = <dyn Allocation>::profile(&LeastError, &survey, &all(&survey), 0.63).unwrap();
        assert!(profile.is_uniform());
        // The fifth block is gone: the others share the fraction.
        let survey = with_errors(&[(0.3, 2.0), (0.3, 2.0), (0.3, 2.0), (9.0, 2.0)]);
        for share in shares_of(&LeastError, &survey, &[0, 1, 2], 0.5) {
            assert!((share - 0.5).abs() < 1e-9);
        }
        let without = Survey { errors: Vec::new(), ..survey };
        assert!(<dyn Allocation>::profile(&LeastError, &without, &[0, 1], 0.6).is_err());
    }

    #[test]
    fn least_error_stays_within_a_hundredth_and_the_rest_of_it_at_both_ends() {
        let survey = with_errors(&[(0.1, 2.0), (0.4, 2.0)]);
        for (fraction, low, high) in
            [(0.05, 0.01, 0.13), (0.95, 0.87, 0.99), (0.004, 0.01, 0.01), (0.995, 0.99, 0.99)]
        {
            for share in shares_of(&LeastError, &survey, &[0, 1], fraction) {
                assert!((low - 1e-9..=high + 1e-9).contains(&share), "{share} at {fraction}");
            }
        }
    }

    proptest! {
        #[test]
        fn least_error_keeps_the_mean_and_its_bounds_and_no_exchange_costs_less(
            blocks in prop::collection::vec((0.01f64..1.0, 1.0f64..6.0), 1..12),
            fraction in 0.02f64..0.98,
        ) {
            let survey = with_errors(&blocks);
            let found = shares_of(&LeastError, &survey, &all(&survey), fraction);
            let mean = found.iter().sum::<f64>() / found.len() as f64;
            prop_assert!((mean - fraction).abs() < 1e-9, "{mean} for {fraction}");
            let (low, high) = ((fraction - 0.08).max(0.01), (fraction + 0.08).min(0.99));
            let within = |share: f64| share > low - 1e-9 && share < high + 1e-9;
            prop_assert!(found.iter().all(|share| within(*share)), "{found:?}");
            let least = cost(&survey, &found);
            for from in 0..found.len() {
                for to in 0..found.len() {
                    let mut other = found.clone();
                    other[from] -= 0.003;
                    other[to] += 0.003;
                    if within(other[from]) && within(other[to]) {
                        prop_assert!(cost(&survey, &other) > least - 1e-12, "{from} to {to}: {found:?}");
                    }
                }
            }
        }

        #[test]
        fn a_block_whose_every_hundredth_costs_less_loses_no_less(
            influence in 0.01f64..1.0,
            factor in 1.0f64..4.0,
            others in prop::collection::vec((0.01f64..1.0, 1.0f64..6.0), 0..6),
            exponent in 1.0f64..6.0,
            fraction in 0.1f64..0.9,
        ) {
            let blocks = [vec![(influence, exponent), (influence * factor, exponent)], others].concat();
            let survey = with_errors(&blocks);
            let found = shares_of(&LeastError, &survey, &all(&survey), fraction);
            prop_assert!(found[0] >= found[1] - 1e-9, "{found:?}");
        }
    }
}
