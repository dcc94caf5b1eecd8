//! Python's two ways to fill a text with values: `'%s' % value` and `'{}'.format(value)`.

mod fields;
mod number;
mod percent;
mod spec;

use minijinja::State;
use minijinja::value::{Value, ValueKind};

use super::python::{TemplateResult, failure, float, integer, to_repr, to_text, type_name};
pub(super) use fields::fill_fields;
pub(super) use percent::fill_percent;
use spec::FormatSpec;

/// `format(value, specification)`.
fn format_value(state: &State<'_, '_>, spec: &FormatSpec, value: &Value) -> TemplateResult<String> {
    let plain = *spec == FormatSpec::default();
    let refused = || failure(format!("this format cannot be used for a {}", type_name(value)));
    match value.kind() {
        ValueKind::String => {
            let unfit = spec.kind.is_some_and(|kind| kind != 's') || spec.sign != '-' || spec.group.is_some();
            if unfit || spec.align == Some('=') {
                return Err(refused());
            }
            spec.text(state, value.as_str().unwrap_or_default())
        }
        ValueKind::Bool if plain => to_text(state, value),
        ValueKind::Bool | ValueKind::Number => {
            if let Some(number) = float(value) {
                return number::float(state, spec, number)?.ok_or_else(refused);
            }
            let number = integer(value).ok_or_else(refused)?;
            number::integer(state, spec, number)?.ok_or_else(refused)
        }
        _ if plain => to_text(state, value),
        _ => Err(refused()),
    }
}

/// What `!r`, `!s`, `!a` and their likes with `%` make of a value.
fn converted(state: &State<'_, '_>, value: &Value, kind: char) -> TemplateResult<String> {
    match kind {
        's' => to_text(state, value),
        'r' => to_repr(state, value),
        'a' => {
            let text = to_repr(state, value)?;
            Ok(text
                .chars()
                .map(|c| if c.is_ascii() { c.to_string() } else { super::python::escaped(c) })
                .collect())
        }
        other => Err(failure(format!("there is no conversion `{other}`"))),
    }
}
