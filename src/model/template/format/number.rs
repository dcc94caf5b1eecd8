//! Numbers by format.

use minijinja::State;

use super::super::python::{TemplateResult, failure, float_text};
use super::spec::FormatSpec;

/// Longest number of digits behind the point.
const MOST_DIGITS: usize = 4096;

/// An integer; `None` where the format is not for integers.
pub(super) fn integer(
    state: &State<'_, '_>,
    spec: &FormatSpec,
    number: i128,
) -> TemplateResult<Option<String>> {
    let magnitude = number.unsigned_abs();
    let (prefix, digits, group) = match spec.kind.unwrap_or('d') {
        'd' | 'n' => ("", magnitude.to_string(), 3),
        'x' => ("0x", format!("{magnitude:x}"), 4),
        'X' => ("0X", format!("{magnitude:X}"), 4),
        'o' => ("0o", format!("{magnitude:o}"), 4),
        'b' => ("0b", format!("{magnitude:b}"), 4),
        'c' => {
            let c = u32::try_from(number).ok().and_then(char::from_u32);
            let c = c.ok_or_else(|| failure(format!("{number} is not the number of a character")))?;
            return spec.pad(state, "", &c.to_string(), '<').map(Some);
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' => return float(state, spec, number as f64),
        _ => return Ok(None),
    };
    if spec.precision.is_some() {
        return Err(failure("an integer has no precision"));
    }
    let prefix = if spec.alternate { prefix } else { "" };
    finish(state, spec, number < 0, prefix, &digits, group).map(Some)
}

/// A float; `None` where the format is not for floats.
pub(super) fn float(state: &State<'_, '_>, spec: &FormatSpec, number: f64) -> TemplateResult<Option<String>> {
    if spec.precision.is_some_and(|digits| digits > MOST_DIGITS) {
        return Err(failure(format!("a format asks for more than {MOST_DIGITS} digits")));
    }
    let magnitude = number.abs();
    let precision = spec.precision.unwrap_or(6);
    let digits = match spec.kind {
        Some('e') => exponential(magnitude, precision, spec.alternate),
        Some('E') => exponential(magnitude, precision, spec.alternate).to_uppercase(),
        Some('f') => fixed(magnitude, precision, spec.alternate),
        Some('F') => fixed(magnitude, precision, spec.alternate).to_uppercase(),
        Some('g' | 'n') => general(magnitude, precision, spec.alternate),
        Some('G') => general(magnitude, precision, spec.alternate).to_uppercase(),
        Some('%') => fixed(magnitude * 100.0, precision, spec.alternate) + "%",
        None => match spec.precision {
            None => float_text(magnitude),
            Some(precision) => shortest(magnitude, precision),
        },
        Some(_) => return Ok(None),
    };
    finish(state, spec, number.is_sign_negative() && !number.is_nan(), "", &digits, 3).map(Some)
}

fn unusual(magnitude: f64) -> Option<String> {
    (!magnitude.is_finite()).then(|| float_text(magnitude))
}

fn fixed(magnitude: f64, precision: usize, point: bool) -> String {
    let dot = if point && precision == 0 { "." } else { "" };
    unusual(magnitude).unwrap_or_else(|| format!("{magnitude:.precision$}{dot}"))
}

fn exponential(magnitude: f64, precision: usize, point: bool) -> String {
    let (digits, exponent) = scientific(magnitude, precision);
    let dot = if point && precision == 0 { "." } else { "" };
    let sign = if exponent < 0 { '-' } else { '+' };
    unusual(magnitude).unwrap_or_else(|| format!("{digits}{dot}e{sign}{:02}", exponent.abs()))
}

/// Digits with one before the point, rounded to so many behind it, and the exponent.
fn scientific(magnitude: f64, precision: usize) -> (String, i32) {
    let text = format!("{magnitude:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (digits.to_string(), exponent.parse().unwrap_or(0))
}

/// As many significant digits as asked for; zeros at the end only where they are asked for (`all`).
fn general(magnitude: f64, precision: usize, all: bool) -> String {
    if let Some(text) = unusual(magnitude) {
        return text;
    }
    let precision = precision.max(1);
    let (digits, exponent) = scientific(magnitude, precision - 1);
    let trimmed = |text: String| {
        if all || !text.contains('.') {
            text
        } else {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(digits), exponent.abs());
    }
    trimmed(format!("{magnitude:.*}", (precision as i32 - 1 - exponent).max(0) as usize))
}

/// Without a type but with a precision: as `general`, but always recognisable as a float.
fn shortest(magnitude: f64, precision: usize) -> String {
    if let Some(text) = unusual(magnitude) {
        return text;
    }
    let precision = precision.max(1);
    let (_, exponent) = scientific(magnitude, precision - 1);
    let text = general(magnitude, precision, false);
    if text.contains(['.', 'e']) {
        text
    } else if exponent + 1 < precision as i32 {
        text + ".0"
    } else {
        // No digit is left for behind the point.
        let (digits, _) = scientific(magnitude, precision - 1);
        let digits =
            if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
        format!("{digits}e+{exponent:02}")
    }
}

/// Sign, prefix, groups and padding.
fn finish(
    state: &State<'_, '_>,
    spec: &FormatSpec,
    negative: bool,
    prefix: &str,
    digits: &str,
    group: usize,
) -> TemplateResult<String> {
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, '+') => "+",
        (false, ' ') => " ",
        _ => "",
    };
    let prefix = format!("{sign}{prefix}");
    let Some(separator) = spec.group else { return spec.pad(state, &prefix, digits, '>') };
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    let mut whole = whole.to_string();
    if spec.fill == '0' && spec.align == Some('=') {
        // Zeros that fill the width are grouped with the digits.
        let room = spec.width.saturating_sub(prefix.len() + rest.len()).min(MOST_DIGITS);
        while whole.len() + (whole.len() - 1) / group < room {
            whole.insert(0, '0');
        }
    }
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(group) {
            grouped.push(separator);
        }
        grouped.push(digit);
    }
    spec.pad(state, &prefix, &(grouped + rest), '>')
}
