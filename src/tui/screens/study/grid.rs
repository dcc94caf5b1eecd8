//! How the grid of methods and levels is drawn: section by section, each under the levels of its family.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use crate::study::{Level, Sparsity};
use crate::tui::state::{Focus, Form, GridRow, GridSection, State};
use crate::tui::view::parts::{first_shown, framed};
use crate::tui::widgets::text::{fit, sanitize};

/// A line of the grid.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GridLine {
    /// The levels of a section.
    Heading(GridSection),
    /// A row, with its number.
    Row(usize, GridRow),
}

/// All lines of the grid, headings among the rows.
pub(super) fn lines(form: &Form) -> Vec<GridLine> {
    let mut lines = Vec::new();
    let mut section = None;
    for (number, row) in form.rows().into_iter().enumerate() {
        if section != Some(row.section()) {
            section = Some(row.section());
            lines.push(GridLine::Heading(row.section()));
        }
        lines.push(GridLine::Row(number, row));
    }
    lines
}

/// A level as a column's heading.
fn heading(level: Option<Level>) -> String {
    match level {
        Some(Level::Sparsity(Sparsity::Fraction(s)) | Level::Share(s)) => {
            format!("{}%", (s * 1e4).round() / 1e2)
        }
        Some(level) => level.label(),
        None => String::new(),
    }
}

/// The columns of one section that fit.
struct ShownColumns {
    levels: Vec<Option<Level>>,
    shown: std::ops::Range<usize>,
    /// Width of a column.
    field: usize,
}

impl ShownColumns {
    fn of(form: &Form, section: GridSection, room: usize) -> Self {
        let levels = form.grid.columns(section);
        let widest = levels.iter().map(|level| heading(*level).len()).max().unwrap_or(0);
        let field = widest.max(3) + 1;
        let fit = (room / field).max(1);
        let chosen = if form.section() == section { form.grid.cursor.1 } else { 0 };
        let first = first_shown(chosen, levels.len(), fit);
        let shown = first..(first + fit).min(levels.len());
        Self { levels, shown, field }
    }
}

pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let (theme, form) = (&state.theme, &state.form);
    let cells = form.cells().len();
    let title = format!("Grid: {cells} {}", if cells == 1 { "cell" } else { "cells" });
    let inner = framed(theme, &title, form.focus == Focus::Grid, area, buffer);
    if inner.is_empty() {
        return;
    }
    let lines = lines(form);
    let widest = lines.iter().map(|line| match line {
        GridLine::Row(_, row) if row.section() != GridSection::Recipes => row.label().chars().count(),
        GridLine::Row(..) => 0,
        GridLine::Heading(section) => section.title().len(),
    });
    let label = widest.max().unwrap_or(0).min(usize::from(inner.width) / 3) + 1;
    // A blank for the arrows that say that there is more.
    let room = usize::from(inner.width).saturating_sub(label + 2);
    let height = usize::from(inner.height);
    let at_cursor =
        lines.iter().position(|line| matches!(line, GridLine::Row(row, _) if *row == form.grid.cursor.0));
    let first = first_shown(at_cursor.unwrap_or(0), lines.len(), height);
    let mut shown: Vec<&GridLine> = lines.iter().skip(first).take(height).collect();
    // What stands first says what its columns are.
    let above = lines.iter().take(first).rev().find(|line| matches!(line, GridLine::Heading(_)));
    if let (Some(GridLine::Row(number, _)), Some(heading)) = (shown.first(), above)
        && *number != form.grid.cursor.0
    {
        shown[0] = heading;
    }
    let mut columns = ShownColumns::of(form, GridSection::Recipes, room);
    for (y, line) in shown.into_iter().enumerate() {
        let place = Rect { y: inner.y + y as u16, height: 1, ..inner };
        match line {
            GridLine::Heading(section) => {
                columns = ShownColumns::of(form, *section, room);
                heading_line(state, *section, &columns, label).render(place, buffer);
            }
            GridLine::Row(number, row) => {
                if y == 0 {
                    columns = ShownColumns::of(form, row.section(), room);
                }
                row_line(state, *number, row, &columns, (label, inner.width.into())).render(place, buffer);
            }
        }
    }
}

fn heading_line(state: &State, section: GridSection, columns: &ShownColumns, label: usize) -> Line<'static> {
    let (theme, form) = (&state.theme, &state.form);
    let (symbols, field) = (theme.symbols(), columns.field);
    let here = form.focus == Focus::Grid && form.section() == section;
    let title = section.title();
    let mut spans = vec![Span::styled(format!("{title:<label$}"), theme.dim())];
    spans.push(Span::styled(if columns.shown.start > 0 { symbols.left } else { " " }, theme.dim()));
    if columns.levels.is_empty() {
        spans.push(Span::styled(format!("+ adds {}", section.column()), theme.dim()));
    }
    for column in columns.shown.clone() {
        let style = if here && column == form.grid.cursor.1 { theme.accent() } else { theme.title() };
        spans.push(Span::styled(format!("{:^field$}", heading(columns.levels[column])), style));
    }
    let more = columns.shown.end < columns.levels.len();
    spans.push(Span::styled(if more { symbols.right } else { " " }, theme.dim()));
    Line::from(spans)
}

fn row_line(
    state: &State,
    number: usize,
    row: &GridRow,
    columns: &ShownColumns,
    (label, width): (usize, usize),
) -> Line<'static> {
    let (theme, form) = (&state.theme, &state.form);
    let (symbols, field) = (theme.symbols(), columns.field);
    // A recipe has one box, and its name all the room there is.
    let label = if row.section() == GridSection::Recipes { width.saturating_sub(field + 1) } else { label };
    let name = fit(&sanitize(&row.label()), label - 1, Alignment::Left, symbols.ellipsis);
    let here = form.focus == Focus::Grid && number == form.grid.cursor.0;
    let mut spans = vec![Span::styled(format!("{name}  "), if here { theme.accent() } else { theme.text() })];
    for column in columns.shown.clone() {
        let level = columns.levels[column];
        let on = row.takes(level) && form.is_on(&row.cell(level, form.seed()));
        let glyph = match (row.takes(level), on) {
            (false, _) => symbols.dot,
            (true, true) => symbols.box_on,
            (true, false) => symbols.box_off,
        };
        let style = match (here && column == form.grid.cursor.1, on) {
            (true, _) => theme.selected(),
            (false, true) => theme.good(),
            (false, false) => theme.dim(),
        };
        spans.push(Span::styled(format!("{glyph:^field$}"), style));
    }
    Line::from(spans)
}
