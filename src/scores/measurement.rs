//! A value of a score on a data set.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::number::{self, NamedNumbers};

/// A mean with its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    #[serde(with = "number")]
    pub value: f64,
    /// Lower and upper end of the 95% interval.
    #[serde(with = "number::pair")]
    pub ci95: [f64; 2],
}

/// The value of a score on a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Id of the score.
    pub score: String,
    /// Short name of the corpus or task.
    pub data_set: String,
    /// The value.
    #[serde(with = "number")]
    pub value: f64,
    /// Lower and upper end of its 95% interval.
    #[serde(with = "number::pair")]
    pub ci95: [f64; 2],
    /// Windows of the corpus, or records of the task.
    pub n: usize,
    /// What else the score says, by name.
    pub details: NamedNumbers,
}

impl Measurement {
    /// The value with its interval.
    pub fn estimate(&self) -> Estimate {
        Estimate { value: self.value, ci95: self.ci95 }
    }
}

/// A corpus or task of a study: its short name, and which of those that have this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSetName {
    /// The short name.
    pub name: String,
    /// Which of those that have it, from 0.
    pub nth: usize,
}

/// `wikitext2`, `news#2`.
impl fmt::Display for DataSetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            0 => f.write_str(&self.name),
            nth => write!(f, "{}#{}", self.name, nth + 1),
        }
    }
}
