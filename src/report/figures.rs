//! What is in a study, row by row, and how its numbers are written.

use crate::results::{CellResult, DataSetName, Measurement, Metrics, ModelFootprint, Seconds, StudyResult};
use crate::scores::{self, Score, Subject};
use crate::study::short_name;

/// The base or a cell.
pub(super) struct Row<'a> {
    /// `None` is the base.
    pub cell: Option<&'a CellResult>,
    pub metrics: &'a Metrics,
    pub seconds: &'a Seconds,
    /// The whole model as it is exported, where that is known.
    pub whole: Option<ModelFootprint>,
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
    let base = &result.base;
    let base = Row { cell: None, metrics: &base.metrics, seconds: &base.seconds, whole: base.whole_model };
    let cells = result.cells.iter().map(|c| Row {
        cell: Some(c),
        metrics: &c.metrics,
        seconds: &c.seconds,
        whole: c.whole_model,
    });
    std::iter::once(base).chain(cells).collect()
}

/// Whether the models take more or less room than each other, as far as that is known.
pub(super) fn sizes_differ(rows: &[Row<'_>]) -> bool {
    let mut sizes = rows.iter().filter_map(|row| row.whole).map(|whole| whole.size_bytes);
    sizes.next().is_some_and(|first| sizes.any(|size| size != first))
}

/// The corpora, or the tasks, that something was measured on.
pub(super) fn data_sets(rows: &[Row<'_>], subject: Subject) -> Vec<DataSetName> {
    scores::data_sets(rows.iter().map(|row| row.metrics), subject)
}

/// What a row has of a score on these data sets.
pub(super) fn on<'a>(row: &Row<'a>, score: &Score, data_sets: &[DataSetName]) -> Vec<&'a Measurement> {
    data_sets.iter().filter_map(|data_set| row.metrics.find(score, data_set)).collect()
}

/// Whether a row has a score on a data set.
pub(super) fn is_measured(rows: &[Row<'_>], score: &Score, data_set: &DataSetName) -> bool {
    rows.iter().any(|row| row.metrics.find(score, data_set).is_some())
}
