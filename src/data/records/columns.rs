//! Records of parquet files.
//!
//! The library that reads them panics at some files that are damaged, and at kinds of columns that it does not know.

use std::collections::BTreeMap;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::super::shapes::RecordShapes;
use super::super::source::{DataSource, Fetch};
use super::super::value::FieldValue;
use super::record::{Fields, Location, Record, Records};
use crate::error::{Error, Result};
use crate::panics;

/// The rows of a parquet file; columns that no shape asks for are not read.
pub(super) fn records(source: &DataSource, shapes: &RecordShapes, fetch: &mut dyn Fetch) -> Result<Records> {
    let label = source.label.clone();
    let wrong = |why: String| Error::mistake(format!("`{label}` cannot be read as parquet: {why}"));
    let file = source.open_seekable(fetch)?;
    let reader = panics::catch(|| SerializedFileReader::new(file)).map_err(wrong)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    let columns = shapes.columns(&names, &label)?;
    let wanted = schema.get_fields().iter().filter(|field| columns.iter().any(|name| name == field.name()));
    let schema = Type::group_type_builder(schema.name()).with_fields(wanted.cloned().collect());
    let schema = schema.build().map_err(|error| wrong(error.to_string()))?;
    let rows = panics::catch(|| RowIter::from_file_into(Box::new(reader)).project(Some(schema)));
    let rows = ColumnRows { rows: rows.map_err(wrong)?, read: 0, failed: false };
    let label = source.label.clone();
    Ok(Box::new(rows.map(move |(number, row)| {
        let location = Location { label: label.clone(), unit: "row", number, line: None };
        let row =
            row.map_err(|why| Error::mistake(format!("{location} cannot be read as parquet: {why}")))?;
        Ok(Record { location, is_of_table: false, fields: Fields::Read(fields(row)) })
    })))
}

/// Rows with their numbers, from 1; nothing follows an error.
struct ColumnRows {
    rows: RowIter<'static>,
    read: usize,
    failed: bool,
}

impl Iterator for ColumnRows {
    type Item = (usize, Result<Row, String>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = panics::catch(|| self.rows.next().transpose()).transpose()?;
        self.read += 1;
        self.failed = row.is_err();
        Some((self.read, row))
    }
}

fn fields(row: Row) -> BTreeMap<String, FieldValue> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

fn value(field: Field) -> FieldValue {
    match field {
        Field::Null => FieldValue::Null,
        Field::Bool(value) => FieldValue::Bool(value),
        Field::Str(text) => FieldValue::Text(text),
        // Some writers do not mark their text columns as text.
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec())
            .map_or(FieldValue::Other("bytes that are not UTF-8 text"), FieldValue::Text),
        Field::Float16(value) => FieldValue::from_float(value.into(), value.to_string()),
        Field::Float(value) => FieldValue::from_float(value.into(), format!("{value:?}")),
        Field::Double(value) => FieldValue::from_float(value, format!("{value:?}")),
        Field::Byte(value) => FieldValue::Number(value.to_string()),
        Field::Short(value) => FieldValue::Number(value.to_string()),
        Field::Int(value) => FieldValue::Number(value.to_string()),
        Field::Long(value) => FieldValue::Number(value.to_string()),
        Field::UByte(value) => FieldValue::Number(value.to_string()),
        Field::UShort(value) => FieldValue::Number(value.to_string()),
        Field::UInt(value) => FieldValue::Number(value.to_string()),
        Field::ULong(value) => FieldValue::Number(value.to_string()),
        Field::Decimal(_) => FieldValue::Number(field.to_string()),
        Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => FieldValue::Text(field.to_string()),
        Field::Group(row) => FieldValue::Object(fields(row)),
        Field::ListInternal(list) => FieldValue::List(list.elements().iter().cloned().map(value).collect()),
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            let named = entries.filter_map(|(key, field)| match key {
                Field::Str(key) => Some((key.clone(), value(field.clone()))),
                _ => None,
            });
            FieldValue::Object(named.collect())
        }
    }
}
