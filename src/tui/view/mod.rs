//! The state as a picture: pure, at any size.

pub(crate) mod dialogs;
pub(crate) mod parts;

use ratatui::buffer::{Buffer, CellWidth};
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Widget, Wrap};
use unicode_width::UnicodeWidthStr;

use super::keymap::{self, Context};
use super::screens::{compare, history, inspect, run, study};
use super::state::{EngineState, Panel, Screen, ScreenAreas, State};
use super::tabs::{NAME, tab};
use super::widgets::text::{sanitize, truncate};

/// The smallest terminal that the dashboard is of use in: columns and rows.
pub(crate) const SMALLEST: (u16, u16) = (60, 15);

pub(crate) fn view(state: &State, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(area, buffer);
        return;
    }
    let ScreenAreas { head, body, foot } = ScreenAreas::of(area);
    draw_head(state, head, buffer);
    draw_screen(state, body, buffer);
    draw_foot(state, foot, buffer);
    for dialog in &state.dialogs {
        dialogs::draw(state, dialog, area, buffer);
    }
    if !state.dialogs.is_empty() {
        blank_halves(area, buffer);
    }
}

/// Blanks wide characters of which a dialog covers a part: the whole of one would hide the dialog's frame.
fn blank_halves(area: Rect, buffer: &mut Buffer) {
    for y in area.top()..area.bottom() {
        let mut x = area.left();
        while x < area.right() {
            let end = (x + buffer[(x, y)].cell_width().max(1)).min(area.right());
            if (x + 1..end).any(|hidden| buffer[(hidden, y)].symbol() != " ") {
                buffer[(x, y)].set_symbol(" ");
                x += 1;
            } else {
                x = end;
            }
        }
    }
}

/// The parts of the screen that can be saved alone, and where they are.
pub(crate) fn panels(state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    let body = ScreenAreas::of(area).body;
    match state.screen {
        Screen::Study => study::panels(state, body),
        Screen::Run => run::panels(state, body),
        Screen::Compare => compare::panels(state, body),
        Screen::Inspect => inspect::panels(state, body),
        Screen::History => history::panels(state, body),
    }
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    Clear.render(area, buffer);
    let (columns, rows) = SMALLEST;
    let text = format!("secateur needs {columns}x{rows} characters; this is {}x{}", area.width, area.height);
    Paragraph::new(text).wrap(Wrap { trim: true }).render(area, buffer);
}

fn draw_screen(state: &State, area: Rect, buffer: &mut Buffer) {
    match state.screen {
        Screen::Study => study::draw(state, area, buffer),
        Screen::Run => run::draw(state, area, buffer),
        Screen::Compare => compare::draw(state, area, buffer),
        Screen::Inspect => inspect::draw(state, area, buffer),
        Screen::History => history::draw(state, area, buffer),
    }
}

fn draw_head(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let mut spans = vec![Span::styled(NAME, theme.accent())];
    for screen in Screen::ALL {
        let style = if screen == state.screen { theme.selected() } else { theme.dim() };
        spans.push(Span::styled(tab(screen, state.screen), style));
    }
    let left: usize = spans.iter().map(Span::width).sum();
    Line::from(spans).render(area, buffer);
    let (text, style) = engine_word(state);
    let room = usize::from(area.width).saturating_sub(left + 1);
    let text = truncate(&text, room, theme.symbols().ellipsis).into_owned();
    Line::from(Span::styled(text, style)).right_aligned().render(area, buffer);
}

/// What the engine is doing, in a few words.
fn engine_word(state: &State) -> (String, Style) {
    let (theme, engine) = (&state.theme, &state.engine);
    let symbols = theme.symbols();
    let spinner = || {
        let frame = (state.now.as_millis() / 250) as usize % symbols.spinner.len();
        symbols.spinner[frame]
    };
    match engine.state {
        EngineState::Starting => (format!("{} starting ", spinner()), theme.accent()),
        EngineState::Stopping => (format!("{} stopping ", spinner()), theme.warn()),
        EngineState::Running if engine.progress.paused => {
            (format!("{} paused ", symbols.pause), theme.warn())
        }
        EngineState::Running => {
            let share = (engine.progress.study * 100.0).clamp(0.0, 100.0);
            let eta = engine.progress.eta_seconds.map(|eta| format!(" {} left", clock(eta)));
            (format!("{} {share:.0}%{} ", spinner(), eta.unwrap_or_default()), theme.accent())
        }
        EngineState::Gone => ("engine stopped ".into(), theme.warn()),
        EngineState::Idle if state.options.readonly => ("read-only ".into(), theme.warn()),
        EngineState::Idle if engine.failure.is_some() => ("failed ".into(), theme.bad()),
        EngineState::Idle => ("idle ".into(), theme.dim()),
    }
}

/// A span of time in few characters: `0:42`, `3:10`, `2:05:00`.
fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A message, or the keys that work here.
fn draw_foot(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    if let Some(toast) = &state.toast {
        let style = if toast.bad { theme.bad() } else { theme.good() };
        let text = format!(" {}", sanitize(&toast.text));
        let text = truncate(&text, area.width.into(), theme.symbols().ellipsis).into_owned();
        Line::from(Span::styled(text, style)).render(area, buffer);
        return;
    }
    let mut spans = Vec::new();
    let mut room = usize::from(area.width);
    let own = keymap::of(state.context());
    for binding in own.chain(keymap::of(Context::Everywhere)).filter(|b| !b.footer.is_empty()) {
        let key = binding.keys[0].name(theme.ascii);
        let width = key.width() + binding.footer.width() + 3;
        if width > room {
            continue;
        }
        room -= width;
        spans.push(Span::styled(format!(" {key}"), theme.key()));
        spans.push(Span::styled(format!(" {} ", binding.footer), theme.dim()));
    }
    Line::from(spans).render(area, buffer);
}
