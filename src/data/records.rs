//! Records of JSON, JSON lines and parquet files, one after the other, each knowing where it stands.

use std::fmt;
use std::io::BufRead;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::source::{Format, Source, into_utf8, utf8};
use crate::error::{Error, Result};

/// Fields that anything here looks at; parquet columns beside these are not read.
const FIELDS: [&str; 5] = ["text", "instruction", "input", "output", "references"];

/// Where a record stands, for messages: `` `tasks.jsonl`, line 3 ``.
#[derive(Debug, Clone)]
pub(super) struct Place {
    label: Arc<str>,
    unit: &'static str,
    /// Counted from 1.
    number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, {} {}", self.label, self.unit, self.number)
    }
}

/// One record of a file.
#[derive(Debug)]
pub(super) struct Record {
    pub place: Place,
    fields: Map<String, Value>,
}

impl Record {
    /// Takes a text field; `None` where it is absent or null.
    pub fn take_text(&mut self, key: &str) -> Result<Option<String>> {
        match self.fields.get_mut(key).map(Value::take) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, "a string", &other)),
        }
    }

    /// Takes a field that lists texts; empty where it is absent or null.
    pub fn take_texts(&mut self, key: &str) -> Result<Vec<String>> {
        let items = match self.fields.get_mut(key).map(Value::take) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong_type(key, "a list of strings", &other)),
        };
        let text = |item| match item {
            Value::String(text) => Ok(text),
            other => Err(self.wrong_type(key, "a list of strings only", &other)),
        };
        items.into_iter().map(text).collect()
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &Value) -> Error {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        Error::mistake(format!("{}: `{key}` must be {wanted}, found {found}", self.place))
    }
}

/// The records of a source, read as they are asked for where the format allows it.
pub(super) type Records = Box<dyn Iterator<Item = Result<Record>>>;

/// Opens a source that holds records.
pub(super) fn records(source: &Source) -> Result<Records> {
    match source.format {
        Format::Parquet => parquet_records(source),
        Format::Json | Format::Plain => json_records(source),
    }
}

/// JSON: an array of objects if the first character is a bracket, else one object a line.
fn json_records(source: &Source) -> Result<Records> {
    let mut lines = JsonLines {
        reader: source.open()?,
        source: source.clone(),
        line: 0,
        offset: 0,
        buffer: Vec::new(),
        failed: false,
    };
    // The first line that is not blank tells which of the two it is.
    while lines.read_line()? {
        let text = utf8(&lines.buffer, &source.label, lines.offset)?;
        if !json_text(text, lines.line).is_empty() {
            break;
        }
    }
    if json_text(utf8(&lines.buffer, &source.label, lines.offset)?, lines.line).starts_with('[') {
        return json_array(source);
    }
    let first = lines.parse_line()?;
    Ok(Box::new(first.into_iter().map(Ok).chain(lines)))
}

/// A line's JSON: without blanks, and without the byte order mark that some editors start a file with.
fn json_text(line: &str, number: usize) -> &str {
    let line = if number == 1 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
    line.trim()
}

fn json_array(source: &Source) -> Result<Records> {
    let text = into_utf8(source.read()?, &source.label)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let label = &source.label;
    let values: Vec<Value> = serde_json::from_str(text).map_err(|e| {
        Error::mistake(format!("`{label}`, line {}: not JSON: {}", e.line(), without_location(&e)))
    })?;
    let label = label.clone();
    Ok(Box::new(values.into_iter().enumerate().map(move |(i, value)| {
        let place = Place { label: label.clone(), unit: "element", number: i + 1 };
        object(place, value)
    })))
}

fn object(place: Place, value: Value) -> Result<Record> {
    match value {
        Value::Object(fields) => Ok(Record { place, fields }),
        _ => Err(Error::mistake(format!("{place}: not a JSON object"))),
    }
}

/// The parser's message without the position that it ends in, which counts from the wrong start.
fn without_location(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what).to_string()
}

/// One object a line; blank lines are skipped.
struct JsonLines {
    reader: Box<dyn BufRead>,
    source: Source,
    /// Number of the line in the buffer, from 1.
    line: usize,
    /// Offset in the file of the line in the buffer.
    offset: u64,
    buffer: Vec<u8>,
    failed: bool,
}

impl JsonLines {
    /// Reads the next line into the buffer; `false` at the end of the file.
    fn read_line(&mut self) -> Result<bool> {
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        let read = self.reader.read_until(b'\n', &mut self.buffer).map_err(|e| self.source.read_error(e))?;
        self.line += usize::from(read > 0);
        Ok(read > 0)
    }

    /// The record in the buffer; `None` if the line is blank.
    fn parse_line(&self) -> Result<Option<Record>> {
        let text = json_text(utf8(&self.buffer, &self.source.label, self.offset)?, self.line);
        if text.is_empty() {
            return Ok(None);
        }
        let place = Place { label: self.source.label.clone(), unit: "line", number: self.line };
        let value = serde_json::from_str(text)
            .map_err(|e| Error::mistake(format!("{place}: not JSON: {}", without_location(&e))))?;
        object(place, value).map(Some)
    }

    fn next_record(&mut self) -> Result<Option<Record>> {
        while self.read_line()? {
            if let Some(record) = self.parse_line()? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl Iterator for JsonLines {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_record();
        self.failed = next.is_err();
        next.transpose()
    }
}

fn parquet_records(source: &Source) -> Result<Records> {
    let label = source.label.clone();
    let wrong = |e: ParquetError| Error::mistake(format!("`{label}` cannot be read as parquet: {e}"));
    let reader = SerializedFileReader::new(source.open_seekable()?).map_err(wrong)?;
    let schema = reader.metadata().file_metadata().schema();
    let wanted: Vec<_> = schema.get_fields().iter().filter(|f| FIELDS.contains(&f.name())).cloned().collect();
    if wanted.is_empty() {
        let found: Vec<&str> = schema.get_fields().iter().map(|f| f.name()).collect();
        return Err(Error::mistake(format!(
            "`{label}` has none of the columns {}; it has {}",
            FIELDS.join(", "),
            found.join(", ")
        )));
    }
    let columns = Type::group_type_builder(schema.name()).with_fields(wanted).build().map_err(wrong)?;
    let rows = RowIter::from_file_into(Box::new(reader)).project(Some(columns)).map_err(wrong)?;
    let label = source.label.clone();
    Ok(Box::new(rows.enumerate().map(move |(i, row)| {
        let place = Place { label: label.clone(), unit: "row", number: i + 1 };
        let row = row.map_err(|e| Error::mistake(format!("{place} cannot be read as parquet: {e}")))?;
        Ok(Record { place, fields: row_fields(row) })
    })))
}

fn row_fields(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, json_value(field))).collect()
}

/// A parquet value as far as records need it; of other types only the kind is kept, for messages.
fn json_value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => Value::String(text),
        // Some writers do not mark their text columns as text.
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).map_or(Value::from(0), Value::String),
        Field::Bool(value) => Value::Bool(value),
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(json_value).collect()),
        Field::Group(_) | Field::MapInternal(_) => Value::Object(Map::new()),
        _ => Value::from(0),
    }
}
