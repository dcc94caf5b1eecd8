//! How the modules of a cell are drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::rows;
use crate::human;
use crate::methods::Procedure;
use crate::results::{CellResult, CellState, ErrorBasis, ModuleResult};
use crate::tui::state::{State, StudyView};
use crate::tui::theme::Theme;
use crate::tui::view::parts::{self, put_lines};
use crate::tui::widgets::text::{truncate_line, wrap};
use crate::tui::widgets::{Table, TableColumn, TableRow, panel};

/// Draws what is to be known of a cell, and the table of its modules.
pub(super) fn draw(
    state: &State,
    study_view: &StudyView,
    cell: &CellResult,
    area: Rect,
    buffer: &mut Buffer,
) {
    let theme = state.theme;
    let modules = rows::modules(state, cell);
    let chosen = rows::selected_module(state, &modules);
    let place = if modules.is_empty() { String::new() } else { format!(" {}/{}", chosen + 1, modules.len()) };
    let order = if state.inspect.largest_error_first { ", largest error first" } else { "" };
    let frame =
        panel(&theme, &format!("Modules of {}{place}{order}", study_view.label(Some(&cell.id))), true);
    let inner = frame.inner(area);
    frame.render(area, buffer);

    let mut notes =
        vec![truncate_line(&summary(theme, study_view, cell), inner.width.into(), theme.symbols().ellipsis)];
    notes.extend(warnings(theme, study_view, cell, inner));
    let height = notes.len().min(usize::from(inner.height)) as u16;
    let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(inner);
    put_lines(&notes, 0, above, buffer);
    if modules.is_empty() {
        return parts::nothing(state, no_modules(cell.state), below, buffer);
    }
    let parameters = study_view.spec.as_ref().map(|spec| spec.prune.parameters()).unwrap_or_default();
    let procedure = Procedure::of(&cell.spec.recipe, &parameters).ok();
    let page = usize::from(below.height.saturating_sub(1));
    let first = Table::offset(Some(chosen), modules.len(), page);
    let shown = first..first.saturating_add(page);
    // Rows out of sight cost nothing.
    let lines: Vec<TableRow> = modules
        .iter()
        .enumerate()
        .map(|(i, module)| {
            if shown.contains(&i) {
                module_row(theme, module, procedure.as_ref())
            } else {
                TableRow::default()
            }
        })
        .collect();
    let sort = state.inspect.largest_error_first.then_some((5, false));
    Table::new(&theme, &columns(), &lines).sort(sort).selected(Some(chosen)).render(below, buffer);
}

fn columns() -> [TableColumn; 10] {
    [
        TableColumn::new("block", Alignment::Right, 5, 9),
        TableColumn::new("module", Alignment::Left, 9, 9),
        TableColumn::new("sparsity", Alignment::Right, 8, 8),
        TableColumn::new("zeros", Alignment::Right, 6, 3),
        TableColumn::new("bits", Alignment::Right, 5, 3),
        TableColumn::new("error", Alignment::Right, 8, 7),
        TableColumn::new("basis", Alignment::Left, 12, 5),
        TableColumn::new("details", Alignment::Left, 12, 6),
        TableColumn::new("dead cols", Alignment::Right, 9, 4),
        TableColumn::new("time", Alignment::Right, 6, 2),
    ]
}

fn module_row(theme: Theme, module: &ModuleResult, procedure: Option<&Procedure>) -> TableRow {
    let absent = || Span::styled(theme.symbols().dot, theme.dim());
    let details: Vec<String> = module.details.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let warned = procedure.is_some_and(|procedure| !procedure.warnings(&module.details).is_empty());
    let details = match details.join(", ") {
        details if details.is_empty() => absent(),
        details if warned => Span::styled(format!("{details} {}", theme.symbols().warning), theme.warn()),
        details => Span::raw(details),
    };
    let dead = match module.dead_columns {
        0 => absent(),
        dead => Span::styled(dead.to_string(), theme.warn()),
    };
    let place = [Span::raw(module.block.to_string()), Span::raw(module.brief_name().to_owned())];
    if module.footprint.weights == 0 {
        // Its block or its expert is gone: there is nothing to tell of it.
        let rest = std::iter::repeat_with(absent).take(7);
        return TableRow::new(place.into_iter().chain([Span::styled("removed", theme.warn())]).chain(rest));
    }
    TableRow::new(place.into_iter().chain([
        Span::raw(format!("{:.2}%", module.footprint.sparsity() * 100.0)),
        Span::raw(human::count(module.footprint.zeros)),
        Span::raw(format!("{:.2}", module.footprint.bits_per_weight())),
        Span::raw(error(theme, module.reconstruction_error)),
        Span::styled(basis(module.error_basis), theme.dim()),
        details,
        dead,
        Span::styled(human::duration(module.seconds), theme.dim()),
    ]))
}

fn error(theme: Theme, error: f64) -> String {
    match error {
        error if error.is_nan() => theme.symbols().missing.into(),
        error if error.is_infinite() => theme.symbols().infinity.into(),
        error if error == 0.0 || error >= 0.000_1 => format!("{error:.4}"),
        error => format!("{error:.1e}"),
    }
}

fn basis(basis: ErrorBasis) -> &'static str {
    match basis {
        ErrorBasis::Hessian => "Hessian",
        ErrorBasis::ColumnNorms => "column norms",
        ErrorBasis::Weights => "weights alone",
    }
}

fn summary(theme: Theme, study_view: &StudyView, cell: &CellResult) -> Line<'static> {
    let mut spans = vec![parts::mark(&theme, cell.state), Span::raw(format!(" {}", cell.state.name()))];
    let mut add = |text: String| {
        spans.push(Span::styled(format!(" {} ", theme.symbols().dot), theme.dim()));
        spans.push(Span::raw(text));
    };
    if let Some(footprint) = cell.footprint {
        add(format!("{:.2}% zeros", footprint.sparsity() * 100.0));
        if let Some(whole) = study_view.model.cell_footprint(&footprint) {
            add(format!("{}, {:.2} bits per weight", human::bytes(whole.size_bytes), whole.bits_per_weight));
        }
    }
    let contaminated = study_view.contamination_warning(&cell.spec).is_some();
    let warnings = cell.warnings.len() + usize::from(contaminated);
    if warnings > 0 {
        let plural = if warnings == 1 { "" } else { "s" };
        add(format!("{warnings} warning{plural}"));
    }
    let (spent, compressing) = (cell.seconds.total(), cell.seconds.prune);
    if spent > 0.0 {
        add(format!("took {} ({} compressing)", human::duration(spent), human::duration(compressing)));
    }
    Line::from(spans)
}

/// Why the cell failed, and what else is to be known of it; at most a third of the place.
fn warnings(theme: Theme, study_view: &StudyView, cell: &CellResult, place: Rect) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut add = |mark: &str, text: &str, style: Style| {
        for (i, line) in wrap(text, usize::from(place.width).saturating_sub(2)).into_iter().enumerate() {
            let mark = if i == 0 { mark } else { " " };
            lines.push(Line::from(vec![Span::styled(format!("{mark} "), style), Span::styled(line, style)]));
        }
    };
    let failure = rows::failure(study_view, Some(&cell.id));
    if let Some(why) = failure {
        add(theme.symbols().cross, why, theme.bad());
    }
    let contaminated = study_view.contamination_warning(&cell.spec);
    for warning in
        cell.warnings.iter().chain(&contaminated).filter(|warning| failure != Some(warning.as_str()))
    {
        add(theme.symbols().warning, warning, theme.warn());
    }
    let room = usize::from(place.height / 3).max(1);
    if lines.len() > room {
        let more = lines.len() + 1 - room;
        lines.truncate(room - 1);
        lines.push(Line::styled(
            format!("  and {more} more lines, in `secateur show {}`", study_view.study),
            theme.dim(),
        ));
    }
    lines
}

fn no_modules(state: CellState) -> &'static str {
    match state {
        CellState::Queued => "The cell is queued. Modules appear here as they are compressed.",
        CellState::Running => "No module is compressed yet. They appear here as they are.",
        CellState::Cancelled => {
            "The cell was stopped before a module was compressed. R on History resumes it."
        }
        CellState::Failed => "The cell failed before a module was compressed.",
        CellState::Done => "No modules are stored for this cell.",
    }
}
