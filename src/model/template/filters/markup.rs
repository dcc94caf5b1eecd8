//! Filters that write for HTML and for addresses.

use minijinja::State;
use minijinja::value::{Value, ValueKind};

use super::super::python::{CallArguments, TemplateResult, failure, is_true, items_of, spend, to_text};

pub(in super::super) fn escaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => result.push_str("&amp;"),
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '"' => result.push_str("&#34;"),
            '\'' => result.push_str("&#39;"),
            c => result.push(c),
        }
    }
    result
}

/// Escapes a text that is not marked as safe.
pub(super) fn escape(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    if value.is_safe() { Ok(value) } else { escape_anyway(state, &value) }
}

pub(super) fn force_escape(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    escape_anyway(state, &value)
}

fn escape_anyway(state: &State<'_, '_>, value: &Value) -> TemplateResult<Value> {
    let text = to_text(state, value)?;
    spend(state, text.len().saturating_mul(5))?;
    Ok(Value::from_safe_string(escaped(&text)))
}

/// A text without comments and tags, with single blanks, and with what stands for a character as that character.
pub(super) fn strip_tags(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    let text = to_text(state, &value)?;
    let text = without(&without(&text, "<!--", "-->"), "<", ">");
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(Value::from(unescaped(&words.join(" "))))
}

/// A text without what stands between two marks.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(open) {
        let Some((_, behind)) = inside.split_once(close) else { break };
        result.push_str(before);
        rest = behind;
    }
    result + rest
}

fn unescaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = rest.find(';').map_or("", |end| &rest[1..end]);
        let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => digits.parse().ok(),
        });
        let c = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some('\u{a0}'),
            _ => number.and_then(char::from_u32),
        };
        let end = if c.is_some() { name.len() + 2 } else { 1 };
        result.push(c.unwrap_or('&'));
        rest = &rest[end..];
    }
    result + rest
}

pub(super) fn xml_attributes(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, space] = arguments.bind(["d", "autospace"], 1)?;
    let value = value.unwrap_or_default();
    let mut attributes = Vec::new();
    for key in items_of(state, &value)? {
        let item = value.get_item(&key)?;
        if item.is_none() || item.is_undefined() {
            continue;
        }
        let name = to_text(state, &key)?;
        if name.contains(|c: char| c.is_whitespace() || "/>=".contains(c)) {
            return Err(failure(format!("`{name}` is no name of an attribute")));
        }
        let item = if item.is_safe() { to_text(state, &item)? } else { escaped(&to_text(state, &item)?) };
        attributes.push(format!("{}=\"{item}\"", escaped(&name)));
    }
    let space = if is_true(space.as_ref(), true) && !attributes.is_empty() { " " } else { "" };
    Ok(Value::from(format!("{space}{}", attributes.join(" "))))
}

/// A text for an address; a dictionary or pairs as a query.
pub(super) fn url_encode(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    let pairs = match value.kind() {
        ValueKind::Map => {
            let keys = items_of(state, &value)?;
            keys.into_iter()
                .map(|key| Ok((key.clone(), value.get_item(&key)?)))
                .collect::<TemplateResult<Vec<_>>>()?
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined => {
            let mut pairs = Vec::new();
            for pair in items_of(state, &value)? {
                match <[Value; 2]>::try_from(items_of(state, &pair)?) {
                    Ok([key, value]) => pairs.push((key, value)),
                    Err(items) => {
                        return Err(failure(format!("urlencode needs pairs, not {} items", items.len())));
                    }
                }
            }
            pairs
        }
        _ => return Ok(Value::from(quote(&to_text(state, &value)?, "/"))),
    };
    let mut query = Vec::new();
    for (key, value) in pairs {
        let part = |value: &Value| -> TemplateResult<String> {
            Ok(quote(&to_text(state, value)?, "").replace("%20", "+"))
        };
        query.push(format!("{}={}", part(&key)?, part(&value)?));
    }
    Ok(Value::from(query.join("&")))
}

fn quote(text: &str, safe: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = byte as char;
        if byte.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
            result.push(c);
        } else {
            result.push_str(&format!("%{byte:02X}"));
        }
    }
    result
}
