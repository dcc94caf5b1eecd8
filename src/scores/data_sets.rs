//! What a study measured on: its corpora and tasks, as far as something was measured.

use super::registry::scores_on;
use super::score::Subject;
use crate::results::{DataSetName, Measurement, Metrics};

/// The corpora, or the tasks, that something was measured on, in the order in which they are first met.
pub(crate) fn data_sets<'a>(
    metrics: impl IntoIterator<Item = &'a Metrics>,
    subject: Subject,
) -> Vec<DataSetName> {
    let mut found = Vec::new();
    for metrics in metrics {
        for score in scores_on(subject) {
            let mut met: Vec<&str> = Vec::new();
            for Measurement { data_set: name, .. } in metrics.of(score) {
                let nth = met.iter().filter(|other| *other == name).count();
                met.push(name);
                let data_set = DataSetName { name: name.clone(), nth };
                if !found.contains(&data_set) {
                    found.push(data_set);
                }
            }
        }
    }
    found
}

/// Whether anything was measured on corpora, or on tasks.
pub(crate) fn is_measured(metrics: &Metrics, subject: Subject) -> bool {
    scores_on(subject).any(|score| metrics.first(score).is_some())
}

/// Records of all tasks that were answered.
pub fn records(metrics: &Metrics) -> usize {
    let of_task = |task: &DataSetName| {
        let known = scores_on(Subject::Task).filter_map(|score| metrics.find(score, task));
        known.map(|value| value.n).max().unwrap_or(0)
    };
    data_sets([metrics], Subject::Task).iter().map(of_task).sum()
}
