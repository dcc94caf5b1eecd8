//! The values at the cursor, series by series; also the legend of the charts.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::data::{Comparison, Figures, Metric, Row};
use super::table::marker;
use super::{CompareView, figures};
use crate::tui::theme::Theme;
use crate::tui::widgets::text;

/// Blanks between two columns of entries.
const GAP: usize = 3;
/// The widest name.
const NAME: usize = 26;

/// A series, or a cell of it, with its values at the cursor.
struct Entry {
    marker: Span<'static>,
    name: String,
    /// The text of each value, and whether it is a finite number.
    values: Vec<(String, bool)>,
}

/// All entries, measured.
pub struct Readout {
    caption: String,
    metrics: Vec<Metric>,
    entries: Vec<Entry>,
    relative: bool,
    /// Width of the names, and of each value.
    name: usize,
    widths: Vec<usize>,
}

impl Readout {
    /// Reads the values of these metrics at the cursor.
    pub fn new(found: &Comparison<'_>, view: &CompareView, metrics: Vec<Metric>, theme: &Theme) -> Self {
        let at = found.cursor(view.cursor);
        let entry = |marker: Span<'static>, name: String, row: Option<&Row<'_>>| {
            let none = Figures::default();
            let (own, base) = row.map_or((&none, &none), |row| (&row.figures, &row.base));
            let write = |metric: &Metric| {
                // The base differs from itself by nothing.
                let zero = *metric == Metric::Divergence && row.is_some_and(|row| row.cell.is_none());
                let value = metric.value(own, base, view.relative).map(|v| v.value);
                let value = if zero { Some(0.0) } else { value };
                (written(*metric, value, view.relative, theme), value.is_some_and(f64::is_finite))
            };
            Entry { marker, name, values: metrics.iter().map(write).collect() }
        };
        let bases = found.rows.iter().filter(|row| row.cell.is_none());
        let mut entries: Vec<Entry> =
            bases.map(|row| entry(marker(found, row, theme), row.label.clone(), Some(row))).collect();
        for series in &found.series {
            let here = series.rows.iter().map(|&i| &found.rows[i]).filter(|row| row.x == at && at.is_some());
            let sign = theme.symbols().markers[series.style % theme.symbols().markers.len()];
            let sign = Span::styled(sign, theme.series(series.style));
            let of_fraction = here.clone().find(|row| row.pattern.is_none());
            entries.push(entry(sign, series.name.clone(), of_fraction));
            for row in here.filter(|row| row.pattern.is_some()) {
                let pattern = row.pattern.as_deref().unwrap_or_default();
                entries.push(entry(
                    marker(found, row, theme),
                    format!("{} {pattern}", series.name),
                    Some(row),
                ));
            }
        }
        let caption = at.map_or_else(String::new, |at| format!("at {}", figures::sparsity(at)));
        let names = entries.iter().map(|entry| text::width(&entry.name) + 2).max().unwrap_or(0).min(NAME);
        let name = names.max(text::width(&caption));
        let width = |i: usize| {
            let values = entries.iter().map(|entry| text::width(&entry.values[i].0));
            values.chain([title(metrics[i], view.relative).len()]).max().unwrap_or(0)
        };
        let widths = (0..metrics.len()).map(width).collect();
        Self { caption, metrics, entries, relative: view.relative, name, widths }
    }

    /// Columns of entries that fit side by side.
    fn side_by_side(&self, width: u16) -> usize {
        let entry = self.entry_width();
        ((usize::from(width) + GAP) / (entry + GAP)).max(1)
    }

    fn entry_width(&self) -> usize {
        self.name + self.widths.iter().map(|width| width + 2).sum::<usize>()
    }

    /// Rows that all entries take in this width, with their heading.
    pub fn height(&self, width: u16) -> u16 {
        (self.entries.len().div_ceil(self.side_by_side(width)) + 1).min(usize::from(u16::MAX)) as u16
    }

    /// Draws as many entries as fit, downwards first.
    pub fn draw(&self, theme: &Theme, area: Rect, buffer: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let across = self.side_by_side(area.width);
        let rows = self.entries.len().div_ceil(across);
        let down = usize::from(area.height).saturating_sub(1).min(rows).max(1);
        let hidden = self.entries.len().saturating_sub(down * across);
        let columns = self.entries.len().div_ceil(down).min(across);
        for column in 0..columns {
            let x = area.x + (column * (self.entry_width() + GAP)).min(usize::from(area.width)) as u16;
            let place = |row: usize| {
                Rect { x, y: area.y + row as u16, width: area.right().saturating_sub(x), height: 1 }
                    .intersection(area)
            };
            self.heading(theme, column == 0).render(place(0), buffer);
            for row in 0..down {
                let at = column * down + row;
                let last = column + 1 == columns && row + 1 == down;
                if last && hidden > 0 {
                    let more = format!("and {} more", hidden + 1);
                    Line::styled(more, theme.dim()).render(place(row + 1), buffer);
                } else if let Some(entry) = self.entries.get(at) {
                    self.line(entry, theme).render(place(row + 1), buffer);
                }
            }
        }
    }

    fn heading(&self, theme: &Theme, first: bool) -> Line<'static> {
        let caption = if first { self.caption.as_str() } else { "" };
        let name = self.name;
        let mut spans = vec![Span::styled(format!("{caption:name$}"), theme.key())];
        for (metric, width) in self.metrics.iter().zip(&self.widths) {
            let title = title(*metric, self.relative);
            spans.push(Span::styled(format!("  {title:>width$}"), theme.dim()));
        }
        Line::from(spans)
    }

    fn line(&self, entry: &Entry, theme: &Theme) -> Line<'static> {
        let name = text::fit(
            &entry.name,
            self.name.saturating_sub(2),
            ratatui::layout::Alignment::Left,
            theme.symbols().ellipsis,
        );
        let mut spans = vec![entry.marker.clone(), Span::styled(format!(" {name}"), theme.text())];
        for ((value, finite), width) in entry.values.iter().zip(&self.widths) {
            let style = if *finite { theme.text() } else { theme.dim() };
            spans.push(Span::styled(format!("  {value:>width$}"), style));
        }
        Line::from(spans)
    }
}

fn title(metric: Metric, relative: bool) -> &'static str {
    match metric {
        Metric::Perplexity if relative => "ppl/base",
        Metric::Perplexity => "ppl",
        Metric::Divergence => "JS bits",
        Metric::Score(0) => "EM",
        Metric::Score(1) => "F1",
        Metric::Score(_) => "ROUGE-1",
    }
}

fn written(metric: Metric, value: Option<f64>, relative: bool, theme: &Theme) -> String {
    let write = match metric {
        Metric::Perplexity if relative => figures::ratio,
        Metric::Perplexity => figures::size,
        Metric::Score(_) if relative => figures::share,
        Metric::Divergence | Metric::Score(_) => figures::unit,
    };
    write(theme, value)
}
