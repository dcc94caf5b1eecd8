//! What templates find without asking: functions, and the objects that they make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use minijinja::functions::namespace;
use minijinja::value::{Kwargs, Object, ObjectRepr, Tuple, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

use super::dialect::COLLECTING;
use super::objects::NumberRange;
use super::python::{
    CallArguments, TemplateFunction, TemplateResult, failure, integer_of, items_of, text_of, to_text,
    type_name,
};
use super::{operators, strftime};

/// The longest range that the sandbox allows.
const LONGEST_RANGE: usize = 100_000;

const FUNCTIONS: [(&str, TemplateFunction); 8] = [
    ("range", range),
    ("namespace", namespace_of),
    ("cycler", cycler),
    ("joiner", joiner),
    ("raise_exception", raise_exception),
    ("strftime_now", strftime_now),
    ("lipsum", lipsum),
    (COLLECTING, collecting),
];

pub(super) fn add_to(environment: &mut Environment<'_>) {
    for (name, function) in FUNCTIONS.into_iter().chain(operators::FUNCTIONS) {
        environment.add_global(name, function_value(name, function));
    }
    // The engine's own, which Jinja2 has not.
    environment.remove_global("debug");
    environment.add_global("dict", Value::from_object(DictType));
}

pub(super) fn function_value(name: &'static str, function: TemplateFunction) -> Value {
    Value::from_object(BuiltinFunction { name, function })
}

struct BuiltinFunction {
    name: &'static str,
    function: TemplateFunction,
}

impl std::fmt::Debug for BuiltinFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<function {}>", self.name)
    }
}

impl Object for BuiltinFunction {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> TemplateResult<Value> {
        (self.function)(state, CallArguments::new(self.name, args.to_vec())?)
    }
}

fn raise_exception(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [message] = arguments.bind(["message"], 1)?;
    Err(failure(to_text(state, &message.unwrap_or_default())?))
}

fn strftime_now(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [format] = arguments.bind(["format"], 1)?;
    strftime::write(text_of(&format.unwrap_or_default(), "the format of strftime_now")?).map(Value::from)
}

fn lipsum(_: &mut State<'_, '_>, _: CallArguments) -> TemplateResult<Value> {
    Err(failure("`lipsum` makes up another text each time: nothing can be measured with it"))
}

/// `range(stop)`, `range(start, stop)`, `range(start, stop, step)`.
fn range(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let given = arguments.positional.len();
    let bounds = arguments.bind(["start", "stop", "step"], 1)?;
    let mut numbers = [0, 0, 1];
    for (number, value) in numbers.iter_mut().zip(&bounds) {
        if let Some(value) = value {
            *number = i64::try_from(integer_of(value, "a bound of range")?)
                .map_err(|_| failure("a bound of range is too large"))?;
        }
    }
    let [start, stop, step] = if given == 1 { [0, numbers[0], 1] } else { numbers };
    let length = match step {
        0 => return Err(failure("a range needs a step that is not 0")),
        1.. => (i128::from(stop) - i128::from(start) + i128::from(step) - 1) / i128::from(step),
        _ => (i128::from(start) - i128::from(stop) - i128::from(step) - 1) / -i128::from(step),
    };
    let length = usize::try_from(length.max(0)).unwrap_or(usize::MAX);
    if length > LONGEST_RANGE {
        return Err(failure(format!("a range has {length} numbers: {LONGEST_RANGE} are allowed")));
    }
    Ok(Value::from_object(NumberRange { start, stop, step, length }))
}

/// `dict`, which is called and has a method.
#[derive(Debug)]
struct DictType;

impl Object for DictType {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> TemplateResult<Value> {
        Ok(Value::from_pairs(dict_pairs(state, CallArguments::new("dict", args.to_vec())?)?))
    }

    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> TemplateResult<Value> {
        if method != "fromkeys" {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
        from_keys(state, CallArguments::new("fromkeys", args.to_vec())?)
    }
}

/// A dictionary with these keys and one value.
pub(super) fn from_keys(state: &State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [keys, value] = arguments.bind(["iterable", "value"], 1)?;
    let value = value.unwrap_or(Value::from(()));
    let keys = items_of(state, &keys.unwrap_or_default())?;
    Ok(Value::from_pairs(keys.into_iter().map(|key| (key, value.clone()))))
}

/// What `dict(…)` is called with: another dictionary or pairs, then names.
fn dict_pairs(state: &State<'_, '_>, arguments: CallArguments) -> TemplateResult<Vec<(Value, Value)>> {
    let CallArguments { positional, named, .. } = arguments;
    let mut pairs = Vec::new();
    match positional.as_slice() {
        [] => {}
        [from] if from.kind() == ValueKind::Map => {
            for key in items_of(state, from)? {
                let value = from.get_item(&key)?;
                pairs.push((key, value));
            }
        }
        [from] => {
            for pair in items_of(state, from)? {
                match <[Value; 2]>::try_from(items_of(state, &pair)?) {
                    Ok([key, value]) => pairs.push((key, value)),
                    Err(items) => {
                        return Err(failure(format!("dict() needs pairs, not {} items", items.len())));
                    }
                }
            }
        }
        _ => return Err(failure("dict() takes one dictionary or list of pairs")),
    }
    pairs.extend(named.into_iter().map(|(key, value)| (Value::from(key), value)));
    Ok(pairs)
}

fn namespace_of(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let pairs = dict_pairs(state, arguments)?;
    if let Some((name, _)) =
        pairs.iter().find(|(key, _)| key.as_str().is_some_and(|key| key.starts_with('_')))
    {
        return Err(failure(format!("`{name}`: names in a namespace do not begin with an underscore")));
    }
    let (values,) = from_args(&[Value::from_pairs(pairs)])?;
    namespace(Some(values))
}

fn cycler(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    if arguments.positional.is_empty() || !arguments.named.is_empty() {
        return Err(failure("cycler() needs values, without names"));
    }
    Ok(Value::from_object(Cycler { items: arguments.positional, at: AtomicUsize::new(0) }))
}

/// Gives its values in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str()? == "current").then(|| self.items[self.at.load(Ordering::Relaxed)].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> TemplateResult<Value> {
        CallArguments::new(method, args.to_vec())?.none()?;
        let at = self.at.load(Ordering::Relaxed);
        match method {
            "next" => {
                self.at.store((at + 1) % self.items.len(), Ordering::Relaxed);
                Ok(self.items[at].clone())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn joiner(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [separator] = arguments.bind(["sep"], 0)?;
    let separator = separator.unwrap_or(Value::from(", "));
    Ok(Value::from_object(Joiner { separator, used: AtomicBool::new(false) }))
}

/// Nothing when first called, then its separator.
#[derive(Debug)]
struct Joiner {
    separator: Value,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> TemplateResult<Value> {
        CallArguments::new("joiner", args.to_vec())?.none()?;
        let used = self.used.swap(true, Ordering::Relaxed);
        Ok(if used { self.separator.clone() } else { Value::from("") })
    }
}

/// Wraps a macro whose body asks for `varargs` or `kwargs`: see the dialect.
fn collecting(_: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [inner, parameters, varargs, kwargs] =
        arguments.bind(["inner", "parameters", "varargs", "kwargs"], 4)?.map(Option::unwrap_or_default);
    let parameters = parameters.try_iter()?.map(|name| name.to_string()).collect();
    Ok(Value::from_object(CollectingMacro {
        inner,
        parameters,
        varargs: varargs.is_true(),
        kwargs: kwargs.is_true(),
    }))
}

/// A macro that takes any arguments.
struct CollectingMacro {
    inner: Value,
    parameters: Vec<String>,
    varargs: bool,
    kwargs: bool,
}

impl std::fmt::Debug for CollectingMacro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inner)
    }
}

impl Object for CollectingMacro {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.inner.get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> TemplateResult<Value> {
        let CallArguments { positional, named, .. } = CallArguments::new("macro", args.to_vec())?;
        let mut passed: Vec<(String, Value)> = Vec::new();
        let mut positional = positional.into_iter();
        for (name, value) in self.parameters.iter().zip(positional.by_ref()) {
            passed.push((name.clone(), value));
        }
        let more: Vec<Value> = positional.collect();
        let (known, other): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|(name, _)| self.parameters.contains(name) || name == "caller");
        for (name, value) in known {
            if passed.iter().any(|(there, _)| *there == name) {
                return Err(failure(format!("the macro got `{name}` twice")));
            }
            passed.push((name, value));
        }
        if self.varargs {
            passed.push(("varargs".into(), Tuple::new(more).into()));
        } else if !more.is_empty() {
            return Err(failure(format!("the macro takes {} arguments", self.parameters.len())));
        }
        if self.kwargs {
            passed.push(("kwargs".into(), Value::from_pairs(other)));
        } else if let Some((name, _)) = other.first() {
            return Err(failure(format!("the macro has no argument `{name}`")));
        }
        self.inner.call(state, &[Value::from(Kwargs::from_iter(passed))])
    }
}

pub(super) fn is_callable(value: &Value) -> bool {
    let is_object = value.downcast_object_ref::<Cycler>().is_none() && type_name(value) == "object";
    is_object || value.to_string().starts_with("<macro")
}
