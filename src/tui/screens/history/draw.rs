//! How the list is drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::standing::{held_by_engine, standing, study_view};
use crate::human;
use crate::results::{CellResult, CellState};
use crate::scores::{Notation, Subject, headline_scores};
use crate::store::StudySummary;
use crate::study::{MeasuredAs, ScoredPositions, contaminated_share, short_name};
use crate::tui::state::{Panel, State, StudyView, model_name};
use crate::tui::theme::Theme;
use crate::tui::view::parts;
use crate::tui::widgets::text::{sanitize, truncate_line, wrap};
use crate::tui::widgets::{Table, TableColumn, TableRow, panel};

/// From so many columns on the selected study is shown beside the list.
const WIDE: u16 = 110;
/// Columns that the names of the facts about a study take.
const NAMES: usize = 13;

pub(crate) fn panels(_state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    vec![(Panel::Studies, area)]
}

pub(crate) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    let theme = state.theme;
    let Some(study) = state.history.selected() else {
        let frame = panel(&theme, "Studies", true);
        let inner = frame.inner(area);
        frame.render(area, buffer);
        let store = state.options.store.display().to_string();
        let text = if state.history.read {
            let text =
                "has no studies yet. Press r to run the one on the Study screen; it is then listed here.";
            format!("The store {} {text}", sanitize(&store))
        } else {
            format!("Reading the store {}", sanitize(&store))
        };
        return parts::nothing(state, &text, inner, buffer);
    };
    let list = if area.width >= WIDE {
        let [list, preview] = Layout::horizontal([Constraint::Fill(2), Constraint::Fill(1)]).areas(area);
        draw_preview(state, study, preview, buffer);
        list
    } else {
        area
    };
    let at = state.history.place();
    let title = format!("Studies {}/{}", at + 1, state.history.studies.len());
    let frame = panel(&theme, &title, true);
    let inner = frame.inner(list);
    frame.render(list, buffer);
    let page = usize::from(inner.height.saturating_sub(1));
    let first = Table::offset(Some(at), state.history.studies.len(), page);
    let shown = first..first.saturating_add(page);
    // Rows out of sight cost nothing.
    let studies = state.history.studies.iter().enumerate();
    let rows: Vec<TableRow> = studies
        .map(|(i, study)| if shown.contains(&i) { row(state, study) } else { TableRow::default() })
        .collect();
    let columns = [
        TableColumn::new("", Alignment::Left, 8, 8),
        TableColumn::new("no.", Alignment::Right, 4, 9),
        TableColumn::new("created (UTC)", Alignment::Left, 16, 5),
        TableColumn::new("model", Alignment::Left, 12, 9),
        TableColumn::new("cells", Alignment::Right, 7, 6),
        TableColumn::new("state", Alignment::Left, 12, 7),
    ];
    Table::new(&theme, &columns, &rows).selected(Some(at)).render(inner, buffer);
}

fn row(state: &State, study: &StudySummary) -> TableRow {
    let theme = state.theme;
    let (done, all, standing) = standing(state, study);
    let open = state.study_view.as_ref().is_some_and(|study_view| study_view.study == study.id);
    let overlaid = state.overlays.iter().any(|study_view| study_view.study == study.id);
    let mark = match (open, overlaid) {
        (true, _) => Span::styled("open", theme.accent()),
        (_, true) => Span::styled("overlaid", theme.accent()),
        _ => Span::raw(""),
    };
    TableRow::new([
        Line::from(mark),
        Line::from(study.id.to_string()),
        Line::styled(human::date(study.created_at), theme.dim()),
        Line::from(model(&study.model).to_owned()),
        Line::from(format!("{done}/{all}")),
        Line::from(vec![
            parts::mark(&theme, standing),
            Span::raw(format!(" {}", StudySummary::word(standing))),
        ]),
    ])
}

/// The name of a model: a hub id, or the last two folders of a path.
fn model(source: &str) -> &str {
    let source = model_name(source);
    let path = source.trim_end_matches(['/', '\\']);
    path.rmatch_indices(['/', '\\']).nth(1).map_or(path, |(at, _)| &path[at + 1..])
}

fn draw_preview(state: &State, study: &StudySummary, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let frame = panel(&theme, &format!("Study {}", study.id), false);
    let inner = frame.inner(area);
    frame.render(area, buffer);
    let (done, all, standing) = standing(state, study);
    let mut facts = Facts { theme, columns: inner.width.into(), lines: Vec::new() };
    facts.add("model", model_name(&study.model));
    facts.add("created", &format!("{} UTC", human::date(study.created_at)));
    facts.add("cells", &format!("{done} of {all} done"));
    facts.add("state", StudySummary::word(standing));
    let known = study_view(state, study.id);
    if let Some(study_view) = known {
        details(&mut facts, study_view);
    }
    facts.lines.push(Line::default());
    facts.hint(&advice(state, study, standing));
    if let Some(study_view) = known.filter(|study_view| !study_view.cells.is_empty()) {
        facts.lines.push(Line::default());
        let room = usize::from(inner.height).saturating_sub(facts.lines.len());
        cells(&mut facts, study_view, room);
    }
    for (line, y) in facts.lines.iter().zip(inner.top()..inner.bottom()) {
        line.render(Rect { y, height: 1, ..inner }, buffer);
    }
}

/// What a person can do with the study.
fn advice(state: &State, study: &StudySummary, standing: CellState) -> String {
    let overlaid = state.overlays.iter().any(|study_view| study_view.study == study.id);
    let first = match &state.study_view {
        Some(study_view) if study_view.study == study.id => "It is open.",
        _ if overlaid => "Enter opens it, v removes it from the comparison.",
        Some(_) => "Enter opens it, v overlays it on the comparison.",
        None => "Enter opens it.",
    };
    let second = match standing {
        CellState::Done => " x exports a cell.",
        CellState::Running if state.options.readonly => {
            " Running in another process, or interrupted when that process ended."
        }
        CellState::Running if held_by_engine(state, study.id) => " It is running.",
        CellState::Running => {
            " Running in another process, or interrupted when that process ended: R resumes it."
        }
        _ if state.options.readonly => "",
        _ => " R resumes it.",
    };
    format!("{first}{second}")
}

/// What is known of a study that was read.
fn details(facts: &mut Facts, study_view: &StudyView) {
    let model = &study_view.model;
    let figures = [
        model.architecture.clone(),
        format!("{} parameters", human::count(model.parameters)),
        format!("{} blocks", model.blocks),
        model.dtype.clone(),
    ];
    facts.add("architecture", &figures.join(", "));
    let machine = &study_view.environment;
    facts.add("machine", &format!("{}, {}, {}", machine.device, machine.compute_dtype, machine.platform));
    let Some(spec) = &study_view.spec else { return };
    let names = |sets: &[String]| match sets {
        [] => "none".to_owned(),
        sets => sets.iter().map(|set| short_name(set)).collect::<Vec<_>>().join(", "),
    };
    let calibration = &spec.calibration;
    let windows =
        format!("{} ({} windows of {})", names(&calibration.sets), calibration.samples, spec.seq_len);
    facts.add("calibration", &windows);
    let measured = |sets: &[String], measured_as| match sets {
        [] => "none".to_owned(),
        sets => sets
            .iter()
            .map(|set| with_contamination(study_view, set, measured_as))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let mut corpora = measured(&spec.evaluation.corpora, MeasuredAs::Corpus);
    if spec.evaluation.score == ScoredPositions::SecondHalf {
        corpora += " (second half of each window)";
    }
    facts.add("corpora", &corpora);
    let mut tasks = measured(&spec.evaluation.tasks, MeasuredAs::Task);
    if spec.evaluation.shots.count > 0 {
        tasks += &format!(" (shots: {})", spec.evaluation.shots.count);
    }
    facts.add("tasks", &tasks);
}

/// The short name of a corpus or task, with how much of it stands in the calibration sets.
fn with_contamination(study_view: &StudyView, set: &str, measured_as: MeasuredAs) -> String {
    let name = short_name(set);
    match contaminated_share(&study_view.contamination, &name, measured_as) {
        Some(share) => format!("{name} ({share})"),
        None => name,
    }
}

/// The cells with their figures, as many as there is room for.
fn cells(facts: &mut Facts, study_view: &StudyView, room: usize) {
    let theme = facts.theme;
    let all = study_view.cells.len();
    let shown = if all > room { room.saturating_sub(1) } else { all };
    for cell in &study_view.cells[..shown] {
        let line = cell_line(theme, cell);
        facts.lines.push(truncate_line(&line, facts.columns, theme.symbols().ellipsis));
    }
    if shown < all {
        facts.lines.push(Line::styled(format!("and {} more", all - shown), theme.dim()));
    }
}

fn cell_line(theme: Theme, cell: &CellResult) -> Line<'static> {
    let mut spans = vec![parts::mark(&theme, cell.state), Span::raw(format!(" {}", cell.spec.label()))];
    for score in headline_scores(Subject::Corpus) {
        let Some(found) = cell.metrics.first(score) else { continue };
        spans.push(Span::styled(format!("  {} ", score.short), theme.dim()));
        spans.push(Span::raw(figure(
            theme,
            found.value,
            if score.notation == Notation::Magnitude { 2 } else { 3 },
        )));
    }
    Line::from(spans)
}

fn figure(theme: Theme, value: f64, digits: usize) -> String {
    match value {
        value if value.is_nan() => theme.symbols().missing.into(),
        value if value.is_infinite() => theme.symbols().infinity.into(),
        value => format!("{value:.digits$}"),
    }
}

struct Facts {
    theme: Theme,
    columns: usize,
    lines: Vec<Line<'static>>,
}

impl Facts {
    fn add(&mut self, name: &str, text: &str) {
        for (i, line) in wrap(text, self.columns.saturating_sub(NAMES)).into_iter().enumerate() {
            let name = if i == 0 { name } else { "" };
            self.lines.push(Line::from(vec![
                Span::styled(format!("{name:NAMES$}"), self.theme.dim()),
                Span::styled(line, Style::new()),
            ]));
        }
    }

    fn hint(&mut self, text: &str) {
        let lines = wrap(text, self.columns);
        self.lines.extend(lines.into_iter().map(|line| Line::styled(line, self.theme.dim())));
    }
}
