//! Examples that stand before a question with choices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::short_name;
use crate::error::{Error, Result};

/// How many examples a question with choices has before it, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShotsSpec {
    /// Examples before each question; 0 is none.
    pub count: usize,
    /// Files of examples, by the short name of the task that they are for. Other tasks have theirs from the part of the
    /// set that is published for it, or from the task's own file.
    pub sources: BTreeMap<String, String>,
}

impl ShotsSpec {
    /// Whether nothing of it was chosen.
    pub(crate) fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that the files of examples are for something; `tasks` are the study's.
    ///
    /// # Errors
    /// A mistake for files where no examples are asked for, and for a file of a task that the study does not have.
    pub(crate) fn check(&self, tasks: &[String]) -> Result<()> {
        let names: Vec<String> = tasks.iter().map(|task| short_name(task)).collect();
        for (task, file) in &self.sources {
            if self.count == 0 {
                return Err(Error::mistake(format!(
                    "`{task}={file}` has examples, and none are asked for: --shots N says how many"
                )));
            }
            if !names.contains(task) {
                let accepted = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Error::mistake(format!(
                    "`{task}={file}`: the study has no task `{task}`; its tasks are: {accepted}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_examples_need_a_number_and_a_task() {
        let tasks = ["data/arc.jsonl".to_owned(), "winogrande".to_owned()];
        let shots = |count: usize, task: &str| ShotsSpec {
            count,
            sources: [(task.to_owned(), "train.jsonl".to_owned())].into(),
        };
        shots(2, "arc").check(&tasks).unwrap();
        shots(2, "winogrande").check(&tasks).unwrap();
        ShotsSpec { count: 2, ..ShotsSpec::default() }.check(&[]).unwrap();
        let message = shots(0, "arc").check(&tasks).unwrap_err().to_string();
        assert!(message.contains("`arc=train.jsonl`") && message.contains("--shots N"), "{message}");
        let message = shots(2, "data/arc").check(&tasks).unwrap_err().to_string();
        assert!(message.contains("no task `data/arc`") && message.contains("arc, winogrande"), "{message}");
    }
}
