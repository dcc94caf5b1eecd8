//! What was measured on a model: a list of values, each by score and data set.

use serde::{Deserialize, Serialize};

use super::measurement::{DataSetName, Measurement};
use super::registry;
use super::score::{Score, Subject};

/// Everything measured on one model, data set by data set; the base has no scores that compare with the base.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics {
    /// The values. Those of one score stand in the order of the study's data sets.
    pub values: Vec<Measurement>,
}

impl Metrics {
    /// The values of one score, one for each data set.
    pub fn of<'a>(&'a self, score: &'a Score) -> impl Iterator<Item = &'a Measurement> {
        self.values.iter().filter(|value| value.score == score.id)
    }

    /// The value of a score on the first data set that it was measured on.
    pub fn first(&self, score: &Score) -> Option<&Measurement> {
        self.values.iter().find(|value| value.score == score.id)
    }

    /// The value of a score on a data set.
    pub fn find(&self, score: &Score, data_set: &DataSetName) -> Option<&Measurement> {
        let of_name = |value: &&Measurement| value.score == score.id && value.data_set == data_set.name;
        self.values.iter().filter(of_name).nth(data_set.nth)
    }

    /// Whether anything was measured on corpora, or on tasks.
    pub fn has(&self, subject: Subject) -> bool {
        registry::scores_on(subject).any(|score| self.first(score).is_some())
    }

    /// The corpora, or the tasks, that something was measured on, in the order in which they are first met.
    pub fn data_sets(&self, subject: Subject) -> Vec<DataSetName> {
        let mut found = Vec::new();
        self.add_data_sets(subject, &mut found);
        found
    }

    /// Adds those that are not among `found` yet.
    pub(crate) fn add_data_sets(&self, subject: Subject, found: &mut Vec<DataSetName>) {
        for score in registry::scores_on(subject) {
            let mut met: Vec<&str> = Vec::new();
            for Measurement { data_set: name, .. } in self.of(score) {
                let nth = met.iter().filter(|other| *other == name).count();
                met.push(name);
                let data_set = DataSetName { name: name.clone(), nth };
                if !found.contains(&data_set) {
                    found.push(data_set);
                }
            }
        }
    }

    /// Records of all tasks.
    pub fn records(&self) -> usize {
        let of_task = |task: &DataSetName| {
            let known = registry::scores_on(Subject::Task).filter_map(|score| self.find(score, task));
            known.map(|value| value.n).max().unwrap_or(0)
        };
        self.data_sets(Subject::Task).iter().map(of_task).sum()
    }
}
