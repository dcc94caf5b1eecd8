//! What `secateur run` writes to its standard output.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The form of the results on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// A table for people, at the end.
    #[default]
    Table,
    /// One JSON object, at the end.
    Json,
    /// One event a line, as they come.
    Jsonl,
}

impl OutputFormat {
    /// Every form with its name.
    pub const NAMES: [&str; 3] = ["table", "json", "jsonl"];
    const ALL: [Self; 3] = [Self::Table, Self::Json, Self::Jsonl];
}

impl FromStr for OutputFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::NAMES.iter().position(|name| *name == text);
        found.map(|place| Self::ALL[place]).ok_or_else(|| {
            Error::mistake(format!("unknown format `{text}`: accepted are {}", Self::NAMES.join(", ")))
        })
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::NAMES[*self as usize])
    }
}
