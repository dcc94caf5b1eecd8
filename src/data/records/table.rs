//! Records of comma- or tab-separated tables, whose first line names the fields.
//!
//! Quotes are as RFC 4180 has them. An empty value is null: it is how a table writes that there is none.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::super::shapes::RecordShapes;
use super::super::source::DataSource;
use super::super::value::FieldValue;
use super::record::{Fields, Location, Record, Records};
use crate::error::{Error, Result};

/// The records of a table; columns that no shape asks for are left out.
pub(super) fn records(source: &DataSource, shapes: &RecordShapes, delimiter: u8) -> Result<Records> {
    let lines = LineStarts::default();
    let counted =
        Counted { reader: source.open()?, lines: lines.clone(), offset: 0, line: 1, at_start: true };
    let mut rows = TableLines {
        reader: ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(Box::new(counted)),
        lines,
        line: 1,
        source: source.clone(),
        wanted: Vec::new(),
        row: ByteRecord::new(),
        failed: false,
    };
    if !rows.read()? {
        return Ok(Box::new(std::iter::empty()));
    }
    let names: Vec<String> = (0..rows.row.len()).map(|column| rows.text(column)).collect::<Result<_>>()?;
    let found: Vec<&str> = names.iter().map(String::as_str).collect();
    let columns = shapes.columns(&found, &source.label)?;
    rows.wanted = names.into_iter().enumerate().filter(|(_, name)| columns.contains(name)).collect();
    Ok(Box::new(rows))
}

/// Where lines begin that are not blank, with their numbers, from 1.
type LineStarts = Rc<RefCell<VecDeque<(u64, usize)>>>;

/// Notes where lines begin: the table's parser counts blank ones before a row as the row's own.
struct Counted<R> {
    reader: R,
    lines: LineStarts,
    offset: u64,
    line: usize,
    at_start: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let mut lines = self.lines.borrow_mut();
        for &byte in &buffer[..read] {
            if self.at_start && byte != b'\n' && byte != b'\r' {
                lines.push_back((self.offset, self.line));
                self.at_start = false;
            }
            if byte == b'\n' {
                self.line += 1;
                self.at_start = true;
            }
            self.offset += 1;
        }
        Ok(read)
    }
}

struct TableLines {
    reader: Reader<Box<dyn Read>>,
    lines: LineStarts,
    /// The line that the row in the buffer begins on.
    line: usize,
    source: DataSource,
    /// Columns that are read, with their names.
    wanted: Vec<(usize, String)>,
    row: ByteRecord,
    failed: bool,
}

impl TableLines {
    /// Reads the next row into the buffer; `false` at the end of the file.
    fn read(&mut self) -> Result<bool> {
        let start = self.reader.position().byte();
        let read = self.reader.read_byte_record(&mut self.row);
        let mut lines = self.lines.borrow_mut();
        while lines.front().is_some_and(|(offset, _)| *offset < start) {
            lines.pop_front();
        }
        self.line = lines.front().map_or(self.line, |(_, line)| *line);
        read.map_err(|error| match error.into_kind() {
            ErrorKind::Io(error) => self.source.read_error(error),
            ErrorKind::UnequalLengths { expected_len, len, .. } => self.wrong(&format!(
                "{len} values where the first line has {expected_len}; a value with a separator, a quote or a line end \
                 in it stands in quotes, and a quote in it is doubled"
            )),
            other => self.wrong(&format!("{other:?}")),
        })
    }

    fn text(&self, column: usize) -> Result<String> {
        let value = self.row.get(column).unwrap_or_default();
        let text = std::str::from_utf8(value)
            .map_err(|_| self.wrong(&format!("value {} is not UTF-8 text", column + 1)))?;
        Ok(text.to_owned())
    }

    fn wrong(&self, why: &str) -> Error {
        Error::mistake(format!("`{}`, line {}: {why}", self.source.label, self.line))
    }

    fn next_record(&mut self) -> Result<Option<Record>> {
        if !self.read()? {
            return Ok(None);
        }
        let mut fields = BTreeMap::new();
        for (column, name) in &self.wanted {
            let text = self.text(*column)?;
            let value = if text.is_empty() { FieldValue::Null } else { FieldValue::Text(text) };
            fields.insert(name.clone(), value);
        }
        let label = self.source.label.clone();
        let location = Location { label, unit: "line", number: self.line, line: None };
        Ok(Some(Record { location, is_of_table: true, fields: Fields::Read(fields) }))
    }
}

impl Iterator for TableLines {
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
