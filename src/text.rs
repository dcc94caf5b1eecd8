//! Text from models, files and people, made safe for a terminal and made to fit.
//!
//! Widths are columns of a terminal: a wide character takes two, a combining mark none. Nothing is ever cut inside a
//! grapheme.

use std::borrow::Cow;
use std::fmt::Write as _;

use ratatui::buffer::CellWidth;
use unicode_segmentation::UnicodeSegmentation;

/// Whether a character could steer the terminal or turn the direction of text: control characters, line and paragraph
/// separators, and Unicode's bidirectional controls.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || c == '\u{feff}'
}

/// The text with everything that could steer a terminal shown escaped: `\n`, `\t`, `\x1b`, `\u{202e}`. It is one line
/// afterwards.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            // Writing to a String cannot fail.
            c if is_unsafe(c) && (c as u32) < 0x100 => _ = write!(safe, "\\x{:02x}", c as u32),
            c if is_unsafe(c) => _ = write!(safe, "\\u{{{:x}}}", c as u32),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Columns that a grapheme takes: what the buffer that it is drawn into counts.
pub(crate) fn columns(grapheme: &str) -> usize {
    grapheme.cell_width().into()
}

/// Columns that a text takes once it is [escaped](escape).
pub(crate) fn width(text: &str) -> usize {
    escape(text).graphemes(true).map(columns).sum()
}

/// The text, escaped, in at most `width` columns; where it is cut, its last column is `ellipsis` (one column wide).
pub(crate) fn truncate<'a>(text: &'a str, width: usize, ellipsis: &str) -> Cow<'a, str> {
    let safe = escape(text);
    match cut(safe.graphemes(true), width) {
        None => safe,
        Some(_) if width == 0 => Cow::Borrowed(""),
        Some(kept) => Cow::Owned(kept.into_iter().chain([ellipsis]).collect()),
    }
}

/// As [`truncate`], keeping the end: for paths.
pub(crate) fn truncate_start<'a>(text: &'a str, width: usize, ellipsis: &str) -> Cow<'a, str> {
    let safe = escape(text);
    match cut(safe.graphemes(true).rev(), width) {
        None => safe,
        Some(_) if width == 0 => Cow::Borrowed(""),
        Some(kept) => Cow::Owned([ellipsis].into_iter().chain(kept.into_iter().rev()).collect()),
    }
}

/// The graphemes that fit beside an ellipsis, or `None` if all fit without one.
fn cut<'a>(graphemes: impl Iterator<Item = &'a str>, width: usize) -> Option<Vec<&'a str>> {
    let mut kept = Vec::new();
    let (mut used, mut fit) = (0, 0);
    for grapheme in graphemes {
        used += columns(grapheme);
        if used > width {
            kept.truncate(fit);
            return Some(kept);
        }
        kept.push(grapheme);
        if used < width {
            fit = kept.len();
        }
    }
    None
}

/// The text filled with blanks to `width` columns, on the left where `right` says so.
pub(crate) fn pad(text: &str, width: usize, right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(self::width(text)));
    if right { blanks + text } else { text.to_owned() + &blanks }
}

/// Rows with columns as wide as their widest entry; the last column is left as it is.
pub(crate) fn aligned<R: AsRef<[String]>>(rows: &[R]) -> String {
    let rows: Vec<&[String]> = rows.iter().map(AsRef::as_ref).collect();
    let columns = rows.first().map_or(0, |row| row.len());
    let widest = |column: usize| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|column| if column + 1 < columns { widest(column) } else { 0 }).collect();
    let line = |row: &&[String]| {
        let entries = row.iter().zip(&widths).map(|(entry, &width)| pad(entry, width, false));
        entries.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Words in lines of at most `width` columns, those after the first behind `indent`. A word that is longer stays whole, so
/// that a path can be copied.
pub(crate) fn wrap_words(text: &str, width: usize, indent: &str) -> String {
    let mut wrapped = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let more = self::width(word);
        if used > 0 && used + 1 + more > width {
            wrapped.push('\n');
            wrapped += indent;
            used = self::width(indent);
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped += word;
        used += more;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_shown() {
        for (text, expected) in [
            ("plain é 漢 🦀", "plain é 漢 🦀"),
            ("\u{1b}[2J", "\\x1b[2J"),
            ("a\tb\r\nc", "a\\tb\\r\\nc"),
            ("\u{7}\u{7f}\u{9b}31m", "\\x07\\x7f\\x9b31m"),
            ("abc\u{202e}fed\u{2066}", "abc\\u{202e}fed\\u{2066}"),
            ("\u{feff}x\u{2028}", "\\u{feff}x\\u{2028}"),
            ("family 👨\u{200d}👩\u{200d}👧", "family 👨\u{200d}👩\u{200d}👧"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn cutting_keeps_graphemes_whole() {
        assert_eq!(truncate("abcdef", 6, "…"), "abcdef");
        assert_eq!(truncate("abcdef", 4, "…"), "abc…");
        assert_eq!(truncate("漢字漢字", 5, "…"), "漢字…");
        assert_eq!(truncate("漢字漢字", 4, "…"), "漢…");
        assert_eq!(truncate("e\u{301}e\u{301}e\u{301}", 2, "…"), "e\u{301}…");
        assert_eq!(truncate("abc", 0, "…"), "");
        assert_eq!(truncate_start("/home/me/models/x", 9, "…"), "…models/x");
    }

    #[test]
    fn words_fill_lines_and_stay_whole() {
        assert_eq!(wrap_words("the quick  brown fox", 10, ""), "the quick\nbrown fox");
        assert_eq!(wrap_words("the quick brown fox", 12, "  "), "the quick\n  brown fox");
        assert_eq!(wrap_words("漢字 漢字", 8, ""), "漢字\n漢字");
        assert_eq!(wrap_words("a /long/path b", 4, ""), "a\n/long/path\nb");
        assert_eq!((pad("漢", 4, true), pad("漢", 4, false)), ("  漢".to_owned(), "漢  ".to_owned()));
    }
}
