//! What operators do with Python's values.

use std::cmp::Ordering;

use minijinja::State;
use minijinja::value::{Tuple, Value, ValueKind};

use super::dialect::ITERATE;
use super::expression::{ADD, COMPARE, CONCATENATE, NEGATIVE, POSITIVE, REMAINDER};
use super::filters::escaped;
use super::format::fill_percent;
use super::objects::NumberRange;
use super::python::{
    CallArguments, TemplateFunction, TemplateResult, failure, float, integer, items_of, spend, to_text,
    type_name,
};

/// How deep values may be nested that are compared.
const DEEPEST: usize = 200;

pub(super) const FUNCTIONS: [(&str, TemplateFunction); 7] = [
    (ADD, add),
    (REMAINDER, remainder),
    (CONCATENATE, concatenate),
    (COMPARE, compare),
    (POSITIVE, positive),
    (NEGATIVE, negative),
    (ITERATE, iterate),
];

/// `a + b + c`. A text that is marked as safe makes the others safe, by escaping them.
fn add(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let mut operands = arguments.positional.into_iter();
    let mut sum = operands.next().unwrap_or_default();
    for operand in operands {
        sum = added(state, &sum, &operand)?;
    }
    Ok(sum)
}

fn added(state: &State<'_, '_>, left: &Value, right: &Value) -> TemplateResult<Value> {
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        spend(state, a.len() + b.len())?;
        return Ok(match (left.is_safe(), right.is_safe()) {
            (false, false) => Value::from([a, b].concat()),
            (true, true) => Value::from_safe_string([a, b].concat()),
            (true, false) => Value::from_safe_string([a, &escaped(b)].concat()),
            (false, true) => Value::from_safe_string([&escaped(a), b].concat()),
        });
    }
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        return a.checked_add(b).map(Value::from).ok_or_else(|| failure("a sum is too large"));
    }
    if let (Some(a), Some(b)) = (number(left), number(right)) {
        return Ok(Value::from(a + b));
    }
    match (type_name(left), type_name(right)) {
        ("list", "list") | ("tuple", "tuple") => {
            let mut items = items_of(state, left)?;
            items.extend(items_of(state, right)?);
            Ok(if left.is_tuple() { Tuple::new(items).into() } else { Value::from(items) })
        }
        _ => Err(unsupported("+", left, right)),
    }
}

/// `a % b`: a text that is filled, or what a division leaves, which has the sign of the divisor.
fn remainder(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [left, right] = arguments.bind(["left", "right"], 2)?.map(Option::unwrap_or_default);
    if let Some(format) = left.as_str() {
        let text = fill_percent(state, format, &right, left.is_safe())?;
        return Ok(if left.is_safe() { Value::from_safe_string(text) } else { Value::from(text) });
    }
    let unfit = || unsupported("%", &left, &right);
    if let (Some(a), Some(b)) = (integer(&left), integer(&right)) {
        if b == 0 {
            return Err(failure("division by zero"));
        }
        let rest = a.checked_rem(b).unwrap_or(0);
        return Ok(Value::from(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }));
    }
    let (a, b) = (number(&left).ok_or_else(unfit)?, number(&right).ok_or_else(unfit)?);
    if b == 0.0 {
        return Err(failure("division by zero"));
    }
    let rest = a % b;
    Ok(Value::from(if rest == 0.0 {
        0f64.copysign(b)
    } else if (rest < 0.0) != (b < 0.0) {
        rest + b
    } else {
        rest
    }))
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> minijinja::Error {
    failure(format!(
        "unsupported operand types for {operator}: '{}' and '{}'",
        type_name(left),
        type_name(right)
    ))
}

/// `a ~ b ~ c`.
#[allow(clippy::needless_pass_by_value, reason = "functions of templates get their arguments so")]
fn concatenate(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let mut text = String::new();
    for part in &arguments.positional {
        if let Some(part) = part.as_str() {
            spend(state, part.len())?;
            text.push_str(part);
        } else {
            text.push_str(&to_text(state, part)?);
        }
    }
    Ok(Value::from(text))
}

/// `+a`.
fn positive(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    match (integer(&value), float(&value)) {
        (Some(number), _) => Ok(Value::from(number)),
        (_, Some(number)) => Ok(Value::from(number)),
        _ => Err(failure(format!("+ is nothing for a {}", type_name(&value)))),
    }
}

/// `-a`.
fn negative(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    match (integer(&value), float(&value)) {
        (Some(number), _) => {
            Ok(Value::from(number.checked_neg().ok_or_else(|| failure("a number is too large"))?))
        }
        (_, Some(number)) => Ok(Value::from(-number)),
        _ => Err(failure(format!("- is nothing for a {}", type_name(&value)))),
    }
}

/// What a loop goes over: nothing that Python would not iterate over.
fn iterate(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value] = arguments.bind(["value"], 1)?.map(Option::unwrap_or_default);
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain => {
            Err(failure(format!("'{}' object is not iterable", type_name(&value))))
        }
        _ => Ok(value),
    }
}

/// `a < b == c …`: operands with the operators, as texts, between them.
#[allow(clippy::needless_pass_by_value, reason = "functions of templates get their arguments so")]
fn compare(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let mut operands = arguments.positional.iter();
    let mut left = operands.next().cloned().unwrap_or_default();
    while let (Some(operator), Some(right)) = (operands.next(), operands.next()) {
        if !holds(state, operator.as_str().unwrap_or_default(), &left, right)? {
            return Ok(Value::from(false));
        }
        left = right.clone();
    }
    Ok(Value::from(true))
}

/// Whether a comparison of two values holds.
pub(super) fn holds(
    state: &State<'_, '_>,
    operator: &str,
    left: &Value,
    right: &Value,
) -> TemplateResult<bool> {
    match operator {
        "==" => equal(state, left, right, 0),
        "!=" => Ok(!equal(state, left, right, 0)?),
        "in" => contains(state, left, right),
        "not in" => Ok(!contains(state, left, right)?),
        _ => {
            let order = order(state, left, right, operator, 0)?;
            Ok(match operator {
                "<" => order == Some(Ordering::Less),
                "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                ">" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            })
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    float(value).or_else(|| integer(value).map(|number| number as f64))
}

fn too_deep() -> minijinja::Error {
    failure(format!("values that are compared are nested deeper than {DEEPEST} levels"))
}

/// Whether two values are equal. Values may share parts, so that comparing has no end in sight: it is paid for.
pub(super) fn equal(
    state: &State<'_, '_>,
    left: &Value,
    right: &Value,
    depth: usize,
) -> TemplateResult<bool> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    spend(state, 0)?;
    match (left.kind(), right.kind()) {
        (ValueKind::Seq, ValueKind::Seq) => {
            if type_name(left) != type_name(right) || left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.try_iter()?.zip(right.try_iter()?) {
                if !equal(state, &left, &right, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (ValueKind::Map, ValueKind::Map) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for key in left.try_iter()? {
                let (left, right) = (left.get_item(&key)?, right.get_item(&key)?);
                if right.is_undefined() || !equal(state, &left, &right, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (ValueKind::Seq | ValueKind::Map, _) | (_, ValueKind::Seq | ValueKind::Map) => Ok(false),
        _ => Ok(left == right),
    }
}

/// Which of two values comes first; `None` where neither does, as with what is not a number.
pub(super) fn order(
    state: &State<'_, '_>,
    left: &Value,
    right: &Value,
    operator: &str,
    depth: usize,
) -> TemplateResult<Option<Ordering>> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    spend(state, 0)?;
    if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
        return Ok(Some(left.cmp(right)));
    }
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        return Ok(Some(left.cmp(&right)));
    }
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return Ok(left.partial_cmp(&right));
    }
    let lists = left.kind() == ValueKind::Seq && type_name(left) == type_name(right);
    if !lists || left.downcast_object_ref::<NumberRange>().is_some() {
        return Err(failure(format!(
            "'{operator}' is not supported between '{}' and '{}'",
            type_name(left),
            type_name(right)
        )));
    }
    for (left, right) in left.try_iter()?.zip(right.try_iter()?) {
        if !equal(state, &left, &right, depth + 1)? {
            return order(state, &left, &right, operator, depth + 1);
        }
    }
    Ok(Some(left.len().cmp(&right.len())))
}

/// `item in container`.
fn contains(state: &State<'_, '_>, item: &Value, container: &Value) -> TemplateResult<bool> {
    if let Some(text) = container.as_str() {
        let part = item.as_str().ok_or_else(|| {
            failure(format!("'in <string>' needs a str on its left, not {}", type_name(item)))
        })?;
        spend(state, text.len())?;
        return Ok(text.contains(part));
    }
    for other in items_of(state, container)? {
        if equal(state, item, &other, 0)? {
            return Ok(true);
        }
    }
    Ok(false)
}
