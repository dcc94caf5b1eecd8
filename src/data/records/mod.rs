//! Records of files, one after the other, each with its place in the file.

mod columns;
mod json;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::format::Format;
use super::shapes::RecordShapes;
use super::source::{Fetch, Source};
use super::value::FieldValue;
use crate::error::{Error, Result};

/// Where a record is, for messages: `` `tasks.jsonl`, line 3 ``.
#[derive(Debug, Clone)]
pub(super) struct Location {
    label: Arc<str>,
    unit: &'static str,
    /// Counted from 1.
    number: usize,
    /// The line where that is another number, counted from 1.
    line: Option<usize>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, {} {}", self.label, self.unit, self.number)?;
        self.line.map_or(Ok(()), |line| write!(f, " (line {line})"))
    }
}

/// One record of a file.
#[derive(Debug)]
pub(super) struct Record {
    pub location: Location,
    /// It comes from a table, which holds lists and objects as text.
    pub is_of_table: bool,
    fields: Fields,
}

#[derive(Debug)]
enum Fields {
    /// Not looked into before somebody asks: a field that nobody reads may hold what it likes.
    Json(BTreeMap<String, Box<RawValue>>),
    Read(BTreeMap<String, FieldValue>),
}

impl Record {
    pub fn names(&self) -> Vec<&str> {
        match &self.fields {
            Fields::Json(fields) => fields.keys().map(String::as_str).collect(),
            Fields::Read(fields) => fields.keys().map(String::as_str).collect(),
        }
    }

    /// The value of a field; `None` where there is no such field. `answers.text` is the field `text` within the field
    /// `answers`, where no field has the whole name.
    pub fn get(&self, name: &str) -> Result<Option<FieldValue>> {
        if let Some(value) = self.top(name)? {
            return Ok(Some(value));
        }
        let Some((outer, inner)) = name.split_once('.') else { return Ok(None) };
        let Some(mut value) = self.top(outer)?.map(|value| self.unpacked(outer, value)).transpose()? else {
            return Ok(None);
        };
        for part in inner.split('.') {
            let FieldValue::Object(mut fields) = value else { return Ok(None) };
            let Some(found) = fields.remove(part) else { return Ok(None) };
            value = found;
        }
        Ok(Some(value))
    }

    fn top(&self, name: &str) -> Result<Option<FieldValue>> {
        match &self.fields {
            Fields::Read(fields) => Ok(fields.get(name).cloned()),
            Fields::Json(fields) => fields
                .get(name)
                .map(|json| FieldValue::from_json(json.get()).map_err(|why| self.wrong(name, &why)))
                .transpose(),
        }
    }

    /// A list or an object that may stand there as its JSON text, as tables hold them, read as what it is.
    ///
    /// # Errors
    /// A mistake for what begins as a list or an object and is not JSON.
    pub fn unpacked(&self, name: &str, value: FieldValue) -> Result<FieldValue> {
        match value {
            FieldValue::Text(text) if text.trim_start().starts_with(['[', '{']) => {
                let json: Result<&RawValue, _> = serde_json::from_str(&text);
                let value = json.map_err(|_| "is neither a text nor JSON".to_owned());
                value.and_then(|json| FieldValue::from_json(json.get())).map_err(|why| self.wrong(name, &why))
            }
            other => Ok(other),
        }
    }

    /// The mistake that a field is something else than it has to be.
    pub fn wrong_type(&self, name: &str, wanted: &str, found: &FieldValue) -> Error {
        self.wrong(name, &format!("must be {wanted}, found {}", found.kind()))
    }

    /// A mistake in a field, in words that follow its name.
    pub fn wrong(&self, name: &str, why: &str) -> Error {
        Error::mistake(format!("{}: `{name}` {why}", self.location))
    }
}

/// The records of a source, read as they are asked for where the format allows it.
pub(super) type Records = Box<dyn Iterator<Item = Result<Record>>>;

/// Opens a source that holds records. Of tables only the columns are read that `shapes` ask for. What has to be unpacked
/// or read whole before the first record asks `fetch` whether to go on.
pub(super) fn records(source: &Source, shapes: &RecordShapes, fetch: &mut dyn Fetch) -> Result<Records> {
    match source.format {
        Format::Parquet => columns::records(source, shapes, fetch),
        Format::Table { delimiter } => table::records(source, shapes, delimiter),
        Format::Json | Format::Plain => json::records(source, fetch),
    }
}
