//! Values of fields, whatever the format of their file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Lists and objects within each other that are read; nothing here needs nearly as many.
const MOST_LEVELS: usize = 32;

/// What a field of a record holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FieldValue {
    Null,
    Bool(bool),
    /// As it is written: nothing is lost of `12345678901234567890` or `0.10`.
    Number(String),
    Text(String),
    List(Vec<FieldValue>),
    Object(BTreeMap<String, FieldValue>),
    /// Something that no field here can be, in words.
    Other(&'static str),
}

impl FieldValue {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Other(kind) => kind,
        }
    }

    /// A float of a file that stores numbers as such. Integers are written without a fraction: a column of them becomes
    /// one of floats where a value is missing, and missing ones are NaN there.
    pub fn from_float(value: f64, written: String) -> Self {
        if value.is_nan() {
            Self::Null
        } else if value.is_infinite() {
            Self::Other("an infinite number")
        } else if value.fract() == 0.0 && value.abs() < 2f64.powi(53) {
            Self::Number(format!("{value:.0}"))
        } else {
            Self::Number(written)
        }
    }

    /// A JSON value.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the field's name.
    pub fn from_json(json: &str) -> Result<Self, String> {
        Self::parse(json, MOST_LEVELS)
    }

    fn parse(json: &str, levels: usize) -> Result<Self, String> {
        match json.as_bytes().first() {
            Some(b'n') => Ok(Self::Null),
            Some(b't') => Ok(Self::Bool(true)),
            Some(b'f') => Ok(Self::Bool(false)),
            Some(b'"') => read(json).map(Self::Text),
            Some(b'[' | b'{') if levels == 0 => {
                Err(format!("holds lists or objects in more than {MOST_LEVELS} levels"))
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = read(json)?;
                let items = items.into_iter().map(|item| Self::parse(item.get(), levels - 1));
                items.collect::<Result<_, _>>().map(Self::List)
            }
            Some(b'{') => {
                let fields: BTreeMap<String, &RawValue> = read(json)?;
                let fields =
                    fields.into_iter().map(|(name, value)| Ok((name, Self::parse(value.get(), levels - 1)?)));
                fields.collect::<Result<_, String>>().map(Self::Object)
            }
            _ if json.parse().is_ok_and(f64::is_finite) => Ok(Self::Number(json.to_owned())),
            _ => Ok(Self::Other("an infinite number")),
        }
    }
}

/// Reads what has the syntax of JSON already: only characters can be wrong.
fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|e| {
        half_a_character(json).unwrap_or_else(|| format!("cannot be read: {}", without_position(&e)))
    })
}

/// The parser's message without the position at its end, which counts from another start than the file's.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what).to_string()
}

/// What to say of an escaped half of a surrogate pair without its other half; `None` where there is none.
pub(super) fn half_a_character(json: &str) -> Option<String> {
    let mut before: Option<(u32, &str)> = None;
    let mut rest = json;
    let lone = loop {
        let Some(at) = rest.find('\\') else { break before };
        let escape = &rest[at..];
        let code = escape.strip_prefix("\\u").and_then(|digits| digits.get(..4));
        let unit = code.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match (before.filter(|_| at == 0), unit) {
            (Some(_), Some(0xdc00..=0xdfff)) => before = None,
            (_, Some(0xdc00..=0xdfff)) => break unit.zip(escape.get(..6)),
            _ if before.is_some() => break before,
            (_, Some(0xd800..=0xdbff)) => before = unit.zip(escape.get(..6)),
            _ => {}
        }
        let length = if unit.is_some() { 6 } else { 2 };
        rest = escape.get(length..).unwrap_or_default();
    };
    lone.map(|(_, escape)| {
        format!(
            "has `{escape}`, half of a character that takes two such escapes; remove it, or write the file with the \
             character whole"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_they_are_written() {
        for number in ["3", "-0", "0.10", "12345678901234567890123", "1e5", "1E-7"] {
            assert_eq!(FieldValue::from_json(number).unwrap(), FieldValue::Number(number.into()));
        }
        for number in ["1e999", "-1e999"] {
            assert_eq!(FieldValue::from_json(number).unwrap().kind(), "an infinite number");
        }
    }

    #[test]
    fn floats_of_columns_are_written_as_people_write_them() {
        for (value, written) in [(3.0, "3"), (-2.0, "-2"), (0.1, "0.1"), (1.5e-7, "1.5e-7"), (-0.0, "-0")] {
            let found = FieldValue::from_float(value, format!("{value:?}"));
            assert_eq!(found, FieldValue::Number(written.into()));
        }
        assert_eq!(FieldValue::from_float(f64::NAN, String::new()), FieldValue::Null);
        assert_eq!(FieldValue::from_float(f64::INFINITY, String::new()).kind(), "an infinite number");
    }

    #[test]
    fn halves_of_characters_are_found_and_whole_ones_are_not() {
        for half in [r"\ud83d", r"x\ud83dx", r"\ud83d\ud83d\ude00", r"\ude00", r"\uD83D\n", r"\ud83d\u0041"] {
            let message = FieldValue::from_json(&format!("\"{half}\"")).unwrap_err();
            assert!(message.contains(r"`\u"), "{half}: {message}");
        }
        for whole in [r"\ud83d\ude00", r"\\ud83d", r"\u00e9", "😀", r"\n\t\\"] {
            assert_eq!(half_a_character(whole), None, "{whole}");
            assert!(matches!(FieldValue::from_json(&format!("\"{whole}\"")), Ok(FieldValue::Text(_))));
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(FieldValue::from_json(&nested(MOST_LEVELS)).is_ok());
        for levels in [MOST_LEVELS + 1, 100_000] {
            assert!(FieldValue::from_json(&nested(levels)).unwrap_err().contains("levels"));
        }
    }
}
