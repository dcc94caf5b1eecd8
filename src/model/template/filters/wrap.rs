//! `wordwrap`: lines of at most so many characters, as Python's `textwrap` fills them.

use minijinja::State;
use minijinja::value::Value;

use super::super::methods::{is_word, lines_of};
use super::super::python::{CallArguments, TemplateResult, failure, is_true, length_of, spend, text_of};

pub(super) fn word_wrap(state: &mut State<'_, '_>, arguments: CallArguments) -> TemplateResult<Value> {
    let [value, width, break_words, separator, hyphens] =
        arguments.bind(["s", "width", "break_long_words", "wrapstring", "break_on_hyphens"], 1)?;
    let value = value.unwrap_or_default();
    let text = text_of(&value, "what is wrapped")?;
    let wrapper = LineWrapper {
        width: length_of(width.as_ref(), 79, "the width")?,
        break_words: is_true(break_words.as_ref(), true),
        hyphens: is_true(hyphens.as_ref(), true),
    };
    if wrapper.width == 0 {
        return Err(failure("wordwrap needs a width of at least 1"));
    }
    let separator = separator.filter(|separator| !separator.is_none()).unwrap_or(Value::from("\n"));
    let separator = text_of(&separator, "the separator of lines")?;
    spend(state, text.len().saturating_mul(separator.len() + 8))?;
    let lines: Vec<String> =
        lines_of(text, false).into_iter().map(|line| wrapper.wrap(line).join(separator)).collect();
    Ok(Value::from(lines.join(separator)))
}

struct LineWrapper {
    width: usize,
    /// Words longer than a line are cut.
    break_words: bool,
    /// Lines may end behind a hyphen.
    hyphens: bool,
}

fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ')
}

impl LineWrapper {
    fn wrap(&self, text: &str) -> Vec<String> {
        let text: Vec<char> = text.chars().collect();
        let mut chunks: Vec<&[char]> = if self.hyphens {
            chunks(&text)
        } else {
            text.chunk_by(|a, b| is_blank(*a) == is_blank(*b)).collect()
        };
        chunks.reverse();
        let mut lines: Vec<String> = Vec::new();
        while let Some(next) = chunks.last() {
            if blank(next) && !lines.is_empty() {
                chunks.pop();
            }
            let mut line: Vec<&[char]> = Vec::new();
            let mut length = 0;
            while let Some(chunk) = chunks.last().filter(|chunk| length + chunk.len() <= self.width) {
                length += chunk.len();
                line.push(chunk);
                chunks.pop();
            }
            if let Some(chunk) = chunks.last().copied().filter(|chunk| chunk.len() > self.width) {
                if self.break_words {
                    let (left, right) = chunk.split_at(self.cut(chunk, self.width - length));
                    line.push(left);
                    chunks.pop();
                    chunks.push(right);
                } else if line.is_empty() {
                    line.push(chunk);
                    chunks.pop();
                }
            }
            if line.last().is_some_and(|chunk| blank(chunk)) {
                line.pop();
            }
            if !line.is_empty() {
                lines.push(line.concat().into_iter().collect());
            }
        }
        lines
    }

    /// Where a word is cut that is longer than the room on a line: behind its last hyphen there, if it has one.
    fn cut(&self, chunk: &[char], room: usize) -> usize {
        let hyphen = chunk[..room].iter().rposition(|c| *c == '-').filter(|_| self.hyphens);
        match hyphen {
            Some(at) if at > 0 && chunk[..at].iter().any(|c| *c != '-') => at + 1,
            _ => room,
        }
    }
}

/// Whether there is nothing but white space.
fn blank(chunk: &[char]) -> bool {
    chunk.iter().all(|c| c.is_whitespace())
}

/// Cuts a line into blanks, words, parts of words that end in a hyphen, and dashes.
fn chunks(text: &[char]) -> Vec<&[char]> {
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = if is_blank(text[start]) {
            run(text, start, is_blank)
        } else {
            dash(text, start).unwrap_or_else(|| word(text, start))
        };
        chunks.push(&text[start..end]);
        start = end;
    }
    chunks
}

fn run(text: &[char], start: usize, test: impl Fn(char) -> bool) -> usize {
    start + text[start..].iter().take_while(|c| test(**c)).count()
}

/// What may stand before a dash.
fn is_punctuated(c: char) -> bool {
    is_word(c) || "!\"'&.,?".contains(c)
}

fn is_letter(c: char) -> bool {
    is_word(c) && !c.is_numeric() && c != '_'
}

/// Where a dash of two hyphens or more ends that stands between words and begins here.
fn dash(text: &[char], start: usize) -> Option<usize> {
    let end = run(text, start, |c| c == '-');
    let between = start > 0 && is_punctuated(text[start - 1]) && text.get(end).is_some_and(|c| is_word(*c));
    (end - start >= 2 && between).then_some(end)
}

/// Where a word ends: behind a hyphen between letters, before a dash, or at a blank.
fn word(text: &[char], start: usize) -> usize {
    let letter = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|c| is_letter(*c));
    let mut end = start + 1;
    loop {
        // Here `end` characters may be the word, if they are followed by something that ends it.
        if text.get(end) == Some(&'-') {
            let before = |back: usize| end.checked_sub(back).filter(|at| *at >= start.saturating_sub(2));
            let two = letter(before(1))
                && (letter(before(2)) || (before(2).is_some_and(|at| text[at] == '-') && letter(before(3))));
            let behind = letter(Some(end + 1))
                && (letter(Some(end + 2)) || (text.get(end + 2) == Some(&'-') && letter(Some(end + 3))));
            if two && behind {
                return end + 1;
            }
        }
        if end >= text.len() || is_blank(text[end]) {
            return end;
        }
        let dashes = run(text, end, |c| c == '-');
        if dashes - end >= 2 && is_punctuated(text[end - 1]) && text.get(dashes).is_some_and(|c| is_word(*c))
        {
            return end;
        }
        end += 1;
    }
}
