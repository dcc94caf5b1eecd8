//! How the list of records is drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::prompt_row::PromptRow;
use super::{records, rows};
use crate::results::CellState;
use crate::tui::state::{InspectView, Pane, RecordFilter, RecordOrder, State, StudyView};
use crate::tui::theme::Theme;
use crate::tui::view::parts::{self, framed};
use crate::tui::widgets::text::sanitize;
use crate::tui::widgets::{Table, TableColumn, TableRow};

/// Characters of a prompt that the list may show; no list is wider.
const FIRST_WORDS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListColumn {
    /// Which way the score went.
    Mark,
    Task,
    Record,
    Prompt,
    Change,
    Margin,
    Bits,
}

/// Columns of the list: where the cells stand, least width, priority.
const COLUMNS: [(ListColumn, Alignment, u16, u8); 7] = [
    (ListColumn::Mark, Alignment::Left, 1, 9),
    (ListColumn::Task, Alignment::Left, 10, 3),
    (ListColumn::Record, Alignment::Right, 5, 8),
    (ListColumn::Prompt, Alignment::Left, 10, 9),
    (ListColumn::Change, Alignment::Right, 5, 7),
    (ListColumn::Margin, Alignment::Right, 6, 5),
    (ListColumn::Bits, Alignment::Right, 7, 6),
];

/// Draws the records that are listed, of `all` that either side has answered.
pub(super) fn draw(
    state: &State,
    rows: &[PromptRow<'_>],
    chosen: usize,
    all: usize,
    area: Rect,
    buffer: &mut Buffer,
) {
    let theme = state.theme;
    let focused = state.inspect.pane == Pane::Prompts;
    let inner = framed(&theme, &title(&state.inspect, rows, chosen, all), focused, area, buffer);
    let several = rows.iter().any(|row| row.asked.task != rows[0].asked.task);
    let has_margins = rows.iter().any(|row| row.margin().is_some());
    let has_bits = rows.iter().any(|row| row.divergence().is_some());
    let is_shown = |column: ListColumn| match column {
        ListColumn::Task => several,
        ListColumn::Margin => has_margins,
        ListColumn::Bits => has_bits,
        _ => true,
    };
    let shown: Vec<_> = COLUMNS.into_iter().filter(|(column, ..)| is_shown(*column)).collect();
    let columns: Vec<TableColumn> = shown
        .iter()
        .map(|(column, align, min, priority)| {
            TableColumn::new(head(theme, *column, rows), *align, *min, *priority)
        })
        .collect();
    let height = usize::from(inner.height.saturating_sub(1));
    let first = Table::offset(Some(chosen), rows.len(), height);
    let in_sight = first..first.saturating_add(height);
    let shared = rows::shared_beginnings(rows);
    // Rows out of sight cost nothing.
    let lines: Vec<TableRow> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| {
            if !in_sight.contains(&i) {
                return TableRow::default();
            }
            let beginning = shared.get(row.asked.task.as_str()).copied().unwrap_or_default();
            TableRow::new(shown.iter().map(|(column, ..)| cell(theme, *column, row, beginning)))
        })
        .collect();
    Table::new(&theme, &columns, &lines).selected(Some(chosen)).render(inner, buffer);
}

/// Says that none of the records is one of those that are wanted.
pub(super) fn draw_empty(
    state: &State,
    study_view: &StudyView,
    every: &[PromptRow<'_>],
    area: Rect,
    buffer: &mut Buffer,
) {
    let title = title(&state.inspect, &[], 0, every.len());
    let inner = framed(&state.theme, &title, true, area, buffer);
    parts::nothing(state, &why_empty(state, study_view, every), inner, buffer);
}

fn why_empty(state: &State, study_view: &StudyView, every: &[PromptRow<'_>]) -> String {
    let (left, right) = (rows::left(state), rows::right(state).map(|cell| cell.id.as_str()));
    let name = |side: Option<&str>| sanitize(&study_view.label(side)).into_owned();
    let all_done = [left, right].iter().all(|side| rows::state_of(study_view, *side) == CellState::Done);
    let so_far = if all_done { "" } else { " so far" };
    let what = match state.inspect.filter {
        _ if every.iter().all(|row| row.right.is_none()) => format!("{} has no answers here", name(right)),
        RecordFilter::Flipped if every.iter().all(|row| row.left.is_none()) => {
            format!("{} has no answers here", name(left))
        }
        _ if records::judges(every).is_empty() => "No score judges these records right or wrong".to_owned(),
        RecordFilter::Wrong => format!("{} has no wrong answers{so_far}", name(right)),
        RecordFilter::Flipped | RecordFilter::All => {
            format!("No record has flipped between {} and {}{so_far}", name(left), name(right))
        }
    };
    format!("{what}: press Esc to show all records.")
}

/// What is listed: `3/12 of 200 records: flipped, by margin`.
fn title(view: &InspectView, rows: &[PromptRow<'_>], chosen: usize, all: usize) -> String {
    let place = match rows.len() {
        0 => "0".to_owned(),
        shown => format!("{}/{shown}", chosen + 1),
    };
    let noun = if all == 1 { "record" } else { "records" };
    let only = match view.filter {
        RecordFilter::All => return format!("{place} {noun}: {}", order(view, rows)),
        RecordFilter::Flipped => "flipped",
        RecordFilter::Wrong => "wrong",
    };
    if rows.is_empty() {
        return format!("{place} of {all} {noun}: {only}");
    }
    format!("{place} of {all} {noun}: {only}, {}", order(view, rows))
}

/// The order of the rows; where they lack what they are to be ordered by, what stands in for it.
fn order(view: &InspectView, rows: &[PromptRow<'_>]) -> String {
    match view.order {
        RecordOrder::AsInTask => "as in the task".into(),
        RecordOrder::Divergence if rows.iter().any(|row| row.divergence().is_some()) => {
            "by JS divergence".into()
        }
        RecordOrder::Divergence => format!("by loss of {}", rows::score_name(rows)),
        RecordOrder::Margin if rows.iter().any(|row| row.margin().is_some()) => "by margin".into(),
        RecordOrder::Margin => "as in the task (no margins)".into(),
    }
}

fn head(theme: Theme, column: ListColumn, rows: &[PromptRow<'_>]) -> String {
    match column {
        ListColumn::Mark => String::new(),
        ListColumn::Task => "task".into(),
        ListColumn::Record => "no.".into(),
        ListColumn::Prompt => "prompt".into(),
        ListColumn::Change => {
            format!("{}{}", theme.symbols().delta, rows::only_score(rows).map_or("", |score| score.name))
        }
        ListColumn::Margin => "margin".into(),
        ListColumn::Bits => "JS bits".into(),
    }
}

/// A cell of the list; `shared` is what all prompts of the task begin with.
fn cell(theme: Theme, column: ListColumn, row: &PromptRow<'_>, shared: &str) -> Line<'static> {
    let (mark, style) = change_mark(theme, row);
    let (task, record) = row.key();
    match column {
        ListColumn::Mark => Line::styled(mark, style),
        ListColumn::Task => Line::styled(task.to_owned(), theme.dim()),
        ListColumn::Record => Line::styled(record.to_string(), theme.dim()),
        ListColumn::Prompt => Line::from(first_words(theme, &row.asked.prompt, shared)),
        ListColumn::Change => {
            let change = row.change().map_or_else(String::new, |change| {
                if change == 0.0 { "0".to_owned() } else { format!("{change:+.2}") }
            });
            Line::styled(change, style)
        }
        ListColumn::Margin => {
            Line::from(row.margin().map_or_else(String::new, |margin| margin_text(theme, margin)))
        }
        ListColumn::Bits => {
            Line::from(row.divergence().map_or_else(String::new, |bits| format!("{bits:.3}")))
        }
    }
}

/// Which way the score went, and in which style that is written.
fn change_mark(theme: Theme, row: &PromptRow<'_>) -> (&'static str, Style) {
    let symbols = theme.symbols();
    match row.change() {
        None => (" ", theme.text()),
        Some(change) if change > 0.0 => (symbols.up, theme.good()),
        Some(change) if change < 0.0 => (symbols.down, theme.bad()),
        Some(_) if row.same() => ("=", theme.dim()),
        Some(_) => (symbols.dot, theme.dim()),
    }
}

/// A margin in nats, with its sign.
pub(super) fn margin_text(theme: Theme, margin: f64) -> String {
    let symbols = theme.symbols();
    match margin {
        margin if margin.is_nan() => symbols.missing.into(),
        margin if margin.is_infinite() => {
            format!("{}{}", if margin > 0.0 { "+" } else { "-" }, symbols.infinity)
        }
        margin => format!("{margin:+.2}"),
    }
}

/// The beginning of a prompt as one line, behind what it shares with the others.
fn first_words(theme: Theme, prompt: &str, shared: &str) -> String {
    let own =
        prompt.strip_prefix(shared).map(str::trim_start).filter(|own| !shared.is_empty() && !own.is_empty());
    let start: String = own.unwrap_or(prompt.trim_start()).chars().take(FIRST_WORDS).collect();
    let words = start.split_whitespace().collect::<Vec<_>>().join(" ");
    if own.is_some() { format!("{} {words}", theme.symbols().ellipsis) } else { words }
}
