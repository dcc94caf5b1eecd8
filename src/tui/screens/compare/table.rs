//! The table below the charts: bases first, pinned cells next, then all others.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Widget};

use super::charted::{charted, leading};
use super::data::{Comparison, ModelRow};
use super::figures;
use crate::human;
use crate::results::{CellState, Estimate};
use crate::scores::{Better, Notation, Score, Subject};
use crate::tui::state::{CompareView, Panel, SortBy, State};
use crate::tui::theme::Theme;
use crate::tui::view::parts::mark;
use crate::tui::widgets::{Table, TableColumn, TableRow, panel, text};

/// Below this width a cell's state is a mark without its word.
const ROOMY: u16 = 100;
/// Below this width names of cells may be cut.
const NARROW: u16 = 70;
/// Columns of a difference from the base, behind a score of tasks.
const DIFFERENCE: u16 = 6;

pub(crate) fn draw(state: &State, found: &Comparison<'_>, area: Rect, buffer: &mut Buffer) {
    let (theme, view) = (state.theme, &state.compare);
    let (order, fixed) = found.table(view);
    let selected = found.selected(view, &order);
    let mut inside = area;
    let framed = area.width >= 8 && area.height >= 5;
    if framed {
        inside = Rect::new(area.x + 2, area.y + 1, area.width - 4, area.height - 2);
    }
    let height = usize::from(inside.height.saturating_sub(1));
    // Where they would fill the table, bases and pinned cells scroll like the others.
    let fixed = if fixed * 2 > height { 0 } else { fixed };
    let below = order.len() - fixed;
    let room = height.saturating_sub(fixed);
    let offset = Table::offset(selected.checked_sub(fixed), below, room);
    let shown: Vec<usize> = (0..fixed).chain((fixed..order.len()).skip(offset).take(room)).collect();
    let at = if selected < fixed { selected } else { selected - offset };

    if framed {
        let hidden = below > room;
        let rows = hidden.then(|| (offset + fixed + 1, offset + shown.len(), order.len()));
        let row = order.get(selected).map(|&i| &found.rows[i]);
        frame(state, found, row, rows, area).render(area, buffer);
    }

    let columns = columns(&found.scores, theme, view, area.width);
    let all: Vec<TableRow> = order.iter().map(|&i| row(found, i, &columns, view, theme)).collect();
    let widths = widths(&all, columns.len());
    let mut rows: Vec<TableRow> = shown.iter().map(|&place| all[place].clone()).collect();
    if let Some(first) = rows.first_mut() {
        fill(first, &widths, &columns);
    }
    let sort = view.sort.and_then(|sort| columns.iter().position(|(by, _)| *by == sort));
    let heads: Vec<TableColumn> = columns.into_iter().map(|(_, column)| column).collect();
    Table::new(&theme, &heads, &rows)
        .sort(sort.map(|at| (at, !view.descending)))
        .selected((at < rows.len()).then_some(at))
        .render(inside, buffer);
    if framed && order.len() == fixed && inside.height > fixed as u16 + 1 {
        let words =
            if view.filter().is_empty() { "no cells yet" } else { "no cell contains all these words" };
        let y = inside.y + fixed as u16 + 1;
        buffer.set_stringn(inside.x, y, words, inside.width.into(), theme.dim());
    }
}

/// The frame: how far the study is, the filter, what there is to say about the selected row, and which rows are shown
/// (the first, the last, and how many there are) if not all.
fn frame(
    state: &State,
    found: &Comparison<'_>,
    row: Option<&ModelRow<'_>>,
    rows: Option<(usize, usize, usize)>,
    area: Rect,
) -> Block<'static> {
    let (theme, view) = (state.theme, &state.compare);
    let ellipsis = theme.symbols().ellipsis;
    let half = usize::from(area.width / 2);
    let filter = filter(view, theme, half.saturating_sub(6));
    let room = if filter.is_some() { half.saturating_sub(4) } else { usize::from(area.width) - 4 };
    let title = title(found, view);
    let mut block = panel(&theme, &text::truncate(&title, room, ellipsis), view.panel == Panel::Table);
    if let Some(filter) = filter {
        block = block.title_top(filter.right_aligned());
    }
    let mut room = usize::from(area.width) - 4;
    if let Some((first, last, all)) = rows {
        let place = format!(" rows {first} to {last} of {all} ");
        room = room.saturating_sub(place.len() + 2);
        block = block.title_bottom(Line::styled(place, theme.dim()).right_aligned());
    }
    if let Some((note, style)) = row.and_then(|row| note(state, row)) {
        let note = text::truncate(&note, room, ellipsis).into_owned();
        block = block.title_bottom(Line::styled(format!(" {note} "), style));
    }
    block
}

/// Why a row's model failed, or what a person should know about it.
fn note(state: &State, row: &ModelRow<'_>) -> Option<(String, Style)> {
    let mut study_views = state.study_view.iter().chain(&state.overlays);
    let study_view = study_views.find(|study_view| study_view.study == row.key.study)?;
    if let (CellState::Failed, Some(message)) = (row.state, study_view.failures.get(&row.key.cell)) {
        return Some((message.clone(), state.theme.bad()));
    }
    let cell = row.cell?;
    let contaminated = study_view.contamination_warning(&cell.spec);
    let mut warnings = cell.warnings.iter().chain(&contaminated);
    let first = warnings.next()?;
    let more = warnings.count();
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Some((format!("{first}{more}"), state.theme.warn()))
}

fn title(found: &Comparison<'_>, view: &CompareView) -> String {
    let cells = found.rows.iter().filter(|row| row.cell.is_some());
    let (all, done) = (cells.clone().count(), cells.filter(|row| row.state == CellState::Done).count());
    let relative = if view.relative { ", relative to the base" } else { "" };
    let front = if found.axis.is_room() {
        format!(", Pareto front by {}", leading(&found.scores, view).name)
    } else {
        String::new()
    };
    let set = found.only_set.as_ref().map_or_else(String::new, |set| format!(", calibrated on {set}"));
    format!("Cells: {done} of {all} done{relative}{front}{set}")
}

/// The filter as it is typed, or as it holds; `None` if there is none.
fn filter(view: &CompareView, theme: Theme, room: usize) -> Option<Line<'static>> {
    let ellipsis = theme.symbols().ellipsis;
    let mut spans = vec![Span::styled(" / ", theme.key())];
    match &view.typing {
        None if view.kept.is_empty() => return None,
        None => {
            spans.push(Span::styled(text::truncate(&view.kept, room, ellipsis).into_owned(), theme.accent()));
        }
        Some(line) => {
            let (before, after) = line.split();
            let mut after = after.chars();
            let under = after.next().map_or_else(|| " ".to_owned(), String::from);
            let before = text::truncate_start(before, room, ellipsis).into_owned();
            let rest = room.saturating_sub(text::width(&before));
            spans.push(Span::styled(before, theme.text()));
            let cursor = Style::new().add_modifier(Modifier::REVERSED);
            spans.push(Span::styled(text::sanitize(&under).into_owned(), cursor));
            spans.push(Span::styled(
                text::truncate(after.as_str(), rest, ellipsis).into_owned(),
                theme.text(),
            ));
        }
    }
    spans.push(Span::raw(" "));
    Some(Line::from(spans))
}

/// Columns with what they show. Those that matter least are dropped first on a narrow screen.
fn columns(
    scores: &[&'static Score],
    theme: Theme,
    view: &CompareView,
    width: u16,
) -> Vec<(SortBy, TableColumn)> {
    let change = format!("{}%", theme.symbols().delta);
    let room = view.x.is_room();
    view.columns(scores)
        .into_iter()
        .map(|by| {
            let (title, min, priority) = match by {
                SortBy::Cell => ("cell".to_owned(), if width < NARROW { 16 } else { 25 }, 250),
                SortBy::State if width >= ROOMY => ("state".to_owned(), u16::MAX, 170),
                SortBy::State => (String::new(), u16::MAX, 230),
                SortBy::Front => ("front".to_owned(), u16::MAX, 225),
                SortBy::Bits => ("bits".to_owned(), u16::MAX, if room { 212 } else { 64 }),
                SortBy::Size => ("size".to_owned(), u16::MAX, if room { 214 } else { 66 }),
                SortBy::Zeros => ("zeros".to_owned(), u16::MAX, 100),
                SortBy::Score(score) => (head(score, view.relative), u16::MAX, priority(scores, score, view)),
                SortBy::Change(_) => (change.clone(), u16::MAX, 160),
                SortBy::Seconds => ("seconds".to_owned(), u16::MAX, 70),
            };
            let left = matches!(by, SortBy::Cell | SortBy::State);
            let align = if left { Alignment::Left } else { Alignment::Right };
            let sorted = view.sort == Some(by) && by != SortBy::Cell;
            let column = TableColumn::new(title, align, min, if sorted { 240 } else { priority });
            let has_difference = matches!(by, SortBy::Score(score) if score.subject() == Subject::Task);
            let trailing = if has_difference && !view.relative { DIFFERENCE + 1 } else { 0 };
            (by, column.with_trailing(trailing))
        })
        .collect()
}

fn head(score: &Score, relative: bool) -> String {
    // Shares of the base's are marked as percentages, ratios need a word.
    if relative && !score.compares() && score.notation == Notation::Magnitude {
        return format!("{}/base", score.short);
    }
    score.head()
}

/// What is charted stays longest, those that are seldom looked at go first.
fn priority(scores: &[&'static Score], score: &Score, view: &CompareView) -> u8 {
    let charted = match score.subject() {
        Subject::Corpus => score.headline,
        Subject::Task => charted(scores, view, Panel::Scores).contains(&score),
    };
    match (score.subject(), charted) {
        (Subject::Corpus, true) if score.compares() => 210,
        (Subject::Corpus, true) => 220,
        (Subject::Corpus, false) if score.seldom => 60,
        (Subject::Corpus, false) => 90,
        (Subject::Task, true) => 200,
        (Subject::Task, false) => 120,
    }
}

/// The widest cell of each column, over all rows: the table does not change its shape while it is scrolled.
fn widths(rows: &[TableRow], columns: usize) -> Vec<usize> {
    let width = |row: &TableRow, column: usize| row.cells.get(column).map_or(0, text::line_width);
    (0..columns).map(|column| rows.iter().map(|row| width(row, column)).max().unwrap_or(0)).collect()
}

/// Fills the cells of a row up to these widths.
fn fill(row: &mut TableRow, widths: &[usize], columns: &[(SortBy, TableColumn)]) {
    for ((cell, width), (_, column)) in row.cells.iter_mut().zip(widths).zip(columns) {
        // Names need not be filled further than they are sure to be shown.
        let left = column.align == Alignment::Left;
        let width = if left { (*width).min(usize::from(column.min)) } else { *width };
        let blank = Span::raw(" ".repeat(width.saturating_sub(text::line_width(cell))));
        cell.spans.insert(if left { cell.spans.len() } else { 0 }, blank);
    }
}

fn row(
    found: &Comparison<'_>,
    at: usize,
    columns: &[(SortBy, TableColumn)],
    view: &CompareView,
    theme: Theme,
) -> TableRow {
    let row = &found.rows[at];
    let roomy = columns.iter().any(|(by, column)| *by == SortBy::State && !column.title.is_empty());
    TableRow::new(columns.iter().map(|(by, _)| match by {
        SortBy::Cell => name(found, row, view, theme),
        SortBy::State => status(row, roomy, theme),
        SortBy::Front if row.front => Line::styled("yes", theme.accent()),
        SortBy::Front => Line::default(),
        SortBy::Bits => number(row.whole.map(|whole| whole.bits_per_weight), figures::size, theme),
        SortBy::Size => {
            let size = row.whole.map(|whole| whole.size_bytes);
            let text = size.map_or_else(|| theme.symbols().dot.to_owned(), human::bytes);
            styled(size.map(|size| size as f64), text, theme)
        }
        SortBy::Zeros => match row.cell {
            Some(cell) => number(cell.footprint.map(|f| f.sparsity()), figures::share, theme),
            None => Line::default(),
        },
        SortBy::Score(score) => match score.subject() {
            Subject::Corpus => on_corpus(row, score, view, theme),
            Subject::Task => on_tasks(row, score, view, theme),
        },
        SortBy::Change(score) => {
            of_cell(row, styled(row.change(score), figures::change(theme, row.change(score)), theme))
        }
        SortBy::Seconds => number(Some(row.seconds).filter(|s| *s > 0.0), figures::seconds, theme),
    }))
}

/// The marker of a row's series, in its colour; that of the base is a piece of its line.
pub(crate) fn marker(found: &Comparison<'_>, row: &ModelRow<'_>, theme: Theme) -> Span<'static> {
    let symbols = theme.symbols();
    let Some(series) = row.series.and_then(|series| found.series.get(series)) else {
        return Span::styled(symbols.dashed, theme.base_line());
    };
    let set = if row.pattern.is_some() { &symbols.nm_markers } else { &symbols.markers };
    Span::styled(set[series.style % set.len()], theme.series(series.style))
}

fn name(found: &Comparison<'_>, row: &ModelRow<'_>, view: &CompareView, theme: Theme) -> Line<'static> {
    let symbols = theme.symbols();
    let pin = if view.pinned.contains(&row.key) { symbols.pin } else { " " };
    let style = match (row.cell, row.state) {
        (None, _) => theme.title(),
        (_, CellState::Queued | CellState::Cancelled) => theme.dim(),
        _ => theme.text(),
    };
    let mut spans = vec![
        Span::styled(pin, theme.accent()),
        marker(found, row, theme),
        Span::styled(format!(" {}", row.label), style),
    ];
    if row.cell.is_some_and(|cell| !cell.warnings.is_empty()) {
        spans.push(Span::styled(format!(" {}", symbols.warning), theme.warn()));
    }
    Line::from(spans)
}

fn status(row: &ModelRow<'_>, words: bool, theme: Theme) -> Line<'static> {
    let sign = mark(&theme, row.state);
    let style = sign.style;
    let mut spans = vec![sign];
    if words {
        spans.push(Span::styled(format!(" {}", row.state.name()), style));
    }
    Line::from(spans)
}

/// A number; what is missing is faint, what is infinite or none stands out.
fn number(value: Option<f64>, write: fn(Theme, Option<f64>) -> String, theme: Theme) -> Line<'static> {
    styled(value, write(theme, value), theme)
}

/// The same, written already.
fn styled(value: Option<f64>, text: String, theme: Theme) -> Line<'static> {
    let style = match value {
        None => theme.dim(),
        Some(value) if value.is_finite() => theme.text(),
        Some(_) => theme.warn(),
    };
    Line::from(Span::styled(text, style))
}

/// What only cells have.
fn of_cell(row: &ModelRow<'_>, line: Line<'static>) -> Line<'static> {
    if row.cell.is_some() { line } else { Line::default() }
}

fn on_corpus(row: &ModelRow<'_>, score: &Score, view: &CompareView, theme: Theme) -> Line<'static> {
    let value = row.figures.value(score, &row.base, view.relative).map(|value| value.value);
    let line = styled(value, figures::of_score(score, theme, value, view.relative), theme);
    if score.compares() { of_cell(row, line) } else { line }
}

/// A score of tasks with its difference from the base: bad or good where the interval leaves the base outside.
fn on_tasks(row: &ModelRow<'_>, score: &Score, view: &CompareView, theme: Theme) -> Line<'static> {
    let value = row.figures.value(score, &row.base, view.relative);
    let mean = value.map(|value| value.value);
    let mut line = styled(mean, figures::of_score(score, theme, mean, view.relative), theme);
    if view.relative {
        return line;
    }
    let base = row.base.get(score);
    // Blank where there is no difference, so that the scores stand below each other.
    let (difference, style) = match (row.cell, value, base) {
        (Some(_), Some(own), Some(base)) => {
            let difference = figures::difference(theme, Some(own.value - base.value));
            (difference, verdict(score, own, base.value, theme))
        }
        _ => (String::new(), theme.dim()),
    };
    let width = usize::from(DIFFERENCE);
    line.spans.push(Span::styled(format!(" {difference:>width$}"), style));
    line
}

fn verdict(score: &Score, own: Estimate, base: f64, theme: Theme) -> Style {
    let (lower, higher) = match score.better {
        Better::Lower => (theme.good(), theme.bad()),
        Better::Higher => (theme.bad(), theme.good()),
    };
    match own.ci95 {
        [_, high] if high < base => lower,
        [low, _] if low > base => higher,
        _ => theme.dim(),
    }
}
