//! A percentage, to be moved.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use super::{put, text};
use crate::tui::theme::Theme;

/// A slider of one row: rail with a knob, value.
#[derive(Debug, Clone)]
pub(crate) struct Slider<'a> {
    theme: &'a Theme,
    value: f64,
    shown: Option<String>,
    focused: bool,
}

impl<'a> Slider<'a> {
    /// A slider at `value` percent, on a rail from 0 to 100.
    pub(crate) fn new(theme: &'a Theme, value: f64) -> Self {
        Self { theme, value, shown: None, focused: false }
    }

    /// The text behind the rail, where it is not the percentage: `2:4`.
    #[must_use]
    pub(crate) fn shown(mut self, shown: impl Into<String>) -> Self {
        self.shown = Some(shown.into());
        self
    }

    /// Whether the arrow keys move it now.
    #[must_use]
    pub(crate) fn focused(mut self, focused: bool) -> Self {
        self.focused = focused;
        self
    }
}

/// A percentage without needless digits: `50%`, `62.5%`.
fn percent(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    format!("{rounded}%")
}

impl Widget for Slider<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = Rect { height: area.height.min(1), ..area }.intersection(*buf.area());
        if area.is_empty() {
            return;
        }
        let (theme, symbols) = (self.theme, self.theme.symbols());
        let value = self.shown.unwrap_or_else(|| percent(self.value));
        let value = text::truncate(&value, usize::from(area.width), symbols.ellipsis);
        // As wide as any percentage without a fraction, so that the rail does not move under the hand.
        let value_width = (text::width(&value) as u16).max(4).min(area.width);
        let left = area.width - value_width;
        let mut x = area.x;
        // The rail, and a blank before the value.
        if left >= 4 {
            let rail = left - 1;
            let share = (self.value / 100.0).clamp(0.0, 1.0);
            // NaN becomes 0.
            let knob = (share * f64::from(rail - 1)).round() as u16;
            let grip = if self.focused { theme.key() } else { theme.accent() };
            for i in 0..rail {
                let (glyph, style) = match i.cmp(&knob) {
                    std::cmp::Ordering::Less => (symbols.heavy, theme.accent()),
                    std::cmp::Ordering::Equal => (symbols.knob, grip),
                    std::cmp::Ordering::Greater => (symbols.horizontal, theme.border()),
                };
                put(buf, area, x + i, area.y, glyph, style);
            }
            x += left;
        }
        let style = if self.focused { theme.selected() } else { theme.title() };
        let value =
            text::fit(&value, usize::from(value_width), ratatui::layout::Alignment::Right, symbols.ellipsis);
        put(buf, area, x, area.y, &value, style);
    }
}
