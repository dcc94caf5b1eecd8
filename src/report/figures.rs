//! What is in a study, row by row, and how its numbers are written.

use std::fmt;

use crate::results::{
    Agreement, CellResult, Divergence, Metrics, Perplexity, Seconds, StudyResult, TaskScores,
};
use crate::study::short_name;

/// The base or a cell.
pub(super) struct Row<'a> {
    /// `None` is the base.
    pub cell: Option<&'a CellResult>,
    pub metrics: &'a Metrics,
    pub seconds: &'a Seconds,
}

impl Row<'_> {
    /// Short name of the calibration set.
    pub(super) fn calibration(&self) -> Option<String> {
        self.cell.and_then(|c| c.spec.calibration.as_deref()).map(short_name)
    }

    /// The seed, where it matters.
    pub(super) fn seed(&self) -> Option<u64> {
        self.cell.filter(|c| c.spec.calibration.is_some()).map(|c| c.spec.seed)
    }
}

/// The base, then the cells.
pub(super) fn rows(result: &StudyResult) -> Vec<Row<'_>> {
    let base = Row { cell: None, metrics: &result.base.metrics, seconds: &result.base.seconds };
    let cells = result.cells.iter().map(|c| Row { cell: Some(c), metrics: &c.metrics, seconds: &c.seconds });
    std::iter::once(base).chain(cells).collect()
}

/// A data set of a study: its name, and which of those that have this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    name: String,
    nth: usize,
}

impl Key {
    /// What was measured on this data set.
    pub(super) fn find<'a, T: Measured>(&self, measured: &'a [T]) -> Option<&'a T> {
        measured.iter().filter(|m| m.data_set() == self.name).nth(self.nth)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            0 => f.write_str(&self.name),
            nth => write!(f, "{}#{}", self.name, nth + 1),
        }
    }
}

/// Something measured on a data set.
pub(super) trait Measured {
    fn data_set(&self) -> &str;
}

impl Measured for Perplexity {
    fn data_set(&self) -> &str {
        &self.corpus
    }
}

impl Measured for Divergence {
    fn data_set(&self) -> &str {
        &self.corpus
    }
}

impl Measured for Agreement {
    fn data_set(&self) -> &str {
        &self.corpus
    }
}

impl Measured for TaskScores {
    fn data_set(&self) -> &str {
        &self.name
    }
}

/// Adds the data sets that are not among the keys yet.
fn collect<T: Measured>(keys: &mut Vec<Key>, measured: &[T]) {
    for (i, m) in measured.iter().enumerate() {
        let nth = measured[..i].iter().filter(|other| other.data_set() == m.data_set()).count();
        let key = Key { name: m.data_set().to_owned(), nth };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
}

/// Every text that something was measured on.
pub(super) fn corpora(rows: &[Row<'_>]) -> Vec<Key> {
    let mut keys = Vec::new();
    for Row { metrics, .. } in rows {
        collect(&mut keys, &metrics.perplexity);
        collect(&mut keys, &metrics.js_divergence);
        collect(&mut keys, &metrics.kl_divergence);
        collect(&mut keys, &metrics.top1_agreement);
    }
    keys
}

/// Every task that was answered.
pub(super) fn tasks(rows: &[Row<'_>]) -> Vec<Key> {
    let mut keys = Vec::new();
    for row in rows {
        collect(&mut keys, &row.metrics.tasks);
    }
    keys
}

/// A number with so many decimals; a power of ten where the number is too large to be read otherwise.
pub(super) fn decimals(value: f64, places: usize) -> String {
    if value.is_nan() {
        "nan".into()
    } else if value.is_infinite() || value.abs() < 1e4 {
        format!("{value:.places$}")
    } else {
        format!("{value:.2e}")
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64, places: usize) -> String {
    format!("{}%", decimals(share * 100.0, places))
}

/// A count of parameters as people write it: 134.5M, 6.74B.
pub(super) fn millions(count: u64) -> String {
    match count as f64 {
        n if n >= 1e9 => format!("{:.2}B", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n => format!("{n}"),
    }
}

/// Text without control characters, which a terminal or a table would act upon.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
