//! `tojson`: Python's `json.dumps` with what `transformers` lets a template choose.

use minijinja::State;
use minijinja::value::{Value, ValueKind};

use super::filters::sort_values;
use super::python::{
    CallArguments, TemplateResult, failure, float, float_text, integer, integer_of, is_true, items_of, spend,
    text_of, type_name,
};

/// How deep what is written may be nested.
const DEEPEST: usize = 200;

pub(super) fn to_json(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, ascii, indent, separators, sort_keys] =
        arguments.bind(["x", "ensure_ascii", "indent", "separators", "sort_keys"], 1)?;
    let given = |value: Option<Value>| value.filter(|value| !value.is_none());
    let indent = match given(indent) {
        None => None,
        Some(text) if text.as_str().is_some() => Some(text_of(&text, "indent")?.to_string()),
        Some(number) => {
            let spaces = usize::try_from(integer_of(&number, "indent")?.max(0)).unwrap_or(usize::MAX);
            spend(state, spaces)?;
            Some(" ".repeat(spaces))
        }
    };
    let (item, key) = match given(separators) {
        Some(both) => match items_of(state, &both)?.as_slice() {
            [item, key] => {
                (text_of(item, "a separator")?.to_string(), text_of(key, "a separator")?.to_string())
            }
            other => return Err(failure(format!("separators are two, not {}", other.len()))),
        },
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let (ascii, sort_keys) = (is_true(ascii.as_ref(), false), is_true(sort_keys.as_ref(), false));
    let mut writer = JsonWriter { state, text: String::new(), paid: 0, ascii, indent, item, key, sort_keys };
    writer.value(&value.unwrap_or_default(), 0)?;
    Ok(Value::from(writer.text))
}

struct JsonWriter<'a, 'b> {
    state: &'a State<'b, 'b>,
    text: String,
    /// Bytes that were paid for: what is shared within a value is written as often as it stands there.
    paid: usize,
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl JsonWriter<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> TemplateResult<()> {
        if depth > DEEPEST {
            return Err(failure(format!("tojson goes no deeper than {DEEPEST} levels")));
        }
        spend(self.state, (self.text.len() - self.paid) * 8)?;
        self.paid = self.text.len();
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.object(value, depth)?,
            ValueKind::Seq if type_name(value) != "range" => self.array(value, depth)?,
            _ => {
                return Err(failure(format!(
                    "a value of type {} cannot be written as JSON",
                    type_name(value)
                )));
            }
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    /// Goes to the next line, where lines are wanted.
    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }

    fn array(&mut self, value: &Value, depth: usize) -> TemplateResult<()> {
        let items = items_of(self.state, value)?;
        if items.is_empty() {
            self.text.push_str("[]");
            return Ok(());
        }
        self.text.push('[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.text.push_str(&self.item);
            }
            self.line(depth + 1);
            self.value(item, depth + 1)?;
        }
        self.line(depth);
        self.text.push(']');
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> TemplateResult<()> {
        let mut keys = items_of(self.state, value)?;
        if self.sort_keys {
            sort_values(self.state, &mut keys)?;
        }
        if keys.is_empty() {
            self.text.push_str("{}");
            return Ok(());
        }
        self.text.push('{');
        for (at, key) in keys.iter().enumerate() {
            if at > 0 {
                self.text.push_str(&self.item);
            }
            self.line(depth + 1);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                ValueKind::Number => self.string(&number(key)),
                ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" }),
                ValueKind::None => self.string("null"),
                _ => {
                    return Err(failure(format!(
                        "a key of type {} cannot be written as JSON",
                        type_name(key)
                    )));
                }
            }
            self.text.push_str(&self.key);
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        self.line(depth);
        self.text.push('}');
        Ok(())
    }
}

fn number(value: &Value) -> String {
    match (float(value), integer(value)) {
        (Some(number), _) if number.is_nan() => "NaN".into(),
        (Some(number), _) if number.is_infinite() => {
            if number > 0.0 { "Infinity" } else { "-Infinity" }.into()
        }
        (Some(number), _) => float_text(number),
        (None, Some(number)) => number.to_string(),
        (None, None) => value.to_string(),
    }
}
