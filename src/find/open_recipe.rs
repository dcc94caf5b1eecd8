//! A recipe with one level left open, and the levels that it can take: `wanda`, `gptq,group=64`,
//! `sparsegpt+gptq@4bit`.

use std::fmt;

use crate::error::{Error, Result};
use crate::methods::{BITS, FORMATS, Family, Method, find, understand};
use crate::study::{Level, Recipe, Sparsity};

/// The unit of fractions here, and how many of them are everything: a ten thousandth of a percent. Counting in whole
/// units keeps 29% the number that is written so.
const UNITS: u32 = 1_000_000;
/// The least and the greatest step between two sparsities, in units: 0.1% and 50%.
const STEPS: std::ops::RangeInclusive<u32> = 1_000..=500_000;
/// The step where none is given: 1%.
const USUAL_STEP: u32 = 10_000;

/// A recipe one step of which has no level yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenRecipe {
    /// With some level in the open step.
    recipe: Recipe,
    /// Which step is open, from 0.
    open: usize,
    /// All levels that the open step can take, the least compression first.
    levels: Vec<Level>,
}

impl OpenRecipe {
    /// Understands a recipe whose level is left out. Of a recipe of one step a level may be there: it does not count.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a recipe that cannot be understood, or that leaves no level or several open.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut steps = steps(text);
        let open = match (&open_steps(&steps)[..], steps.len()) {
            ([open], _) => *open,
            ([], 1) => {
                understand(text)?;
                0
            }
            (open, _) => {
                let found = if open.is_empty() { "none" } else { "several" };
                return Err(Error::mistake(format!(
                    "recipe `{text}`: found {found} of its steps without a level; accepted is one, whose level is looked \
                     for (wanda, or sparsegpt+gptq@4bit)"
                )));
            }
        };
        let (head, parameters) = steps[open].split_at(steps[open].find(',').unwrap_or(steps[open].len()));
        let method = find(head.split('@').next().unwrap_or_default())?;
        let levels = levels(method);
        let least = levels.first().copied().ok_or_else(|| Error::failure("a method without levels"))?;
        steps[open] = format!("{}@{least}{parameters}", method.name());
        Ok(Self { recipe: understand(&steps.join("+"))?, open, levels })
    }

    /// The same with sparsities at another distance than 1%.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a text that is no distance, and where levels are no sparsities.
    pub(crate) fn with_step(mut self, text: &str) -> Result<Self> {
        if !self.only_adds_zeros() {
            return Err(Error::mistake(format!("`{text}`: {self} has no sparsities; accepted is no step")));
        }
        self.levels = sparsities(parse_step(text)?);
        Ok(self)
    }

    /// The levels, the least compression first.
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The recipe at a level.
    pub(crate) fn at(&self, level: Level) -> Recipe {
        self.recipe.with_level(self.open, level)
    }

    /// Whether its levels differ in how many weights are zero, and so not in what an export takes.
    pub(crate) fn only_adds_zeros(&self) -> bool {
        self.levels.iter().all(|level| level.sparsity().is_some())
    }
}

/// As it is written without its level: `gptq,group=64`.
impl fmt::Display for OpenRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.recipe.steps().enumerate() {
            let between = if place > 0 { "+" } else { "" };
            let mut text = step.to_string();
            if place == self.open {
                text = text.replacen(&format!("@{}", step.level), "", 1);
            }
            write!(f, "{between}{text}")?;
        }
        Ok(())
    }
}

/// The steps as they are written. What stands behind a `+` and is a parameter belongs to the step before:
/// `kquant+head=q6_k`.
fn steps(text: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for part in text.split('+').map(str::trim) {
        let head = part.split(',').next().unwrap_or_default();
        match steps.last_mut() {
            Some(step) if head.contains('=') && !head.contains('@') => *step += &format!(",{part}"),
            _ => steps.push(part.to_owned()),
        }
    }
    steps
}

/// Places of the steps without a level.
fn open_steps(steps: &[String]) -> Vec<usize> {
    let is_open = |step: &str| !step.split(',').next().unwrap_or_default().contains('@');
    (0..steps.len()).filter(|place| is_open(&steps[*place])).collect()
}

/// The levels that a search among a method's levels goes through, the least compression first.
fn levels(method: &dyn Method) -> Vec<Level> {
    if let Some(levels) = method.searched_levels() {
        return levels;
    }
    match method.family() {
        Family::Prune => sparsities(USUAL_STEP),
        Family::Quantise => BITS.map(Level::Bits).to_vec(),
        // Shares are rounded to whole blocks: smaller steps would give the same again and again, and more is hardly a model.
        Family::Structure => (1..=15).map(|twentieths| Level::Share(f64::from(twentieths) / 20.0)).collect(),
        Family::Format => {
            let mut levels: Vec<Level> = FORMATS.iter().filter_map(|name| name.parse().ok()).collect();
            let bits = |level: &Level| method.bits(*level).unwrap_or(f64::INFINITY);
            levels.sort_by(|a, b| bits(b).total_cmp(&bits(a)));
            levels
        }
    }
}

/// Sparsities at a distance of so many units, from the first to the last below everything.
fn sparsities(step: u32) -> Vec<Level> {
    let counts = (step..UNITS).step_by(step as usize);
    counts.map(|n| Sparsity::Fraction(f64::from(n) / f64::from(UNITS)).into()).collect()
}

/// The distance of two sparsities, in units.
fn parse_step(text: &str) -> Result<u32> {
    let wrong = || {
        Error::mistake(format!(
            "`{text}`: accepted is a share of the weights from 0.1% to 50%, with at most four decimals (1%, 0.5%)"
        ))
    };
    let Ok(Sparsity::Fraction(fraction)) = text.parse() else { return Err(wrong()) };
    let units = fraction * f64::from(UNITS);
    let whole = units.round() as u32;
    let fits = (units - f64::from(whole)).abs() < 1e-6 && STEPS.contains(&whole);
    if fits { Ok(whole) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> OpenRecipe {
        OpenRecipe::parse(text).unwrap()
    }

    fn labels(recipe: &OpenRecipe) -> Vec<String> {
        recipe.levels().iter().map(|level| recipe.at(*level).to_string()).collect()
    }

    #[test]
    fn sparsities_go_from_1_to_99_percent_and_are_the_numbers_that_are_written_so() {
        let recipe = open("wanda");
        let expected: Vec<String> = (1..100).map(|percent| format!("wanda@{percent}%")).collect();
        assert_eq!(labels(&recipe), expected);
        for (level, text) in recipe.levels().iter().zip(&expected) {
            assert_eq!(recipe.at(*level), text.parse().unwrap());
        }
        let fifth = open("ria,a=0.5").with_step("20%").unwrap();
        assert_eq!(labels(&fifth), ["20%", "40%", "60%", "80%"].map(|level| format!("ria@{level},a=0.5")));
        assert_eq!(open("wanda").with_step("0.001").unwrap().levels().len(), 999);
    }

    #[test]
    fn bits_and_formats_go_from_many_to_few() {
        let bits = ["8bit", "4bit", "3bit", "2bit"].map(|level| format!("gptq@{level},group=64"));
        assert_eq!(labels(&open("gptq,group=64")), bits);
        let formats = labels(&open("kquant+head=q6_k"));
        assert_eq!(formats.len(), FORMATS.len());
        assert_eq!(
            [&formats[0], &formats[13]],
            ["kquant@q8_0,head=q6_k", "kquant@q2_k,head=q6_k"],
            "{formats:?}"
        );
    }

    #[test]
    fn one_step_of_two_is_open() {
        let second = open("sparsegpt@50%+gptq,group=64");
        assert_eq!(second.at(Level::Bits(3)).to_string(), "sparsegpt@50%+gptq@3bit,group=64");
        let first = open("wanda + rtn@4bit");
        assert_eq!(labels(&first)[49], "wanda@50%+rtn@4bit");
        assert!(first.only_adds_zeros() && !second.only_adds_zeros());
    }

    #[test]
    fn it_is_shown_without_its_level() {
        for text in ["wanda", "gptq,group=64", "sparsegpt@50%+gptq,group=64", "wanda+rtn@4bit"] {
            assert_eq!(open(text).to_string(), text);
        }
        assert_eq!(open("wanda@2:4").to_string(), "wanda", "a level that is there does not count");
    }

    #[test]
    fn mistakes_say_what_was_found_and_what_is_accepted() {
        for (text, part) in [
            ("wandb", "unknown method `wandb`: accepted are magnitude"),
            ("", "unknown method ``"),
            ("wanda@x%", "accepted after `wanda@` is a fraction"),
            ("gptq,groups=64", "gptq has no parameter `groups`; accepted: group"),
            ("sparsegpt@50%+gptq@4bit", "found none of its steps without a level; accepted is one"),
            ("sparsegpt+gptq", "found several of its steps without a level; accepted is one"),
            ("gptq+wanda@50%", "do not go together"),
        ] {
            let error = OpenRecipe::parse(text).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(part), "{text}: {error}");
        }
        for (text, step, expected) in [
            ("gptq", "1%", "`1%`: gptq has no sparsities; accepted is no step"),
            ("wanda", "1", "`1`: accepted is a share"),
            ("wanda", "0", "`0`: accepted is a share"),
            ("wanda", "2:4", "`2:4`: accepted is a share"),
            ("wanda", "0.33333333", "`0.33333333`: accepted is a share"),
        ] {
            let error = open(text).with_step(step).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().starts_with(expected), "{text}: {error}");
        }
    }
}
