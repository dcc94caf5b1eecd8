//! A table with a header that stays.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::{put, text};
use crate::tui::theme::Theme;

/// Blank columns between two columns of the table.
const GAP: u16 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub title: String,
    /// Where cells stand in it.
    pub align: Alignment,
    /// The least columns of the terminal that it is shown in.
    pub min: u16,
    /// On a narrow screen the columns of the lowest priority are dropped first.
    pub priority: u8,
    /// Columns of the terminal at the end of its cells that its title does not stand over, where it need not.
    pub trailing: u16,
}

impl TableColumn {
    pub(crate) fn new(title: impl Into<String>, align: Alignment, min: u16, priority: u8) -> Self {
        Self { title: title.into(), align, min, priority, trailing: 0 }
    }

    /// The same with something that follows the figures of its cells.
    pub(crate) fn with_trailing(self, trailing: u16) -> Self {
        Self { trailing, ..self }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableRow {
    /// Its cells. Those that lack are empty.
    pub cells: Vec<Line<'static>>,
}

impl TableRow {
    pub(crate) fn new(cells: impl IntoIterator<Item = impl Into<Line<'static>>>) -> Self {
        Self { cells: cells.into_iter().map(Into::into).collect() }
    }
}

/// A header and as many rows as fit, around the selected one.
#[derive(Debug, Clone)]
pub(crate) struct Table<'a> {
    theme: &'a Theme,
    columns: &'a [TableColumn],
    rows: &'a [TableRow],
    sort: Option<(usize, bool)>,
    selected: Option<usize>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(theme: &'a Theme, columns: &'a [TableColumn], rows: &'a [TableRow]) -> Self {
        Self { theme, columns, rows, sort: None, selected: None }
    }

    /// The column by which rows are sorted, and whether ascending. The mark only: the caller sorts.
    #[must_use]
    pub(crate) fn sort(mut self, sort: Option<(usize, bool)>) -> Self {
        self.sort = sort;
        self
    }

    #[must_use]
    pub(crate) fn selected(mut self, selected: Option<usize>) -> Self {
        self.selected = selected;
        self
    }

    /// The first row shown when `height` of `rows` fit: the selected one stays in the middle, as far as there are rows
    /// on both sides.
    pub(crate) fn offset(selected: Option<usize>, rows: usize, height: usize) -> usize {
        let last = rows.saturating_sub(height);
        selected.map_or(0, |selected| selected.saturating_sub(height / 2).min(last))
    }

    /// The header of a column in at most `width` columns; the mark of sorting stays where the words are cut.
    fn title(&self, column: usize, width: usize) -> String {
        let symbols = self.theme.symbols();
        let title = &self.columns[column].title;
        let mark = match self.sort {
            Some((at, true)) if at == column => symbols.up,
            Some((at, false)) if at == column => symbols.down,
            _ => return text::truncate(title, width, symbols.ellipsis).into_owned(),
        };
        let words = text::truncate(title, width.saturating_sub(2), symbols.ellipsis);
        if words.is_empty() { mark.to_owned() } else { format!("{words} {mark}") }
    }

    /// The columns that fit into `width`, each with its own width, from left to right.
    fn layout(&self, width: u16) -> Vec<(usize, u16)> {
        let natural = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column)).map(line_width);
            cells
                .chain([text::width(&self.title(column, usize::MAX))])
                .max()
                .unwrap_or(0)
                .min(usize::from(u16::MAX)) as u16
        };
        let mut shown: Vec<(usize, u16)> = (0..self.columns.len()).map(|i| (i, natural(i))).collect();
        let least = |&(column, natural): &(usize, u16)| u32::from(self.columns[column].min.min(natural));
        let needed = |shown: &[(usize, u16)]| {
            shown.iter().map(least).sum::<u32>() + u32::from(GAP) * shown.len().saturating_sub(1) as u32
        };
        while shown.len() > 1 && needed(&shown) > u32::from(width) {
            let lowest = shown.iter().map(|c| self.columns[c.0].priority).min();
            let at = shown.iter().rposition(|c| Some(self.columns[c.0].priority) == lowest);
            // There is a lowest, as there are columns.
            shown.remove(at.unwrap_or(0));
        }
        // What is left goes to the columns of the highest priority first, up to what their cells want.
        let mut left = u32::from(width).saturating_sub(needed(&shown));
        let mut order: Vec<usize> = (0..shown.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.columns[shown[i].0].priority));
        for i in order {
            let least = least(&shown[i]);
            let extra = (u32::from(shown[i].1) - least).min(left);
            left -= extra;
            shown[i].1 = (least + extra) as u16;
        }
        shown
    }
}

/// Columns of the terminal that a cell takes.
fn line_width(line: &Line<'_>) -> usize {
    line.spans.iter().map(|span| text::width(&span.content)).sum()
}

impl Widget for Table<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(*buf.area());
        if area.is_empty() || self.columns.is_empty() {
            return;
        }
        let (theme, ellipsis) = (self.theme, self.theme.symbols().ellipsis);
        let height = usize::from(area.height - 1);
        let scrolls = self.rows.len() > height && area.width > 12;
        let width = if scrolls { area.width - 2 } else { area.width };
        let layout = self.layout(width);
        let body = Rect { width, ..area };

        let place = |cell: &Line<'_>, y: u16, x: u16, width: u16, align: Alignment, buf: &mut Buffer| {
            let cell = text::truncate_line(cell, usize::from(width), ellipsis);
            let (before, _) = text::padding(line_width(&cell), usize::from(width), align);
            let mut x = x + before as u16;
            for span in &cell.spans {
                x += put(buf, body, x, y, &span.content, cell.style.patch(span.style));
            }
        };
        let mut starts = Vec::with_capacity(layout.len());
        let mut x = body.x;
        for &(column, width) in &layout {
            let width = width.min(body.right().saturating_sub(x));
            starts.push((column, x, width));
            x = x.saturating_add(width + GAP).min(body.right());
        }
        for &(column, x, width) in &starts {
            let sorted = self.sort.is_some_and(|(at, _)| at == column);
            let style = if sorted { theme.key() } else { theme.dim().patch(theme.title()) };
            let title = self.title(column, usize::from(width));
            let free = usize::from(width).saturating_sub(text::width(&title));
            let trailing = " ".repeat(free.min(self.columns[column].trailing.into()));
            let title = Line::styled(title + &trailing, style);
            place(&title, area.y, x, width, self.columns[column].align, buf);
        }

        let offset = Self::offset(self.selected, self.rows.len(), height);
        for (i, row) in self.rows.iter().enumerate().skip(offset).take(height) {
            let y = area.y + 1 + (i - offset) as u16;
            for &(column, x, width) in &starts {
                if let Some(cell) = row.cells.get(column) {
                    place(cell, y, x, width, self.columns[column].align, buf);
                }
            }
            if self.selected == Some(i) {
                buf.set_style(Rect { y, height: 1, ..body }, theme.selected());
            }
        }
        if scrolls && height > 0 {
            scroll_bar(
                theme,
                Rect { y: area.y + 1, height: height as u16, ..area },
                offset,
                self.rows.len(),
                buf,
            );
        }
    }
}

/// Draws where in `rows` the rows from `offset` on stand, in the last column of an area as high as those shown.
fn scroll_bar(theme: &Theme, area: Rect, offset: usize, rows: usize, buf: &mut Buffer) {
    let height = usize::from(area.height);
    let thumb = (height * height / rows).max(1);
    let start = offset * (height - thumb) / rows.saturating_sub(height).max(1);
    for i in 0..height {
        let (glyph, style) = if (start..start + thumb).contains(&i) {
            (theme.symbols().thumb, theme.dim())
        } else {
            (theme.symbols().vertical, theme.border())
        };
        put(buf, area, area.right() - 1, area.y + i as u16, glyph, style);
    }
}
