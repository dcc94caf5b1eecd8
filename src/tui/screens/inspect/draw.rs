//! How the answers are drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Widget};

use super::layout::{answer_text, inside, prompt_text, reference_pieces};
use super::places::{InspectPlaces, places};
use super::prompt_row::{Disagreement, PromptRow};
use super::{list, modules, records, rows};
use crate::results::{Answer, CellState};
use crate::scores::{Subject, scores_on};
use crate::tui::state::{Pane, Panel, State, StudyView};
use crate::tui::theme::Theme;
use crate::tui::view::parts::{self, put_lines};
use crate::tui::widgets::panel;
use crate::tui::widgets::text::{sanitize, truncate, truncate_line, wrap};

/// Disagreements, in bits, that the legend shows the shades of.
const SCALE: [f64; 5] = [0.0, 0.05, 0.2, 0.5, 1.0];

pub(crate) fn panels(state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    if state.inspect.modules || rows::rows(state).is_empty() {
        return vec![(state.inspect.panel(), area)];
    }
    let places = places(area);
    vec![(Panel::Prompts, places.prompts), (Panel::Answers, places.detail)]
}

pub(crate) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    let Some(study_view) = &state.study_view else {
        let text = "No study is open. Press r to run the one on the Study screen, or 5 to open one from the store. The \
                    answers of its cells then appear here beside the base's.";
        return parts::nothing(state, text, area, buffer);
    };
    let Some(right) = rows::right(state) else {
        let text = "This study has no cells yet: press a to add one. Its answers then appear here beside the base's.";
        return parts::nothing(state, text, area, buffer);
    };
    if state.inspect.modules {
        return modules::draw(state, study_view, right, area, buffer);
    }
    let every = rows::every(state);
    let left = rows::left(state);
    if every.is_empty() {
        let title = format!(
            "{} {} {}",
            study_view.label(left),
            state.theme.symbols().chevron,
            study_view.label(Some(&right.id))
        );
        let frame = panel(&state.theme, &title, true);
        let inner = frame.inner(area);
        frame.render(area, buffer);
        return parts::nothing(state, &no_answers(state, study_view, left, &right.id), inner, buffer);
    }
    let rows = records::listed(every.clone(), state.inspect.filter, state.inspect.order);
    if rows.is_empty() {
        return list::draw_empty(state, study_view, &every, area, buffer);
    }
    let places = places(area);
    let chosen = rows::selected(state, &rows);
    let row = rows[chosen];
    list::draw(state, &rows, chosen, every.len(), places.prompts, buffer);
    draw_prompt(state, &row, &places, buffer);
    draw_side(state, study_view, &row, left, places.left, buffer);
    draw_side(state, study_view, &row, Some(&right.id), places.right, buffer);
    if let Some(place) = places.legend {
        let line = legend(state, &row);
        truncate_line(&line, place.width.into(), state.theme.symbols().ellipsis).render(place, buffer);
    }
}

fn draw_prompt(state: &State, row: &PromptRow<'_>, places: &InspectPlaces, buffer: &mut Buffer) {
    let theme = state.theme;
    if let Some(place) = places.reference {
        let mut line = Line::from(" ");
        for (text, style) in reference_pieces(theme, row) {
            line.spans.push(Span::styled(text.to_owned(), style));
        }
        truncate_line(&line, place.width.into(), theme.symbols().ellipsis).render(place, buffer);
    }
    let Some(place) = places.prompt else { return };
    let (task, record) = row.key();
    let text = prompt_text(theme, row, inside(place));
    let first = state.inspect.prompt_scroll.min(text.lines.len().saturating_sub(text.page));
    let frame = panel(&theme, &format!("{task} {record}"), state.inspect.pane == Pane::Prompt);
    scrolled(theme, frame, first, text.page, text.lines.len()).render(place, buffer);
    let inner = inside(place);
    put_lines(&text.lines, first, Rect { height: text.page as u16, ..inner }, buffer);
    let below = Rect { y: inner.y + text.page as u16, height: text.references.len() as u16, ..inner };
    put_lines(&text.references, 0, below, buffer);
}

/// Draws what one side said: the scores, and the answer below.
fn draw_side(
    state: &State,
    study_view: &StudyView,
    row: &PromptRow<'_>,
    side: Option<&str>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let theme = state.theme;
    let is_left = side == rows::left(state);
    let (answer, other) = if is_left { (row.left, None) } else { (row.right, row.left) };
    let title = match rows::state_of(study_view, side) {
        CellState::Done => study_view.label(side),
        unfinished => format!("{}: {}", study_view.label(side), unfinished.name()),
    };
    let frame = panel(&theme, &title, state.inspect.pane == Pane::Answers);
    let inner = inside(area);
    let Some(answer) = answer else {
        frame.render(area, buffer);
        let lines: Vec<Line<'static>> = wrap(&no_answer(state, study_view, side), inner.width.into())
            .into_iter()
            .map(|line| Line::styled(line, theme.dim()))
            .collect();
        put_lines(&lines, 0, inner, buffer);
        return;
    };
    let lines = answer_text(theme, answer, inner.width.into());
    let page = usize::from(inner.height.saturating_sub(1));
    let first = state.inspect.answer_scroll.min(lines.len().saturating_sub(page));
    scrolled(theme, frame, first, page, lines.len()).render(area, buffer);
    let scores = truncate_line(
        &scores(theme, answer, other, inner.width),
        inner.width.into(),
        theme.symbols().ellipsis,
    );
    put_lines(&[scores], 0, inner, buffer);
    let below = Rect { y: inner.y.saturating_add(1), height: page as u16, ..inner };
    put_lines(&lines, first, below, buffer);
}

/// The scores; where they differ from those of the other side, which way.
fn scores(theme: Theme, answer: &Answer, other: Option<&Answer>, columns: u16) -> Line<'static> {
    let symbols = theme.symbols();
    let mut figures = Vec::new();
    for score in scores_on(Subject::Task) {
        let Some(value) = answer.scores.get(score.id) else { continue };
        let beside = other.and_then(|other| other.scores.get(score.id)).unwrap_or(value);
        let gain = score.damage(beside) - score.damage(value);
        let style = match gain {
            gain if gain > 0.0 => theme.good(),
            gain if gain < 0.0 => theme.bad(),
            _ => theme.title(),
        };
        let mark = match value - beside {
            more if more > 0.0 => symbols.up,
            more if more < 0.0 => symbols.down,
            _ => "",
        };
        let whole = score.is_right_or_wrong();
        let value = if whole { format!("{value:.0}") } else { format!("{value:.2}") };
        figures.push([
            Span::styled(format!("{} ", score.name), theme.dim()),
            Span::styled(format!("{value}{mark}"), style),
        ]);
    }
    let wide: usize = figures.iter().flatten().map(Span::width).sum::<usize>() + 2 * figures.len();
    let gap = if wide <= usize::from(columns) { "  " } else { " " };
    figures.into_iter().flat_map(|[name, value]| [name, value, Span::raw(gap)]).collect()
}

/// The scale of shades, and how far the models disagreed over the answer.
fn legend(state: &State, row: &PromptRow<'_>) -> Line<'static> {
    let theme = state.theme;
    let Some(answer) = row.right else { return Line::default() };
    let Some(bits) = Disagreement::of(answer) else {
        let text = match answer.tokens.len() {
            _ if !answer.choices.is_empty() => return choice_legend(theme, row),
            0 => " the answer has no tokens",
            _ => " disagreement was not measured for this answer",
        };
        return Line::styled(text, theme.dim());
    };
    let mut spans = vec![Span::styled(" JS from base, bits ", theme.dim())];
    for value in SCALE {
        spans.push(Span::styled(format!(" {value} "), theme.text().patch(theme.shade(value))));
    }
    spans.push(Span::styled("  mean ", theme.dim()));
    spans.push(Span::styled(format!("{:.3}", bits.mean), theme.title()));
    spans.push(Span::styled("  max ", theme.dim()));
    spans.push(Span::styled(format!("{:.3}", bits.max), theme.title()));
    if let Some(piece) = answer.pieces.get(bits.at).filter(|piece| !piece.trim().is_empty()) {
        let piece = truncate(piece.trim(), 16, theme.symbols().ellipsis).into_owned();
        spans.push(Span::styled(" at ", theme.dim()));
        spans.push(Span::styled(piece, theme.text().patch(theme.shade(bits.max))));
    }
    if let Some(left) = row.left.and_then(Disagreement::of) {
        spans.push(Span::styled(format!("  left: mean {:.3} max {:.3}", left.mean, left.max), theme.dim()));
    }
    Line::from(spans)
}

/// What the figures beside choices are, the margin of the right one, and how far the sides are apart.
fn choice_legend(theme: Theme, row: &PromptRow<'_>) -> Line<'static> {
    let mut spans = vec![Span::styled(" log-likelihoods in nats; the mark: most likely", theme.dim())];
    let mut add = |name: &'static str, figure: String| {
        spans.push(Span::styled(format!("  {name} "), theme.dim()));
        spans.push(Span::styled(figure, theme.title()));
    };
    if let Some(margin) = row.margin() {
        add("margin", list::margin_text(theme, margin));
    }
    if let Some(bits) = row.divergence() {
        add("JS bits", format!("{bits:.3}"));
    }
    Line::from(spans)
}

/// A frame that tells, where not all is seen, which lines are.
fn scrolled(theme: Theme, frame: Block<'static>, first: usize, page: usize, lines: usize) -> Block<'static> {
    if lines <= page || page == 0 {
        return frame;
    }
    let text = format!(" {}-{} of {lines} ", first + 1, first + page);
    frame.title_bottom(Line::styled(text, theme.dim()).right_aligned())
}

/// Why nothing at all is there to be seen, and what will be.
fn no_answers(state: &State, study_view: &StudyView, left: Option<&str>, right: &str) -> String {
    if rows::asks_nothing(study_view) {
        return "This study has no tasks, so there are no answers. Press m for the modules of the cell. Tasks are set on \
                the Study screen."
            .into();
    }
    // What keeps the right-hand side from answering is what a person came for; the left only matters when it is fine.
    let side = if rows::state_of(study_view, Some(right)) == CellState::Done { left } else { Some(right) };
    no_answer(state, study_view, side)
}

/// Why a side has no answer, and when it will.
fn no_answer(state: &State, study_view: &StudyView, side: Option<&str>) -> String {
    let name = study_view.label(side);
    let name = sanitize(&name);
    let known = study_view.answers.get(&side.map(str::to_owned)).is_some_and(|answers| !answers.is_empty());
    match rows::state_of(study_view, side) {
        CellState::Queued => {
            format!("{name} is queued. Its answers appear here once it has run the tasks.")
        }
        CellState::Running if known => format!("{name} has not answered this prompt yet."),
        CellState::Running => {
            format!("{name} is running. Its answers appear here as they come in.")
        }
        CellState::Cancelled => {
            format!("{name} was stopped before it answered. R on History resumes it.")
        }
        CellState::Failed => {
            let why = rows::failure(study_view, side).unwrap_or_default();
            let why: Vec<_> = why.lines().map(sanitize).collect();
            format!("{name} failed: {}", why.join("\n"))
        }
        CellState::Done if known => format!("{name} has no answer to this prompt."),
        CellState::Done => {
            let key = (study_view.study, side.map(str::to_owned));
            let read = study_view.answers.contains_key(&key.1) || !state.inspect.asked.contains_key(&key);
            if read {
                format!("No answers of {name} are stored.")
            } else {
                format!("Reading the answers of {name}.")
            }
        }
    }
}
