//! Filters of texts and numbers.

use minijinja::State;
use minijinja::value::{Value, ValueKind};

use super::super::format::fill_percent;
use super::super::methods::{self, lines_of};
use super::super::python::{
    self, CallArguments, TemplateResult, failure, integer, integer_of, is_true, items_of, length_of, spend,
    text_of, to_repr, to_text,
};

/// A filter that is a method of texts.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> TemplateResult<Value> {
    if value.as_str().is_some() {
        return methods::call(state, value, name, args);
    }
    let text = Value::from(to_text(state, value)?);
    methods::call(state, &text, name, args)
}

pub(super) fn lower(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["s"], 1)?.map(Option::unwrap_or_default);
    method(state, &value, "lower", &[])
}

pub(super) fn upper(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["s"], 1)?.map(Option::unwrap_or_default);
    method(state, &value, "upper", &[])
}

pub(super) fn capitalize(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["s"], 1)?.map(Option::unwrap_or_default);
    method(state, &value, "capitalize", &[])
}

pub(super) fn trim(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, characters] = arguments.bind(["value", "chars"], 1)?;
    method(state, &value.unwrap_or_default(), "strip", &[characters.unwrap_or(Value::from(()))])
}

pub(super) fn center(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, width] = arguments.bind(["value", "width"], 1)?;
    method(state, &value.unwrap_or_default(), "center", &[width.unwrap_or(Value::from(80))])
}

pub(super) fn replace(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, old, new, count] = arguments.bind(["s", "old", "new", "count"], 3)?;
    let old = Value::from(to_text(state, &old.unwrap_or_default())?);
    let new = Value::from(to_text(state, &new.unwrap_or_default())?);
    let count = count.filter(|count| !count.is_none()).unwrap_or(Value::from(-1));
    method(state, &value.unwrap_or_default(), "replace", &[old, new, count])
}

/// Words with their first letters large. Unlike the method, a word ends at blanks, hyphens and opening brackets only.
pub(super) fn title(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["s"], 1)?.map(Option::unwrap_or_default);
    let text = to_text(state, &value)?;
    let between = |c: char| c == '-' || c.is_whitespace() || "({[<".contains(c);
    let mut result = String::with_capacity(text.len());
    for word in text.split_inclusive(between) {
        let mut characters = word.chars();
        result.extend(characters.next().into_iter().flat_map(char::to_uppercase));
        result.push_str(&characters.as_str().to_lowercase());
    }
    Ok(Value::from(result))
}

pub(super) fn string(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["object"], 1)?.map(Option::unwrap_or_default);
    if value.is_safe() { Ok(value) } else { to_text(state, &value).map(Value::from) }
}

pub(super) fn default(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, default, boolean] = arguments.bind(["value", "default_value", "boolean"], 1)?;
    let value = value.unwrap_or_default();
    let replaced = value.is_undefined() || (is_true(boolean.as_ref(), false) && !value.is_true());
    Ok(if replaced { default.unwrap_or(Value::from("")) } else { value })
}

/// `'%s'|format(…)`.
pub(super) fn format(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let CallArguments { mut positional, named, .. } = arguments;
    if positional.is_empty() {
        return Err(failure("format() needs a text"));
    }
    let format = positional.remove(0);
    let text = to_text(state, &format)?;
    let values = match (positional.is_empty(), named.is_empty()) {
        (false, false) => return Err(failure("format() takes values with names or without, not both")),
        (_, false) => Value::from_pairs(named),
        _ => minijinja::value::Tuple::new(positional).into(),
    };
    let text = fill_percent(state, &text, &values, format.is_safe())?;
    Ok(if format.is_safe() { Value::from_safe_string(text) } else { Value::from(text) })
}

pub(super) fn indent(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, width, first, blank] = arguments.bind(["s", "width", "first", "blank"], 1)?;
    let value = value.unwrap_or_default();
    let text = text_of(&value, "what is indented")?.to_string() + "\n";
    let indentation = match &width {
        Some(width) if width.as_str().is_some() => text_of(width, "the width")?.to_string(),
        width => {
            let width = length_of(width.as_ref(), 4, "the width")?;
            spend(state, width)?;
            " ".repeat(width)
        }
    };
    let (first, blank) = (is_true(first.as_ref(), false), is_true(blank.as_ref(), false));
    let lines = lines_of(&text, false);
    spend(state, indentation.len().saturating_mul(lines.len()))?;
    let mut result = String::with_capacity(text.len());
    for (at, line) in lines.into_iter().enumerate() {
        if at > 0 {
            result.push('\n');
        }
        if if at == 0 { first } else { blank || !line.is_empty() } {
            result.push_str(&indentation);
        }
        result.push_str(line);
    }
    Ok(Value::from(result))
}

pub(super) fn truncate(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, length, kill, end, leeway] =
        arguments.bind(["s", "length", "killwords", "end", "leeway"], 1)?;
    let value = value.unwrap_or_default();
    let length = length_of(length.as_ref(), 255, "the length")?;
    let leeway = length_of(leeway.filter(|leeway| !leeway.is_none()).as_ref(), 5, "the leeway")?;
    let end = end.unwrap_or(Value::from("..."));
    let end = text_of(&end, "the end")?;
    let Some(kept) = length.checked_sub(end.chars().count()) else {
        return Err(failure(format!("truncate() to {length} characters leaves no room for the end `{end}`")));
    };
    let most = length.saturating_add(leeway);
    if value
        .as_str()
        .map_or(value.len(), |text| Some(text.chars().count()))
        .is_some_and(|length| length <= most)
    {
        return Ok(value);
    }
    let text = text_of(&value, "what is truncated")?;
    let kept = text.char_indices().nth(kept).map_or(text, |(at, _)| &text[..at]);
    let words = if is_true(kill.as_ref(), false) {
        kept
    } else {
        kept.rsplit_once(' ').map_or(kept, |(left, _)| left)
    };
    Ok(Value::from(format!("{words}{end}")))
}

pub(super) fn word_count(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["s"], 1)?.map(Option::unwrap_or_default);
    let text = to_text(state, &value)?;
    Ok(Value::from(text.split(|c| !methods::is_word(c)).filter(|word| !word.is_empty()).count()))
}

/// `int(value)`, or the default where it is no number.
pub(super) fn int(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, default, base] = arguments.bind(["value", "default", "base"], 1)?;
    let value = value.unwrap_or_default();
    let default = default.unwrap_or(Value::from(0));
    if value.is_undefined() {
        return Ok(default);
    }
    let base = base.map_or(Ok(10), |base| integer_of(&base, "the base"))?;
    let whole = |number: f64| number.is_finite().then(|| number.trunc() as i128);
    let number = match value.as_str() {
        Some(text) => parse_int(text, base).or_else(|| parse_float(text).and_then(whole)),
        None => integer(&value).or_else(|| python::float(&value).and_then(whole)),
    };
    Ok(number.map_or(default, Value::from))
}

/// Python's `int(text, base)`.
fn parse_int(text: &str, base: i128) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_lowercase();
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find(|(prefix, of)| (base == 0 || base == *of) && lower.starts_with(prefix));
    let (digits, base) = match prefixed {
        Some((_, base)) => (digits[2..].strip_prefix('_').unwrap_or(&digits[2..]), base),
        None => (digits, if base == 0 { 10 } else { base }),
    };
    let digits = without_underscores(digits)?;
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
    let number = i128::from_str_radix(&digits, base).ok().filter(|_| !digits.starts_with(['+', '-']))?;
    Some(if negative { -number } else { number })
}

/// Digits, between which underscores may stand one at a time.
fn without_underscores(text: &str) -> Option<String> {
    let wrong = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!wrong).then(|| text.replace('_', ""))
}

/// Python's `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    let text = without_underscores(text.trim())?;
    let unsigned = text.trim_start_matches(['+', '-']).to_lowercase();
    if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || matches!(&*unsigned, "inf" | "infinity" | "nan")
    {
        return text.parse().ok();
    }
    None
}

pub(super) fn float(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, default] = arguments.bind(["value", "default"], 1)?;
    let value = value.unwrap_or_default();
    let default = default.unwrap_or(Value::from(0.0));
    let number = match value.as_str() {
        Some(text) => parse_float(text),
        None => python::float(&value).or_else(|| integer(&value).map(|number| number as f64)),
    };
    Ok(number.map_or(default, Value::from))
}

pub(super) fn file_size(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, binary] = arguments.bind(["value", "binary"], 1)?;
    let value = value.unwrap_or_default();
    let bytes = match value.as_str() {
        Some(text) => parse_float(text),
        None => python::float(&value).or_else(|| integer(&value).map(|number| number as f64)),
    };
    let Some(bytes) = bytes else { return Err(failure("filesizeformat needs a number of bytes")) };
    let binary = is_true(binary.as_ref(), false);
    let base = if binary { 1024.0 } else { 1000.0 };
    if (bytes - 1.0).abs() < f64::EPSILON {
        return Ok(Value::from("1 Byte"));
    }
    if bytes < base {
        return Ok(Value::from(format!("{} Bytes", bytes.trunc())));
    }
    let units = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut scaled = bytes / base;
    let mut unit = 0;
    while scaled >= base && unit + 1 < units.len() {
        scaled /= base;
        unit += 1;
    }
    let name = if binary { format!("{}iB", units[unit].to_uppercase()) } else { format!("{}B", units[unit]) };
    Ok(Value::from(format!("{scaled:.1} {name}")))
}

/// `pprint` of what fits into a line; dictionaries have their keys sorted in it.
pub(super) fn pretty(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    const LINE: usize = 80;
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    let text = to_repr(state, &sorted(state, &value, 0)?)?;
    if text.chars().count() > LINE {
        return Err(failure(format!("pprint is known for values of up to {LINE} characters")));
    }
    Ok(Value::from(text))
}

fn sorted(state: &State<'_, '_>, value: &Value, depth: usize) -> TemplateResult<Value> {
    if depth > 20 {
        return Err(failure("pprint goes no deeper than 20 levels"));
    }
    let inner = |items: Vec<Value>| {
        items.iter().map(|item| sorted(state, item, depth + 1)).collect::<TemplateResult<Vec<_>>>()
    };
    match value.kind() {
        ValueKind::Map => {
            let mut keys = items_of(state, value)?;
            super::lists::sort_values(state, &mut keys)?;
            let values = keys.iter().map(|key| sorted(state, &value.get_item(key)?, depth + 1));
            let values = values.collect::<TemplateResult<Vec<_>>>()?;
            Ok(Value::from_pairs(keys.into_iter().zip(values)))
        }
        ValueKind::Seq if value.is_tuple() => {
            Ok(minijinja::value::Tuple::new(inner(items_of(state, value)?)?).into())
        }
        ValueKind::Seq if python::type_name(value) == "list" => {
            Ok(Value::from(inner(items_of(state, value)?)?))
        }
        _ => Ok(value.clone()),
    }
}
