//! Pieces that several screens draw alike.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Flex, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use crate::results::CellState;
use crate::tui::state::{self, State};
use crate::tui::theme::Theme;
use crate::tui::widgets::panel;
use crate::tui::widgets::text::{self, sanitize};

/// Draws the frame of a panel; returns what is inside.
pub(crate) fn framed(theme: &Theme, title: &str, focused: bool, area: Rect, buffer: &mut Buffer) -> Rect {
    let block = panel(theme, title, focused);
    let inner = block.inner(area);
    block.render(area, buffer);
    inner
}

/// Writes the lines from `first` on, as many as there is room for.
pub(crate) fn put_lines(lines: &[Line<'static>], first: usize, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    for (line, y) in lines.iter().skip(first).zip(area.top()..area.bottom()) {
        line.render(Rect { y, height: 1, ..area }, buffer);
    }
}

/// A friendly word in the middle of an area that has nothing to show.
pub(crate) fn nothing(state: &State, words: &str, area: Rect, buffer: &mut Buffer) {
    let width = area.width.saturating_sub(4).min(64);
    let lines = text::wrap(words, usize::from(width)).len() as u16;
    let [column] = Layout::horizontal([Constraint::Length(width)]).flex(Flex::Center).areas(area);
    let [place] =
        Layout::vertical([Constraint::Length(lines.min(area.height))]).flex(Flex::Center).areas(column);
    Paragraph::new(Text::styled(words.to_owned(), state.theme.dim()))
        .wrap(Wrap { trim: true })
        .alignment(Alignment::Center)
        .render(place, buffer);
}

/// The mark of a cell's state, with its style.
pub(crate) fn mark(theme: &Theme, state: CellState) -> Span<'static> {
    let symbols = theme.symbols();
    match state {
        CellState::Queued => Span::styled(symbols.dot, theme.dim()),
        CellState::Running => Span::styled(symbols.right, theme.accent()),
        CellState::Done => Span::styled(symbols.check, theme.good()),
        CellState::Cancelled => Span::styled(symbols.horizontal, theme.warn()),
        CellState::Failed => Span::styled(symbols.cross, theme.bad()),
    }
}

/// The first of `count` lines that is shown in `rows` rows so that line `chosen` is among them.
pub(crate) fn first_shown(chosen: usize, count: usize, rows: usize) -> usize {
    let last = count.saturating_sub(rows);
    // The chosen line stays in the middle, as far as the ends allow.
    chosen.saturating_sub(rows / 2).min(last)
}

/// A line that is being typed, with its cursor.
pub(crate) fn typed(state: &State, line: &state::Line, width: usize) -> Line<'static> {
    typed_before(state, line.split(), state.theme.text(), width)
}

/// The same where what stands behind the cursor is only proposed.
pub(crate) fn typed_with(state: &State, line: &state::Line, proposed: &str, width: usize) -> Line<'static> {
    typed_before(state, (line.text(), proposed), state.theme.dim(), width)
}

fn typed_before(state: &State, (before, after): (&str, &str), style: Style, width: usize) -> Line<'static> {
    let (before, after) = (sanitize(before).into_owned(), sanitize(after).into_owned());
    // The cursor stays in sight: what is far before it is left out.
    let mut shown = before.as_str();
    while text::width(shown) + 1 > width.max(1) {
        let mut letters = shown.chars();
        if letters.next().is_none() {
            break;
        }
        shown = letters.as_str();
    }
    let mut rest = after.chars();
    let under: String = rest.next().map_or_else(|| " ".into(), |c| c.to_string());
    let cursor = Style::new().add_modifier(Modifier::REVERSED);
    Line::from(vec![
        Span::styled(shown.to_owned(), state.theme.text()),
        Span::styled(under, cursor),
        Span::styled(rest.as_str().to_owned(), style),
    ])
}
