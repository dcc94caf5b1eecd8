//! `text % values`.

use minijinja::State;
use minijinja::value::{Value, ValueKind};

use super::super::filters::escaped;
use super::super::python::{TemplateResult, failure, float, integer, type_name};
use super::spec::FormatSpec;
use super::{converted, number};

/// Fills `%` fields from a tuple, a dictionary, or a value that is the only one. A text that is marked as `safe` has the
/// texts escaped that fill it.
pub(crate) fn fill_percent(
    state: &State<'_, '_>,
    format: &str,
    values: &Value,
    safe: bool,
) -> TemplateResult<String> {
    let listed = if values.is_tuple() { values.try_iter()?.collect() } else { vec![values.clone()] };
    let mut filler = PercentFiller { state, values, listed, next: 0, by_key: false, safe };
    let mut text = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let (filled, after) = filler.field(&rest[at + 1..])?;
        text.push_str(&filled);
        rest = after;
    }
    // Whatever can be asked for a key may have more than was asked for.
    let keyed = matches!(values.kind(), ValueKind::Map | ValueKind::Seq) && !values.is_tuple();
    if filler.next < filler.listed.len() && !filler.by_key && !keyed {
        return Err(failure("not all arguments of `%` are used by the text"));
    }
    Ok(text + rest)
}

struct PercentFiller<'a, 'b> {
    state: &'a State<'b, 'b>,
    values: &'a Value,
    listed: Vec<Value>,
    next: usize,
    by_key: bool,
    safe: bool,
}

impl PercentFiller<'_, '_> {
    fn value(&mut self) -> TemplateResult<Value> {
        let value = self.listed.get(self.next).filter(|_| !self.by_key).cloned();
        self.next += 1;
        value.ok_or_else(|| failure("`%` has fewer arguments than its text asks for"))
    }

    /// One field, whose `%` has been read; returns what stands for it and the text behind it.
    fn field<'t>(&mut self, text: &'t str) -> TemplateResult<(String, &'t str)> {
        let mut rest = text;
        let mut chosen = None;
        if let Some(inside) = rest.strip_prefix('(') {
            let (key, after) = inside.split_once(')').ok_or_else(|| failure("a field of `%` has no `)`"))?;
            if self.values.kind() != ValueKind::Map {
                return Err(failure(format!(
                    "`%({key})` needs a dictionary, not a {}",
                    type_name(self.values)
                )));
            }
            let value = self.values.get_item(&Value::from(key))?;
            if value.is_undefined() {
                return Err(failure(format!("the dictionary of `%` has no `{key}`")));
            }
            (chosen, rest, self.by_key) = (Some(value), after, true);
        }
        let mut spec = FormatSpec::default();
        let flags = rest.len() - rest.trim_start_matches(['#', '0', '-', ' ', '+']).len();
        let (flags, after) = rest.split_at(flags);
        rest = after;
        spec.alternate = flags.contains('#');
        spec.sign = if flags.contains('+') {
            '+'
        } else if flags.contains(' ') {
            ' '
        } else {
            '-'
        };
        let mut left = flags.contains('-');
        let (width, after) = self.amount(rest)?;
        if let Some(width) = width {
            left |= width < 0;
            spec.width = width.unsigned_abs() as usize;
        }
        rest = after;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = self.amount(after)?;
            spec.precision = Some(precision.unwrap_or(0).max(0) as usize);
            rest = after;
        }
        rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
        let kind = rest.chars().next().ok_or_else(|| failure("`%` ends a text that is filled by `%`"))?;
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            return Ok(("%".into(), rest));
        }
        spec.align = Some(if left { '<' } else { '>' });
        if flags.contains('0') && !left && !matches!(kind, 's' | 'r' | 'a' | 'c') {
            (spec.fill, spec.align) = ('0', Some('='));
        }
        let value = match chosen {
            Some(value) => value,
            None => self.value()?,
        };
        Ok((self.write(spec, kind, &value)?, rest))
    }

    /// A number or `*`, which stands for the next value.
    fn amount<'t>(&mut self, text: &'t str) -> TemplateResult<(Option<i64>, &'t str)> {
        if let Some(after) = text.strip_prefix('*') {
            let value = self.value()?;
            let number = integer(&value).and_then(|number| i64::try_from(number).ok());
            return Ok((Some(number.ok_or_else(|| failure("`*` of a field of `%` needs an int"))?), after));
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, after) = text.split_at(end);
        if digits.is_empty() {
            return Ok((None, after));
        }
        let number: u32 = digits.parse().map_err(|_| failure("a field of `%` is too wide"))?;
        Ok((Some(i64::from(number)), after))
    }

    fn write(&self, mut spec: FormatSpec, kind: char, value: &Value) -> TemplateResult<String> {
        let state = self.state;
        let refused = || failure(format!("`%{kind}` cannot write a {}", type_name(value)));
        match kind {
            's' | 'r' | 'a' => {
                let text = converted(state, value, kind)?;
                let escapes = self.safe && !value.is_safe();
                spec.text(state, &if escapes { escaped(&text) } else { text })
            }
            'c' => {
                let one = match value.as_str() {
                    Some(text) => text.chars().next().filter(|_| text.chars().nth(1).is_none()),
                    None => integer(value).and_then(|code| char::from_u32(u32::try_from(code).ok()?)),
                };
                spec.precision = None;
                spec.text(state, &one.ok_or_else(refused)?.to_string())
            }
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                let whole = float(value).filter(|number| number.is_finite() && "diu".contains(kind));
                let number =
                    integer(value).or(whole.map(|number| number.trunc() as i128)).ok_or_else(refused)?;
                spec.kind = Some(if "iu".contains(kind) { 'd' } else { kind });
                let least = spec.precision.take().unwrap_or(0);
                if least == 0 {
                    return number::integer(state, &spec, number)?.ok_or_else(refused);
                }
                // The precision of an integer is its least number of digits.
                let mut digits = FormatSpec { width: 0, ..spec.clone() };
                digits.sign = '-';
                let unpadded =
                    number::integer(state, &digits, number.saturating_abs())?.ok_or_else(refused)?;
                let sign = match (number < 0, spec.sign) {
                    (true, _) => "-",
                    (false, '-') => "",
                    (false, '+') => "+",
                    _ => " ",
                };
                let digits =
                    FormatSpec { fill: '0', align: Some('>'), width: least, ..FormatSpec::default() };
                let digits = digits.pad(state, "", &unpadded, '>')?;
                spec.pad(state, sign, &digits, '>')
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let number =
                    float(value).or(integer(value).map(|number| number as f64)).ok_or_else(refused)?;
                spec.kind = Some(kind);
                number::float(state, &spec, number)?.ok_or_else(refused)
            }
            other => Err(failure(format!("there is no field `%{other}`"))),
        }
    }
}
