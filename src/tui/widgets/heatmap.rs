//! A table of values as colours.

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use super::{put, text};
use crate::tui::theme::Theme;

/// The widest that a column of the map gets.
const WIDEST: u16 = 4;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeatRow {
    pub label: String,
    /// Its values, `0 … 1`; `None` where there is none yet.
    pub values: Vec<Option<f64>>,
}

impl HeatRow {
    /// The mean of the values that share a field.
    fn at(&self, bin: &Range<usize>) -> Option<f64> {
        let most = self.values.len();
        mean(&self.values[bin.start.min(most)..bin.end.min(most)])
    }
}

/// Rows of values, each value a field of colour; below them a row of bars, the numbers of the columns and a legend of the
/// scale.
///
/// Where there are more columns than room, neighbours share a field, which shows their mean; a field is empty only while
/// none of its values is there.
#[derive(Debug, Clone)]
pub(crate) struct HeatMap<'a> {
    theme: &'a Theme,
    rows: &'a [HeatRow],
    bars: Option<&'a HeatRow>,
    scale: (String, String),
}

impl<'a> HeatMap<'a> {
    pub(crate) fn new(theme: &'a Theme, rows: &'a [HeatRow]) -> Self {
        Self { theme, rows, bars: None, scale: ("0".to_owned(), "1".to_owned()) }
    }

    /// Another quantity of the columns, `0 … 1`, as bars; there where a row is left beside the numbers of the columns.
    #[must_use]
    pub(crate) fn bars(mut self, bars: Option<&'a HeatRow>) -> Self {
        self.bars = bars;
        self
    }

    /// What the values 0 and 1 stand for.
    #[must_use]
    pub(crate) fn scale(mut self, low: impl Into<String>, high: impl Into<String>) -> Self {
        self.scale = (low.into(), high.into());
        self
    }

    /// Draws a bar for each field.
    fn draw_bars(&self, row: &HeatRow, bins: &[Range<usize>], field: u16, area: Rect, buf: &mut Buffer) {
        let bars = self.theme.symbols().bars;
        for (bin, x) in bins.iter().zip((area.x..).step_by(field.into())) {
            let Some(value) = row.at(bin) else { continue };
            // What is there is never nothing to see.
            let level = ((value * 8.0).round() as usize).clamp(1, 8);
            // Wide bars stand apart.
            for dx in 0..field.max(2) - 1 {
                put(buf, area, x + dx, area.y, bars[level], self.theme.accent());
            }
        }
    }

    /// Draws the scale itself, if the row has room.
    fn legend(&self, area: Rect, buf: &mut Buffer) {
        let theme = self.theme;
        let (low, high) = (text::sanitize(&self.scale.0), text::sanitize(&self.scale.1));
        let room = area.width.saturating_sub((text::width(&low) + text::width(&high) + 2) as u16);
        if room < 4 {
            return;
        }
        let steps = room.min(20);
        let mut x = area.x;
        x += put(buf, area, x, area.y, &low, theme.dim()) + 1;
        for step in 0..steps {
            let t = (f64::from(step) + 0.5) / f64::from(steps);
            x += put(buf, area, x, area.y, theme.heat_glyph(t), theme.heat(t));
        }
        x += 1;
        x += put(buf, area, x, area.y, &high, theme.dim());
        let none = format!("  {} none yet", theme.symbols().dot);
        if usize::from(area.right() - x) >= text::width(&none) {
            put(buf, area, x, area.y, &none, theme.dim());
        }
    }
}

/// Which of `columns` values stand in each of the `fields` that there is room for.
fn bins(columns: usize, room: usize) -> Vec<Range<usize>> {
    let fields = columns.min(room);
    (0..fields).map(|i| i * columns / fields..(i + 1) * columns / fields).collect()
}

/// The mean of the values that are there and are numbers.
fn mean(values: &[Option<f64>]) -> Option<f64> {
    let there = values.iter().flatten().filter(|v| !v.is_nan()).map(|v| v.clamp(0.0, 1.0));
    let (sum, count) = there.fold((0.0, 0_u32), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

impl Widget for HeatMap<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(*buf.area());
        let columns = self.rows.iter().map(|row| row.values.len()).max().unwrap_or(0);
        if area.is_empty() || columns == 0 {
            return;
        }
        let (theme, symbols) = (self.theme, self.theme.symbols());
        let rows = self.rows.len() as u16;
        let bars = self.bars.filter(|_| area.height >= rows + 2);
        let third = usize::from(area.width) / 3;
        // The bars have their name where the rows keep theirs.
        let named = bars.filter(|row| text::width(&row.label) <= third);
        let widest = self.rows.iter().chain(named).map(|row| text::width(&row.label)).max().unwrap_or(0);
        // Labels may take a third of the area, and go where less than half of one could be read.
        let label = widest.min(third);
        let label = if label * 2 < widest { 0 } else { label + usize::from(label > 0) };
        let left = area.x + label as u16;
        let room = area.right() - left;
        let field = (room / columns.min(usize::from(room)) as u16).clamp(1, WIDEST);
        let bins = bins(columns, usize::from(room));

        let taken = u16::from(bars.is_some());
        let spare = area.height.saturating_sub(rows + taken);
        // The bars, the legend, the numbers of the columns, then rows of double height, each only where there is room.
        let (numbers, legend) = (spare >= 1, spare >= 2);
        let tall = if area.height >= 2 * rows + taken + 2 { 2 } else { 1 };
        for (i, row) in self.rows.iter().enumerate() {
            let y = area.y.saturating_add((i as u16).saturating_mul(tall));
            if y >= area.bottom() {
                break;
            }
            if label > 1 {
                let name = text::truncate(&row.label, label - 1, symbols.ellipsis);
                put(buf, area, area.x, y, &name, theme.dim());
            }
            for (j, bin) in bins.iter().enumerate() {
                let value = row.at(bin);
                let x = left + j as u16 * field;
                for (dy, dx) in (0..tall).flat_map(|dy| (0..field).map(move |dx| (dy, dx))) {
                    let first = dy == 0 && dx == (field - 1) / 2;
                    let (glyph, style) = match value {
                        Some(t) => (theme.heat_glyph(t), theme.heat(t)),
                        None if first => (symbols.dot, theme.border()),
                        None => (" ", theme.text()),
                    };
                    put(buf, area, x + dx, y + dy, glyph, style);
                }
            }
        }
        let mut below = area.y.saturating_add(rows.saturating_mul(tall));
        if let Some(row) = bars {
            if label > 1 {
                let name = text::truncate(&row.label, label - 1, symbols.ellipsis);
                put(buf, area, area.x, below, &name, theme.dim());
            }
            let place = Rect { x: left, y: below, width: room, height: 1 };
            self.draw_bars(row, &bins, field, place, buf);
            below += 1;
        }
        if numbers && below < area.bottom() {
            let mut free = left;
            for (j, bin) in bins.iter().enumerate() {
                let (x, number) = (left + j as u16 * field, bin.start.to_string());
                let width = number.len() as u16;
                if x >= free && x + width <= area.right() {
                    put(buf, area, x, below, &number, theme.dim());
                    // Numbers stand apart, and not closer than every fourth field.
                    free = x + (width + 2).max(4 * field);
                }
            }
        }
        if legend && below + 1 < area.bottom() {
            let row = Rect { x: left, y: below + 1, width: room, height: 1 };
            self.legend(row, buf);
        }
    }
}
