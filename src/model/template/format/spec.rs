//! Python's format specification.

use minijinja::State;

use super::super::python::{TemplateResult, failure, spend};

/// How one value is to be written: Python's format specification, which both ways are brought to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FormatSpec {
    pub fill: char,
    pub align: Option<char>,
    /// `-` writes the sign of negative numbers only; `+` and a space stand before the others.
    pub sign: char,
    pub alternate: bool,
    pub width: usize,
    pub group: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

impl Default for FormatSpec {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: None,
            sign: '-',
            alternate: false,
            width: 0,
            group: None,
            precision: None,
            kind: None,
        }
    }
}

impl FormatSpec {
    /// Reads `[[fill]align][sign][#][0][width][,][.precision][type]`.
    pub fn parse(text: &str) -> TemplateResult<Self> {
        let characters: Vec<char> = text.chars().collect();
        let is_align = |at: usize| characters.get(at).is_some_and(|c| "<>=^".contains(*c));
        let mut spec = Self::default();
        let mut at = 0;
        if is_align(1) {
            (spec.fill, spec.align, at) = (characters[0], Some(characters[1]), 2);
        } else if is_align(0) {
            (spec.align, at) = (Some(characters[0]), 1);
        }
        let take = |at: &mut usize, wanted: &str| {
            let found = characters.get(*at).copied().filter(|c| wanted.contains(*c));
            *at += usize::from(found.is_some());
            found
        };
        if let Some(sign) = take(&mut at, "+- ") {
            spec.sign = sign;
        }
        spec.alternate = take(&mut at, "#").is_some();
        if take(&mut at, "0").is_some() && spec.align.is_none() {
            (spec.fill, spec.align) = ('0', Some('='));
        }
        spec.width = digits(&characters, &mut at)?.unwrap_or(0);
        spec.group = take(&mut at, ",_");
        if take(&mut at, ".").is_some() {
            let precision = digits(&characters, &mut at)?;
            spec.precision = Some(precision.ok_or_else(|| failure("a format lacks its precision"))?);
        }
        spec.kind = characters.get(at).copied();
        if at + usize::from(spec.kind.is_some()) < characters.len() {
            return Err(failure(format!("`{text}` is no format")));
        }
        Ok(spec)
    }

    /// Pads a text that is not a number, or whose sign is `prefix`; `align` is used where the format names none.
    pub fn pad(
        &self,
        state: &State<'_, '_>,
        prefix: &str,
        body: &str,
        align: char,
    ) -> TemplateResult<String> {
        let missing = self.width.saturating_sub(prefix.chars().count() + body.chars().count());
        spend(state, missing.saturating_mul(self.fill.len_utf8()).saturating_add(body.len()))?;
        let fill = |count: usize| std::iter::repeat_n(self.fill, count).collect::<String>();
        Ok(match self.align.unwrap_or(align) {
            '<' => format!("{prefix}{body}{}", fill(missing)),
            '^' => format!("{}{prefix}{body}{}", fill(missing / 2), fill(missing - missing / 2)),
            '=' => format!("{prefix}{}{body}", fill(missing)),
            _ => format!("{}{prefix}{body}", fill(missing)),
        })
    }

    pub fn text(&self, state: &State<'_, '_>, text: &str) -> TemplateResult<String> {
        let text = match self.precision {
            Some(most) => text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end]),
            None => text,
        };
        self.pad(state, "", text, '<')
    }
}

/// The number that stands here, if one does.
fn digits(characters: &[char], at: &mut usize) -> TemplateResult<Option<usize>> {
    let start = *at;
    while characters.get(*at).is_some_and(char::is_ascii_digit) {
        *at += 1;
    }
    let number: String = characters[start..*at].iter().collect();
    if number.is_empty() {
        return Ok(None);
    }
    number.parse().map(Some).map_err(|_| failure("a format asks for too many characters"))
}
