//! Names that a user's files have for the fields that are read.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Fields that may have another name.
pub(crate) const FIELDS: [&str; 6] = ["text", "instruction", "input", "output", "references", "messages"];

/// The user's names for fields, such as `q` for `instruction`; none unless given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldNames(BTreeMap<String, String>);

impl FieldNames {
    /// Names by field.
    ///
    /// # Errors
    /// A mistake for a field that has no name to give, or a name that is empty.
    pub fn new(names: &BTreeMap<String, String>) -> Result<Self> {
        for (field, name) in names {
            if !FIELDS.contains(&field.as_str()) {
                return Err(Error::mistake(format!(
                    "unknown field `{field}`: accepted are {}",
                    FIELDS.join(", ")
                )));
            }
            if name.is_empty() {
                return Err(Error::mistake(format!("`{field}=` lacks a name: accepted is {field}=NAME")));
            }
        }
        Ok(Self(names.clone()))
    }

    /// Names as they are typed: `instruction=q`.
    ///
    /// # Errors
    /// As [`Self::new`]; also for what has no `=`, and for a field that is named twice.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, String>> {
        let mut names = BTreeMap::new();
        for word in words {
            let Some((field, name)) = word.split_once('=') else {
                return Err(Error::mistake(format!(
                    "found `{word}`; accepted is FIELD=NAME such as instruction=q, with a FIELD of {}",
                    FIELDS.join(", ")
                )));
            };
            if let Some(other) = names.insert(field.trim().to_owned(), name.trim().to_owned()) {
                return Err(Error::mistake(format!("`{field}` is both `{other}` and `{}`", name.trim())));
            }
        }
        Self::new(&names).map(|names| names.0)
    }

    /// Checks that some file has the fields that were named; `used` is whether one has.
    ///
    /// # Errors
    /// A mistake where none has: names that nobody has are misspelt, and what was read instead was not meant.
    pub(crate) fn check_used(&self, used: bool) -> Result<()> {
        if used || self.0.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.0.iter().map(|(field, name)| format!("{field}={name}")).collect();
        Err(Error::mistake(format!(
            "--fields {}: no file of the study has a record with these fields; every file was read by the usual names",
            names.join(",")
        )))
    }

    /// Whether the user gave a field a name.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    pub(super) fn of(&self, field: &str) -> String {
        self.0.get(field).map_or(field, String::as_str).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_mistakes_in_them_are_said() {
        let names = FieldNames::parse(["instruction=q", " output = a.b "]).unwrap();
        let names = FieldNames::new(&names).unwrap();
        assert_eq!(names.of("instruction"), "q");
        assert_eq!(names.of("output"), "a.b");
        assert_eq!(names.of("input"), "input");
        for (words, parts) in [
            (vec!["q"], ["`q`", "instruction=q"]),
            (vec!["question=q"], ["`question`", "instruction, input"]),
            (vec!["output="], ["`output=`", "output=NAME"]),
            (vec!["output=a", "output=b"], ["`a`", "`b`"]),
        ] {
            let message = FieldNames::parse(words).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }
}
