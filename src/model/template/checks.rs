//! Tests (`x is …`) that mean something else in Python than in the engine.

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, State};

use super::globals::is_callable;
use super::operators::holds;
use super::python::{CallArguments, integer};

/// Names of tests that compare, and the operators that they are.
const COMPARISONS: [(&str, &str); 16] = [
    ("eq", "=="),
    ("equalto", "=="),
    ("==", "=="),
    ("ne", "!="),
    ("!=", "!="),
    ("lt", "<"),
    ("lessthan", "<"),
    ("<", "<"),
    ("le", "<="),
    ("<=", "<="),
    ("gt", ">"),
    ("greaterthan", ">"),
    (">", ">"),
    ("ge", ">="),
    (">=", ">="),
    ("in", "in"),
];

pub(super) fn add_to(environment: &mut Environment<'_>) {
    for (name, operator) in COMPARISONS {
        environment.add_test(name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            let [left, right] = CallArguments::new(name, arguments.into_values())?
                .bind(["value", "other"], 2)?
                .map(Option::unwrap_or_default);
            holds(state, operator, &left, &right)
        });
    }
    environment.add_test("iterable", |value: Value| is_iterable(&value));
    environment.add_test("sequence", |value: Value| is_sequence(&value));
    environment.add_test("callable", |value: Value| is_callable(&value));
    environment.add_test("integer", |value: Value| value.kind() == ValueKind::Number && value.is_integer());
    environment.remove_test("int");
    for (name, known) in [("filter", has_filter as NameLookup), ("test", has_test)] {
        environment.add_test(name, move |state: &mut State<'_, '_>, value: Value| {
            value.as_str().is_some_and(|name| known(state, name))
        });
    }
}

type NameLookup = fn(&mut State<'_, '_>, &str) -> bool;

/// Whether there is a filter of a name: one that is unknown says so before it looks at its arguments.
fn has_filter(state: &mut State<'_, '_>, name: &str) -> bool {
    !matches!(state.apply_filter(name, &[]), Err(e) if e.kind() == minijinja::ErrorKind::UnknownFilter)
}

fn has_test(state: &mut State<'_, '_>, name: &str) -> bool {
    !matches!(state.perform_test(name, &[]), Err(e) if e.kind() == minijinja::ErrorKind::UnknownTest)
}

/// What a loop can go over. An undefined value can be, as an empty list.
fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined
            | ValueKind::String
            | ValueKind::Bytes
            | ValueKind::Seq
            | ValueKind::Map
            | ValueKind::Iterable
    )
}

/// What has a length and is subscripted: texts and dictionaries too.
fn is_sequence(value: &Value) -> bool {
    is_iterable(value) && value.kind() != ValueKind::Iterable && integer(value).is_none()
}
