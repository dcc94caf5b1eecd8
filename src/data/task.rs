//! Tasks: instructions with accepted answers.

use super::records::{Record, records};
use super::source::{Fetch, Purpose, Source};
use crate::alpaca;
use crate::error::{Error, Result};
use crate::study::short_name;

/// One question with its accepted answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// What is to be done.
    pub instruction: String,
    /// What it is to be done with; often empty.
    pub input: String,
    /// Accepted answers, at least one.
    pub references: Vec<String>,
}

/// A list of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Short name: file name without folders and extensions.
    pub name: String,
    /// At least one record, in the order of the file.
    pub records: Vec<TaskRecord>,
}

/// Loads the first `limit` records of a task (all without a limit) from a file (JSON array, JSON lines or parquet,
/// each also gzipped) or by the name `alpaca`. Fields: `instruction`, `input` (optional), `output`, `references`
/// (optional; where it is absent or empty, `output` is the one accepted answer). Other fields are ignored; so are
/// lines behind the limit, except in a JSON array, which is parsed whole.
///
/// # Errors
/// A mistake for an unknown name, a missing or unreadable file, a record that is not JSON or lacks a field (with its
/// line), a task without records; otherwise what `fetch` and the file system say.
pub fn load_task(source: &str, limit: Option<usize>, fetch: &mut dyn Fetch) -> Result<Task> {
    if limit == Some(0) {
        return Err(Error::mistake(format!(
            "`{source}`: a limit of 0 leaves no record: at least 1 is needed"
        )));
    }
    let source = Source::resolve(source, Purpose::Task, fetch)?;
    let records: Vec<TaskRecord> = records(&source)?
        .take(limit.unwrap_or(usize::MAX))
        .map(|record| task_record(record?))
        .collect::<Result<_>>()?;
    if records.is_empty() {
        return Err(Error::mistake(format!("`{}` is empty: a task needs at least one record", source.label)));
    }
    Ok(Task { name: short_name(&source.label), records })
}

fn task_record(mut record: Record) -> Result<TaskRecord> {
    let lacks = |record: &Record, field: &str| {
        Error::mistake(format!(
            "{} lacks {field}: a task record has instruction, input (optional), output or references",
            record.place
        ))
    };
    let instruction = record.take_text("instruction")?.ok_or_else(|| lacks(&record, "`instruction`"))?;
    let input = record.take_text("input")?.unwrap_or_default();
    let references = accepted_answers(&mut record)?;
    if references.is_empty() {
        return Err(lacks(&record, "`output`"));
    }
    Ok(TaskRecord { instruction, input, references })
}

/// `references`, or `output` alone where there are none.
fn accepted_answers(record: &mut Record) -> Result<Vec<String>> {
    let references = record.take_texts("references")?;
    if references.is_empty() { Ok(record.take_text("output")?.into_iter().collect()) } else { Ok(references) }
}

/// A record of any kind as a document: its `text`, or its Alpaca prompt with `output` (else the first of `references`)
/// behind it.
pub(super) fn document(mut record: Record) -> Result<String> {
    if let Some(text) = record.take_text("text")? {
        return Ok(text);
    }
    let instruction = record.take_text("instruction")?;
    let answer = match record.take_text("output")? {
        Some(output) => Some(output),
        None => record.take_texts("references")?.into_iter().next(),
    };
    let (Some(instruction), Some(answer)) = (instruction, answer) else {
        return Err(Error::mistake(format!(
            "{} lacks `text`: a text record has that field, or instruction, input (optional) and output",
            record.place
        )));
    };
    let input = record.take_text("input")?.unwrap_or_default();
    Ok(alpaca::document(&instruction, &input, &answer))
}
