//! How the run screen is drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::workers;
use crate::engine::ResourceSample;
use crate::human;
use crate::results::{CellResult, CellState, ModuleKind, ModuleResult};
use crate::scores::PERPLEXITY;
use crate::tui::state::{EngineState, LogLevel, Panel, State, StudyView, model_name};
use crate::tui::view::parts::{first_shown, framed, mark, nothing};
use crate::tui::widgets::Gauge;
use crate::tui::widgets::Spark;
use crate::tui::widgets::text::{fit, sanitize, truncate, width, wrap};
use crate::tui::widgets::{HeatMap, HeatRow};

/// The panels: cells, progress, heat map, machine, log.
struct RunPlaces {
    queue: Rect,
    progress: Rect,
    map: Rect,
    /// Empty without workers.
    workers: Rect,
    machine: Rect,
    log: Rect,
}

fn places(state: &State, area: Rect) -> RunPlaces {
    let wide = area.width >= 110;
    let left = if wide { area.width * 3 / 10 } else { 27 };
    let [queue, right] = Layout::horizontal([Constraint::Length(left), Constraint::Min(0)]).areas(area);
    let gpu = state.engine.samples.back().is_some_and(|sample| sample.gpu.is_some());
    let machine = if gpu { 6 } else { 4 };
    let tall = area.height >= 32;
    let surveyed = state.study_view.as_ref().is_some_and(|study_view| influence(state, study_view).is_some());
    let map = if tall { 18 } else { 10 } + u16::from(surveyed);
    // On a small screen the machine goes first, then the log.
    let (machine, log) = if area.height >= 21 + machine { (machine, 3) } else { (0, 2) };
    // Lines of workers come out of the log's, and never take more than half of what is below the map.
    let workers = match state.engine.workers.len() as u16 {
        0 => 0,
        workers => (workers + 2).min(area.height.saturating_sub(machine + log + 12) / 2),
    };
    let workers = if workers < 3 { 0 } else { workers };
    let [progress, map, workers, machine, log] = Layout::vertical([
        Constraint::Length(6),
        Constraint::Max(map),
        Constraint::Length(workers),
        Constraint::Length(machine),
        Constraint::Min(log),
    ])
    .areas(right);
    RunPlaces { queue, progress, map, workers, machine, log }
}

pub(crate) fn panels(state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    let RunPlaces { queue, map, machine, log, .. } = places(state, area);
    [(Panel::Queue, queue), (Panel::Map, map), (Panel::Machine, machine), (Panel::Log, log)]
        .into_iter()
        .filter(|(_, rect)| !rect.is_empty())
        .collect()
}

pub(crate) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let Some(study_view) = &state.study_view else {
        let text = match state.engine.state {
            EngineState::Starting => "Loading model and data.",
            _ => {
                "Nothing is running. Press 1 to set up a study, r to run it, or 5 to open one from the store."
            }
        };
        nothing(state, text, area, buffer);
        return;
    };
    let places = places(state, area);
    cells(state, study_view, places.queue, buffer);
    progress(state, study_view, places.progress, buffer);
    map(state, study_view, places.map, buffer);
    workers::draw(state, study_view, places.workers, buffer);
    machine(state, places.machine, buffer);
    log(state, places.log, buffer);
}

fn cells(state: &State, study_view: &StudyView, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let (done, all) = study_view.progress();
    let inner = framed(theme, &format!("Cells: {done} of {all} done"), true, area, buffer);
    let rows = usize::from(inner.height);
    let at = state.run.row(Some(study_view));
    let first = first_shown(at, all + 1, rows);
    for (line, row) in (first..=all).take(rows).enumerate() {
        let place = Rect { y: inner.y + line as u16, height: 1, ..inner };
        let cell = row.checked_sub(1).map(|at| &study_view.cells[at]);
        cell_line(state, study_view, cell, inner.width.into()).render(place, buffer);
        if row == at {
            buffer.set_style(place, theme.selected());
        }
    }
}

/// One cell (or the base): mark, name, and the most telling word on it.
fn cell_line(state: &State, study_view: &StudyView, cell: Option<&CellResult>, room: usize) -> Line<'static> {
    let theme = &state.theme;
    let (state_of, name) = match cell {
        None => (study_view.base_state, "base".to_owned()),
        Some(cell) => (cell.state, cell.spec.label()),
    };
    let metrics = cell.map_or(&study_view.base.metrics, |cell| &cell.metrics);
    let blocks = cell.and_then(|cell| study_view.blocks_done.get(&cell.id)).copied().unwrap_or(0);
    let word = match (state_of, cell) {
        (CellState::Running, Some(_)) if metrics.first(&PERPLEXITY).is_none() && blocks > 0 => {
            format!("{blocks}/{}", study_view.model.blocks)
        }
        (CellState::Queued, Some(cell)) => {
            let place = state.engine.queue.iter().position(|id| *id == cell.id);
            place.map_or_else(String::new, |place| format!("#{}", place + 1))
        }
        (CellState::Failed | CellState::Cancelled, _) => state_of.name().into(),
        _ => metrics.first(&PERPLEXITY).map_or_else(String::new, |ppl| short(ppl.value)),
    };
    let warned = cell.is_some_and(|cell| !cell.warnings.is_empty());
    let name_room = room.saturating_sub(width(&word) + 4);
    let name = fit(&sanitize(&name), name_room, Alignment::Left, theme.symbols().ellipsis);
    Line::from(vec![
        mark(theme, state_of),
        Span::raw(format!(" {name}")),
        Span::styled(if warned { theme.symbols().warning } else { " " }, theme.warn()),
        Span::styled(format!("{word} "), theme.dim()),
    ])
}

/// A perplexity in few characters.
fn short(value: f64) -> String {
    match value {
        v if v.is_nan() => "nan".into(),
        v if v.is_infinite() => "inf".into(),
        v if v < 100.0 => format!("{v:.2}"),
        v if v < 10_000.0 => format!("{v:.0}"),
        v => format!("{v:.1e}"),
    }
}

fn progress(state: &State, study_view: &StudyView, area: Rect, buffer: &mut Buffer) {
    let (theme, engine) = (&state.theme, &state.engine);
    let of = if state.shows_engine_study() { "" } else { " of the store" };
    let title = format!("Study {}{of}: {}", study_view.study, sanitize(model_name(&study_view.model.source)));
    let title =
        truncate(&title, usize::from(area.width).saturating_sub(6), theme.symbols().ellipsis).into_owned();
    let inner = framed(theme, &title, false, area, buffer);
    let [first, second, third, fourth] = Layout::vertical([Constraint::Length(1); 4]).areas(inner);
    if !state.shows_engine_study() || !engine.busy() {
        at_rest(state, study_view, [first, second, third], buffer);
        return;
    }
    let now = &engine.progress;
    let phase = now.phase.or(engine.phase.as_ref().map(|(_, phase)| *phase));
    let name = study_view.label(now.cell.as_deref());
    let paused = if now.paused { " (paused)" } else { "" };
    Line::from(vec![
        Span::styled(sanitize(&name).into_owned(), theme.accent()),
        Span::raw(phase.map_or_else(String::new, |phase| format!(": {}", phase.doing()))),
        Span::styled(paused, theme.warn()),
    ])
    .render(first, buffer);
    let steps = match (now.unit, now.total) {
        (_, 0) => String::new(),
        ("bytes", total) => format!("{} of {}", human::bytes(now.done), human::bytes(total)),
        (unit, total) => format!("{}/{total} {unit}", now.done),
    };
    let share = if now.total > 0 { now.done as f64 / now.total as f64 } else { 0.0 };
    let study = format!("{:.0}% of study", (now.study * 100.0).clamp(0.0, 100.0));
    // Both gauges begin in one column.
    let wide = width(&steps).max(width(&study)).max(14).min(usize::from(second.width) / 2);
    Gauge::new(theme, share).label(fit(&steps, wide, Alignment::Left, "")).render(second, buffer);
    Gauge::new(theme, now.study)
        .style(theme.good())
        .label(fit(&study, wide, Alignment::Left, ""))
        .render(third, buffer);
    let mut words = vec![];
    if let Some(eta) = now.eta_seconds {
        words.push(format!("{} left", human::duration(eta)));
    }
    if let Some(elapsed) = engine.elapsed(state.now) {
        words.push(format!("{} so far", human::duration(elapsed)));
    }
    if now.tokens_per_second >= 0.5 {
        words.push(format!("{:.0} tokens/s", now.tokens_per_second));
    }
    if now.blocks_per_second > 0.0 {
        words.push(format!("{:.2} blocks/s", now.blocks_per_second));
    }
    let text = words.join(&format!(" {} ", theme.symbols().dot));
    let text = truncate(&text, fourth.width.into(), theme.symbols().ellipsis).into_owned();
    Line::styled(text, theme.dim()).render(fourth, buffer);
}

/// The same lines while nothing runs.
fn at_rest(state: &State, study_view: &StudyView, lines: [Rect; 3], buffer: &mut Buffer) {
    let theme = &state.theme;
    let (done, all) = study_view.progress();
    let failure = state.engine.failure.as_ref().filter(|_| state.shows_engine_study());
    let (text, style) = match (failure, done == all) {
        (Some(failure), _) => (format!("failed: {}", sanitize(failure)), theme.bad()),
        (None, true) => ("complete: press 3 to compare, 4 to read the answers".to_owned(), theme.good()),
        (None, false) if state.options.readonly => ("read-only".to_owned(), theme.dim()),
        (None, false) => ("not complete: R on History resumes it".to_owned(), theme.warn()),
    };
    let text = truncate(&text, lines[0].width.into(), theme.symbols().ellipsis).into_owned();
    Line::styled(text, style).render(lines[0], buffer);
    let model = &study_view.model;
    let what = format!(
        "{} parameters, {} blocks, {}, on {} in {}",
        human::count(model.parameters),
        model.blocks,
        model.dtype,
        study_view.environment.device,
        study_view.environment.compute_dtype
    );
    Line::styled(sanitize(&what).into_owned(), theme.dim()).render(lines[1], buffer);
    if let Some(elapsed) = state.engine.elapsed(state.now).filter(|_| state.shows_engine_study()) {
        Line::styled(format!("took {}", human::duration(elapsed)), theme.dim()).render(lines[2], buffer);
    }
}

/// The cell that the heat map shows: the selected one, or while the base is selected the one that is computed, else the
/// last that has modules.
fn mapped<'a>(state: &State, study_view: &'a StudyView) -> Option<&'a CellResult> {
    let selected = state.run.row(Some(study_view)).checked_sub(1).and_then(|at| study_view.cells.get(at));
    let running = |cell: &&CellResult| cell.state == CellState::Running;
    selected
        .or_else(|| study_view.cells.iter().find(running))
        .or_else(|| study_view.cells.iter().rev().find(|cell| !cell.modules.is_empty()))
}

/// The influence of the blocks as bars, as shares of the largest, where the set of the cell that is mapped was surveyed.
fn influence(state: &State, study_view: &StudyView) -> Option<HeatRow> {
    let found = study_view.influence_for(&mapped(state, study_view)?.spec)?;
    let largest = found.iter().copied().fold(0.0, f64::max);
    let share = |value: &f64| (largest > 0.0).then(|| (value / largest).clamp(0.0, 1.0));
    Some(HeatRow { label: "influence".into(), values: found.iter().map(share).collect() })
}

fn map(state: &State, study_view: &StudyView, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let Some(cell) = mapped(state, study_view) else {
        let inner = framed(theme, "Blocks", false, area, buffer);
        nothing(state, "Fills in as modules are compressed", inner, buffer);
        return;
    };
    let errors = state.run.errors;
    let what = if errors { "reconstruction error" } else { "sparsity" };
    let title = format!("{}: {what} by block", sanitize(&cell.spec.label()));
    let inner = framed(theme, &title, false, area, buffer);
    let finite = |value: f64| value.is_finite().then_some(value);
    let values = cell.modules.iter();
    // Errors are far apart: what counts is their order of magnitude.
    let figure = |m: &ModuleResult| {
        if errors {
            finite(m.reconstruction_error).filter(|e| *e > 0.0).map(f64::log10)
        } else {
            // Of a block or an expert that is gone nothing is left at all.
            Some(if m.footprint.weights == 0 { 1.0 } else { m.footprint.sparsity() })
        }
    };
    let (low, high) = if errors {
        let known = values.clone().filter_map(figure);
        known.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    } else {
        (0.0, 1.0)
    };
    let span = if high > low { high - low } else { 1.0 };
    let kinds = study_view.model.module_kinds();
    let figures = values.clone().map(|module| (module, figure(module).map(|v| (v - low) / span)));
    let rows = heat_rows(&kinds, study_view.model.blocks, figures);
    let scale = match (errors, low.is_finite()) {
        (false, _) => ("0%".to_owned(), "100%".to_owned()),
        (true, true) => (format!("{:.0e}", 10f64.powf(low)), format!("{:.0e}", 10f64.powf(high))),
        (true, false) => ("none".into(), "none".into()),
    };
    let bars = influence(state, study_view);
    HeatMap::new(theme, &rows).bars(bars.as_ref()).scale(scale.0, scale.1).render(inner, buffer);
}

/// A row for every kind of module, in which the experts of a block share a field: their mean.
fn heat_rows<'a>(
    kinds: &[ModuleKind],
    blocks: usize,
    figures: impl Iterator<Item = (&'a ModuleResult, Option<f64>)>,
) -> Vec<HeatRow> {
    let mut sums = vec![vec![(0.0, 0_u32); blocks]; kinds.len()];
    // Modules come in the order of the kinds, or nearly.
    let mut last = 0;
    for (module, value) in figures {
        let path = module.kind();
        let is_it = |at: &usize| kinds.get(*at).is_some_and(|kind| kind.path == path);
        let nearby = [last, last + 1].into_iter().find(is_it);
        let Some(at) = nearby.or_else(|| (0..kinds.len()).find(is_it)) else { continue };
        last = at;
        if let (Some((sum, count)), Some(value)) = (sums[at].get_mut(module.block), value) {
            *sum += value.clamp(0.0, 1.0);
            *count += 1;
        }
    }
    let row = |(kind, sums): (&ModuleKind, Vec<(f64, u32)>)| {
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        HeatRow { label: heat_label(kind), values: sums.into_iter().map(mean).collect() }
    };
    kinds.iter().zip(sums).map(row).collect()
}

/// What a row is called: `q`, `gate x128`, `shared gate`.
fn heat_label(kind: &ModuleKind) -> String {
    let mut parts = kind.path.rsplit('.');
    let name = parts.next().unwrap_or_default().trim_end_matches("_proj");
    match (kind.modules, parts.next(), parts.next()) {
        (1, Some(parent), Some(_)) => format!("{} {name}", parent.trim_end_matches("_expert")),
        (1, ..) => name.to_owned(),
        (modules, ..) => format!("{name} x{modules}"),
    }
}

fn machine(state: &State, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let (theme, samples) = (&state.theme, &state.engine.samples);
    let inner = framed(theme, "Machine", false, area, buffer);
    let Some(last) = samples.back() else {
        Line::styled("shown while a study runs", theme.dim())
            .render(Rect { height: inner.height.min(1), ..inner }, buffer);
        return;
    };
    let history = |of: &dyn Fn(&ResourceSample) -> Option<f64>| samples.iter().map(of).collect::<Vec<_>>();
    let cores = last.host_cores as f64;
    let mut lines: Vec<(&str, Vec<Option<f64>>, f64, String)> = vec![
        (
            "cpu",
            history(&|s| Some(f64::from(s.cpu_cores))),
            cores,
            format!("{:.1} of {cores} cores", last.cpu_cores),
        ),
        (
            "memory",
            history(&|s| Some(s.rss_bytes as f64)),
            samples.iter().map(|s| s.rss_bytes as f64).fold(1.0, f64::max),
            format!(
                "{}, host {} of {}",
                human::bytes(last.rss_bytes),
                human::bytes(last.host_used_bytes),
                human::bytes(last.host_total_bytes)
            ),
        ),
    ];
    if let Some(gpu) = last.gpu {
        lines.push(("gpu", history(&|s| s.gpu.map(f64::from)), 1.0, format!("{:.0}%", gpu * 100.0)));
        let (used, total) = (last.gpu_used_bytes.unwrap_or(0), last.gpu_total_bytes.unwrap_or(0));
        let text = format!("{} of {}", human::bytes(used), human::bytes(total));
        lines.push(("vram", history(&|s| s.gpu_used_bytes.map(|b| b as f64)), (total as f64).max(1.0), text));
    }
    for (row, (label, history, max, value)) in lines.into_iter().take(inner.height.into()).enumerate() {
        let place = Rect { y: inner.y + row as u16, height: 1, ..inner };
        Spark::new(theme, &history).label(label).label_width(6).max(max).value(value).render(place, buffer);
    }
}

fn log(state: &State, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let (theme, lines) = (&state.theme, &state.engine.log);
    let title = if state.run.scrolled > 0 {
        format!("Log, {} newer lines", state.run.scrolled)
    } else {
        "Log".into()
    };
    let inner = framed(theme, &title, false, area, buffer);
    let rows = usize::from(inner.height);
    let end = lines.len().saturating_sub(state.run.scrolled);
    // From the newest line upwards: long ones take several rows.
    let mut drawn = Vec::new();
    for line in lines.range(..end).rev() {
        let style = match line.level {
            LogLevel::Info => theme.text(),
            LogLevel::Good => theme.good(),
            LogLevel::Warning => theme.warn(),
            LogLevel::Error => theme.bad(),
        };
        let seconds = line.at.as_secs();
        let stamp = format!("{:02}:{:02}:{:02} ", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let room = usize::from(inner.width).saturating_sub(width(&stamp)).max(1);
        let blank = " ".repeat(width(&stamp));
        let texts = wrap(&sanitize(&line.text), room).into_iter().enumerate();
        let parts = texts.map(|(part, text)| {
            let before = if part == 0 { stamp.clone() } else { blank.clone() };
            Line::from(vec![Span::styled(before, theme.dim()), Span::styled(text, style)])
        });
        drawn.extend(parts.collect::<Vec<_>>().into_iter().rev());
        if drawn.len() >= rows {
            break;
        }
    }
    drawn.truncate(rows);
    for (row, line) in drawn.into_iter().rev().enumerate() {
        line.render(Rect { y: inner.y + row as u16, height: 1, ..inner }, buffer);
    }
}
