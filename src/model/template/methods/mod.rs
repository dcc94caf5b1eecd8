//! Methods of Python's values.

mod characters;
mod search;
mod text;

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::globals::from_keys;
use super::objects::DictView;
use super::operators::equal;
use super::python::{CallArguments, TemplateResult, failure, float, items_of, type_name};
pub(super) use characters::{is_printable, is_word};
pub(super) use text::lines_of;

/// Methods that change a value, which the sandbox forbids.
const CHANGING: [&str; 12] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "__setitem__",
];

/// Calls a method of a value that the engine knows no methods of.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> TemplateResult<Value> {
    let arguments = CallArguments::new(method, args.to_vec())?;
    let found = match value.kind() {
        ValueKind::String => {
            let result = text::call(state, value.as_str().unwrap_or_default(), method, arguments)?;
            // What is made of a text that is marked as safe is marked so too.
            result.map(|result| match result.as_str() {
                Some(text) if value.is_safe() => Value::from_safe_string(text.to_string()),
                _ => result,
            })
        }
        ValueKind::Seq => of_list(state, value, method, arguments)?,
        ValueKind::Map => of_dict(state, value, method, arguments)?,
        ValueKind::Number if float(value).is_some() && method == "is_integer" => {
            arguments.none()?;
            Some(Value::from(float(value).is_some_and(|number| number.fract() == 0.0)))
        }
        _ => None,
    };
    if found.is_none()
        && matches!(value.kind(), ValueKind::Seq | ValueKind::Map)
        && CHANGING.contains(&method)
    {
        return Err(failure(format!("`{method}` changes a {}, which templates may not", type_name(value))));
    }
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::UnknownMethod,
            format!("'{}' object has no method `{method}`", type_name(value)),
        )
    })
}

fn of_list(
    state: &State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: CallArguments,
) -> TemplateResult<Option<Value>> {
    Ok(Some(match method {
        "count" => {
            let [wanted] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
            let mut count = 0;
            for item in items_of(state, value)? {
                count += usize::from(equal(state, &item, &wanted, 0)?);
            }
            Value::from(count)
        }
        "index" => {
            let [wanted] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
            for (at, item) in items_of(state, value)?.iter().enumerate() {
                if equal(state, item, &wanted, 0)? {
                    return Ok(Some(Value::from(at)));
                }
            }
            return Err(failure(format!("the value is not in the {}", type_name(value))));
        }
        "copy" if type_name(value) == "list" => {
            arguments.none()?;
            value.clone()
        }
        _ => return Ok(None),
    }))
}

fn of_dict(
    state: &State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: CallArguments,
) -> TemplateResult<Option<Value>> {
    let pairs = |both: fn(Value, Value) -> Value| -> TemplateResult<Vec<Value>> {
        let keys = items_of(state, value)?;
        keys.into_iter()
            .map(|key| {
                let value = value.get_item(&key)?;
                Ok(both(key, value))
            })
            .collect()
    };
    Ok(Some(match method {
        "get" => {
            let [key, default] = arguments.bind(["key", "default"], 1)?;
            let found = value.get_item(&key.unwrap_or_default())?;
            if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found }
        }
        "keys" => {
            arguments.none()?;
            DictView::value("dict_keys", items_of(state, value)?)
        }
        "values" => {
            arguments.none()?;
            DictView::value("dict_values", pairs(|_, value| value)?)
        }
        "items" => {
            arguments.none()?;
            DictView::value("dict_items", pairs(|key, value| Tuple::new(vec![key, value]).into())?)
        }
        "copy" => {
            arguments.none()?;
            value.clone()
        }
        "fromkeys" => from_keys(state, arguments)?,
        _ => return Ok(None),
    }))
}
