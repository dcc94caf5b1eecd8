//! A screen as characters.

use ratatui::buffer::Buffer;

use super::cells::row;
use crate::tui::theme::{Background, ColorMode, Theme};

/// A line a row, without the blanks at its end.
pub(crate) fn render(buffer: &Buffer) -> String {
    // Colours are not asked for.
    let theme = Theme::new(ColorMode::None, Background::Dark, false);
    let mut text = String::new();
    for y in 0..buffer.area().height {
        let line: String = row(buffer, &theme, y).iter().map(|(_, cell)| cell.symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
