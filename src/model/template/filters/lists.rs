//! Filters of lists and dictionaries.

use std::cmp::Ordering;

use minijinja::State;
use minijinja::value::{Tuple, Value, ValueKind};

use super::super::objects::ItemGroup;
use super::super::operators::{equal, order};
use super::super::python::{
    CallArguments, TemplateResult, failure, integer, is_true, items_of, spend, to_text, type_name,
};

/// `|attr(name)`: attributes, which items are not.
pub(super) fn attribute(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, name] = arguments.bind(["obj", "name"], 2)?.map(Option::unwrap_or_default);
    if matches!(value.kind(), ValueKind::Map) { Ok(Value::UNDEFINED) } else { value.get_item(&name) }
}

/// The item of a path such as `a.b.0`.
fn item(value: &Value, path: &Value) -> TemplateResult<Value> {
    let Some(path) = path.as_str() else { return value.get_item(path) };
    path.split('.').try_fold(value.clone(), |value, part| match part.parse::<usize>() {
        Ok(index) => value.get_item(&Value::from(index)),
        Err(_) => value.get_item(&Value::from(part)),
    })
}

pub(super) fn list(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    items_of(state, &value).map(Value::from)
}

pub(super) fn join(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, separator, attribute] = arguments.bind(["value", "d", "attribute"], 1)?;
    let separator = to_text(state, &separator.unwrap_or(Value::from("")))?;
    let mut text = String::new();
    for (at, value) in items_of(state, &value.unwrap_or_default())?.iter().enumerate() {
        if at > 0 {
            spend(state, separator.len())?;
            text.push_str(&separator);
        }
        let part = match attribute.as_ref().filter(|attribute| !attribute.is_none()) {
            Some(attribute) => to_text(state, &item(value, attribute)?)?,
            None => to_text(state, value)?,
        };
        text.push_str(&part);
    }
    Ok(Value::from(text))
}

pub(super) fn sum(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, attribute, start] = arguments.bind(["iterable", "attribute", "start"], 1)?;
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    let mut total = start.unwrap_or(Value::from(0));
    for value in items_of(state, &value.unwrap_or_default())? {
        let value = match &attribute {
            Some(attribute) => item(&value, attribute)?,
            None => value,
        };
        total = match (integer(&total), integer(&value)) {
            (Some(a), Some(b)) => {
                Value::from(a.checked_add(b).ok_or_else(|| failure("the sum of a list is too large"))?)
            }
            _ => match (f64::try_from(total.clone()), f64::try_from(value.clone())) {
                (Ok(a), Ok(b)) => Value::from(a + b),
                _ => {
                    return Err(failure(format!(
                        "a list with a {} and a {} has no sum",
                        type_name(&total),
                        type_name(&value)
                    )));
                }
            },
        };
    }
    Ok(total)
}

/// What values are ordered by: small letters and large ones alike, unless they are told apart.
fn folded(value: Value, case: bool) -> Value {
    match value.as_str() {
        Some(text) if !case => Value::from(text.to_lowercase()),
        _ => value,
    }
}

/// Sorts by keys, as Python does: what is alike stays in its order, and keys without an order are refused.
fn sort_by_keys(
    state: &State<'_, '_>,
    items: Vec<(Value, Value)>,
    reverse: bool,
) -> TemplateResult<Vec<(Value, Value)>> {
    let before = |left: &Value, right: &Value| -> TemplateResult<bool> {
        let (left, right) = if reverse { (right, left) } else { (left, right) };
        Ok(order(state, left, right, "<", 0)? == Some(Ordering::Less))
    };
    // Not the library's, which may panic where keys have no order throughout.
    let mut runs: Vec<Vec<(Value, Value)>> = items.into_iter().map(|item| vec![item]).collect();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut rest = runs.into_iter();
        while let Some(first) = rest.next() {
            let Some(second) = rest.next() else {
                merged.push(first);
                break;
            };
            let mut run = Vec::with_capacity(first.len() + second.len());
            let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
            while let (Some((left, _)), Some((right, _))) = (first.peek(), second.peek()) {
                run.extend(if before(right, left)? { second.next() } else { first.next() });
            }
            run.extend(first.chain(second));
            merged.push(run);
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}

/// Sorts values by themselves.
pub(in super::super) fn sort_values(state: &State<'_, '_>, values: &mut Vec<Value>) -> TemplateResult<()> {
    let keyed = values.drain(..).map(|value| (value.clone(), value)).collect();
    values.extend(sort_by_keys(state, keyed, false)?.into_iter().map(|(_, value)| value));
    Ok(())
}

pub(super) fn sort(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, reverse, case, attribute] =
        arguments.bind(["value", "reverse", "case_sensitive", "attribute"], 1)?;
    let case = is_true(case.as_ref(), false);
    let mut keyed = Vec::new();
    for value in items_of(state, &value.unwrap_or_default())? {
        let key = match attribute.as_ref().filter(|attribute| !attribute.is_none()) {
            None => folded(value.clone(), case),
            Some(attribute) => match attribute.as_str() {
                Some(paths) => {
                    let keys =
                        paths.split(',').map(|path| Ok(folded(item(&value, &Value::from(path))?, case)));
                    Value::from(keys.collect::<TemplateResult<Vec<_>>>()?)
                }
                None => folded(item(&value, attribute)?, case),
            },
        };
        keyed.push((key, value));
    }
    let sorted = sort_by_keys(state, keyed, is_true(reverse.as_ref(), false))?;
    Ok(sorted.into_iter().map(|(_, value)| value).collect())
}

/// Groups of values with the same attribute, sorted by it.
pub(super) fn group_by(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, attribute, default, case] =
        arguments.bind(["value", "attribute", "default", "case_sensitive"], 2)?;
    let (attribute, case) = (attribute.unwrap_or_default(), is_true(case.as_ref(), false));
    let mut keyed = Vec::new();
    for value in items_of(state, &value.unwrap_or_default())? {
        let mut found = item(&value, &attribute)?;
        if found.is_undefined() {
            found = default.clone().unwrap_or_default();
        }
        keyed.push((folded(found.clone(), case), Tuple::from([found, value]).into()));
    }
    let mut groups: Vec<(Value, ItemGroup)> = Vec::new();
    for (key, pair) in sort_by_keys(state, keyed, false)? {
        let value = pair.get_item_by_index(1)?;
        match groups.last_mut() {
            Some((known, group)) if equal(state, known, &key, 0)? => group.list.push(value),
            _ => groups.push((key, ItemGroup { grouper: pair.get_item_by_index(0)?, list: vec![value] })),
        }
    }
    Ok(groups.into_iter().map(|(_, group)| Value::from_object(group)).collect())
}

pub(super) fn dictsort(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, case, by, reverse] = arguments.bind(["value", "case_sensitive", "by", "reverse"], 1)?;
    let value = value.unwrap_or_default();
    if value.kind() != ValueKind::Map {
        return Err(failure(format!("dictsort needs a dict, not a {}", type_name(&value))));
    }
    let by = by.unwrap_or(Value::from("key"));
    let by_key = match by.as_str() {
        Some("key") => true,
        Some("value") => false,
        _ => return Err(failure("dictsort sorts by `key` or by `value`")),
    };
    let case = is_true(case.as_ref(), false);
    let mut keyed = Vec::new();
    for key in items_of(state, &value)? {
        let pair = [key.clone(), value.get_item(&key)?];
        let by = if by_key { &pair[0] } else { &pair[1] };
        keyed.push((folded(by.clone(), case), Tuple::from(pair).into()));
    }
    let sorted = sort_by_keys(state, keyed, is_true(reverse.as_ref(), false))?;
    Ok(sorted.into_iter().map(|(_, pair)| pair).collect())
}

pub(super) fn max(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    extreme(state, arguments, Ordering::Greater)
}

pub(super) fn min(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    extreme(state, arguments, Ordering::Less)
}

fn extreme(state: &State<'_, '_>, arguments: CallArguments, wanted: Ordering) -> TemplateResult<Value> {
    let [value, case, attribute] = arguments.bind(["value", "case_sensitive", "attribute"], 1)?;
    let case = is_true(case.as_ref(), false);
    let operator = if wanted == Ordering::Greater { ">" } else { "<" };
    let mut best: Option<(Value, Value)> = None;
    for value in items_of(state, &value.unwrap_or_default())? {
        let key = match attribute.as_ref().filter(|attribute| !attribute.is_none()) {
            Some(attribute) => folded(item(&value, attribute)?, case),
            None => folded(value.clone(), case),
        };
        let better = match &best {
            None => true,
            Some((known, _)) => order(state, &key, known, operator, 0)? == Some(wanted),
        };
        if better {
            best = Some((key, value));
        }
    }
    Ok(best.map(|(_, value)| value).unwrap_or_default())
}

pub(super) fn unique(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, case, attribute] = arguments.bind(["value", "case_sensitive", "attribute"], 1)?;
    let case = is_true(case.as_ref(), false);
    let mut keys: Vec<Value> = Vec::new();
    let mut items = Vec::new();
    'items: for value in items_of(state, &value.unwrap_or_default())? {
        let key = match attribute.as_ref().filter(|attribute| !attribute.is_none()) {
            Some(attribute) => folded(item(&value, attribute)?, case),
            None => folded(value.clone(), case),
        };
        for known in &keys {
            if equal(state, known, &key, 0)? {
                continue 'items;
            }
        }
        keys.push(key);
        items.push(value);
    }
    Ok(Value::from(items))
}
