//! `strftime_now`: today, which is always the same day.
//!
//! It is the one that Llama 3's template falls back to, at midnight: a measurement must not depend on the day it is made,
//! nor on a resume after midnight.

use super::python::{TemplateResult, failure};

const YEAR: u32 = 2024;
const DAY_OF_YEAR: u32 = 208;
/// Seconds from 1970 to this day, in UTC.
const SECONDS: &str = "1721952000";

/// Writes the day by a format, as Python does on Linux: a field that is unknown stays as it is.
pub(super) fn write(format: &str) -> TemplateResult<String> {
    let mut text = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let field = &rest[at..];
        let flags = field[1..].find(|c| !"_-0^#+".contains(c)).map_or(field.len(), |end| end + 1);
        let digits =
            field[flags..].find(|c: char| !c.is_ascii_digit()).map_or(field.len(), |end| end + flags);
        let width = &field[flags..digits];
        // Another calendar or other digits, of which this locale has none.
        let modifier = usize::from(field[digits..].starts_with(['E', 'O']));
        let kind = field[digits + modifier..].chars().next();
        let end = digits + modifier + kind.map_or(0, char::len_utf8);
        match kind.and_then(written) {
            Some(value) => {
                let width = if width.is_empty() { 0 } else { width.parse().unwrap_or(usize::MAX) };
                if width > MOST {
                    return Err(failure(format!("a field of strftime_now is wider than {MOST}")));
                }
                text.push_str(&value.flagged(&field[1..flags], width));
            }
            None => text.push_str(&field[..end]),
        }
        rest = &field[end..];
    }
    Ok(text + rest)
}

const MOST: usize = 1024;

/// A field's value: what it is padded with, to how many characters, and whether `#` writes it small.
struct DateField {
    value: String,
    pad: char,
    width: usize,
    small: bool,
}

impl DateField {
    fn flagged(&self, flags: &str, width: usize) -> String {
        let mut pad = self.pad;
        let mut least = self.width;
        let mut value = self.value.clone();
        for flag in flags.chars() {
            match flag {
                '-' => least = 0,
                '_' => pad = ' ',
                '0' | '+' => pad = '0',
                '^' => value = value.to_uppercase(),
                _ if self.small => value = value.to_lowercase(),
                _ => value = value.to_uppercase(),
            }
        }
        let missing = width.max(least).saturating_sub(value.chars().count());
        std::iter::repeat_n(pad, missing).collect::<String>() + &value
    }
}

/// What stands for a field.
fn written(kind: char) -> Option<DateField> {
    let number =
        |value: u32, width| Some(DateField { value: value.to_string(), pad: '0', width, small: false });
    let spaced = |value: u32| Some(DateField { value: value.to_string(), pad: ' ', width: 2, small: false });
    let word = |value: &str, small| Some(DateField { value: value.into(), pad: ' ', width: 0, small });
    match kind {
        'Y' | 'G' => number(YEAR, 4),
        'C' => number(YEAR / 100, 2),
        'y' | 'g' => number(YEAR % 100, 2),
        'm' => number(7, 2),
        'd' => number(26, 2),
        'e' => spaced(26),
        'j' => number(DAY_OF_YEAR, 3),
        'H' | 'M' | 'S' => number(0, 2),
        'k' => spaced(0),
        'I' => number(12, 2),
        'l' => spaced(12),
        'f' => number(0, 6),
        // The weeks of the year that begin on Sunday, those that begin on Monday, and those of ISO 8601.
        'U' => number(29, 2),
        'W' | 'V' => number(30, 2),
        'w' | 'u' => number(5, 1),
        'a' => word("Fri", false),
        'A' => word("Friday", false),
        'b' | 'h' => word("Jul", false),
        'B' => word("July", false),
        'p' => word("AM", true),
        'P' => word("am", false),
        // A time without a zone.
        'z' | 'Z' => word("", true),
        'c' => word("Fri Jul 26 00:00:00 2024", false),
        'x' | 'D' => word("07/26/24", false),
        'X' | 'T' => word("00:00:00", false),
        'F' => word("2024-07-26", false),
        'R' => word("00:00", false),
        'r' => word("12:00:00 AM", false),
        's' => word(SECONDS, false),
        'n' => word("\n", false),
        't' => word("\t", false),
        '%' => word("%", false),
        _ => None,
    }
}
