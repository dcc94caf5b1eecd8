//! Methods of texts.

use minijinja::State;
use minijinja::value::{Tuple, Value, ValueKind};

use super::super::format::fill_fields;
use super::super::python::{
    CallArguments, TemplateResult, failure, integer, integer_of, is_true, items_of, length_of, spend,
    text_of, type_name,
};
use super::characters::{
    all_of_case, capitalize, casefold, is_decimal, is_digit, is_letter, is_numeric, is_printable, is_space,
    is_title, swapcase, title,
};
use super::search;

/// Calls a method; `None` where texts have no such method.
pub(super) fn call(
    state: &State<'_, '_>,
    text: &str,
    method: &str,
    arguments: CallArguments,
) -> TemplateResult<Option<Value>> {
    spend(state, text.len())?;
    if let Some(changed) = changed(text, method) {
        arguments.none()?;
        return Ok(Some(Value::from(changed)));
    }
    if let Some(answer) = property(text, method) {
        arguments.none()?;
        return Ok(Some(Value::from(answer)));
    }
    if matches!(method, "find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith") {
        return search::call(state, text, method, arguments);
    }
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => Value::from(strip(text, method, arguments)?),
        "split" | "rsplit" => split(text, method == "rsplit", arguments)?,
        "splitlines" => {
            let [keep] = arguments.bind(["keepends"], 0)?;
            lines_of(text, is_true(keep.as_ref(), false)).into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => partition(text, method == "rpartition", arguments)?,
        "join" => Value::from(join(state, text, arguments)?),
        "replace" => Value::from(replace(state, text, arguments)?),
        "removeprefix" | "removesuffix" => {
            let [part] = arguments.bind(["affix"], 1)?.map(Option::unwrap_or_default);
            let part = text_of(&part, "what is removed")?;
            let rest =
                if method == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Value::from(rest.unwrap_or(text))
        }
        "ljust" | "rjust" | "center" => {
            let [width, fill] = arguments.bind(["width", "fillchar"], 1)?;
            let width = length_of(width.as_ref(), 0, "the width")?;
            let fill = fill.unwrap_or(Value::from(" "));
            let fill = text_of(&fill, "the fill character")?;
            let mut characters = fill.chars();
            match (characters.next(), characters.next()) {
                (Some(fill), None) => Value::from(pad(state, text, method, width, fill)?),
                _ => return Err(failure("the fill character must be one character")),
            }
        }
        "zfill" => {
            let [width] = arguments.bind(["width"], 1)?;
            let width = length_of(width.as_ref(), 0, "the width")?;
            let sign = text.len() - text.strip_prefix(['+', '-']).unwrap_or(text).len();
            let digits = pad(state, &text[sign..], "rjust", width.saturating_sub(sign), '0')?;
            Value::from(format!("{}{digits}", &text[..sign]))
        }
        "expandtabs" => {
            let [size] = arguments.bind(["tabsize"], 0)?;
            Value::from(expand_tabs(state, text, length_of(size.as_ref(), 8, "the size of tabs")?)?)
        }
        "format" => Value::from(fill_fields(state, text, &arguments)?),
        "format_map" => {
            let [mapping] = arguments.bind(["mapping"], 1)?.map(Option::unwrap_or_default);
            let mut named = CallArguments::new(method, Vec::new())?;
            for key in items_of(state, &mapping)? {
                named.named.push((key.to_string(), mapping.get_item(&key)?));
            }
            Value::from(fill_fields(state, text, &named)?)
        }
        "translate" => Value::from(translate(text, arguments)?),
        "maketrans" => maketrans(state, arguments)?,
        _ => return Ok(None),
    }))
}

/// Methods without arguments that give another text.
fn changed(text: &str, method: &str) -> Option<String> {
    Some(match method {
        "lower" => text.to_lowercase(),
        "upper" => text.to_uppercase(),
        "title" => title(text),
        "capitalize" => capitalize(text),
        "casefold" => casefold(text),
        "swapcase" => swapcase(text),
        _ => return None,
    })
}

/// Methods without arguments that answer a question.
fn property(text: &str, method: &str) -> Option<bool> {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    Some(match method {
        "isalpha" => all(is_letter),
        "isalnum" => all(|c| is_letter(c) || is_numeric(c)),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(is_digit),
        "isnumeric" => all(is_numeric),
        "isspace" => all(is_space),
        "isascii" => text.is_ascii(),
        "isprintable" => text.chars().all(is_printable),
        "islower" => all_of_case(text, char::is_lowercase),
        "isupper" => all_of_case(text, char::is_uppercase),
        "istitle" => is_title(text),
        "isidentifier" => {
            let first = text.chars().next().is_some_and(|c| c == '_' || is_letter(c));
            first && text.chars().all(|c| c == '_' || is_letter(c) || is_decimal(c))
        }
        _ => return None,
    })
}

fn strip(text: &str, method: &str, arguments: CallArguments) -> TemplateResult<String> {
    let [characters] = arguments.bind(["chars"], 0)?;
    let characters = characters.filter(|characters| !characters.is_none());
    let wanted = match &characters {
        Some(characters) => Some(text_of(characters, "what is stripped")?),
        None => None,
    };
    let strips = |c: char| wanted.map_or_else(|| is_space(c), |wanted| wanted.contains(c));
    let text = if method == "rstrip" { text } else { text.trim_start_matches(strips) };
    Ok(if method == "lstrip" { text } else { text.trim_end_matches(strips) }.to_string())
}

/// The separator of `split` and `partition`, which may not be empty.
fn separator(value: &Value) -> TemplateResult<&str> {
    match text_of(value, "a separator")? {
        "" => Err(failure("a separator is empty")),
        text => Ok(text),
    }
}

fn split(text: &str, from_end: bool, arguments: CallArguments) -> TemplateResult<Value> {
    let [sep, most] = arguments.bind(["sep", "maxsplit"], 0)?;
    let most = match most {
        Some(most) => usize::try_from(integer_of(&most, "maxsplit")?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let sep = sep.filter(|sep| !sep.is_none());
    let parts: Vec<&str> = match &sep {
        None => split_at_spaces(text, from_end, most),
        Some(sep) if from_end => {
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), separator(sep)?).collect();
            parts.reverse();
            parts
        }
        Some(sep) => text.splitn(most.saturating_add(1), separator(sep)?).collect(),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn split_at_spaces(text: &str, from_end: bool, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    if from_end {
        let mut rest = text.trim_end_matches(is_space);
        while !rest.is_empty() {
            let start = match rest.char_indices().rev().find(|(_, c)| is_space(*c)) {
                Some((at, c)) if parts.len() < most => at + c.len_utf8(),
                _ => 0,
            };
            parts.push(&rest[start..]);
            rest = rest[..start].trim_end_matches(is_space);
        }
        parts.reverse();
    } else {
        let mut rest = text.trim_start_matches(is_space);
        while !rest.is_empty() {
            let end = rest.find(is_space).filter(|_| parts.len() < most).unwrap_or(rest.len());
            parts.push(&rest[..end]);
            rest = rest[end..].trim_start_matches(is_space);
        }
    }
    parts
}

/// Lines, by every sign that Python takes for a line's end; with these ends if they are to be kept.
pub(in super::super) fn lines_of(text: &str, keep: bool) -> Vec<&str> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ENDS) {
        let end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..if keep { at + end } else { at }]);
        rest = &rest[at + end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn partition(text: &str, from_end: bool, arguments: CallArguments) -> TemplateResult<Value> {
    let [sep] = arguments.bind(["sep"], 1)?.map(Option::unwrap_or_default);
    let sep = separator(&sep)?;
    let parts = match if from_end { text.rsplit_once(sep) } else { text.split_once(sep) } {
        Some((before, behind)) => [before, sep, behind],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Tuple::new(parts.map(Value::from).to_vec()).into())
}

fn join(state: &State<'_, '_>, separator: &str, arguments: CallArguments) -> TemplateResult<String> {
    let [items] = arguments.bind(["iterable"], 1)?.map(Option::unwrap_or_default);
    let mut text = String::new();
    for (at, item) in items_of(state, &items)?.iter().enumerate() {
        let item = text_of(item, "an item that is joined")?;
        spend(state, separator.len() + item.len())?;
        if at > 0 {
            text.push_str(separator);
        }
        text.push_str(item);
    }
    Ok(text)
}

fn replace(state: &State<'_, '_>, text: &str, arguments: CallArguments) -> TemplateResult<String> {
    let [old, new, count] = arguments.bind(["old", "new", "count"], 2)?;
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    let (old, new) = (text_of(&old, "what is replaced")?, text_of(&new, "what it is replaced by")?);
    let most = match count {
        Some(count) => usize::try_from(integer_of(&count, "the count")?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let times = text.matches(old).take(most).count();
    spend(state, times.saturating_mul(new.len()))?;
    Ok(text.replacen(old, new, most))
}

fn pad(state: &State<'_, '_>, text: &str, method: &str, width: usize, fill: char) -> TemplateResult<String> {
    let missing = width.saturating_sub(text.chars().count());
    spend(state, missing.saturating_mul(fill.len_utf8()))?;
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Of an odd number the larger half stands on the left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(format!("{}{text}{}", fill(left), fill(missing - left)))
}

fn expand_tabs(state: &State<'_, '_>, text: &str, size: usize) -> TemplateResult<String> {
    spend(state, text.matches('\t').count().saturating_mul(size))?;
    let mut result = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let spaces = size - column % size;
                result.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\t' => {}
            _ => {
                result.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(result)
}

/// Replaces characters by a table from their numbers to numbers, texts, or `None` for nothing.
fn translate(text: &str, arguments: CallArguments) -> TemplateResult<String> {
    let [table] = arguments.bind(["table"], 1)?.map(Option::unwrap_or_default);
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        let found = table.get_item(&Value::from(u32::from(c)))?;
        match found.kind() {
            ValueKind::Undefined => result.push(c),
            ValueKind::None => {}
            ValueKind::String => result.push_str(found.as_str().unwrap_or_default()),
            _ => {
                let code = integer(&found).and_then(|code| char::from_u32(u32::try_from(code).ok()?));
                result.push(code.ok_or_else(|| {
                    failure(format!("a table of translate() holds a {}", type_name(&found)))
                })?);
            }
        }
    }
    Ok(result)
}

fn maketrans(state: &State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [from, to, removed] = arguments.bind(["x", "y", "z"], 1)?;
    let from = from.unwrap_or_default();
    let Some(to) = to else {
        let mut pairs = Vec::new();
        for key in items_of(state, &from)? {
            let code = key.as_str().and_then(|key| key.chars().next()).map(|c| Value::from(u32::from(c)));
            let value = from.get_item(&key)?;
            pairs.push((code.unwrap_or(key), value));
        }
        return Ok(Value::from_pairs(pairs));
    };
    let (from, to) = (text_of(&from, "maketrans()")?, text_of(&to, "maketrans()")?);
    if from.chars().count() != to.chars().count() {
        return Err(failure("maketrans() needs two texts of the same length"));
    }
    let code = |c: char| Value::from(u32::from(c));
    let mut pairs: Vec<_> = from.chars().zip(to.chars()).map(|(from, to)| (code(from), code(to))).collect();
    if let Some(removed) = removed {
        pairs.extend(text_of(&removed, "maketrans()")?.chars().map(|c| (code(c), Value::from(()))));
    }
    Ok(Value::from_pairs(pairs))
}
