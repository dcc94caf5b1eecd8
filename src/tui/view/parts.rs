//! Pieces that several screens draw alike.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Flex, Layout, Rect};
use ratatui::text::{Span, Text};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use crate::demo;
use crate::results::CellState;
use crate::tui::state::State;
use crate::tui::theme::Theme;
use crate::tui::widgets::panel;

/// Draws the frame of a panel; returns what is inside.
pub fn framed(theme: &Theme, title: &str, focused: bool, area: Rect, buffer: &mut Buffer) -> Rect {
    let block = panel(theme, title, focused);
    let inner = block.inner(area);
    block.render(area, buffer);
    inner
}

/// What a model is called: the path or hub id that was given, and a name for the built-in one, whose path tells nobody
/// anything.
pub fn model(source: &str) -> &str {
    if demo::is_model(source) { "the built-in model" } else { source }
}

/// A friendly word in the middle of an area that has nothing to show.
pub fn nothing(state: &State, text: &str, area: Rect, buffer: &mut Buffer) {
    let width = area.width.saturating_sub(4).min(64);
    let lines = crate::tui::widgets::text::wrap(text, usize::from(width)).len() as u16;
    let [column] = Layout::horizontal([Constraint::Length(width)]).flex(Flex::Center).areas(area);
    let [place] =
        Layout::vertical([Constraint::Length(lines.min(area.height))]).flex(Flex::Center).areas(column);
    Paragraph::new(Text::styled(text.to_owned(), state.theme.dim()))
        .wrap(Wrap { trim: true })
        .alignment(Alignment::Center)
        .render(place, buffer);
}

/// The mark of a cell's state, with its style.
pub fn mark(theme: &Theme, state: CellState) -> Span<'static> {
    let symbols = theme.symbols();
    match state {
        CellState::Queued => Span::styled(symbols.dot, theme.dim()),
        CellState::Running => Span::styled(symbols.right, theme.accent()),
        CellState::Done => Span::styled(symbols.check, theme.good()),
        CellState::Cancelled => Span::styled(symbols.horizontal, theme.warn()),
        CellState::Failed => Span::styled(symbols.cross, theme.bad()),
    }
}

/// The word for a cell's state.
pub fn word(state: CellState) -> &'static str {
    match state {
        CellState::Queued => "queued",
        CellState::Running => "running",
        CellState::Done => "done",
        CellState::Cancelled => "cancelled",
        CellState::Failed => "failed",
    }
}

/// The first of `count` lines that is shown in `rows` rows so that line `chosen` is among them.
pub fn first_shown(chosen: usize, count: usize, rows: usize) -> usize {
    let last = count.saturating_sub(rows);
    // The chosen line stays in the middle, as far as the ends allow.
    chosen.saturating_sub(rows / 2).min(last)
}
