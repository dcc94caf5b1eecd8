//! JSON files of a model folder, read so that a message can say which file and key is wrong.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A JSON object with the name of its file, for messages that say where to look. A key that is `null` counts as absent.
#[derive(Debug)]
pub struct JsonFile<'a> {
    pub(super) path: &'a Path,
    pub(super) prefix: String,
    pub(super) map: Map<String, Value>,
}

impl<'a> JsonFile<'a> {
    /// Reads a file that has to hold one JSON object.
    pub(super) fn read(path: &'a Path) -> Result<Self> {
        let found = |what: &dyn fmt::Display| Error::mistake(format!("{}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| found(&format!("cannot be read: {e}")))?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Self { path, prefix: String::new(), map }),
            Ok(other) => Err(found(&format!("found {}, expected a JSON object", kind_of(&other)))),
            Err(e) => Err(found(&format!("is not JSON: {e}"))),
        }
    }

    /// The value of a key that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The object of a key, for messages about its own keys; `None` where it is absent, null or empty.
    pub(super) fn object(&self, key: &str) -> Result<Option<JsonFile<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) if map.is_empty() => Ok(None),
            Some(Value::Object(map)) => Ok(Some(JsonFile {
                path: self.path,
                prefix: format!("{}{key}.", self.prefix),
                map: map.clone(),
            })),
            Some(other) => Err(self.unexpected(key, other, "an object")),
        }
    }

    /// What a person should know of this file.
    pub(super) fn note(&self, what: &str) -> String {
        format!("{}: {what}", self.path.display())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// A mistake in this file.
    pub(super) fn wrong(&self, what: &str) -> Error {
        Error::mistake(format!("{}: {what}", self.path.display()))
    }

    /// A mistake in the value of a key.
    pub(super) fn unexpected(&self, key: &str, found: &Value, accepted: &str) -> Error {
        let shown = match found {
            Value::Array(_) | Value::Object(_) => kind_of(found).to_string(),
            plain => plain.to_string(),
        };
        self.wrong(&format!("`{}{key}` is {shown}: accepted is {accepted}", self.prefix))
    }

    pub(super) fn required(&self, key: &str, accepted: &str) -> Result<&Value> {
        self.get(key).ok_or_else(|| {
            self.wrong(&format!("the key `{}{key}` is missing: accepted is {accepted}", self.prefix))
        })
    }

    pub(super) fn positive(&self, key: &str) -> Result<usize> {
        // Sizes beyond this would overflow when multiplied, and no model has them.
        self.positive_up_to(key, 1 << 31)
    }

    pub(super) fn positive_up_to(&self, key: &str, most: u64) -> Result<usize> {
        let accepted = format!("a whole number from 1 to {most}");
        let value = self.required(key, &accepted)?;
        match value.as_u64() {
            Some(v) if (1..=most).contains(&v) => Ok(v as usize),
            _ => Err(self.unexpected(key, value, &accepted)),
        }
    }

    pub(super) fn positive_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.positive(key) } else { Ok(default) }
    }

    pub(super) fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .map(|v| v as usize)
                .ok_or_else(|| self.unexpected(key, value, "a whole number of at least 0")),
        }
    }

    pub(super) fn number(&self, key: &str, accepted: &str, fits: impl Fn(f64) -> bool) -> Result<f64> {
        let value = self.required(key, accepted)?;
        value.as_f64().filter(|v| fits(*v)).ok_or_else(|| self.unexpected(key, value, accepted))
    }

    pub(super) fn number_or(
        &self,
        key: &str,
        default: f64,
        accepted: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        if self.get(key).is_some() { self.number(key, accepted, fits) } else { Ok(default) }
    }

    pub(super) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.unexpected(key, value, "true or false")),
        }
    }

    /// A list of names; none where the key is absent. What is no text counts as nothing.
    pub(super) fn names(&self, key: &str) -> Result<Vec<&str>> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(names)) => Ok(names.iter().filter_map(Value::as_str).collect()),
            Some(other) => Err(self.unexpected(key, other, "a list of names")),
        }
    }

    /// A token id, a list of them, or nothing. A number below 0 stands for no token.
    pub(super) fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let accepted = "a token id or a list of them";
        let id = |value: &Value| match value.as_i64() {
            Some(id) if id < 0 => Ok(None),
            Some(id) if u32::try_from(id).is_ok() => Ok(Some(id as u32)),
            _ => Err(self.unexpected(key, value, accepted)),
        };
        let ids = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(id).collect::<Result<Vec<_>>>()?,
            Some(one) => vec![id(one)?],
        };
        Ok(ids.into_iter().flatten().collect())
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
