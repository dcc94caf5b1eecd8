//! Parts of the screen that know nothing of studies: plain data and a [`Theme`] in, cells out.
//!
//! Every widget draws at any size, writes only inside the area it is given, and takes any text: what could steer a
//! terminal is shown escaped.

mod chart;
mod gauge;
mod heatmap;
mod slider;
mod spark;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub(crate) use chart::{Chart, ChartWindow, Point, PointTag, Series, YScale};
pub(crate) use gauge::Gauge;
pub(crate) use heatmap::{HeatMap, HeatRow};
pub(crate) use slider::Slider;
pub(crate) use spark::Spark;
pub(crate) use table::{Table, TableColumn, TableRow};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Block;

use super::theme::Theme;

/// A frame with a title, brighter where the keys go to.
pub(crate) fn panel(theme: &Theme, title: &str, focused: bool) -> Block<'static> {
    let border = if focused { theme.border_focused() } else { theme.border() };
    let block = Block::bordered().border_set(theme.symbols().border).border_style(border);
    if title.is_empty() {
        return block;
    }
    // Said outright, as a title would else take the colour of the frame.
    let colour = if focused { theme.accent() } else { Style::new().fg(Color::Reset) };
    let style = colour.patch(theme.title()).remove_modifier(Modifier::DIM);
    block.title_top(Line::from(Span::styled(format!(" {} ", text::sanitize(title)), style)))
}

/// Writes `text` at a place inside `area`, cut at the area's right edge. Nothing is left of what was there before but,
/// where the style has none, the background. Returns the number of columns written.
pub(crate) fn put(buf: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) -> u16 {
    let area = area.intersection(*buf.area());
    if !area.contains((x, y).into()) {
        return 0;
    }
    let style = Style {
        fg: style.fg.or(Some(Color::Reset)),
        sub_modifier: Modifier::all().difference(style.add_modifier),
        ..style
    };
    let (end, _) = buf.set_stringn(x, y, text, usize::from(area.right() - x), style);
    end - x
}
