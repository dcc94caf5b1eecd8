//! A template's source as text and tags, and a tag's inside as tokens, by the rules of Jinja2's lexer.

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum TemplatePiece {
    /// What stands in the prompt as it is, and comments.
    Text(String),
    /// `{{ … }}` or `{% … %}`.
    Tag(TemplateTag),
}

/// An expression or a statement between its markers.
#[derive(Debug, PartialEq)]
pub(super) struct TemplateTag {
    pub statement: bool,
    /// The sign behind the opening marker (`-`, `+` or nothing), and the one before the closing marker.
    pub trim: (&'static str, &'static str),
    pub tokens: Vec<TemplateToken>,
    /// Line that it begins on, from 1.
    pub line: usize,
    /// Line ends within it.
    pub lines: usize,
}

/// One word of a tag.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TemplateToken {
    Name(String),
    /// An integer or a float, as it is written.
    Number(String),
    /// What a literal stands for.
    Text(String),
    Sign(&'static str),
}

/// What is wrong with a template, and the line.
#[derive(Debug, PartialEq)]
pub(super) struct TemplateSyntaxError {
    pub line: usize,
    pub message: String,
}

pub(super) type SyntaxResult<T> = std::result::Result<T, TemplateSyntaxError>;

/// Longer signs stand before their beginnings.
const SIGNS: [&str; 28] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";", "&", "!",
];

/// Cuts a source into pieces. Line ends become `\n` first, as Jinja2 has them.
pub(super) fn pieces(source: &str) -> SyntaxResult<Vec<TemplatePiece>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    TemplateLexer { rest: &source, line: 1, pieces: Vec::new() }.run()
}

struct TemplateLexer<'a> {
    rest: &'a str,
    line: usize,
    pieces: Vec<TemplatePiece>,
}

impl TemplateLexer<'_> {
    fn run(mut self) -> SyntaxResult<Vec<TemplatePiece>> {
        while let Some(start) = next_tag(self.rest) {
            self.text(start);
            match &self.rest.as_bytes()[1] {
                b'#' => self.comment()?,
                b'%' => self.tag(true)?,
                _ => self.tag(false)?,
            }
        }
        self.text(self.rest.len());
        Ok(self.pieces)
    }

    fn error<T>(&self, message: impl Into<String>) -> SyntaxResult<T> {
        Err(TemplateSyntaxError { line: self.line, message: message.into() })
    }

    /// Takes bytes off the front.
    fn take(&mut self, bytes: usize) -> &str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn text(&mut self, bytes: usize) {
        let text = self.take(bytes).to_string();
        if let Some(TemplatePiece::Text(last)) = self.pieces.last_mut() {
            last.push_str(&text);
        } else if !text.is_empty() {
            self.pieces.push(TemplatePiece::Text(text));
        }
    }

    /// A comment stays in the text: the engine knows it.
    fn comment(&mut self) -> SyntaxResult<()> {
        match self.rest.find("#}") {
            Some(end) => {
                self.text(end + 2);
                Ok(())
            }
            None => self.error("a comment has no end"),
        }
    }

    fn tag(&mut self, statement: bool) -> SyntaxResult<()> {
        let line = self.line;
        self.take(2);
        let open = self.sign(if statement { &["-", "+"] } else { &["-"] });
        let (tokens, close) = self.tokens(statement)?;
        if statement && tokens == [TemplateToken::Name("raw".into())] {
            return self.raw(line, (open, close));
        }
        let lines = self.line - line;
        self.pieces.push(TemplatePiece::Tag(TemplateTag {
            statement,
            trim: (open, close),
            tokens,
            line,
            lines,
        }));
        Ok(())
    }

    /// Everything up to `endraw` is text, which becomes the second token of the tag.
    fn raw(&mut self, line: usize, trim: (&'static str, &'static str)) -> SyntaxResult<()> {
        let mut at = 0;
        while let Some(found) = self.rest[at..].find("{%") {
            let start = at + found;
            at = start + 2;
            let sign = if self.rest[at..].starts_with('-') { "-" } else { "" };
            let kept = self.rest[at..].starts_with('+');
            let inside = self.rest[at..].trim_start_matches(['-', '+']).trim_start();
            let Some(rest) = inside.strip_prefix("endraw").map(str::trim_start) else { continue };
            let Some((close, rest)) = [("-", "-%}"), ("+", "+%}"), ("", "%}")]
                .into_iter()
                .find_map(|(close, end)| rest.strip_prefix(end).map(|rest| (close, rest)))
            else {
                continue;
            };
            let text = &self.rest[..start];
            let text = if trim.1 == "-" { text.trim_start() } else { text };
            let text = match sign {
                "-" => text.trim_end(),
                _ if kept => text,
                // As before any other block, blanks at the beginning of a line go.
                _ => text
                    .rsplit_once('\n')
                    .filter(|(_, last)| last.trim().is_empty())
                    .map_or(text, |(lines, _)| &text[..=lines.len()]),
            };
            let tokens = vec![TemplateToken::Name("raw".into()), TemplateToken::Text(text.to_string())];
            self.take(self.rest.len() - rest.len());
            let lines = self.line - line;
            self.pieces.push(TemplatePiece::Tag(TemplateTag {
                statement: true,
                trim: (trim.0, close),
                tokens,
                line,
                lines,
            }));
            return Ok(());
        }
        self.error("`raw` has no `endraw`")
    }

    /// Takes one of these signs, if it stands here.
    fn sign(&mut self, signs: &[&'static str]) -> &'static str {
        match signs.iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.take(sign.len());
                sign
            }
            None => "",
        }
    }

    /// The tokens up to the closing marker, which is taken too, and its sign.
    fn tokens(&mut self, statement: bool) -> SyntaxResult<(Vec<TemplateToken>, &'static str)> {
        let ends: &[(&str, &str)] =
            if statement { &[("-%}", "-"), ("+%}", "+"), ("%}", "")] } else { &[("-}}", "-"), ("}}", "")] };
        let mut tokens = Vec::new();
        let mut open: Vec<&str> = Vec::new();
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if open.is_empty()
                && let Some((end, sign)) = ends.iter().find(|(end, _)| self.rest.starts_with(end))
            {
                self.take(end.len());
                return Ok((tokens, sign));
            }
            let token = self.token(tokens.last())?;
            match &token {
                TemplateToken::Sign(sign @ ("(" | "[" | "{")) => open.push(sign),
                TemplateToken::Sign(sign @ (")" | "]" | "}")) => {
                    let opening = match *sign {
                        ")" => "(",
                        "]" => "[",
                        _ => "{",
                    };
                    if open.pop() != Some(opening) {
                        return self.error(format!("`{sign}` closes nothing"));
                    }
                }
                _ => {}
            }
            tokens.push(token);
        }
    }

    fn token(&mut self, last: Option<&TemplateToken>) -> SyntaxResult<TemplateToken> {
        let Some(first) = self.rest.chars().next() else { return self.error("a tag has no end") };
        if first == '_' || first.is_alphabetic() {
            let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
            return Ok(TemplateToken::Name(self.take(end).to_string()));
        }
        if first.is_ascii_digit() {
            // `messages.0.1` is an attribute of an attribute, not one with a fraction.
            let whole = matches!(last, Some(TemplateToken::Sign(".")));
            let end = number(self.rest, whole);
            return Ok(TemplateToken::Number(self.take(end).to_string()));
        }
        if first == '\'' || first == '"' {
            let Some(end) = closing_quote(&self.rest[1..], first) else {
                return self.error("a string has no end");
            };
            let literal = self.take(end + 2);
            return Ok(TemplateToken::Text(unescape(&literal[1..=end])));
        }
        match SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.take(sign.len());
                Ok(TemplateToken::Sign(sign))
            }
            None => self.error(format!("unexpected `{first}`")),
        }
    }
}

/// Where the next tag or comment begins.
fn next_tag(text: &str) -> Option<usize> {
    let starts = text.match_indices('{').map(|(at, _)| at);
    starts.into_iter().find(|&at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// Bytes of the number that a text begins with; `whole` allows neither fraction nor exponent.
fn number(text: &str, whole: bool) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize, digit: fn(&u8) -> bool| {
        let rest = bytes.get(from..).unwrap_or_default();
        let mut end = rest.iter().take_while(|b| digit(b) || **b == b'_').count();
        while end > 0 && rest[end - 1] == b'_' {
            end -= 1;
        }
        from + end
    };
    let radix = match bytes.get(1).map(u8::to_ascii_lowercase) {
        Some(b'x') if bytes[0] == b'0' => Some(u8::is_ascii_hexdigit as fn(&u8) -> bool),
        Some(b'o') if bytes[0] == b'0' => Some((|b| (b'0'..b'8').contains(b)) as fn(&u8) -> bool),
        Some(b'b') if bytes[0] == b'0' => Some((|b| matches!(b, b'0' | b'1')) as fn(&u8) -> bool),
        _ => None,
    };
    if let Some(end) = radix.map(|digit| digits(2, digit)).filter(|&end| end > 2) {
        return end;
    }
    let decimal: fn(&u8) -> bool = u8::is_ascii_digit;
    let mut end = digits(0, decimal);
    if whole {
        return end;
    }
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(decimal) {
        end = digits(end + 1, decimal);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if bytes.get(end + 1 + signed).is_some_and(decimal) {
            end = digits(end + 1 + signed, decimal);
        }
    }
    end
}

/// Where a string ends that begins before `text`.
fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// What a literal stands for, by Python's rules; an escape that Python does not know stays as it is.
fn unescape(literal: &str) -> String {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(kind) = rest.chars().next() else { break };
        let coded = match kind {
            'x' => digits_of(rest, 1, 2, 16),
            'u' => digits_of(rest, 1, 4, 16),
            'U' => digits_of(rest, 1, 8, 16),
            '0'..='7' => {
                let length = rest.bytes().take(3).take_while(|b| (b'0'..b'8').contains(b)).count();
                digits_of(rest, 0, length, 8)
            }
            _ => None,
        };
        if let Some((c, length)) = coded {
            text.push(c);
            rest = &rest[length..];
            continue;
        }
        rest = &rest[kind.len_utf8()..];
        match kind {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\x07'),
            'b' => text.push('\x08'),
            'f' => text.push('\x0c'),
            'v' => text.push('\x0b'),
            '\\' | '\'' | '"' => text.push(kind),
            // A line that is continued.
            '\n' => {}
            other => text.extend(['\\', other]),
        }
    }
    text + rest
}

/// The character that digits from `from` on stand for, and where they end.
fn digits_of(text: &str, from: usize, count: usize, radix: u32) -> Option<(char, usize)> {
    let digits = text.get(from..from + count)?;
    let code = u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
    Some((char::from_u32(code)?, from + count))
}
