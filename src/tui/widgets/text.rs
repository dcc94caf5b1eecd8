//! Text made safe and made to fit, with styles.

use ratatui::layout::Alignment;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthChar;

use crate::text::columns;
pub(crate) use crate::text::{escape as sanitize, truncate, truncate_start, width};

/// Columns that a styled line takes.
pub(crate) fn line_width(line: &Line<'_>) -> usize {
    line.spans.iter().map(|span| width(&span.content)).sum()
}

/// A styled line, sanitized, in at most `width` columns, ended by `ellipsis` where it is cut.
pub(crate) fn truncate_line(line: &Line<'_>, width: usize, ellipsis: &str) -> Line<'static> {
    let total = line_width(line);
    let mut spans = Vec::with_capacity(line.spans.len());
    let mut left = width;
    for span in &line.spans {
        if left == 0 {
            break;
        }
        let own = self::width(&span.content);
        let rest = own >= left && total > width;
        // A span that just fills the line still has to make room for the ellipsis when another follows.
        let content = if rest && own == left {
            truncate(&format!("{}  ", span.content), left, ellipsis).into_owned()
        } else {
            truncate(&span.content, left, ellipsis).into_owned()
        };
        left -= self::width(&content).min(left);
        spans.push(Span::styled(content, span.style));
        if rest {
            break;
        }
    }
    Line { spans, style: line.style, alignment: line.alignment }
}

/// The text, sanitized, in exactly `width` columns: cut with `ellipsis` or filled with blanks.
pub(crate) fn fit(text: &str, width: usize, align: Alignment, ellipsis: &str) -> String {
    let text = truncate(text, width, ellipsis);
    let (mut before, mut after) = padding(self::width(&text), width, align);
    // A mark at the beginning would belong to the blank before it.
    if before > 0 && format!(" {text}").graphemes(true).next() != Some(" ") {
        (before, after) = (0, before + after);
    }
    format!("{:before$}{text}{:after$}", "", "")
}

/// Blanks before and after what is `used` columns wide, so that all is `width`.
pub(crate) fn padding(used: usize, width: usize, align: Alignment) -> (usize, usize) {
    let blank = width.saturating_sub(used);
    match align {
        Alignment::Left => (0, blank),
        Alignment::Center => (blank / 2, blank - blank / 2),
        Alignment::Right => (blank, 0),
    }
}

/// The lines of a text, each at most `width` columns; see [`wrap_styled`].
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let text_of = |line: Line<'_>| line.spans.into_iter().map(|span| span.content).collect();
    wrap_styled([(text, Style::new())], width).into_iter().map(text_of).collect()
}

/// Pieces of text with their styles, broken into lines of at most `width` columns: at line feeds, after blanks, beside
/// wide characters, and inside a word only if it is longer than a line. Blanks at the end of a broken line are dropped;
/// tabs become four blanks, all else that is unsafe is escaped. Empty if `width` is 0.
pub(crate) fn wrap_styled<'a>(
    pieces: impl IntoIterator<Item = (&'a str, Style)>,
    width: usize,
) -> Vec<Line<'static>> {
    if width == 0 {
        return Vec::new();
    }
    let mut wrapper = Wrapper { width, lines: Vec::new(), line: Vec::new(), used: 0, after: 0 };
    for (text, style) in pieces {
        for (i, part) in text.split('\n').enumerate() {
            if i > 0 {
                wrapper.end_line();
            }
            let part = part.strip_suffix('\r').unwrap_or(part).replace('\t', "    ");
            for grapheme in sanitize(&part).graphemes(true) {
                wrapper.push(grapheme, style);
            }
        }
    }
    wrapper.end_line();
    wrapper.lines
}

/// One grapheme of a line being filled.
struct Glyph {
    text: String,
    columns: usize,
    style: Style,
}

struct Wrapper {
    width: usize,
    lines: Vec<Line<'static>>,
    line: Vec<Glyph>,
    /// Columns of `line`.
    used: usize,
    /// Glyphs of `line` up to the last place where it may be broken.
    after: usize,
}

impl Wrapper {
    fn push(&mut self, grapheme: &str, style: Style) {
        let mut columns = columns(grapheme);
        if columns == 0 {
            // A mark that a piece of text begins with belongs to the character before it; a blank has none, since it may
            // have to go.
            if let Some(last) = self.line.last_mut().filter(|last| last.text != " ") {
                last.text.push_str(grapheme);
            }
            return;
        }
        let mut text = grapheme.to_owned();
        if columns > self.width {
            // A wide character in a single column.
            (text, columns) = ("?".to_owned(), 1);
        }
        let blank = text == " ";
        if self.used + columns > self.width {
            if blank {
                // The blank that ends a full line is not shown, and the next word begins a line.
                self.after = self.line.len();
                self.line.push(Glyph { text, columns: 0, style });
                return;
            }
            // A word that goes over to the next line may fill it.
            while self.used + columns > self.width {
                self.break_line();
            }
        }
        let ideograph = grapheme.chars().next().and_then(char::width) == Some(2);
        if ideograph {
            self.after = self.line.len();
        }
        self.used += columns;
        self.line.push(Glyph { text, columns, style });
        if blank || ideograph {
            self.after = self.line.len();
        }
    }

    /// Ends the line at the last place where it may be broken; what stands behind it begins the next.
    fn break_line(&mut self) {
        let at = if self.after == 0 { self.line.len() } else { self.after };
        let mut rest = self.line.split_off(at);
        while self.line.last().is_some_and(|glyph| glyph.text == " ") {
            self.line.pop();
        }
        let leading = rest.iter().take_while(|glyph| glyph.text == " ").count();
        rest.drain(..leading);
        self.flush();
        self.used = rest.iter().map(|glyph| glyph.columns).sum();
        self.line = rest;
    }

    fn end_line(&mut self) {
        while self.line.last().is_some_and(|glyph| glyph.columns == 0) {
            self.line.pop();
        }
        self.flush();
        self.used = 0;
    }

    /// Makes a line of the glyphs, neighbours of one style joined.
    fn flush(&mut self) {
        let mut spans: Vec<Span<'static>> = Vec::new();
        for glyph in self.line.drain(..) {
            match spans.last_mut().filter(|span| span.style == glyph.style) {
                Some(span) => span.content.to_mut().push_str(&glyph.text),
                None => spans.push(Span::styled(glyph.text, glyph.style)),
            }
        }
        self.lines.push(Line::from(spans));
        self.after = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::style::Color;

    use super::*;
    use crate::text::is_unsafe;

    #[test]
    fn a_text_fills_its_place() {
        assert_eq!(fit("漢", 5, Alignment::Right, "…"), "   漢");
        assert_eq!(fit("abc", 2, Alignment::Left, "~"), "a~");
    }

    #[test]
    fn a_styled_line_is_cut_with_its_styles() {
        let (red, blue) = (Style::new().fg(Color::Red), Style::new().fg(Color::Blue));
        let line = Line::from(vec![Span::styled("ab", red), Span::styled("cdef", blue)]);
        let cut = |width| truncate_line(&line, width, "…");
        assert_eq!(cut(6), line);
        assert_eq!(cut(4), Line::from(vec![Span::styled("ab", red), Span::styled("c…", blue)]));
        assert_eq!(cut(2), Line::from(vec![Span::styled("a…", red)]));
        assert_eq!(cut(3), Line::from(vec![Span::styled("ab", red), Span::styled("…", blue)]));
        assert_eq!(cut(0), Line::default());
    }

    #[test]
    fn lines_break_at_blanks_and_long_words_anywhere() {
        assert_eq!(wrap("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap("the quick brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrap("a abcdefgh b", 4), ["a", "abcd", "efgh", "b"]);
        assert_eq!(wrap("one\n\ntwo\r\n", 9), ["one", "", "two", ""]);
        assert_eq!(wrap("  indented", 20), ["  indented"]);
        assert_eq!(wrap("漢字漢字a", 5), ["漢字", "漢字a"]);
        assert_eq!(wrap("漢", 1), ["?"]);
        assert_eq!(wrap("", 5), [""]);
        assert!(wrap("x", 0).is_empty());
    }

    #[test]
    fn a_word_that_goes_over_to_the_next_line_may_fill_it() {
        assert_eq!(wrap(" ab漢", 3), ["", "ab", "漢"]);
        assert_eq!(wrap("x abc漢字", 4), ["x", "abc", "漢字"]);
    }

    #[test]
    fn styles_stay_with_their_text_across_lines() {
        let (red, blue) = (Style::new().fg(Color::Red), Style::new().fg(Color::Blue));
        let lines = wrap_styled([("one t", red), ("wo", blue), (" three", red)], 7);
        assert_eq!(
            lines,
            [
                Line::from(vec![Span::styled("one t", red), Span::styled("wo", blue)]),
                Line::from(vec![Span::styled("three", red)]),
            ]
        );
        // A combining mark that begins a piece stays on its letter.
        assert_eq!(wrap_styled([("e", red), ("\u{301}x", blue)], 9)[0].spans[0].content, "e\u{301}");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_survives(text in "\\PC{0,20}[\u{0}-\u{9f}\u{202a}-\u{202e}\u{2066}-\u{2069}]{0,8}\\PC{0,20}") {
            prop_assert!(!sanitize(&text).contains(is_unsafe));
            prop_assert!(wrap(&text, 7).iter().all(|line| !line.contains(is_unsafe)));
            prop_assert!(!truncate(&text, 7, "…").contains(is_unsafe));
        }

        #[test]
        fn nothing_is_wider_than_it_may_be(text in any::<String>(), limit in 0_usize..24) {
            for text in [truncate(&text, limit, "…"), truncate_start(&text, limit, "…")] {
                prop_assert!(width(&text) <= limit, "{text:?}");
            }
            prop_assert_eq!(width(&fit(&text, limit, Alignment::Center, "…")), limit);
            for line in wrap(&text, limit) {
                prop_assert!(width(&line) <= limit, "{line:?}");
            }
        }

        #[test]
        fn wrapping_loses_nothing_but_blanks(text in "[a-z漢é ]{0,60}", limit in 2_usize..12) {
            let bare = |text: &str| text.replace(' ', "");
            prop_assert_eq!(bare(&wrap(&text, limit).concat()), bare(&text));
        }
    }
}
