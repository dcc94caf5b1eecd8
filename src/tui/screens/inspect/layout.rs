//! Texts laid out for their places: how many lines they take, and how far they can be scrolled.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Block;

use super::places::places;
use super::prompt_row::PromptRow;
use super::rows;
use super::shading;
use crate::results::{Answer, ChoiceLikelihood};
use crate::tui::state::{Pane, State};
use crate::tui::theme::Theme;
use crate::tui::widgets::text::{truncate_line, wrap_styled};

/// How far the keys of a pane go: what a page is, and the last place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// Lines that are seen at once.
    pub page: usize,
    /// The furthest that it can be scrolled.
    pub last: usize,
}

impl Reach {
    fn new(lines: usize, page: usize) -> Self {
        Self { page, last: lines.saturating_sub(page) }
    }
}

/// How far the pane in focus can be moved or scrolled when the screen is drawn in `area`.
pub(super) fn reach(state: &State, area: Rect) -> Reach {
    let rows = rows::rows(state);
    let Some(row) = rows.get(rows::selected(state, &rows)) else { return Reach { page: 1, last: 0 } };
    let places = places(area);
    match state.inspect.pane {
        Pane::Prompts => {
            let page = usize::from(places.prompts.height.saturating_sub(3)).max(1);
            Reach { page, last: rows.len() - 1 }
        }
        Pane::Prompt => places.prompt.map_or(Reach { page: 1, last: 0 }, |place| {
            let text = prompt_text(state.theme, row, inside(place));
            Reach::new(text.lines.len(), text.page)
        }),
        Pane::Answers => {
            let of = |answer: Option<&Answer>, place: Rect| {
                let place = inside(place);
                let lines =
                    answer.map_or(0, |answer| answer_text(state.theme, answer, place.width.into()).len());
                Reach::new(lines, usize::from(place.height.saturating_sub(1)))
            };
            let (left, right) = (of(row.left, places.left), of(row.right, places.right));
            Reach { page: left.page.min(right.page).max(1), last: left.last.max(right.last) }
        }
    }
}

/// What a frame around all of `place` leaves.
pub(super) fn inside(place: Rect) -> Rect {
    Block::bordered().inner(place)
}

/// Modules that are seen at once when the screen is drawn in `area`; close enough for the length of a page.
pub(super) fn module_page(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(4)).max(1)
}

/// A prompt and its references, laid out for a place.
pub(super) struct PromptText {
    /// All lines that can be scrolled.
    pub lines: Vec<Line<'static>>,
    /// How many of them are seen at once.
    pub page: usize,
    pub references: Vec<Line<'static>>,
}

pub(super) fn prompt_text(theme: Theme, row: &PromptRow<'_>, place: Rect) -> PromptText {
    let columns = usize::from(place.width);
    let height = usize::from(place.height);
    let mut lines = wrap_styled([(row.asked.prompt.trim_end(), theme.text())], columns);
    let mut references = wrap_styled(reference_pieces(theme, row), columns);
    // Up to a third of the place; what is cut there is found in full at the end of the prompt.
    let room = (height / 3).max(1).min(height);
    if references.len() > room {
        lines.push(Line::default());
        lines.extend(references.iter().cloned());
        references.truncate(room);
        if let Some(last) = references.last_mut() {
            let ellipsis = theme.symbols().ellipsis;
            last.spans.push(Span::styled(format!(" {ellipsis}"), theme.dim()));
            *last = truncate_line(last, columns, ellipsis);
        }
    }
    PromptText { lines, page: height - references.len(), references }
}

/// The references after their name.
pub(super) fn reference_pieces<'a>(theme: Theme, row: &PromptRow<'a>) -> Vec<(&'a str, Style)> {
    let references = &row.asked.references;
    let name = match references.len() {
        0 => "no reference",
        1 => "reference ",
        _ => "references ",
    };
    let mut pieces = vec![(name, theme.accent())];
    for (i, reference) in references.iter().enumerate() {
        if i > 0 {
            pieces.push((" | ", theme.dim()));
        }
        pieces.push((reference.trim(), theme.text()));
    }
    pieces
}

/// An answer's lines, its tokens shaded.
pub(super) fn answer_text(theme: Theme, answer: &Answer, columns: usize) -> Vec<Line<'static>> {
    if !answer.choices.is_empty() {
        return choices(theme, answer, columns);
    }
    if answer.text.is_empty() {
        return wrap_styled([("(empty answer)", theme.dim())], columns);
    }
    let runs = shading::runs(answer);
    let style =
        |bits: Option<f64>| theme.text().patch(bits.map_or_else(Style::new, |bits| theme.shade(bits)));
    wrap_styled(runs.iter().map(|(text, bits)| (text.as_str(), style(*bits))), columns)
}

/// Every choice with its log-likelihood; the one that the model finds most likely is marked, green where it is right.
fn choices(theme: Theme, answer: &Answer, columns: usize) -> Vec<Line<'static>> {
    let mut taken = false;
    let line = |choice: &ChoiceLikelihood| {
        // Of equal texts the first was taken.
        let chosen = !taken && choice.text == answer.text;
        taken |= chosen;
        let right = answer.references.contains(&choice.text);
        let mark = if chosen { theme.symbols().chevron } else { " " };
        let style = match (chosen, right) {
            (true, true) => theme.good(),
            (true, false) => theme.bad(),
            (false, true) => theme.title(),
            (false, false) => theme.text(),
        };
        let note = if right { " (accepted)" } else { "" };
        let text = format!("{mark} {:8.2}  {}{note}", choice.log_likelihood, choice.text);
        wrap_styled([(text.as_str(), style)], columns)
    };
    answer.choices.iter().flat_map(line).collect()
}
