//! Methods of texts that look for other texts. Places are counted in characters.

use minijinja::State;
use minijinja::value::{Value, ValueKind};

use super::super::python::{
    CallArguments, TemplateResult, failure, integer_of, items_of, spend, text_of, type_name,
};

/// `find`, `rfind`, `index`, `rindex`, `count`, `startswith`, `endswith`; `None` for another.
pub(super) fn call(
    state: &State<'_, '_>,
    text: &str,
    method: &str,
    arguments: CallArguments,
) -> TemplateResult<Option<Value>> {
    if !matches!(method, "find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith") {
        return Ok(None);
    }
    spend(state, text.len())?;
    let [wanted, start, end] = arguments.bind(["sub", "start", "end"], 1)?;
    let wanted = wanted.unwrap_or_default();
    let part = SearchedPart::of(text, start.as_ref(), end.as_ref())?;
    if matches!(method, "startswith" | "endswith") {
        let texts = match wanted.kind() {
            ValueKind::Seq if wanted.is_tuple() => items_of(state, &wanted)?,
            ValueKind::String => vec![wanted],
            _ => {
                return Err(failure(format!(
                    "{method}() takes a str or a tuple, not a {}",
                    type_name(&wanted)
                )));
            }
        };
        for wanted in &texts {
            let wanted = text_of(wanted, "what a text starts or ends with")?;
            let Some(found) = part.text else { continue };
            if if method == "startswith" { found.starts_with(wanted) } else { found.ends_with(wanted) } {
                return Ok(Some(Value::from(true)));
            }
        }
        return Ok(Some(Value::from(false)));
    }
    let wanted = text_of(&wanted, "what is looked for")?;
    if method == "count" {
        return Ok(Some(Value::from(part.text.map_or(0, |text| text.matches(wanted).count()))));
    }
    let found = part.text.and_then(|text| {
        let byte = if method.starts_with('r') { text.rfind(wanted) } else { text.find(wanted) }?;
        Some(text[..byte].chars().count() + part.start)
    });
    match found {
        Some(at) => Ok(Some(Value::from(at))),
        None if method.ends_with("find") => Ok(Some(Value::from(-1))),
        None => Err(failure(format!("{method}(): the text does not have it"))),
    }
}

/// The part of a text that is looked through; `None` where its start lies behind its end.
struct SearchedPart<'a> {
    text: Option<&'a str>,
    /// Its first character's place.
    start: usize,
}

impl<'a> SearchedPart<'a> {
    fn of(text: &'a str, start: Option<&Value>, end: Option<&Value>) -> TemplateResult<Self> {
        let given = |value: Option<&Value>| value.filter(|value| !value.is_none()).cloned();
        let (start, end) = (given(start), given(end));
        if start.is_none() && end.is_none() {
            return Ok(Self { text: Some(text), start: 0 });
        }
        let length = text.chars().count() as i128;
        let place = |value: Option<Value>, default: i128| -> TemplateResult<i128> {
            let Some(value) = value else { return Ok(default) };
            let place = integer_of(&value, "a place in a text")?;
            Ok(if place < 0 { (place + length).max(0) } else { place })
        };
        let (start, end) = (place(start, 0)?, place(end, length)?.min(length));
        if start > end {
            return Ok(Self { text: None, start: 0 });
        }
        let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
        let (start, end) = (start as usize, end as usize);
        Ok(Self { text: Some(&text[byte(start)..byte(end)]), start })
    }
}
