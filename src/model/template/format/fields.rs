//! `text.format(values)`.

use minijinja::State;
use minijinja::value::Value;

use super::super::python::{CallArguments, TemplateResult, failure};
use super::spec::FormatSpec;
use super::{converted, format_value};

pub(crate) fn fill_fields(
    state: &State<'_, '_>,
    format: &str,
    values: &CallArguments,
) -> TemplateResult<String> {
    let mut filler = FieldFiller { state, values, automatic: None };
    filler.fill(format, 2)
}

struct FieldFiller<'a, 'b> {
    state: &'a State<'b, 'b>,
    values: &'a CallArguments,
    /// The next value of fields without a number; fields with numbers cannot be mixed in.
    automatic: Option<usize>,
}

impl FieldFiller<'_, '_> {
    /// Fills a text; formats may hold fields themselves, `depth` levels in all.
    fn fill(&mut self, format: &str, depth: usize) -> TemplateResult<String> {
        if depth == 0 {
            return Err(failure("fields of a format are nested too deep"));
        }
        let mut text = String::with_capacity(format.len());
        let mut rest = format;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(failure("a text for `format` has a `}` too many"));
            }
            let end = closing(rest).ok_or_else(|| failure("a text for `format` lacks a `}`"))?;
            text.push_str(&self.field(&rest[..end], depth)?);
            rest = &rest[end + 1..];
        }
        Ok(text + rest)
    }

    fn field(&mut self, field: &str, depth: usize) -> TemplateResult<String> {
        let mut inside = 0usize;
        let name_end = field.find(|c| {
            match c {
                '[' => inside += 1,
                ']' => inside = inside.saturating_sub(1),
                _ => {}
            }
            inside == 0 && (c == '!' || c == ':')
        });
        let (name, mut rest) = field.split_at(name_end.unwrap_or(field.len()));
        let mut value = self.value(name)?;
        if let Some(after) = rest.strip_prefix('!') {
            let kind = after.chars().next().ok_or_else(|| failure("a field of `format` ends behind `!`"))?;
            value = Value::from(converted(self.state, &value, kind)?);
            rest = &after[kind.len_utf8()..];
        }
        let spec = match rest.strip_prefix(':') {
            Some(spec) if spec.contains('{') => FormatSpec::parse(&self.fill(spec, depth - 1)?)?,
            Some(spec) => FormatSpec::parse(spec)?,
            None if rest.is_empty() => FormatSpec::default(),
            None => return Err(failure(format!("`{field}` is no field of `format`"))),
        };
        format_value(self.state, &spec, &value)
    }

    /// The value of a name such as `0`, `key`, `0.attribute[item]` or nothing.
    fn value(&mut self, name: &str) -> TemplateResult<Value> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(end);
        let index = first.parse::<usize>().ok();
        if first.is_empty() || index.is_some() {
            let numbered = self.automatic == Some(usize::MAX);
            if (index.is_some() && self.automatic.is_some() && !numbered) || (index.is_none() && numbered) {
                return Err(failure("a text for `format` mixes fields with and without numbers"));
            }
        }
        let mut value = if let Some(index) = index {
            self.automatic = Some(usize::MAX);
            self.positional(index)?
        } else if first.is_empty() {
            let next = self.automatic.unwrap_or(0);
            self.automatic = Some(next + 1);
            self.positional(next)?
        } else {
            let named = self.values.named.iter().find(|(key, _)| key == first);
            named
                .map(|(_, value)| value.clone())
                .ok_or_else(|| failure(format!("`format` has no `{first}`")))?
        };
        while !path.is_empty() {
            let (part, after) = if let Some(inside) = path.strip_prefix('[') {
                let (key, after) = inside.split_once(']').ok_or_else(|| failure("a field lacks its `]`"))?;
                let key = key.parse::<i64>().map_or_else(|_| Value::from(key), Value::from);
                (value.get_item(&key)?, after)
            } else {
                let attribute = &path[1..];
                let end = attribute.find(['.', '[']).unwrap_or(attribute.len());
                (value.get_attr(&attribute[..end])?, &attribute[end..])
            };
            (value, path) = (part, after);
        }
        Ok(value)
    }

    fn positional(&self, index: usize) -> TemplateResult<Value> {
        let value = self.values.positional.get(index).cloned();
        value.ok_or_else(|| failure(format!("`format` has no value number {index}")))
    }
}

/// Where the field ends that begins here.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}
