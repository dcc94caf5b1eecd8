//! Records of JSON: one object a line, or one array of objects.
//!
//! What Python's `json` writes beside the standard is accepted: `NaN` is null, for that is what pandas means by it, and
//! `Infinity` and halves of characters are refused only in fields that are read.

use std::borrow::Cow;
use std::io::BufRead;
use std::sync::Arc;

use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::super::source::{DataSource, Fetch, into_utf8, utf8};
use super::super::value::{half_a_character, without_position};
use super::record::{Fields, Location, Record, Records};
use crate::error::{Error, Result};

/// An array of objects if the first character is a bracket, else one object a line.
pub(super) fn records(source: &DataSource, fetch: &mut dyn Fetch) -> Result<Records> {
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
        if !without_blanks(text, lines.line).is_empty() {
            break;
        }
    }
    if without_blanks(utf8(&lines.buffer, &source.label, lines.offset)?, lines.line).starts_with('[') {
        return Ok(Box::new(JsonArray::read(source, fetch)?));
    }
    let first = lines.parse_line()?;
    Ok(Box::new(first.into_iter().map(Ok).chain(lines)))
}

/// A line's JSON: without blanks, and without the byte order mark that some editors start a file with.
fn without_blanks(line: &str, number: usize) -> &str {
    let line = if number == 1 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
    line.trim()
}

fn record(location: Location, json: &str) -> Result<Record> {
    let parsed = serde_json::from_str(json).or_else(|error| match in_the_standard(json) {
        Cow::Owned(json) => serde_json::from_str(&json),
        Cow::Borrowed(_) => Err(error),
    });
    match parsed {
        Ok(fields) => Ok(Record { location, is_of_table: false, fields: Fields::Json(fields) }),
        Err(error) if serde_json::from_str::<&RawValue>(json).is_err() => {
            Err(not_json(&location, &error, json))
        }
        // The syntax is right: what remains wrong are names of fields.
        Err(_) if json.starts_with('{') => Err(Error::mistake(format!(
            "{location}: the name of a field {}",
            half_a_character(json).unwrap_or_else(|| "cannot be read".into())
        ))),
        Err(_) => Err(Error::mistake(format!("{location}: not a JSON object"))),
    }
}

fn not_json(location: &Location, error: &serde_json::Error, json: &str) -> Error {
    let mut message = format!("{location}: not JSON: {}", without_position(error));
    if error.is_eof() && location.unit == "line" && json.starts_with('{') {
        message += "; accepted is one object a line, or one array of objects";
    }
    Error::mistake(message)
}

/// JSON with what Python writes for numbers that JSON has not: `NaN` becomes null, `Infinity` a number that no float
/// holds, which has the syntax of one.
fn in_the_standard(json: &str) -> Cow<'_, str> {
    const REPLACED: [(&str, &str); 2] = [("NaN", "null"), ("Infinity", "1e999")];
    if !REPLACED.iter().any(|(word, _)| json.contains(word)) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = json;
    while let Some(c) = rest.chars().next() {
        let word = REPLACED.iter().find(|(word, _)| !in_string && rest.starts_with(word));
        if let Some((word, standard)) = word {
            out.push_str(standard);
            rest = &rest[word.len()..];
            continue;
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(out)
}

/// One object a line; blank lines are skipped.
struct JsonLines {
    reader: Box<dyn BufRead>,
    source: DataSource,
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
        let text = without_blanks(utf8(&self.buffer, &self.source.label, self.offset)?, self.line);
        if text.is_empty() {
            return Ok(None);
        }
        let label = self.source.label.clone();
        record(Location { label, unit: "line", number: self.line, line: None }, text).map(Some)
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

/// The elements of an array that is in memory as text, parsed one by one.
struct JsonArray {
    text: String,
    label: Arc<str>,
    /// Where the next element, or what stands before it, begins.
    at: usize,
    /// The line of that place, from 1.
    line: usize,
    elements: usize,
    finished: bool,
}

impl JsonArray {
    fn read(source: &DataSource, fetch: &mut dyn Fetch) -> Result<Self> {
        let text = into_utf8(source.read(fetch)?, &source.label)?;
        let at = text.find('[').map_or(0, |bracket| bracket + 1);
        let line = 1 + newlines(&text[..at]);
        // The numbers that JSON has not are rare: where there are none, the text is left as it is.
        let text = match in_the_standard(&text) {
            Cow::Owned(standard) => standard,
            Cow::Borrowed(_) => text,
        };
        Ok(Self { text, label: source.label.clone(), at, line, elements: 0, finished: false })
    }

    /// Goes over blanks; returns the character behind them.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.step(blanks);
        self.text[self.at..].chars().next()
    }

    fn step(&mut self, bytes: usize) {
        self.line += newlines(&self.text[self.at..self.at + bytes]);
        self.at += bytes;
    }

    fn wrong(&self, why: &str, lines_below: usize) -> Error {
        Error::mistake(format!("`{}`, line {}: not JSON: {why}", self.label, self.line + lines_below))
    }

    fn next_record(&mut self) -> Result<Option<Record>> {
        let next = self.peek();
        match (next, self.elements) {
            (Some(']'), _) => {
                self.step(1);
                self.finished = true;
                return match self.peek() {
                    None => Ok(None),
                    Some(_) => Err(self.wrong("something stands after the array", 0)),
                };
            }
            (Some(','), 1..) => self.step(1),
            (Some(_), 0) => {}
            (Some(_), _) => return Err(self.wrong("a comma or the end of the array is missing", 0)),
            (None, _) => return Err(self.wrong("the array does not end", 0)),
        }
        self.peek();
        let rest = &self.text[self.at..];
        let mut values = Deserializer::from_str(rest).into_iter::<&RawValue>();
        let json = match values.next() {
            Some(Ok(value)) => value.get(),
            Some(Err(e)) => return Err(self.wrong(&without_position(&e), e.line().saturating_sub(1))),
            None => return Err(self.wrong("the array does not end", 0)),
        };
        self.elements += 1;
        let location = Location {
            label: self.label.clone(),
            unit: "element",
            number: self.elements,
            line: Some(self.line),
        };
        let record = record(location, json)?;
        let length = values.byte_offset();
        self.step(length);
        Ok(Some(record))
    }
}

impl Iterator for JsonArray {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let next = self.next_record();
        self.finished |= next.is_err();
        next.transpose()
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_python_are_replaced_outside_of_strings_only() {
        let json = r#"{"a": NaN, "b NaN": [Infinity, -Infinity], "c": "NaN \" NaN \\", "d":NaN}"#;
        let standard = r#"{"a": null, "b NaN": [1e999, -1e999], "c": "NaN \" NaN \\", "d":null}"#;
        assert_eq!(in_the_standard(json), standard);
        assert!(matches!(in_the_standard(r#"{"a": 1}"#), Cow::Borrowed(_)));
    }
}
