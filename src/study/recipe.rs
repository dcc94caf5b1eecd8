//! What is done to a model: `wanda@50%`, `sparsegpt@2:4,damping=0.02`.
//!
//! A recipe is text with a grammar. Which methods there are, and which levels and parameters each accepts, is what the
//! methods themselves know ([`crate::methods`]): a study of a newer version, with a method that is unknown here, can
//! still be read and shown.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::level::Level;
use crate::error::Error;

/// Parameters that were given, by name.
pub type Parameters = BTreeMap<String, String>;

/// One method at one level.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Name of the method.
    pub method: String,
    /// How far it goes.
    pub level: Level,
    /// The parameters that were given; all others have the study's value, or their default.
    pub parameters: Parameters,
}

/// The steps that make a cell of the base, in order. There is at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    first: Step,
    rest: Vec<Step>,
}

impl Recipe {
    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The methods' names: `wanda`.
    pub fn method(&self) -> String {
        self.join(|step| step.method.clone())
    }

    /// The levels, as people read them: `50%`.
    pub fn level(&self) -> String {
        self.join(|step| step.level.label())
    }

    /// All but the levels, so that recipes with the same series differ in how far they go: `sparsegpt damping=0.02`.
    pub fn series(&self) -> String {
        self.join(|step| {
            let mut text = step.method.clone();
            for (name, value) in &step.parameters {
                text += &format!(" {}", parameter(name, "=", value));
            }
            text
        })
    }

    /// What people read: `wanda 50%`, `sparsegpt 2:4 damping=0.02`.
    pub fn label(&self) -> String {
        self.join(|step| {
            let mut text = format!("{} {}", step.method, step.level.label());
            for (name, value) in &step.parameters {
                text += &format!(" {}", parameter(name, "=", value));
            }
            text
        })
    }

    /// A name that is safe as part of a file name: `wanda-0.5`, `sparsegpt-2of4-damping0.02`.
    pub fn slug(&self) -> String {
        self.join(|step| {
            let mut text = format!("{}-{}", step.method, step.level.slug());
            for (name, value) in &step.parameters {
                text += &format!("-{}", parameter(name, "", value));
            }
            text
        })
    }

    /// The same with another level in one step, counted from 0.
    #[must_use]
    pub fn with_level(&self, place: usize, level: Level) -> Self {
        let mut changed = self.clone();
        let step = match place.checked_sub(1) {
            None => Some(&mut changed.first),
            Some(place) => changed.rest.get_mut(place),
        };
        if let Some(step) = step {
            step.level = level;
        }
        changed
    }

    /// The share of the compressed matrices that becomes zero, `0 … 1`.
    pub fn zeros(&self) -> f64 {
        self.steps().map(|step| step.level.zeros()).fold(0.0, f64::max)
    }

    fn join(&self, part: impl Fn(&Step) -> String) -> String {
        self.steps().map(part).collect::<Vec<_>>().join("+")
    }
}

impl Step {
    /// A method at a level, with no parameters of its own.
    pub fn new(method: &str, level: impl Into<Level>) -> Self {
        Self { method: method.to_owned(), level: level.into(), parameters: Parameters::new() }
    }
}

impl From<Step> for Recipe {
    fn from(first: Step) -> Self {
        Self { first, rest: Vec::new() }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.method, self.level)?;
        self.parameters.iter().try_for_each(|(name, value)| write!(f, ",{}", parameter(name, "=", value)))
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.join(Step::to_string))
    }
}

/// What a parameter has that is there and has no value.
const YES: &str = "yes";

/// A parameter as it is written; its name alone where it says yes.
fn parameter(name: &str, between: &str, value: &str) -> String {
    if value == YES { name.to_owned() } else { format!("{name}{between}{value}") }
}

/// Names of methods and parameters, and values: what is safe in file names and needs no quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

impl FromStr for Step {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            Error::mistake(format!(
                "recipe `{text}`: {what}; accepted is METHOD@LEVEL, with parameters behind commas \
                 (wanda@50%, sparsegpt@2:4,damping=0.02)"
            ))
        };
        let mut parts = text.split(',').map(str::trim);
        let head = parts.next().unwrap_or_default();
        let (method, level) = head.split_once('@').ok_or_else(|| wrong("it has no `@`"))?;
        let method = method.trim().to_ascii_lowercase();
        if !is_word(&method) {
            return Err(wrong(&format!("`{method}` is not the name of a method")));
        }
        let mut parameters = Parameters::new();
        for part in parts {
            // A word alone says yes: `sym` is `sym=yes`.
            let (name, value) = part.split_once('=').unwrap_or((part, YES));
            let (name, value) = (name.trim(), value.trim());
            if !is_word(name) || !is_word(value) {
                return Err(wrong(&format!("`{part}` is not a parameter with a value")));
            }
            if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(wrong(&format!("parameter `{name}` is given twice")));
            }
        }
        let level = level.parse().map_err(|e: Error| Error::mistake(format!("recipe `{text}`: {e}")))?;
        Ok(Self { method, level, parameters })
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // What stands behind a `+` without a level belongs to the step before: kquant@q4_k+head=q6_k, wanda@50%+swaps.
        let mut written: Vec<String> = Vec::new();
        for part in text.split('+').map(str::trim) {
            match written.last_mut() {
                Some(step) if !part.contains('@') && !part.is_empty() => *step += &format!(",{part}"),
                _ => written.push(part.to_owned()),
            }
        }
        let mut steps = written.iter().map(|step| step.parse::<Step>());
        let first = steps.next().unwrap_or_else(|| "".parse())?;
        Ok(Self { first, rest: steps.collect::<Result<_, _>>()? })
    }
}

impl Serialize for Recipe {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_read_back_as_they_are_written() {
        for (text, written, slug, label) in [
            ("wanda@50%", "wanda@50%", "wanda-0.5", "wanda 50%"),
            (" Wanda @ 0.5 ", "wanda@50%", "wanda-0.5", "wanda 50%"),
            (
                "sparsegpt@2:4,damping=0.02",
                "sparsegpt@2:4,damping=0.02",
                "sparsegpt-2of4-damping0.02",
                "sparsegpt 2:4 damping=0.02",
            ),
            (
                "gptq@4bit,sym, group=64,act_order=yes",
                "gptq@4bit,act_order,group=64,sym",
                "gptq-4bit-act_order-group64-sym",
                "gptq 4bit act_order group=64 sym",
            ),
            ("wanda@60% + swaps", "wanda@60%,swaps", "wanda-0.6-swaps", "wanda 60% swaps"),
            ("a@0.3 + b@2:4", "a@30%+b@2:4", "a-0.3+b-2of4", "a 30%+b 2:4"),
            (
                "kquant@Q4_K+head=q6_k,embed=q4_k",
                "kquant@q4_k,embed=q4_k,head=q6_k",
                "kquant-q4_k-embedq4_k-headq6_k",
                "kquant q4_k embed=q4_k head=q6_k",
            ),
        ] {
            let recipe: Recipe = text.parse().unwrap();
            assert_eq!(recipe.to_string(), written);
            assert_eq!((recipe.slug().as_str(), recipe.label().as_str()), (slug, label));
            assert_eq!(written.parse::<Recipe>().unwrap(), recipe);
        }
    }

    #[test]
    fn a_recipe_that_is_none_says_what_is_wrong_and_what_is_accepted() {
        for (text, part) in [
            ("", "no `@`"),
            ("wanda", "no `@`"),
            ("wanda@", "level ``"),
            ("gptq@4bits", "bits (4bit)"),
            ("wanda@4:2", "N < M"),
            ("@50%", "name of a method"),
            ("wanda@50%+", "no `@`"),
            ("wanda@50%,", "`` is not a parameter"),
            ("wanda@50%,a=", "`a=`"),
            ("wanda@50%,a=1,a=2", "given twice"),
            ("wanda@50%,a=../x", "`a=../x`"),
        ] {
            let message = text.parse::<Recipe>().unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("recipe `"), "{text}: {message}");
        }
    }
}
