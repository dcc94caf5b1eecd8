//! Parameters of methods: one table entry gives the name, the default, the range and the help text.

use crate::error::{Error, Result};
use crate::number::MOST_COUNTED;
use crate::study::Parameters;

/// What a parameter accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParameterKind {
    /// A number from `least` to `most`.
    Number {
        /// Value where none is given.
        default: f64,
        /// Least value accepted.
        least: f64,
        /// Largest value accepted.
        most: f64,
    },
    /// A whole number from `least` to [`MOST_COUNTED`].
    Count {
        /// Value where none is given.
        default: usize,
        /// Least value accepted.
        least: usize,
    },
    /// One of a few words, of which the first is the default.
    Choice(&'static [&'static str]),
}

/// A parameter of a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Name in a recipe: `damping` in `sparsegpt@50%,damping=0.02`.
    pub name: &'static str,
    /// One line for help texts and docs.
    pub about: &'static str,
    /// What it accepts.
    pub kind: ParameterKind,
}

impl Parameter {
    /// The default, as a recipe would give it.
    pub fn default(&self) -> String {
        match self.kind {
            ParameterKind::Number { default, .. } => default.to_string(),
            ParameterKind::Count { default, .. } => default.to_string(),
            ParameterKind::Choice(words) => words.first().copied().unwrap_or_default().to_owned(),
        }
    }

    /// What is accepted, for messages and docs.
    pub fn accepted(&self) -> String {
        match self.kind {
            ParameterKind::Number { least, most, .. } if most.is_finite() => {
                format!("a number from {least} to {most}")
            }
            ParameterKind::Number { least, .. } => format!("a number from {least} on"),
            ParameterKind::Count { least, .. } => format!("a whole number from {least} to {MOST_COUNTED}"),
            ParameterKind::Choice(words) => words.join(" or "),
        }
    }

    pub fn accepts(&self, text: &str) -> bool {
        match self.kind {
            ParameterKind::Number { least, most, .. } => {
                text.parse::<f64>().is_ok_and(|v| v.is_finite() && (least..=most).contains(&v))
            }
            ParameterKind::Count { least, .. } => {
                text.parse::<usize>().is_ok_and(|v| (least..=MOST_COUNTED as usize).contains(&v))
            }
            ParameterKind::Choice(words) => words.contains(&text),
        }
    }
}

/// The values of a method's parameters, each checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments(Parameters);

impl Arguments {
    /// A recipe's values before the study's before the defaults.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a parameter of the recipe that the method does not have, and for a value out of range.
    pub(super) fn of(
        method: &str,
        known: &[Parameter],
        given: &Parameters,
        study: &Parameters,
    ) -> Result<Self> {
        if let Some(name) = given.keys().find(|name| known.iter().all(|p| p.name != *name)) {
            let names: Vec<&str> = known.iter().map(|p| p.name).collect();
            let accepted = if names.is_empty() { "it has none".to_owned() } else { names.join(", ") };
            return Err(Error::mistake(format!("{method} has no parameter `{name}`; accepted: {accepted}")));
        }
        let value = |p: &Parameter| {
            let value =
                given.get(p.name).or_else(|| study.get(p.name)).cloned().unwrap_or_else(|| p.default());
            if p.accepts(&value) {
                return Ok((p.name.to_owned(), value));
            }
            Err(Error::mistake(format!("{} `{value}`: accepted is {}", p.name, p.accepted())))
        };
        known.iter().map(value).collect::<Result<_>>().map(Self)
    }

    /// The defaults of these parameters.
    pub(super) fn defaults(known: &[Parameter]) -> Self {
        Self(known.iter().map(|p| (p.name.to_owned(), p.default())).collect())
    }

    /// The value of a [`ParameterKind::Number`].
    pub fn number(&self, parameter: &Parameter) -> f64 {
        // Checked when the arguments were made.
        self.text(parameter).parse().unwrap_or(f64::NAN)
    }

    /// The value of a [`ParameterKind::Count`].
    pub fn count(&self, parameter: &Parameter) -> usize {
        self.text(parameter).parse().unwrap_or_default()
    }

    /// The value of a [`ParameterKind::Choice`].
    pub fn text(&self, parameter: &Parameter) -> String {
        self.0.get(parameter.name).cloned().unwrap_or_else(|| parameter.default())
    }
}
