//! A short history as columns.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use super::{put, text};
use crate::tui::theme::Theme;

/// A sparkline: label, columns of the latest values with the newest at the right, current value. Higher areas give
/// higher columns.
#[derive(Debug, Clone)]
pub(crate) struct Spark<'a> {
    theme: &'a Theme,
    history: &'a [Option<f64>],
    max: Option<f64>,
    label: String,
    label_width: u16,
    value: String,
}

impl<'a> Spark<'a> {
    /// Columns of `history`, oldest first; what was not measured, or is no number, is a gap.
    pub(crate) fn new(theme: &'a Theme, history: &'a [Option<f64>]) -> Self {
        Self { theme, history, max: None, label: String::new(), label_width: 0, value: String::new() }
    }

    /// The value of a full column; by default the greatest that is seen.
    #[must_use]
    pub(crate) fn max(mut self, max: f64) -> Self {
        self.max = Some(max);
        self
    }

    /// The text before the columns; none by default.
    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The least columns of the label, so that sparklines below each other are aligned.
    #[must_use]
    pub(crate) fn label_width(mut self, width: u16) -> Self {
        self.label_width = width;
        self
    }

    /// The text behind the columns: the current value with its unit.
    #[must_use]
    pub(crate) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }
}

impl Widget for Spark<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(*buf.area());
        if area.is_empty() {
            return;
        }
        let (theme, symbols) = (self.theme, self.theme.symbols());
        let (mut x, mut width) = (area.x, area.width);
        let value_width = text::width(&self.value) as u16;
        if value_width > 0 && value_width < width {
            width -= value_width + 1;
            put(buf, area, x + width + 1, area.y, &text::sanitize(&self.value), theme.text());
        }
        let label_width =
            if self.label.is_empty() { 0 } else { (text::width(&self.label) as u16).max(self.label_width) };
        if label_width > 0 && label_width < width {
            put(buf, area, x, area.y, &text::sanitize(&self.label), theme.dim());
            x += label_width + 1;
            width -= label_width + 1;
        }

        let shown = &self.history[self.history.len().saturating_sub(usize::from(width))..];
        let number = |value: &Option<f64>| value.filter(|v| v.is_finite());
        let greatest = || shown.iter().filter_map(number).fold(0.0, f64::max);
        let max = self.max.filter(|max| *max > 0.0 && max.is_finite()).unwrap_or_else(greatest);
        let levels = usize::from(area.height) * 8;
        let start = x + width - shown.len() as u16;
        for (i, value) in shown.iter().enumerate() {
            let x = start + i as u16;
            let Some(value) = number(value) else {
                put(buf, area, x, area.bottom() - 1, symbols.dot, theme.border());
                continue;
            };
            let share = if max > 0.0 { (value / max).clamp(0.0, 1.0) } else { 0.0 };
            // Something measured is never nothing to see.
            let level = ((share * levels as f64).round() as usize).max(1);
            for row in 0..area.height {
                let filled = level.saturating_sub(usize::from(row) * 8).min(8);
                if filled > 0 {
                    put(buf, area, x, area.bottom() - 1 - row, symbols.bars[filled], theme.accent());
                }
            }
        }
    }
}
