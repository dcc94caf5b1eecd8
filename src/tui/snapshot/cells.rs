//! The cells of a buffer as pictures and texts need them.

use std::borrow::Cow;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::Modifier;

use crate::tui::theme::{Rgb, Theme};
use crate::tui::widgets::text::{sanitize, width};

/// A cell with its colours resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown<'a> {
    pub symbol: &'a str,
    pub width: u16,
    pub fg: Rgb,
    /// `None` where the picture's background shows.
    pub bg: Option<Rgb>,
    /// What is behind the character: `bg`, or the picture's background.
    pub under: Rgb,
    /// The colour of the line under it, if it has one.
    pub underline: Option<Rgb>,
    pub modifier: Modifier,
}

/// The cells of a row that are seen, each with its column: those hidden behind a wide character are left out.
pub(super) fn row<'a>(buffer: &'a Buffer, theme: &Theme, y: u16) -> Vec<(u16, Shown<'a>)> {
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
    let width = (width(symbol) as u16).max(1).min(room);
    Shown { symbol, width, fg, bg, under, underline, modifier }
}
