//! The accepted answers of a record, however its field holds them.

use super::chat;
use super::records::Record;
use super::value::FieldValue;
use crate::error::{Error, Result};

/// The accepted answers in a field: one, or a list of them, or what holds such a list as `text`, or messages of which the
/// assistant's last is the answer.
pub(super) fn accepted(record: &Record, field: &str, value: FieldValue) -> Result<Vec<String>> {
    match value {
        FieldValue::Text(text) | FieldValue::Number(text) => Ok(vec![text]),
        FieldValue::List(items) => {
            if items.iter().any(chat::is_message) {
                let turns = chat::turns(record, field, FieldValue::List(items))?;
                let answer = turns.and_then(|turns| chat::split(turns).1);
                return Ok(answer.into_iter().collect());
            }
            items.into_iter().map(|item| one_answer(record, field, item)).collect()
        }
        FieldValue::Object(mut fields) => match fields.remove("text") {
            Some(text @ FieldValue::Object(_)) => Err(wrong_answer(record, field, &text)),
            Some(FieldValue::Null) => Ok(Vec::new()),
            Some(texts) => accepted(record, field, texts),
            None => Err(wrong_answer(record, field, &FieldValue::Object(fields))),
        },
        other => Err(wrong_answer(record, field, &other)),
    }
}

fn one_answer(record: &Record, field: &str, item: FieldValue) -> Result<String> {
    let item = match item {
        FieldValue::Object(mut fields) => fields.remove("text").unwrap_or(FieldValue::Object(fields)),
        other => other,
    };
    match item {
        FieldValue::Text(text) | FieldValue::Number(text) => Ok(text),
        other => Err(record.wrong_type(field, "a list of strings or numbers only", &other)),
    }
}

fn wrong_answer(record: &Record, field: &str, found: &FieldValue) -> Error {
    record.wrong_type(field, "a string, a number or a list of those (or of objects with a `text`)", found)
}
