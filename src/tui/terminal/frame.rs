//! What is sent to the terminal so that it shows the next frame.
//!
//! A terminal moves its cursor by the width that it takes a character for. Terminals disagree about some: vowel signs of
//! Indic scripts, Thai sara am, emoji with a skin tone or joined to others. Behind such a grapheme the cursor may stand
//! anywhere, and a column may keep what it showed before. Its columns are therefore blanked first, the cursor is
//! positioned again behind it, and a row that has or had such a grapheme is written as a whole when it changes.

use std::io::{self, Write};
use std::mem::take;

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::{Buffer, Cell, CellWidth};
use unicode_segmentation::UnicodeSegmentation;

/// A cell with its column and row.
type Update<'a> = (u16, u16, &'a Cell);

/// Writes what a terminal that shows `shown` needs to show `next`, a buffer of the same size.
pub(super) fn write(out: &mut impl Write, shown: &Buffer, next: &Buffer) -> io::Result<()> {
    let mut backend = CrosstermBackend::new(out);
    let mut changes = shown.diff_iter(next).peekable();
    let mut run = Vec::new();
    for y in 0..next.area.height {
        let mut changed: Vec<Update<'_>> = Vec::new();
        while let Some(change) = changes.next_if(|change| change.1 == y) {
            changed.push(change);
        }
        if !differs(shown, next, y) || !(row(shown, y).any(is_unsure) || row(next, y).any(is_unsure)) {
            run.append(&mut changed);
            continue;
        }
        for update in row(next, y) {
            if is_unsure(update) {
                write_unsure(&mut backend, take(&mut run), update)?;
            } else {
                run.push(update);
            }
        }
    }
    if run.is_empty() { Ok(()) } else { backend.draw(run.into_iter()) }
}

/// Writes the cells that wait, then this one. The backend positions the cursor for the cell that it is given first, and
/// for one that is not to the right of the last: here after the blanks, and for whatever comes next.
fn write_unsure<W: Write>(
    backend: &mut CrosstermBackend<W>,
    waiting: Vec<Update<'_>>,
    (x, y, cell): Update<'_>,
) -> io::Result<()> {
    let mut blank = Cell::default();
    blank.set_style(cell.style());
    let blanks = (x..x + cell.cell_width()).map(|x| (x, y, &blank));
    backend.draw(waiting.into_iter().chain(blanks).chain([(x, y, cell)]))
}

fn differs(shown: &Buffer, next: &Buffer, y: u16) -> bool {
    (0..next.area.width).any(|x| shown[(x, y)] != next[(x, y)])
}

/// The cells of a row, without those that a wide grapheme hides.
fn row(buffer: &Buffer, y: u16) -> impl Iterator<Item = Update<'_>> {
    let mut x = 0;
    std::iter::from_fn(move || {
        let at = x;
        let cell = (at < buffer.area.width).then(|| &buffer[(at, y)])?;
        x += cell.cell_width().max(1);
        Some((at, y, cell))
    })
}

/// Whether terminals may disagree about the width of what a cell shows.
fn is_unsure((.., cell): Update<'_>) -> bool {
    let mut characters = cell.symbol().chars();
    match (characters.next(), characters.next()) {
        (Some(c), None) => is_unsure_alone(c, cell.cell_width()),
        // A letter with its marks, joined emoji, a flag: some take it for one character, others for several.
        (Some(_), Some(_)) => true,
        (None, _) => false,
    }
}

fn is_unsure_alone(c: char, width: u16) -> bool {
    match c {
        // Latin and other old scripts without marks; punctuation, arrows, boxes, blocks and symbols.
        '\0'..'\u{300}' | '\u{2000}'..'\u{2c00}' => width != 1,
        // Private characters are what the font makes of them; pictures have been narrow in one version of Unicode and
        // wide in another, as have the hexagrams.
        '\u{e000}'..'\u{f900}' | '\u{1f000}'..'\u{20000}' | '\u{f0000}'.. | '\u{4dc0}'..'\u{4e00}' => true,
        // Wide since there are wide characters: East Asian letters.
        '\u{1100}'..'\u{1160}'
        | '\u{2e80}'..'\u{a4d0}'
        | '\u{ac00}'..'\u{d7a4}'
        | '\u{f900}'..'\u{fb00}'
        | '\u{fe30}'..'\u{fe70}'
        | '\u{ff00}'..'\u{ffe7}'
        | '\u{20000}'..'\u{40000}' => false,
        _ if width != 1 => true,
        // A mark that lost its letter. It would join one before it, or one behind it.
        c => {
            let alone = |text: String| text.graphemes(true).count() == 2;
            !alone(format!("a{c}")) || !alone(format!("{c}a"))
        }
    }
}

#[cfg(test)]
mod tests;
