//! How the study screen is drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::grid;
use crate::human;
use crate::study::Level;
use crate::tui::state::{Check, Checked, Field, FieldKind, Focus, Panel, State, model_name};
use crate::tui::view::parts::{first_shown, framed, typed};
use crate::tui::widgets::Gauge;
use crate::tui::widgets::text::{fit, sanitize, truncate, truncate_start, wrap};

/// Columns of the labels before the fields.
const LABEL: usize = 14;

pub(crate) fn panels(state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    let [fields, grid, _] = places(state, area);
    vec![(Panel::Fields, fields), (Panel::Grid, grid)]
}

/// The fields, the grid, what the study needs.
fn places(state: &State, area: Rect) -> [Rect; 3] {
    let wide = if area.width >= 120 { area.width / 2 } else { 36 };
    let [left, right] = Layout::horizontal([Constraint::Length(wide), Constraint::Min(0)]).areas(area);
    let rows = grid::lines(&state.form).len() as u16;
    // The grid takes what it needs, and leaves room for what the study needs.
    let height = (rows + 3).min(area.height.saturating_sub(6)).max(4);
    let [grid, needs] = Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(right);
    [left, grid, needs]
}

pub(crate) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let [left, grid, needs] = places(state, area);
    fields(state, left, buffer);
    grid::draw(state, grid, buffer);
    draw_needs(state, needs, buffer);
}

fn fields(state: &State, area: Rect, buffer: &mut Buffer) {
    let (theme, form) = (&state.theme, &state.form);
    let focused = form.focus == Focus::Fields;
    let title = state
        .open_study_of_another_model()
        .map_or_else(|| "Settings".to_owned(), |open| format!("Settings, not of study {}", open.study));
    let inner = framed(theme, &title, focused, area, buffer);
    let width = usize::from(inner.width);
    let fault = match &form.check {
        Check::Refused { field: Some(field), message } => Some((*field, message)),
        _ => None,
    };
    let mut lines: Vec<(Line, bool)> = Vec::new();
    let mut chosen_line = 0;
    for field in Field::ALL {
        let chosen = focused && field == form.current();
        if field == form.current() {
            chosen_line = lines.len();
        }
        let bad = fault.is_some_and(|(at, _)| at == field);
        let label = fit(field.label(), LABEL, ratatui::layout::Alignment::Left, "");
        let style = if bad { theme.bad() } else { theme.dim() };
        let mut line = Line::from(Span::styled(label, style));
        line.spans.extend(value(state, field, width.saturating_sub(LABEL), chosen).spans);
        lines.push((line, chosen && form.editing.is_none()));
        if let (true, Some((_, message))) = (bad, fault) {
            for part in wrap(&sanitize(message), width.saturating_sub(2)) {
                lines.push((Line::styled(format!("  {part}"), theme.bad()), false));
            }
        }
    }
    // The hint stands at the foot, while there is room for it.
    let hint = usize::from(usize::from(inner.height) > lines.len());
    let rows = usize::from(inner.height) - hint;
    let first = first_shown(chosen_line, lines.len(), rows);
    for (row, (line, selected)) in lines.iter().skip(first).take(rows).enumerate() {
        let place = Rect { y: inner.y + row as u16, height: 1, ..inner };
        line.render(place, buffer);
        if *selected {
            buffer.set_style(place, theme.selected());
        }
    }
    if hint > 0 && focused {
        let place = Rect { y: inner.bottom() - 1, height: 1, ..inner };
        let text = truncate(form.current().hint(), width, theme.symbols().ellipsis).into_owned();
        Line::styled(text, theme.dim()).render(place, buffer);
    }
}

/// The value of a field, as wide as `width`.
fn value(state: &State, field: Field, width: usize, chosen: bool) -> Line<'static> {
    let (theme, form) = (&state.theme, &state.form);
    let symbols = theme.symbols();
    if let (true, Some(line)) = (chosen, &form.editing) {
        return typed(state, line, width);
    }
    let text = form.get(field);
    let text = sanitize(if field == Field::Model { model_name(text) } else { text }).into_owned();
    if text.is_empty() {
        return Line::styled("none", theme.dim());
    }
    let steps =
        matches!(field.kind(), FieldKind::Choice(_)) || (field == Field::Model && !form.recent.is_empty());
    if chosen && steps {
        let text = truncate_start(&text, width.saturating_sub(4), symbols.ellipsis).into_owned();
        return Line::from(vec![
            Span::styled(format!("{} ", symbols.left), theme.key()),
            Span::raw(text),
            Span::styled(format!(" {}", symbols.right), theme.key()),
        ]);
    }
    // The end of a path tells more than its beginning.
    Line::raw(truncate_start(&text, width, symbols.ellipsis).into_owned())
}

fn draw_needs(state: &State, area: Rect, buffer: &mut Buffer) {
    let (theme, form) = (&state.theme, &state.form);
    let inner = framed(theme, "Estimate", false, area, buffer);
    let mut lines: Vec<Line> = Vec::new();
    let mut gauge = None;
    let at = form.cell_at_cursor();
    match &form.check {
        Check::Pending if state.options.readonly => {
            lines.push(Line::styled("read-only: studies cannot be run", theme.dim()));
        }
        Check::Pending => lines.push(Line::styled(
            "checking model and data …".replace('…', theme.symbols().ellipsis),
            theme.dim(),
        )),
        Check::Remote => {
            let text = "model or data are not on this machine yet: they are downloaded when the study starts";
            lines.extend(
                wrap(text, inner.width.into()).into_iter().map(|part| Line::styled(part, theme.warn())),
            );
        }
        Check::Refused { field, message } => {
            lines.push(Line::styled(format!("{} cannot run", theme.symbols().cross), theme.bad()));
            // What a field is at fault for stands beside the field.
            let text = match field {
                Some(field) => format!("see {} on the left", field.label()),
                None => sanitize(message).into_owned(),
            };
            lines.extend(wrap(&text, inner.width.into()).into_iter().map(Line::raw));
        }
        Check::Fine(known) => {
            gauge = Some(known.clone());
            lines.extend(plan(state, known));
        }
    }
    if let (Some(cell), Check::Fine(known)) = (&at, &form.check) {
        let all = known.model.prunable_parameters;
        let kept = ((1.0 - cell.recipe.zeros()) * all as f64).round() as u64;
        let on = if form.is_on(cell) { "" } else { " (not selected)" };
        let mut text = format!("{on} keeps {} of {}", human::count(kept), human::count(all));
        match cell.recipe.steps().map(|step| step.level).last() {
            Some(Level::Bits(bits)) => text += &format!(" in {bits} bits"),
            Some(Level::Format(name)) => text += &format!(" as {name}"),
            _ => {}
        }
        lines.push(Line::from(vec![Span::styled(cell.label(), theme.accent()), Span::raw(text)]));
    }
    let rows = usize::from(inner.height);
    for (row, line) in lines.iter().take(rows).enumerate() {
        line.render(Rect { y: inner.y + row as u16, height: 1, ..inner }, buffer);
    }
    if let Some(known) = gauge.filter(|_| rows > lines.len()) {
        let estimate = &known.estimate;
        let share = estimate.host_bytes as f64 / (estimate.host_available as f64).max(1.0);
        let style = if share > 1.0 { theme.bad() } else { theme.good() };
        let label = format!("{:.0}% of free memory", share * 100.0);
        let place = Rect { y: inner.y + lines.len() as u16, height: 1, ..inner };
        Gauge::new(theme, share).label(label).style(style).render(place, buffer);
    }
}

/// What a study that can run needs.
fn plan<'a>(state: &State, known: &Checked) -> Vec<Line<'a>> {
    let theme = &state.theme;
    let needs = &known.estimate;
    let memory = format!("{} of {} free", human::bytes(needs.host_bytes), human::bytes(needs.host_available));
    let short = needs.host_bytes > needs.host_available;
    let mut lines = vec![
        Line::from(vec![
            Span::styled(format!("{} can run", theme.symbols().check), theme.good()),
            Span::raw(format!(
                "  {} parameters, {} blocks, {}",
                human::count(known.model.parameters),
                known.model.blocks,
                known.device
            )),
        ]),
        Line::from(vec![
            Span::styled("time    ", theme.dim()),
            Span::raw(format!("about {}", human::duration(needs.seconds))),
        ]),
        Line::from(vec![
            Span::styled("memory  ", theme.dim()),
            Span::styled(memory, if short { theme.bad() } else { theme.text() }),
        ]),
    ];
    if needs.device_bytes > 0 {
        lines.push(Line::from(vec![
            Span::styled("device  ", theme.dim()),
            Span::raw(match needs.device_available {
                Some(free) => format!("{} of {} free", human::bytes(needs.device_bytes), human::bytes(free)),
                None => human::bytes(needs.device_bytes),
            }),
        ]));
    }
    lines.push(Line::from(vec![
        Span::styled("disk    ", theme.dim()),
        Span::raw(format!(
            "{} of {} free",
            human::bytes(needs.disk_bytes),
            human::bytes(needs.disk_available)
        )),
    ]));
    lines
}
