//! A bar that fills.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;

use super::{put, text};
use crate::tui::theme::Theme;

/// Columns below which a bar has no text beside it.
const NARROW: u16 = 16;

/// A progress bar of one row, with text to its right, or over it where the area is narrow.
#[derive(Debug, Clone)]
pub(crate) struct Gauge<'a> {
    theme: &'a Theme,
    ratio: Option<f64>,
    label: String,
    style: Style,
}

impl<'a> Gauge<'a> {
    /// A bar filled up to `ratio` of `0 … 1`. What is no number is drawn as an empty bar.
    pub(crate) fn new(theme: &'a Theme, ratio: f64) -> Self {
        let ratio = Some(ratio).filter(|r| !r.is_nan()).map(|r| r.clamp(0.0, 1.0));
        Self { theme, ratio, label: String::new(), style: theme.accent() }
    }

    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The style of the filled part; the accent by default.
    #[must_use]
    pub(crate) fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

impl Widget for Gauge<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = Rect { height: area.height.min(1), ..area }.intersection(*buf.area());
        if area.is_empty() {
            return;
        }
        let symbols = self.theme.symbols();
        let label = text::truncate(&self.label, usize::from(area.width), symbols.ellipsis);
        let text_width = text::width(&label) as u16;
        let beside = text_width > 0 && area.width >= NARROW && text_width + 8 < area.width;
        let width = if beside { area.width - text_width - 1 } else { area.width };
        let eighths = (self.ratio.unwrap_or(0.0) * f64::from(width) * 8.0).round() as usize;
        for column in 0..width {
            let filled = eighths.saturating_sub(usize::from(column) * 8).min(8);
            let (glyph, style) = match filled {
                0 => (symbols.track, self.theme.border()),
                filled => (symbols.eighths[filled], self.style),
            };
            put(buf, area, area.x + column, area.y, glyph, style);
        }
        if beside {
            put(buf, area, area.x + width + 1, area.y, &label, self.theme.text());
        } else if text_width > 0 {
            let start = area.x + (area.width - text_width.min(area.width)) / 2;
            put(buf, area, start, area.y, &label, self.theme.title());
        }
    }
}
