//! A line of text that is being typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_segmentation::UnicodeSegmentation;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Enter: it is finished.
    Keep,
    /// Esc: it is to be forgotten.
    Drop,
    /// The line or its cursor changed.
    Changed,
    /// The key means nothing here.
    Ignored,
}

/// Text and a cursor in it, which stands between graphemes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Line {
    text: String,
    /// In bytes; always at a grapheme's edge.
    cursor: usize,
}

impl Line {
    /// A line that holds `text`, with the cursor behind it.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), cursor: text.len() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text before the cursor, and from it on.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.text.split_at(self.cursor)
    }

    /// Types text at the cursor; line ends become blanks.
    pub(crate) fn insert(&mut self, text: &str) {
        let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.text.insert_str(self.cursor, &one_line);
        self.cursor += one_line.len();
    }

    /// Puts `text` in place of what stands from byte `start` to the cursor.
    pub(crate) fn complete(&mut self, start: usize, text: &str) {
        if self.text.is_char_boundary(start) && start <= self.cursor {
            self.text.replace_range(start..self.cursor, text);
            self.cursor = start + text.len();
        }
    }

    /// Does what a key means in a line of text.
    pub(crate) fn key(&mut self, event: &KeyEvent) -> Typed {
        if event.modifiers.contains(KeyModifiers::CONTROL) {
            return self.control(event.code);
        }
        match event.code {
            KeyCode::Enter => return Typed::Keep,
            KeyCode::Esc => return Typed::Drop,
            KeyCode::Char(c) => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => {
                let to = self.before();
                self.text.replace_range(to..self.cursor, "");
                self.cursor = to;
            }
            KeyCode::Delete => {
                let to = self.after();
                self.text.replace_range(self.cursor..to, "");
            }
            KeyCode::Left => self.cursor = self.before(),
            KeyCode::Right => self.cursor = self.after(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => return Typed::Ignored,
        }
        Typed::Changed
    }

    fn control(&mut self, code: KeyCode) -> Typed {
        match code {
            KeyCode::Char('a') => self.cursor = 0,
            KeyCode::Char('e') => self.cursor = self.text.len(),
            KeyCode::Char('u') => {
                self.text.replace_range(..self.cursor, "");
                self.cursor = 0;
            }
            KeyCode::Char('k') => self.text.truncate(self.cursor),
            KeyCode::Char('w') => {
                let kept = self.text[..self.cursor].trim_end();
                let to = kept.rfind(|c: char| c.is_whitespace() || c == ',' || c == '/').map_or(0, |at| {
                    // The separator stays; it may be wider than a byte.
                    at + kept[at..].chars().next().map_or(0, char::len_utf8)
                });
                self.text.replace_range(to..self.cursor, "");
                self.cursor = to;
            }
            _ => return Typed::Ignored,
        }
        Typed::Changed
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        let rest = &self.text[self.cursor..];
        self.cursor + rest.graphemes(true).next().map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn press(line: &mut Line, code: KeyCode) -> Typed {
        line.key(&KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn control(line: &mut Line, c: char) -> Typed {
        line.key(&KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
    }

    #[test]
    fn a_line_is_edited_by_what_people_see_as_letters() {
        let mut line = Line::new("ae\u{301}");
        press(&mut line, KeyCode::Backspace);
        assert_eq!(line.text(), "a");
        line.insert("日\nb");
        press(&mut line, KeyCode::Left);
        press(&mut line, KeyCode::Left);
        press(&mut line, KeyCode::Delete);
        assert_eq!(line.split(), ("a日", "b"));
        assert_eq!(press(&mut line, KeyCode::Enter), Typed::Keep);
        assert_eq!(press(&mut line, KeyCode::Esc), Typed::Drop);
        assert_eq!(press(&mut line, KeyCode::F(1)), Typed::Ignored);
    }

    #[test]
    fn words_and_ends_of_lines_go_with_control() {
        let mut line = Line::new("c4,data/alpaca.json");
        control(&mut line, 'w');
        assert_eq!(line.text(), "c4,data/");
        control(&mut line, 'a');
        control(&mut line, 'k');
        assert_eq!(line.text(), "");
        line.insert("abc");
        control(&mut line, 'u');
        assert_eq!(line.text(), "");
    }

    proptest! {
        #[test]
        fn any_keys_leave_a_cursor_at_a_letters_edge(
            text in "\\PC{0,12}",
            keys in proptest::collection::vec(0usize..8, 0..30),
        ) {
            let mut line = Line::new(&text);
            for k in keys {
                match k {
                    0 => press(&mut line, KeyCode::Left),
                    1 => press(&mut line, KeyCode::Right),
                    2 => press(&mut line, KeyCode::Backspace),
                    3 => press(&mut line, KeyCode::Delete),
                    4 => press(&mut line, KeyCode::Char('é')),
                    5 => control(&mut line, 'w'),
                    6 => control(&mut line, 'u'),
                    _ => press(&mut line, KeyCode::Home),
                };
                let (before, after) = line.split();
                prop_assert_eq!(format!("{before}{after}"), line.text());
            }
        }
    }
}
