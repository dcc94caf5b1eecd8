//! What is in a study, row by row, and how its numbers are written.

use crate::results::{CellResult, Measurement, Metrics, Seconds, StudyResult};
use crate::scores::{DataSetName, Score, Subject};
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

/// The corpora, or the tasks, that something was measured on.
pub(super) fn data_sets(rows: &[Row<'_>], subject: Subject) -> Vec<DataSetName> {
    let mut found = Vec::new();
    for row in rows {
        row.metrics.add_data_sets(subject, &mut found);
    }
    found
}

/// What a row has of a score on these data sets.
pub(super) fn on<'a>(row: &Row<'a>, score: &Score, data_sets: &[DataSetName]) -> Vec<&'a Measurement> {
    data_sets.iter().filter_map(|data_set| row.metrics.find(score, data_set)).collect()
}

/// Whether a row has a score on a data set.
pub(super) fn is_measured(rows: &[Row<'_>], score: &Score, data_set: &DataSetName) -> bool {
    rows.iter().any(|row| row.metrics.find(score, data_set).is_some())
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
