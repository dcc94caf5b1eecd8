//! The comparison as a picture: where everything stands, and the charts.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::axis::XAxis;
use super::charted::charted;
use super::data::{Comparison, ModelRow, comparison};
use super::readout::Readout;
use super::{figures, table, verdict};
use crate::scores::{Scale, Score, Subject, scores_on};
use crate::tui::state::{ChartedScore, CompareView, Panel, State, StudyView};
use crate::tui::view::parts::nothing;
use crate::tui::widgets::{Chart, ChartWindow, Point, PointTag, Series, YScale};

/// From this width on the three charts stand side by side.
const WIDE: u16 = 100;
/// The least width of a chart that shows one of three scores.
const NARROWEST: u16 = 20;
/// Charts of task scores that have the room of a chart each.
const MOST_CHARTS: u16 = 3;
/// From this height on there is room for more than the verdict above the charts, and for so many lines.
const TALL: u16 = 36;
const SMALLEST_LINES: usize = 4;
/// Rows below which charts leave no room for the table.
const SHARED: u16 = 13;

/// Where the parts of the screen are; those for which there is no room have no area.
struct ComparePlaces {
    verdict: (Vec<String>, Rect),
    charts: Vec<(Panel, Rect)>,
    readout: Rect,
    table: Rect,
}

pub(crate) fn panels(state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    let (Some(study_view), Some(found)) = (&state.study_view, comparison(state)) else { return Vec::new() };
    let places = places(state, study_view, &found, area);
    let table = (Panel::Table, places.table);
    places.charts.into_iter().chain([table]).filter(|(_, area)| !area.is_empty()).collect()
}

pub(crate) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(*buffer.area());
    if area.is_empty() {
        return;
    }
    let (Some(study_view), Some(found)) = (&state.study_view, comparison(state)) else {
        let words =
            "No study is open. Press r to run the one on the Study screen, or 5 to open one from the store.";
        nothing(state, words, area, buffer);
        return;
    };
    let places = places(state, study_view, &found, area);
    draw_verdict(state, &places.verdict.0, places.verdict.1, buffer);
    for (panel, area) in &places.charts {
        draw_panel(state, &found, *panel, *area, buffer);
    }
    readout(state, &found, area.width).draw(places.readout, buffer);
    if !places.table.is_empty() {
        table::draw(state, &found, places.table, buffer);
    }
}

fn places(state: &State, study_view: &StudyView, found: &Comparison<'_>, area: Rect) -> ComparePlaces {
    let view = &state.compare;
    let wide = area.width >= WIDE;
    let mut rest = area;
    let mut take = |rows: u16| {
        let rows = rows.min(rest.height);
        let taken = Rect { height: rows, ..rest };
        rest.y += rows;
        rest.height -= rows;
        taken
    };
    let lines = verdict_lines(state, study_view, area);
    let rows = take(lines.len() as u16);
    let left = area.height - rows.height;
    let verdict = (lines, rows);
    let only_table = ComparePlaces { verdict, charts: Vec::new(), readout: Rect::ZERO, table: Rect::ZERO };
    if view.panel == Panel::Table && (!wide || left < SHARED) {
        return ComparePlaces { table: take(left), ..only_table };
    }
    let rows = readout(state, found, area.width).height(area.width.saturating_sub(2));
    let most = if wide { left / 5 } else { left / 6 };
    let readout = if left < 8 { 0 } else { rows.min(most.max(2)) };
    let shared = left - readout;
    let share = if wide { 55 } else { 60 };
    let charts = if shared < SHARED { shared } else { (shared * share / 100).clamp(8, 26) };
    let charts = take(charts);
    let readout = take(readout);
    let readout = Rect { x: readout.x + 1, width: readout.width.saturating_sub(2), ..readout };
    let table = take(u16::MAX);
    if !wide {
        return ComparePlaces { charts: vec![(view.panel, charts)], readout, table, ..only_table };
    }
    // All scores get the room of a chart each.
    let shown = charted(&found.scores, view, Panel::Scores).len() as u16;
    let scores = if view.score == ChartedScore::All { shown.clamp(1, MOST_CHARTS) } else { 1 };
    let [a, b, c] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1), Constraint::Fill(scores)])
        .areas(charts);
    let charts = vec![(Panel::Perplexity, a), (Panel::Divergence, b), (Panel::Scores, c)];
    ComparePlaces { charts, readout, table, ..only_table }
}

/// The values at the cursor: all metrics on a wide screen, else those of the chart that is shown.
fn readout(state: &State, found: &Comparison<'_>, width: u16) -> Readout {
    let view = &state.compare;
    let scores = if width >= WIDE {
        [Panel::Perplexity, Panel::Divergence, Panel::Scores]
            .iter()
            .flat_map(|panel| charted(&found.scores, view, *panel))
            .collect()
    } else {
        charted(&found.scores, view, view.panel)
    };
    Readout::new(found, view, scores, width < WIDE, state.theme)
}

/// The verdict, in as many lines as there is room for.
fn verdict_lines(state: &State, study_view: &StudyView, area: Rect) -> Vec<String> {
    let width = usize::from(area.width.saturating_sub(3));
    let most = match area.height {
        0..6 => return Vec::new(),
        6..30 => 1,
        _ => 2,
    };
    let mut lines = verdict::lines(study_view, most, width, state.theme);
    if area.height >= TALL {
        lines.extend(verdict::smallest(study_view, SMALLEST_LINES, width, state.theme));
    }
    lines
}

fn draw_verdict(state: &State, lines: &[String], area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let smallest = lines.iter().position(|line| line.starts_with("Smallest")).unwrap_or(lines.len());
    for (i, (line, row)) in lines.iter().zip(area.rows()).enumerate() {
        let sign = if i == 0 { theme.symbols().chevron } else { " " };
        let style = if i < smallest { theme.title() } else { theme.text() };
        let spans = vec![Span::styled(format!(" {sign} "), theme.key()), Span::styled(line.clone(), style)];
        Line::from(spans).render(row, buffer);
    }
}

fn draw_panel(state: &State, found: &Comparison<'_>, panel: Panel, area: Rect, buffer: &mut Buffer) {
    let scores = charted(&found.scores, &state.compare, panel);
    if scores.len() > 1 && area.width / scores.len() as u16 >= NARROWEST {
        let areas = Layout::horizontal(scores.iter().map(|_| Constraint::Fill(1))).split(area);
        for (score, area) in scores.iter().zip(areas.iter()) {
            draw_chart(state, found, &[*score], panel, *area, buffer);
        }
    } else {
        draw_chart(state, found, &scores, panel, area, buffer);
    }
}

/// Draws scores of one kind into one chart.
fn draw_chart(
    state: &State,
    found: &Comparison<'_>,
    scores: &[&'static Score],
    panel: Panel,
    area: Rect,
    buffer: &mut Buffer,
) {
    let (theme, view) = (state.theme, &state.compare);
    let Some(&score) = scores.first() else { return };
    let lines: Vec<Series> =
        scores.iter().flat_map(|score| series(found, view, score, scores.len() > 1)).collect();
    let scale = if score.scale == Scale::Log { YScale::Log10 } else { YScale::Linear };
    let base = if scores.len() > 1 && !view.relative { None } else { base(found, view, score) };
    let (title, unit) = titles(state, found, scores);
    let x = found.window(view.zoom);

    // What is not in sight and bars that are much longer than the differences between values must not bend the axis.
    let seen = visible(&lines, x, scale);
    let mut measure = Chart::new(&theme, &seen).scale(scale);
    if let (None, Some(base)) = (view.zoom, base) {
        measure = measure.base(base, "");
    }
    let window = ChartWindow { x: Some(x), y: Some(measure.view().y) };

    let names = match &found.axis {
        XAxis::Cells { names, .. } => names.clone(),
        _ => Vec::new(),
    };
    let mut chart = Chart::new(&theme, &lines)
        .title(title)
        .unit(unit)
        .x_label(found.axis_label())
        .x_names(names)
        .front(if scores.len() > 1 { None } else { front(found, view, score) })
        .scale(scale)
        .cursor(found.cursor(view.cursor))
        .window(window)
        .focused(view.panel == panel)
        .legend(view.panel == panel);
    if let Some(base) = base {
        let label = if score.compares() || view.relative {
            "base".to_owned()
        } else {
            format!("base {}", figures::of_score(score, theme, Some(base), false))
        };
        chart = chart.base(base, label);
    }
    chart.render(area, buffer);
    if lines.iter().all(|series| series.points.is_empty()) {
        let words = match score.subject() {
            Subject::Task if !found.asked => "the study has no tasks",
            _ if found.axis.is_room() && !sizes_known(found) => {
                "no sizes are recorded: resume the study to add them"
            }
            _ => "nothing measured yet",
        };
        nothing(state, words, area.inner(Margin::new(1, 1)), buffer);
    }
}

/// The steps of the Pareto front of a score; `None` where the x axis is not one of size.
fn front(found: &Comparison<'_>, view: &CompareView, score: &Score) -> Option<Vec<(f64, f64)>> {
    let place = |i: usize| {
        let row = &found.rows[i];
        Some((row.x?, row.figures.value(score, &row.base, view.relative)?.value))
    };
    let front = || found.front(view, score).into_iter().filter_map(place).collect();
    found.axis.is_room().then(front)
}

/// Whether the size of a base is known, so that those of its cells are or will be.
fn sizes_known(found: &Comparison<'_>) -> bool {
    found.rows.iter().any(|row| row.cell.is_none() && row.whole.is_some())
}

/// Where the line of the base stands; `None` where it is not known, or no number that has a place.
fn base(found: &Comparison<'_>, view: &CompareView, score: &Score) -> Option<f64> {
    if score.of_itself.is_some() {
        return score.of_itself;
    }
    let row = found.rows.first().filter(|row| row.cell.is_none())?;
    let value = row.base.value(score, &row.base, view.relative)?.value;
    value.is_finite().then_some(value)
}

fn titles(state: &State, found: &Comparison<'_>, scores: &[&Score]) -> (String, &'static str) {
    let view = &state.compare;
    let base = state.study_view.as_ref().map(|study_view| &study_view.base.metrics);
    // Of scores that compare with the base, the base has none.
    let has = |score: &Score, task| {
        score.compares() || base.is_none_or(|metrics| metrics.find(score, task).is_some())
    };
    let tasks: Vec<_> =
        found.tasks.iter().filter(|task| scores.iter().any(|score| has(score, task))).collect();
    let relative = scores.first().is_some_and(|score| view.relative && !score.compares());
    let of_base = if relative { "/base" } else { "" };
    let names: Vec<&str> = scores.iter().map(|score| score.title).collect();
    let subject = scores.first().map(|score| score.subject());
    let on = match (subject, &found.corpus, tasks.as_slice()) {
        (Some(Subject::Corpus), Some(corpus), _) => format!(" on {corpus}"),
        (Some(Subject::Task), _, [task]) => format!(" on {task}"),
        (Some(Subject::Task), _, [_, _, ..]) => format!(" on {} tasks", tasks.len()),
        _ => String::new(),
    };
    let unit = scores.first().map_or("", |score| if score.scale == Scale::Log { "log" } else { score.unit });
    (format!("{}{of_base}{on}", names.join(", ")), unit)
}

/// The points of a score. Where several scores share a chart, `shared`, markers tell the scores apart.
fn series(found: &Comparison<'_>, view: &CompareView, score: &Score, shared: bool) -> Vec<Series> {
    let point = |row: &ModelRow<'_>| {
        let value = row.figures.value(score, &row.base, view.relative)?;
        let end = |end: f64| (end.is_finite() && value.value.is_finite()).then_some(end);
        Some(Point {
            x: row.x?,
            y: value.value,
            low: end(value.ci95[0]),
            high: end(value.ci95[1]),
            tag: row.pattern.clone().map_or(PointTag::Fraction, PointTag::NofM),
            pinned: view.pinned.contains(&row.key),
        })
    };
    let place = scores_on(score.subject()).position(|known| known == score);
    let of = |series: &super::data::CellSeries| Series {
        name: if shared { format!("{} {}", series.name, score.title) } else { series.name.clone() },
        points: series.rows.iter().filter_map(|&i| point(&found.rows[i])).collect(),
        style_index: series.style,
        marker: place.filter(|_| shared).unwrap_or(series.style),
    };
    found.series.iter().map(of).collect()
}

/// The points between `from` and `to`, their error bars cut where they are much longer than the values lie apart.
fn visible(series: &[Series], (from, to): (f64, f64), scale: YScale) -> Vec<Series> {
    let mut seen = series.to_vec();
    for series in &mut seen {
        series.points.retain(|point| (from..=to).contains(&point.x));
    }
    let height = |value: f64| if scale == YScale::Log10 { value.log10() } else { value };
    let back = |height: f64| if scale == YScale::Log10 { 10_f64.powf(height) } else { height };
    let heights = seen.iter().flat_map(|series| &series.points).map(|point| height(point.y));
    let (low, high) = heights
        .filter(|height| height.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), height| (low.min(height), high.max(height)));
    // A decade's third, or a tenth of the scale of scores and divergences, is room enough for one value alone.
    let room = ((high - low) * 0.3).max(if scale == YScale::Log10 { 0.15 } else { 0.05 });
    for point in seen.iter_mut().flat_map(|series| &mut series.points) {
        // The bar of a value that has no place has none either.
        let placed = height(point.y).is_finite();
        point.low = point.low.filter(|_| placed).map(|end| end.max(back(low - room)));
        point.high = point.high.filter(|_| placed).map(|end| end.min(back(high + room)));
    }
    seen
}
