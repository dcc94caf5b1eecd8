//! The values at the cursor, series by series; also the legend of the charts.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::axis::XAxis;
use super::charted::leading;
use super::data::{CellSeries, Comparison, Figures, ModelRow};
use super::figures;
use super::table::marker;
use crate::scores::{Notation, Score};
use crate::tui::state::CompareView;
use crate::tui::theme::Theme;
use crate::tui::widgets::text;

/// Blanks between two columns of entries.
const GAP: usize = 3;
/// Blanks between two entries of running text.
const SPACE: usize = 2;
const NAME: usize = 26;

/// A series, or an N:M cell of it, with its values at the cursor.
struct ReadoutEntry {
    marker: Span<'static>,
    name: String,
    pattern: bool,
    /// What is enough of the name behind the entry of the series itself.
    short: String,
    /// The text of each value, and whether it is a finite number.
    values: Vec<(String, bool)>,
}

pub(crate) struct Readout {
    theme: Theme,
    caption: String,
    scores: Vec<&'static Score>,
    entries: Vec<ReadoutEntry>,
    relative: bool,
    /// Entries run on like text, for a narrow screen; else they stand in columns.
    running: bool,
    /// Width of the names, and of each value.
    name: usize,
    widths: Vec<usize>,
}

impl Readout {
    /// Reads the values of these scores at the cursor.
    pub(crate) fn new(
        found: &Comparison<'_>,
        view: &CompareView,
        scores: Vec<&'static Score>,
        running: bool,
        theme: Theme,
    ) -> Self {
        let at = found.cursor(view.cursor);
        let entries = entries(found, view, &scores, theme);
        let caption = at.map_or_else(String::new, |at| found.axis.caption(at, theme));
        // Names of cells are longer than those of series.
        let most = if found.axis.is_room() { 2 * NAME } else { NAME };
        let names = entries.iter().map(|entry| text::width(&entry.name) + 2).max().unwrap_or(0).min(most);
        let name = names.max(text::width(&caption));
        let width = |i: usize| {
            let values = entries.iter().map(|entry| text::width(&entry.values[i].0));
            values.chain([title(scores[i], view.relative).len()]).max().unwrap_or(0)
        };
        let widths = (0..scores.len()).map(width).collect();
        Self { theme, caption, scores, entries, relative: view.relative, running, name, widths }
    }

    /// Columns of entries that fit side by side.
    fn side_by_side(&self, width: u16) -> usize {
        ((usize::from(width) + GAP) / (self.entry_width() + GAP)).max(1)
    }

    fn entry_width(&self) -> usize {
        self.name + self.widths.iter().map(|width| width + 2).sum::<usize>()
    }

    /// Rows that all entries take in this width.
    pub(crate) fn height(&self, width: u16) -> u16 {
        let rows = if self.running {
            broken(self.pieces(usize::MAX), usize::from(width)).len()
        } else {
            self.entries.len().div_ceil(self.side_by_side(width)) + 1
        };
        rows.min(usize::from(u16::MAX)) as u16
    }

    /// Draws the entries; where not all fit, those of whole series come first.
    pub(crate) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        if !self.running {
            self.draw_columns(area, buffer);
            return;
        }
        let lines = |most| broken(self.pieces(most), usize::from(area.width));
        let fits = |most: &usize| lines(*most).len() <= usize::from(area.height);
        let most = (0..=self.entries.len()).rev().find(fits).unwrap_or(0);
        for (line, row) in lines(most).into_iter().zip(area.rows()) {
            line.render(row, buffer);
        }
    }

    /// At most so many entries in their order, N:M cells left out first, and how many are missing.
    fn chosen(&self, most: usize) -> (Vec<&ReadoutEntry>, usize) {
        let of_series = self.entries.iter().filter(|entry| !entry.pattern);
        let chosen: Vec<&ReadoutEntry> = match self.entries.len() {
            all if all <= most => self.entries.iter().collect(),
            _ => of_series.take(most).collect(),
        };
        let missing = self.entries.len() - chosen.len();
        (chosen, missing)
    }

    /// Entries below each other, in as many columns as there is room for.
    fn draw_columns(&self, area: Rect, buffer: &mut Buffer) {
        let across = self.side_by_side(area.width);
        let down = usize::from(area.height).saturating_sub(1).min(self.entries.len().div_ceil(across)).max(1);
        let room = across * down;
        let most = if self.entries.len() > room { room - 1 } else { room };
        let (entries, missing) = self.chosen(most);
        let mut lines: Vec<Line<'static>> = entries.into_iter().map(|entry| self.line(entry)).collect();
        if missing > 0 {
            lines.push(self.more(missing));
        }
        for (column, lines) in lines.chunks(down).enumerate() {
            let x = (column * (self.entry_width() + GAP)).min(usize::from(area.width)) as u16;
            let place = Rect { x: area.x + x, width: area.width - x, ..area };
            let heading = self.heading(column == 0);
            for (line, row) in std::iter::once(&heading).chain(lines).zip(place.rows()) {
                line.render(row, buffer);
            }
        }
    }

    fn more(&self, missing: usize) -> Line<'static> {
        Line::styled(format!("and {missing} more"), self.theme.dim())
    }

    fn heading(&self, first: bool) -> Line<'static> {
        let caption = if first { self.caption.as_str() } else { "" };
        let name = self.name;
        let mut spans = vec![Span::styled(format!("{caption:name$}"), self.theme.key())];
        for (score, width) in self.scores.iter().zip(&self.widths) {
            let title = title(score, self.relative);
            spans.push(Span::styled(format!("  {title:>width$}"), self.theme.dim()));
        }
        Line::from(spans)
    }

    fn line(&self, entry: &ReadoutEntry) -> Line<'static> {
        let ellipsis = self.theme.symbols().ellipsis;
        let name = text::fit(&entry.name, self.name.saturating_sub(2), Alignment::Left, ellipsis);
        let mut spans = vec![entry.marker.clone(), Span::styled(format!(" {name}"), self.theme.text())];
        for ((value, finite), width) in entry.values.iter().zip(&self.widths) {
            let style = if *finite { self.theme.text() } else { self.theme.dim() };
            spans.push(Span::styled(format!("  {value:>width$}"), style));
        }
        Line::from(spans)
    }

    /// The cursor's place, then at most so many entries: marker, name, values.
    fn pieces(&self, most: usize) -> Vec<Line<'static>> {
        let theme = self.theme;
        let (entries, missing) = self.chosen(most);
        let mut pieces = vec![Line::styled(self.caption.clone(), theme.key())];
        for entry in entries {
            let name = text::truncate(&entry.short, NAME, theme.symbols().ellipsis);
            let values: Vec<&str> = entry.values.iter().map(|(value, _)| value.as_str()).collect();
            pieces.push(Line::from(vec![
                entry.marker.clone(),
                Span::styled(format!(" {name} "), theme.dim()),
                Span::styled(values.join("/"), theme.text()),
            ]));
        }
        if missing > 0 {
            pieces.push(self.more(missing));
        }
        pieces
    }
}

/// Pieces one behind the other, broken into lines of at most `width` columns.
fn broken(pieces: Vec<Line<'static>>, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for piece in pieces {
        let (style, own) = (piece.style, text::line_width(&piece));
        let spans = piece.spans.into_iter().map(|span| span.patch_style(style));
        match lines.last_mut() {
            Some(line) if text::line_width(line) + SPACE + own <= width => {
                line.push_span(Span::raw(" ".repeat(SPACE)));
                line.spans.extend(spans);
            }
            _ => lines.push(spans.collect()),
        }
    }
    lines
}

/// The bases, then what there is to say of the cells at the cursor.
fn entries(found: &Comparison<'_>, view: &CompareView, scores: &[&Score], theme: Theme) -> Vec<ReadoutEntry> {
    let values = |row: Option<&ModelRow<'_>>| {
        let none = Figures::default();
        let (own, base) = row.map_or((&none, &none), |row| (&row.figures, &row.base));
        let of_base = row.is_some_and(|row| row.cell.is_none());
        let value = |score: &Score| match score.of_itself {
            Some(same) if of_base => Some(same),
            _ => own.value(score, base, view.relative).map(|value| value.value),
        };
        let write = |score: &&Score| {
            let value = value(score);
            (figures::of_score(score, theme, value, view.relative), value.is_some_and(f64::is_finite))
        };
        scores.iter().map(write).collect::<Vec<_>>()
    };
    let entry = |marker: Span<'static>, name: String, short: &str, row: Option<&ModelRow<'_>>| {
        let pattern = !short.is_empty();
        let short = if pattern { short.to_owned() } else { name.clone() };
        ReadoutEntry { marker, name, pattern, short, values: values(row) }
    };
    let bases = found.rows.iter().filter(|row| row.cell.is_none());
    let mut entries: Vec<ReadoutEntry> =
        bases.map(|row| entry(marker(found, row, theme), row.label.clone(), "", Some(row))).collect();
    let Some(at) = found.cursor(view.cursor) else { return entries };
    if found.axis.is_room() {
        for (name, row) in within(found, view, at) {
            entries.push(entry(marker(found, row, theme), name, "", Some(row)));
        }
        return entries;
    }
    let markers = &theme.symbols().markers;
    for series in &found.series {
        let (of_fraction, of_patterns) = here(found, series, at);
        let sign = Span::styled(markers[series.style % markers.len()], theme.series(series.style));
        entries.push(entry(sign, series.name.clone(), "", of_fraction));
        for (pattern, row) in of_patterns {
            let name = format!("{} {pattern}", series.name);
            entries.push(entry(marker(found, row, theme), name, pattern, Some(row)));
        }
    }
    entries
}

/// The cell of a series at the cursor, and its N:M cells there.
fn here<'f, 'a>(
    found: &'f Comparison<'a>,
    series: &CellSeries,
    at: f64,
) -> (Option<&'f ModelRow<'a>>, Vec<(&'f str, &'f ModelRow<'a>)>) {
    let everywhere = matches!(found.axis, XAxis::Cells { .. });
    let rows = series.rows.iter().map(|&i| &found.rows[i]);
    let rows: Vec<_> = rows.filter(|row| everywhere || row.x == Some(at)).collect();
    let patterns = rows.iter().filter_map(|row| Some((row.pattern.as_deref()?, *row))).collect();
    (rows.into_iter().find(|row| row.pattern.is_none()), patterns)
}

/// The best cell of all that are not larger than the cursor says, then the best of each series.
fn within<'f, 'a>(found: &'f Comparison<'a>, view: &CompareView, at: f64) -> Vec<(String, &'f ModelRow<'a>)> {
    let best = found.best(view, at, |_| true).map(|i| &found.rows[i]);
    let best = best.map(|row| (format!("best {}: {}", leading(&found.scores, view).short, row.label), row));
    let of_series = (0..found.series.len()).filter_map(|series| {
        let row = &found.rows[found.best(view, at, |i| found.rows[i].series == Some(series))?];
        Some((row.label.clone(), row))
    });
    best.into_iter().chain(of_series).collect()
}

fn title(score: &Score, relative: bool) -> String {
    // Shares of the base's are marked as percentages, ratios need a word.
    let of_base = if relative && score.notation == Notation::Magnitude { "/base" } else { "" };
    score.short_head() + of_base
}
