//! What reaches the terminal, as text and as terminals of several opinions take it.

use proptest::prelude::*;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::*;

/// Ends the colours of what was written before it.
const PLAIN: &str = "\x1b[39m\x1b[49m\x1b[59m\x1b[0m";

fn lines(lines: &[&str], columns: u16) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, lines.len() as u16));
    for (line, y) in lines.iter().zip(0..) {
        buffer.set_string(0, y, line, Style::new());
    }
    buffer
}

fn sent(shown: &Buffer, next: &Buffer) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes, shown, next).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_cursor_is_positioned_behind_what_terminals_disagree_about() {
    let empty = lines(&["", ""], 8);
    let next = lines(&["│कौन│", "│ab│"], 8);
    let expected = format!("\x1b[1;1H│  \x1b[1;2Hकौ{PLAIN}\x1b[1;4Hन│   \x1b[2;1H│ab│{PLAIN}");
    // The blanks at the end of the first row are written too: anything may stand there.
    assert_eq!(sent(&empty, &next), expected);
}

#[test]
fn a_row_without_such_characters_sends_what_has_changed_alone() {
    let shown = lines(&["│abc│", "│漢字│"], 8);
    let next = lines(&["│axc│", "│漢子│"], 8);
    assert_eq!(sent(&shown, &next), format!("\x1b[1;3Hx\x1b[2;4H子{PLAIN}"));
    assert_eq!(sent(&next, &next), "");
}

#[test]
fn a_row_is_written_whole_when_such_a_character_goes_and_left_alone_while_it_stays() {
    let shown = lines(&["│น้ำ│", "x"], 6);
    let next = lines(&["│a │", "x"], 6);
    assert_eq!(sent(&shown, &next), format!("\x1b[1;1H│a │  {PLAIN}"));
    let below = lines(&["│น้ำ│", "y"], 6);
    assert_eq!(sent(&shown, &below), format!("\x1b[2;1Hy{PLAIN}"));
}

#[test]
fn the_blanks_have_the_background_of_what_is_written_over_them() {
    let empty = lines(&[""], 3);
    let mut next = lines(&["मी"], 3);
    next.set_style(Rect::new(0, 0, 2, 1), Style::new().bg(Color::Indexed(4)));
    let first = sent(&empty, &next);
    assert!(first.starts_with("\x1b[1;1H\x1b[39;48;5;4m  \x1b[1;1Hमी"), "{first:?}");
}

#[test]
fn only_what_terminals_disagree_about_costs_more() {
    let unsure = |symbol: &str| {
        let mut cell = Cell::default();
        cell.set_symbol(symbol);
        is_unsure((0, 0, &cell))
    };
    for symbol in
        ["a", " ", "é", "ß", "—", "…", "│", "█", "●", "✓", "漢", "か", "각", "，", "я", "م", "न", "น"]
    {
        assert!(!unsure(symbol), "{symbol}");
    }
    for symbol in [
        "कौ",
        "ज\u{93c}",
        "น้ำ",
        "ำ",
        "ा",
        "👍🏽",
        "👩\u{200d}👧",
        "❤\u{fe0f}",
        "1\u{fe0f}\u{20e3}",
        "🇩🇪",
        "🦀",
        "\u{1fae9}",
        "e\u{301}",
        "ﾊ\u{ff9f}",
        "\u{1100}\u{1161}",
        "䷀",
        "\u{e0b0}",
        "\u{600}",
    ] {
        assert!(unsure(symbol), "{symbol} {symbol:?}");
    }
}

/// How many columns a terminal takes a character for: 0 joins it to what is before it.
type Opinion = fn(char) -> u16;

fn width(c: char) -> u16 {
    let mut cell = Cell::default();
    cell.set_char(c);
    cell.cell_width()
}

fn joins(c: char) -> bool {
    format!("a{c}").graphemes(true).count() == 1
}

/// Terminals that go by single characters: with a column for vowel signs that stand beside their letter, with none, with
/// pictures of one column, and one that takes whatever is not common for very wide.
const OPINIONS: [Opinion; 4] = [
    width,
    |c| if joins(c) { 0 } else { width(c) },
    |c| if c >= '\u{1f000}' { 1 } else { width(c).min(2) },
    |c| if joins(c) || c >= '\u{1f000}' { 4 } else { width(c) },
];

/// A terminal that does not wrap lines.
struct Emulator {
    opinion: Opinion,
    columns: usize,
    rows: Vec<Vec<String>>,
    at: (usize, usize),
}

impl Emulator {
    fn new(opinion: Opinion, columns: u16, rows: u16) -> Self {
        let row = vec![" ".to_owned(); columns.into()];
        Self { opinion, columns: columns.into(), rows: vec![row; rows.into()], at: (0, 0) }
    }

    fn read(&mut self, text: &str) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '\u{1b}' {
                self.put(c);
                continue;
            }
            assert_eq!(rest.next(), Some('['));
            let mut numbers = String::new();
            let end = loop {
                match rest.next().unwrap() {
                    c if c.is_ascii_alphabetic() => break c,
                    c => numbers.push(c),
                }
            };
            if end == 'H' {
                let (row, column) = numbers.split_once(';').unwrap();
                self.at = (column.parse::<usize>().unwrap() - 1, row.parse::<usize>().unwrap() - 1);
            }
        }
    }

    fn put(&mut self, c: char) {
        let (x, y) = self.at;
        let width = usize::from((self.opinion)(c));
        if width == 0 {
            let before = (0..x.min(self.columns)).rev().find(|&at| !self.rows[y][at].is_empty());
            self.rows[y][before.unwrap_or(0)].push(c);
            return;
        }
        let x = x.min(self.columns - 1);
        for at in x..(x + width).min(self.columns) {
            self.clear(at, y);
        }
        self.rows[y][x] = c.to_string();
        // Columns behind a wide character belong to it.
        for at in x + 1..(x + width).min(self.columns) {
            self.rows[y][at].clear();
        }
        self.at.0 = x + width;
    }

    /// Blanks the character that takes this column, all of it.
    fn clear(&mut self, x: usize, y: usize) {
        let row = &mut self.rows[y];
        let start = (0..=x).rev().find(|&at| !row[at].is_empty()).unwrap_or(0);
        let mut at = start;
        loop {
            row[at] = " ".into();
            at += 1;
            if at >= row.len() || !row[at].is_empty() {
                return;
            }
        }
    }

    /// Whether everything stands where it should; characters that it has an opinion of its own about keep to their columns.
    fn shows(&self, buffer: &Buffer) -> Result<(), String> {
        for y in 0..buffer.area.height {
            for (x, _, cell) in row(buffer, y) {
                let columns = usize::from(x)..usize::from(x + cell.cell_width().max(1)).min(self.columns);
                let found: String = self.rows[usize::from(y)][columns].concat();
                let good = if is_unsure((x, y, cell)) {
                    found.chars().all(|c| c == ' ' || cell.symbol().contains(c))
                } else {
                    found == cell.symbol()
                };
                if !good {
                    return Err(format!("{x},{y}: {found:?} for {:?} in {:?}", cell.symbol(), self.rows));
                }
            }
        }
        Ok(())
    }
}

/// Text with much that terminals disagree about.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        " ",
        "b",
        "│",
        "漢",
        "é",
        "कौ",
        "चीज\u{93c}",
        "है",
        "น้ำ",
        "👍🏽",
        "👩\u{200d}👩\u{200d}👧",
        "❤\u{fe0f}",
        "🇩🇪",
        "🦀",
        "क्ष्म",
        "e\u{301}",
        "ﾊ\u{ff9f}",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn frame_after_frame_every_terminal_shows_the_rest_as_it_should(
        frames in prop::collection::vec(prop::collection::vec(text(), 3), 1..5),
    ) {
        for opinion in OPINIONS {
            let mut terminal = Emulator::new(opinion, 16, 3);
            let mut shown = lines(&["", "", ""], 16);
            for frame in &frames {
                let rows: Vec<String> = frame.iter().map(|text| format!("│{text}")).collect();
                let mut next = lines(&rows.iter().map(String::as_str).collect::<Vec<_>>(), 16);
                for y in 0..3 {
                    // The frame at the right covers no part of a wide character.
                    for x in 12..15 {
                        if x + next[(x, y)].cell_width() > 15 {
                            next[(x, y)].set_symbol(" ");
                        }
                    }
                    next[(15, y)].set_symbol("│");
                }
                terminal.read(&sent(&shown, &next));
                let found = terminal.shows(&next);
                prop_assert!(found.is_ok(), "{}", found.unwrap_err());
                shown = next;
            }
        }
    }
}
