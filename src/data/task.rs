//! Tasks: instructions with accepted answers.

use super::choice_record::ChoiceRecord;
use super::field_names::FieldNames;
use super::omissions::Omissions;
use super::records::records;
use super::shapes::{RecordShapes, TaskContent};
use super::source::{DataSource, Fetch, Purpose};
use super::task_record::TaskRecord;
use crate::error::{Error, Result};
use crate::study::short_name;

/// A list of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Short name: file name without folders and extensions.
    pub name: String,
    /// At least one record, in the order of the file.
    pub(crate) records: TaskRecords,
    pub(crate) omissions: Omissions,
    /// What is left out of the file that its examples come from.
    pub(crate) omitted_examples: Option<String>,
    /// Whether records were read by names that the user gave.
    pub names_used: bool,
}

/// The records of a task, all of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TaskRecords {
    /// Questions that are answered in words.
    Questions(Vec<TaskRecord>),
    /// Questions whose choices are compared.
    Choices(Vec<ChoiceRecord>),
}

impl TaskRecords {
    fn len(&self) -> usize {
        match self {
            Self::Questions(records) => records.len(),
            Self::Choices(records) => records.len(),
        }
    }

    /// Adds a record; `false` for one of the other kind.
    fn add(&mut self, record: TaskContent) -> bool {
        match (self, record) {
            (Self::Questions(records), TaskContent::Question(record)) => records.push(record),
            (Self::Choices(records), TaskContent::Choice(record)) => records.push(record),
            (empty @ Self::Questions(_), TaskContent::Choice(record)) if empty.len() == 0 => {
                *empty = Self::Choices(vec![record]);
            }
            _ => return false,
        }
        true
    }
}

impl Task {
    /// Its questions that are answered in words; none of a task with choices.
    pub fn questions(&self) -> &[TaskRecord] {
        match &self.records {
            TaskRecords::Questions(records) => records,
            TaskRecords::Choices(_) => &[],
        }
    }

    /// What a person should know of the file it comes from, and of that of its examples.
    pub fn warnings(&self) -> Vec<String> {
        let own = self.omissions.warning().map(|message| format!("task {}: {message}", self.name));
        let of_examples = self.omitted_examples.as_ref();
        let of_examples = of_examples.map(|message| format!("examples of task {}: {message}", self.name));
        own.into_iter().chain(of_examples).collect()
    }
}

/// Loads the first `limit` records of a task (all without a limit) from a file (JSON array, JSON lines, comma- or
/// tab-separated table or parquet, each also packed) or by a name such as `alpaca` or `arc_easy`. Which fields make a record is in
/// [`super::shapes`]; other fields are ignored. So is what follows the limit. Records without an accepted answer, or
/// with null in a field that has to be there, are left out and counted.
///
/// # Errors
/// A mistake for an unknown name, a missing or unreadable file, a record that is not JSON or lacks a field (with its
/// line), a task without records; otherwise what `fetch` and the file system say.
pub fn load_task(
    source: &str,
    limit: Option<usize>,
    fields: &FieldNames,
    fetch: &mut dyn Fetch,
) -> Result<Task> {
    if limit == Some(0) {
        return Err(Error::mistake(format!(
            "`{source}`: a limit of 0 leaves no record: at least 1 is needed"
        )));
    }
    let source = DataSource::resolve(source, Purpose::Task, fetch)?;
    read_task(&source, limit, fields, fetch)
}

/// Loads every record that examples for a task can be: of the training part of a set that is known by name, or of a file.
///
/// # Errors
/// As [`load_task`].
pub(super) fn load_examples(source: &str, fields: &FieldNames, fetch: &mut dyn Fetch) -> Result<Task> {
    let source = DataSource::resolve_examples(source, fetch)?;
    read_task(&source, None, fields, fetch)
}

fn read_task(
    source: &DataSource,
    limit: Option<usize>,
    fields: &FieldNames,
    fetch: &mut dyn Fetch,
) -> Result<Task> {
    let purpose = if source.last_words { Purpose::LastWord } else { Purpose::Task };
    let shapes = RecordShapes::new(purpose, fields);
    let mut omissions = Omissions::default();
    let mut found = TaskRecords::Questions(Vec::new());
    for record in records(source, &shapes, fetch)? {
        fetch.go_on()?;
        let record = record?;
        if let Some(content) = omissions.count(shapes.task(&record)?)
            && !found.add(content)
        {
            return Err(Error::mistake(format!(
                "{}: questions with choices and questions without are in one file; accepted is a file of either kind",
                record.location
            )));
        }
        if limit.is_some_and(|limit| found.len() >= limit) {
            break;
        }
    }
    if found.len() == 0 {
        let why = match omissions.warning() {
            Some(omitted) => format!("; {omitted}"),
            None => String::new(),
        };
        return Err(Error::mistake(format!(
            "`{}` is empty: a task needs at least one record{why}",
            source.label
        )));
    }
    Ok(Task {
        name: short_name(&source.label),
        records: found,
        omissions,
        omitted_examples: None,
        names_used: shapes.names_used(),
    })
}
