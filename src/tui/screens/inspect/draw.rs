//! How the answers are drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Widget};

use super::layout::{answer_text, inside, prompt_text, reference_pieces};
use super::modules;
use super::places::{InspectPlaces, places};
use super::rows::{self, Disagreement, PromptRow};
use crate::results::{Answer, CellState};
use crate::scores::{Subject, scores_on};
use crate::tui::state::{Pane, Panel, State, StudyView};
use crate::tui::theme::Theme;
use crate::tui::view::parts::{self, put_lines};
use crate::tui::widgets::text::{sanitize, truncate, truncate_line, wrap};
use crate::tui::widgets::{Table, TableColumn, TableRow, panel};

/// Disagreements, in bits, that the legend shows the shades of.
const SCALE: [f64; 5] = [0.0, 0.05, 0.2, 0.5, 1.0];
/// Characters of a prompt that the list may show; no list is wider.
const FIRST_WORDS: usize = 200;

const TASK: &str = "task";
const CHANGE: &str = "change of a score";
const BITS: &str = "JS bits";
/// Columns of the list: title, where the cells stand, least width, priority.
const COLUMNS: [(&str, Alignment, u16, u8); 6] = [
    ("", Alignment::Left, 1, 9),
    (TASK, Alignment::Left, 10, 3),
    ("no.", Alignment::Right, 5, 8),
    ("prompt", Alignment::Left, 10, 9),
    (CHANGE, Alignment::Right, 5, 7),
    (BITS, Alignment::Right, 7, 6),
];

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
    let rows = rows::rows(state);
    let left = rows::left(state);
    if rows.is_empty() {
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
    let places = places(area);
    let chosen = rows::selected(state, &rows);
    let row = rows[chosen];
    draw_list(state, &rows, chosen, places.prompts, buffer);
    draw_prompt(state, &row, &places, buffer);
    draw_side(state, study_view, &row, left, places.left, buffer);
    draw_side(state, study_view, &row, Some(&right.id), places.right, buffer);
    if let Some(place) = places.legend {
        let line = legend(state, &row);
        truncate_line(&line, place.width.into(), state.theme.symbols().ellipsis).render(place, buffer);
    }
}

fn draw_list(state: &State, rows: &[PromptRow<'_>], chosen: usize, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let measured = rows.iter().any(|row| row.right.is_some_and(|answer| Disagreement::of(answer).is_some()));
    let order = match (state.inspect.largest_first, measured) {
        (false, _) => "as in the task",
        (true, true) => "largest disagreement first",
        (true, false) => &format!("largest loss of {} first", rows::score_name(rows)),
    };
    let title = format!("Prompts {}/{}, {order}", chosen + 1, rows.len());
    let frame = panel(&theme, &title, state.inspect.pane == Pane::Prompts);
    let inner = frame.inner(area);
    frame.render(area, buffer);
    let several = rows.iter().any(|row| row.asked.task != rows[0].asked.task);
    let columns: Vec<TableColumn> = COLUMNS
        .into_iter()
        .filter(|(name, ..)| (several || *name != TASK) && (measured || *name != BITS))
        .map(|(name, align, min, priority)| {
            let title = match name {
                CHANGE => format!("{}{}", theme.symbols().delta, rows::score_name(rows)),
                name => name.to_owned(),
            };
            TableColumn::new(title, align, min, priority)
        })
        .collect();
    let height = usize::from(inner.height.saturating_sub(1));
    let first = Table::offset(Some(chosen), rows.len(), height);
    let shown = first..first.saturating_add(height);
    let shared = rows::shared_beginnings(rows);
    // Rows out of sight cost nothing.
    let lines: Vec<TableRow> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| {
            if shown.contains(&i) {
                list_row(
                    theme,
                    row,
                    several,
                    shared.get(row.asked.task.as_str()).copied().unwrap_or_default(),
                )
            } else {
                TableRow::default()
            }
        })
        .collect();
    Table::new(&theme, &columns, &lines).selected(Some(chosen)).render(inner, buffer);
}

/// A row of the list, with the task's name where there are several and without what all its prompts begin with. A
/// table leaves out cells behind its last column.
fn list_row(theme: Theme, row: &PromptRow<'_>, several: bool, shared: &str) -> TableRow {
    let symbols = theme.symbols();
    let (mark, style) = match row.change() {
        None => (" ", theme.text()),
        Some(change) if change > 0.0 => (symbols.up, theme.good()),
        Some(change) if change < 0.0 => (symbols.down, theme.bad()),
        Some(_) if row.same() => ("=", theme.dim()),
        Some(_) => (symbols.dot, theme.dim()),
    };
    let (task, record) = row.key();
    let change = row.change().map_or_else(String::new, |change| {
        if change == 0.0 { "0".to_owned() } else { format!("{change:+.2}") }
    });
    let bits =
        row.right.and_then(Disagreement::of).map_or_else(String::new, |bits| format!("{:.3}", bits.mean));
    let cells = [
        Line::styled(mark, style),
        Line::styled(task.to_owned(), theme.dim()),
        Line::styled(record.to_string(), theme.dim()),
        Line::from(first_words(theme, &row.asked.prompt, shared)),
        Line::styled(change, style),
        Line::from(bits),
    ];
    TableRow::new(cells.into_iter().enumerate().filter(|(i, _)| several || *i != 1).map(|(_, cell)| cell))
}

/// The beginning of a prompt as one line, behind what it shares with the others.
fn first_words(theme: Theme, prompt: &str, shared: &str) -> String {
    let own =
        prompt.strip_prefix(shared).map(str::trim_start).filter(|own| !shared.is_empty() && !own.is_empty());
    let start: String = own.unwrap_or(prompt.trim_start()).chars().take(FIRST_WORDS).collect();
    let words = start.split_whitespace().collect::<Vec<_>>().join(" ");
    if own.is_some() { format!("{} {words}", theme.symbols().ellipsis) } else { words }
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
            _ if !answer.choices.is_empty() => {
                " log-likelihood of every choice, in nats; the mark is the most likely one"
            }
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
