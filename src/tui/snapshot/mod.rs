//! What is on the screen, as a picture or as text: from the same cells that the terminal gets, without a terminal.

mod glyphs;
mod png;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::io::Write as _;
use std::path::Path;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthStr;

use super::theme::{Rgb, Theme};
use super::widgets::text::sanitize;
use crate::error::{Error, Result};
use crate::store::checkpoint::write_atomically;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Scalable, with text as text.
    Svg,
    /// Pixels, two to a point.
    Png,
    /// Characters only.
    Text,
}

impl Format {
    /// The kind that a file's extension names.
    ///
    /// # Errors
    /// [`Error::Mistake`] for an extension that is none of `svg`, `png` and `txt`, in any case.
    pub fn from_path(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            Some("txt") => Ok(Self::Text),
            _ => Err(Error::mistake(format!(
                "{}: the name of a snapshot must end in .svg, .png or .txt",
                path.display()
            ))),
        }
    }
}

/// The content of a file of this kind that shows what is in `buffer`. The terminal's own colours are those of the theme.
///
/// # Errors
/// [`Error::Failure`] if a picture cannot be made of it, for its size or lack of memory.
pub fn render(buffer: &Buffer, theme: &Theme, format: Format) -> Result<Vec<u8>> {
    match format {
        Format::Svg => Ok(svg::render(buffer, theme).into_bytes()),
        Format::Png => png::render(buffer, theme),
        Format::Text => Ok(text::render(buffer).into_bytes()),
    }
}

/// Writes what is in `buffer` to a file, in the format that its name tells. The file is there whole or not at all.
///
/// # Errors
/// Those of [`Format::from_path`], of [`render`], and of writing.
pub fn save(path: &Path, buffer: &Buffer, theme: &Theme) -> Result<()> {
    let content = render(buffer, theme, Format::from_path(path)?)?;
    write_atomically(path, |file| file.write_all(&content))
}

/// A cell with its colours resolved.
#[derive(Debug, Clone, PartialEq)]
struct Shown<'a> {
    symbol: &'a str,
    /// Columns it takes, 1 or 2.
    width: u16,
    fg: Rgb,
    /// `None` where the picture's background shows.
    bg: Option<Rgb>,
    /// What is behind the character: `bg`, or the picture's background.
    under: Rgb,
    /// The colour of the line under it, if it has one.
    underline: Option<Rgb>,
    modifier: Modifier,
}

/// The cells of a row that are seen, each with its column: those hidden behind a wide character are left out.
fn row<'a>(buffer: &'a Buffer, theme: &Theme, y: u16) -> Vec<(u16, Shown<'a>)> {
    let area = *buffer.area();
    let mut cells = Vec::with_capacity(usize::from(area.width));
    let mut x = 0;
    while x < area.width {
        let cell = &buffer[(area.x + x, area.y + y)];
        let shown = resolve(cell, theme, area.width - x);
        let width = shown.width;
        cells.push((x, shown));
        x += width;
    }
    cells
}

/// Resolves colours and modifiers. `room` is the number of columns to the right edge.
fn resolve<'a>(cell: &'a Cell, theme: &Theme, room: u16) -> Shown<'a> {
    // Widgets sanitize; a cell that was filled without them must not bring control characters into a file either.
    let symbol = match sanitize(cell.symbol()) {
        Cow::Borrowed(symbol) => symbol,
        Cow::Owned(_) => "\u{fffd}",
    };
    let modifier = cell.modifier;
    let mut fg = theme.resolve(cell.fg).unwrap_or(theme.foreground_rgb());
    let mut under = theme.resolve(cell.bg).unwrap_or(theme.background_rgb());
    if modifier.contains(Modifier::REVERSED) {
        std::mem::swap(&mut fg, &mut under);
    }
    if modifier.contains(Modifier::DIM) {
        fg = fg.mix(under, 0.45);
    }
    let underline = modifier.contains(Modifier::UNDERLINED);
    let underline = underline.then(|| theme.resolve(cell.underline_color).unwrap_or(fg));
    let bg = Some(under).filter(|under| *under != theme.background_rgb());
    let width = (symbol.width() as u16).clamp(1, 2).min(room);
    Shown { symbol, width, fg, bg, under, underline, modifier }
}
