//! A tag's tokens, read one after the other.

use super::lexer::{SyntaxResult, TemplateSyntaxError, TemplateToken};

pub(super) struct TagReader<'a> {
    pub tokens: &'a [TemplateToken],
    pub at: usize,
    line: usize,
    /// Levels that are open.
    pub depth: usize,
}

impl<'a> TagReader<'a> {
    pub fn new(tokens: &'a [TemplateToken], line: usize) -> Self {
        Self { tokens, at: 0, line, depth: 0 }
    }

    pub fn peek(&self) -> Option<&'a TemplateToken> {
        self.tokens.get(self.at)
    }

    pub fn next(&mut self) -> Option<&'a TemplateToken> {
        self.at += 1;
        self.tokens.get(self.at - 1)
    }

    pub fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Some(TemplateToken::Sign(found)) if *found == sign)
    }

    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(TemplateToken::Name(found)) if found == name)
    }

    pub fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }

    pub fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, sign: &str) -> SyntaxResult<()> {
        if self.take_sign(sign) { Ok(()) } else { self.unexpected(&format!("`{sign}`")) }
    }

    pub fn name(&mut self) -> SyntaxResult<&'a str> {
        match self.peek() {
            Some(TemplateToken::Name(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    /// Nothing may be left.
    pub fn end(&self) -> SyntaxResult<()> {
        if self.peek().is_none() { Ok(()) } else { self.unexpected("the end of the tag") }
    }

    pub fn error<T>(&self, message: impl Into<String>) -> SyntaxResult<T> {
        Err(TemplateSyntaxError { line: self.line, message: message.into() })
    }

    pub fn unexpected<T>(&self, wanted: &str) -> SyntaxResult<T> {
        match self.peek() {
            Some(token) => self.error(format!("unexpected `{}`, wanted is {wanted}", written(token))),
            None => self.error(format!("the tag ends where {wanted} is wanted")),
        }
    }

    /// Whether one of the next tokens, outside brackets, is this one; where.
    pub fn find(&self, wanted: &TemplateToken) -> Option<usize> {
        let mut open = 0usize;
        for (at, token) in self.tokens.iter().enumerate().skip(self.at) {
            match token {
                TemplateToken::Sign("(" | "[" | "{") => open += 1,
                TemplateToken::Sign(")" | "]" | "}") => open = open.saturating_sub(1),
                token if open == 0 && token == wanted => return Some(at),
                _ => {}
            }
        }
        None
    }

    /// The tokens before `end`, as they are.
    pub fn copy(&mut self, end: usize) -> String {
        let words: Vec<String> = self.tokens[self.at..end].iter().map(written).collect();
        self.at = end;
        words.join(" ")
    }

    pub fn rest(&mut self) -> String {
        self.copy(self.tokens.len())
    }

    /// What is read, and the names in it.
    pub fn with_names(
        &mut self,
        read: impl FnOnce(&mut Self) -> SyntaxResult<String>,
    ) -> SyntaxResult<(String, Vec<String>)> {
        let from = self.at;
        let text = read(self)?;
        let names = self.tokens[from..self.at].iter().filter_map(|token| match token {
            TemplateToken::Name(name) => Some(name.clone()),
            _ => None,
        });
        Ok((text, names.collect()))
    }
}

/// A string as the engine reads it back.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        match c {
            '\\' => literal.push_str("\\\\"),
            '\'' => literal.push_str("\\'"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            c => literal.push(c),
        }
    }
    literal + "'"
}

fn written(token: &TemplateToken) -> String {
    match token {
        TemplateToken::Name(text) | TemplateToken::Number(text) => text.clone(),
        TemplateToken::Text(text) => quoted(text),
        TemplateToken::Sign(sign) => (*sign).to_string(),
    }
}
