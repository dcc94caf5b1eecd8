//! The engine's values as Python has them: how they are written, what type they are, how functions take arguments.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::methods::is_printable;
use super::objects::{DictView, ItemGroup, NumberRange};

pub(super) type TemplateResult<T> = std::result::Result<T, Error>;

/// A function, filter or test.
pub(super) type TemplateFunction = fn(&mut State<'_, '_>, CallArguments) -> TemplateResult<Value>;

/// How deep lists and dictionaries may be nested where something looks through all of them.
const DEEPEST: usize = 200;

/// Bytes that one step of a template's allowance pays for.
const BYTES_OF_A_STEP: usize = 64;

pub(super) fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Takes the cost of so many bytes off what the template may still do, before they are made.
pub(super) fn spend(state: &State<'_, '_>, bytes: usize) -> TemplateResult<()> {
    state.consume_fuel((bytes / BYTES_OF_A_STEP + 1) as u64)
}

/// What Python calls the type of a value.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Seq if is_tuple(value) => "tuple",
        ValueKind::Seq if value.downcast_object_ref::<NumberRange>().is_some() => "range",
        ValueKind::Seq => "list",
        ValueKind::Map => "dict",
        ValueKind::Iterable => {
            value.downcast_object_ref::<DictView>().map_or("generator", DictView::type_name)
        }
        _ => "object",
    }
}

pub(super) fn is_tuple(value: &Value) -> bool {
    value.is_tuple() || value.downcast_object_ref::<ItemGroup>().is_some()
}

/// An integer, among which are the two booleans.
pub(super) fn integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

/// A number that is not an integer.
pub(super) fn float(value: &Value) -> Option<f64> {
    (value.kind() == ValueKind::Number && !value.is_integer()).then(|| f64::try_from(value.clone()).ok())?
}

/// `str(value)`.
pub(super) fn to_text(state: &State<'_, '_>, value: &Value) -> TemplateResult<String> {
    match value.as_str() {
        Some(text) => {
            spend(state, text.len())?;
            Ok(text.to_string())
        }
        None if value.is_undefined() => Ok(String::new()),
        None => to_repr(state, value),
    }
}

/// `repr(value)`.
pub(super) fn to_repr(state: &State<'_, '_>, value: &Value) -> TemplateResult<String> {
    let mut printer = ValuePrinter { state, text: String::new(), paid: 0 };
    printer.value(value, 0)?;
    Ok(printer.text)
}

/// Writes values, paying for what it writes as it goes: lists that share their parts can be written without end.
struct ValuePrinter<'a, 'b> {
    state: &'a State<'b, 'b>,
    text: String,
    /// Bytes that were paid for.
    paid: usize,
}

impl ValuePrinter<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> TemplateResult<()> {
        if depth > DEEPEST {
            return Err(failure(format!("lists and dictionaries are nested deeper than {DEEPEST} levels")));
        }
        // Writing a value is slower than copying bytes.
        spend(self.state, (self.text.len() - self.paid) * 8)?;
        self.paid = self.text.len();
        match value.kind() {
            ValueKind::Undefined => self.text.push_str("Undefined"),
            ValueKind::String => self.text.push_str(&quoted(value.as_str().unwrap_or_default())),
            ValueKind::Bytes => self.text.push_str(&quoted_bytes(value.as_bytes().unwrap_or_default())),
            ValueKind::Number => match float(value) {
                Some(number) => self.text.push_str(&float_text(number)),
                None => self.text.push_str(&value.to_string()),
            },
            ValueKind::Map => self.pairs(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => self.items(value, depth)?,
            _ => self.text.push_str(&value.to_string()),
        }
        Ok(())
    }

    fn pairs(&mut self, value: &Value, depth: usize) -> TemplateResult<()> {
        self.text.push('{');
        for (at, key) in value.try_iter()?.enumerate() {
            if at > 0 {
                self.text.push_str(", ");
            }
            self.value(&key, depth + 1)?;
            self.text.push_str(": ");
            self.value(&value.get_item(&key)?, depth + 1)?;
        }
        self.text.push('}');
        Ok(())
    }

    fn items(&mut self, value: &Value, depth: usize) -> TemplateResult<()> {
        if let Some(range) = value.downcast_object_ref::<NumberRange>() {
            self.text.push_str(&range.text());
            return Ok(());
        }
        let (open, close) = match value.downcast_object_ref::<DictView>() {
            Some(view) => (format!("{}([", view.type_name()), "])"),
            None if is_tuple(value) => ("(".to_string(), ")"),
            None => ("[".to_string(), "]"),
        };
        self.text.push_str(&open);
        let mut count = 0;
        for item in value.try_iter()? {
            if count > 0 {
                self.text.push_str(", ");
            }
            count += 1;
            self.value(&item, depth + 1)?;
        }
        if count == 1 && is_tuple(value) {
            self.text.push(',');
        }
        self.text.push_str(close);
        Ok(())
    }
}

/// A float as Python writes it: the shortest digits that mean it, with an exponent where it is very small or large.
pub(super) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = number.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// A string as Python writes it in a list.
pub(super) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push(quote);
    for c in text.chars() {
        match c {
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c if c == quote => literal.extend(['\\', c]),
            c if is_printable(c) => literal.push(c),
            c => literal.push_str(&escaped(c)),
        }
    }
    literal.push(quote);
    literal
}

/// A character by its number, as Python's literals have it.
pub(super) fn escaped(c: char) -> String {
    match u32::from(c) {
        code @ ..=0xff => format!("\\x{code:02x}"),
        code @ 0x100..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    }
}

fn quoted_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    let mut literal = format!("b{}", quote as char);
    for &byte in bytes {
        match byte {
            b'\\' => literal.push_str("\\\\"),
            b'\n' => literal.push_str("\\n"),
            b'\r' => literal.push_str("\\r"),
            b'\t' => literal.push_str("\\t"),
            byte if byte == quote => literal.extend(['\\', quote as char]),
            b' '..=b'~' => literal.push(byte as char),
            byte => literal.push_str(&format!("\\x{byte:02x}")),
        }
    }
    literal.push(quote as char);
    literal
}

/// The arguments of a call, to be sorted to a function's parameters.
pub(super) struct CallArguments {
    name: String,
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
}

impl CallArguments {
    pub fn new(name: &str, mut values: Vec<Value>) -> TemplateResult<Self> {
        let mut named = Vec::new();
        if values.last().is_some_and(Value::is_kwargs)
            && let Some(last) = values.pop()
        {
            for key in last.try_iter()? {
                let text =
                    key.as_str().ok_or_else(|| failure(format!("{name}(): keywords must be strings")))?;
                named.push((text.to_string(), last.get_item(&key)?));
            }
        }
        Ok(Self { name: name.to_string(), positional: values, named })
    }

    /// The arguments by parameter, of which the first `required` must be there.
    pub fn bind<const N: usize>(
        self,
        parameters: [&str; N],
        required: usize,
    ) -> TemplateResult<[Option<Value>; N]> {
        let name = self.name;
        let given = self.positional.len();
        if given > N {
            return Err(failure(format!("{name}() takes at most {N} arguments, {given} were given")));
        }
        let mut bound = [const { None }; N];
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (keyword, value) in self.named {
            let place = parameters.iter().position(|parameter| *parameter == keyword);
            let place = place.and_then(|at| bound.get_mut(at));
            match place {
                Some(place @ None) => *place = Some(value),
                Some(_) => return Err(failure(format!("{name}() got `{keyword}` twice"))),
                None => return Err(failure(format!("{name}() has no argument `{keyword}`"))),
            }
        }
        match bound.iter().take(required).position(Option::is_none) {
            Some(missing) => Err(failure(format!("{name}() needs the argument `{}`", parameters[missing]))),
            None => Ok(bound),
        }
    }

    /// No arguments at all.
    pub fn none(self) -> TemplateResult<()> {
        self.bind([], 0).map(|_: [Option<Value>; 0]| ())
    }
}

/// A string that must be one.
pub(super) fn text_of<'a>(value: &'a Value, what: &str) -> TemplateResult<&'a str> {
    value.as_str().ok_or_else(|| failure(format!("{what} must be a str, not {}", type_name(value))))
}

/// An integer that must be one; `None` counts as absent where there is a default.
pub(super) fn integer_of(value: &Value, what: &str) -> TemplateResult<i128> {
    integer(value).ok_or_else(|| failure(format!("{what} must be an int, not {}", type_name(value))))
}

/// An optional length, from 0 to what fits into memory.
pub(super) fn length_of(value: Option<&Value>, default: usize, what: &str) -> TemplateResult<usize> {
    match value {
        None => Ok(default),
        Some(value) => Ok(usize::try_from(integer_of(value, what)?.max(0)).unwrap_or(usize::MAX)),
    }
}

/// Whether an optional argument is there and true.
pub(super) fn is_true(value: Option<&Value>, default: bool) -> bool {
    value.map_or(default, Value::is_true)
}

/// The items of something that can be iterated over; anything else is refused, `None` too.
pub(super) fn items_of(state: &State<'_, '_>, value: &Value) -> TemplateResult<Vec<Value>> {
    let cannot = || failure(format!("'{}' object is not iterable", type_name(value)));
    match value.kind() {
        ValueKind::Undefined => return Ok(Vec::new()),
        ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Bytes => {}
        _ => return Err(cannot()),
    }
    let mut items = Vec::new();
    for item in value.try_iter().map_err(|_| cannot())? {
        spend(state, BYTES_OF_A_STEP / 2)?;
        items.push(item);
    }
    Ok(items)
}
