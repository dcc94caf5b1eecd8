//! Drawing a chart into its frame.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::canvas::Canvas;
use super::scale::{Axis, Tick};
use super::{Chart, Point, PointTag, Series, YScale};
use crate::tui::widgets::{put, text};

/// Rows from one label of the vertical axis to the next, at least.
const ROWS_PER_TICK: u16 = 3;
/// Columns from one label of the horizontal axis to the next, at least.
const COLUMNS_PER_TICK: u16 = 8;

/// Where the parts of the chart stand.
struct PlotLayout {
    plot: Rect,
    /// Labels of the vertical axis, the axis excluded.
    y_labels: Option<Rect>,
    x_labels: Option<Rect>,
    /// Whether lines are drawn left of and below the plot.
    axes: bool,
}

impl PlotLayout {
    fn new(area: Rect, label_width: u16) -> Self {
        let axes = area.width >= 10 && area.height >= 4;
        if !axes {
            return Self { plot: area, y_labels: None, x_labels: None, axes };
        }
        let left = if area.width >= label_width + 14 { label_width } else { 0 };
        let below = u16::from(area.height >= 6);
        let plot = Rect {
            x: area.x + left + 1,
            y: area.y,
            width: area.width - left - 1,
            height: area.height - below - 1,
        };
        let y_labels = (left > 0).then_some(Rect { x: area.x, y: area.y, width: left, height: plot.height });
        let x_labels = (below > 0).then_some(Rect { y: area.bottom() - 1, height: 1, ..area });
        Self { plot, y_labels, x_labels, axes }
    }
}

/// A canvas with the axes that place values on it.
struct Plot {
    canvas: Canvas,
    x: Axis,
    y: Axis,
}

impl Plot {
    /// The dot that a place on the axes, `0 … 1` each, falls on, as a real number.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (width, height) = self.canvas.dots();
        (x * (width.max(1) - 1) as f64 + 0.5, (1.0 - y) * (height.max(1) - 1) as f64 + 0.5)
    }

    /// The column of dots of a value on the horizontal axis, if it is on it.
    fn column(&self, x: f64) -> Option<i64> {
        let place = self.x.place(x);
        (-1e-9..=1.0 + 1e-9).contains(&place).then(|| self.at((place.clamp(0.0, 1.0), 0.0)).0 as i64)
    }

    /// The row of dots of a value on the vertical axis, if it is on it.
    fn row(&self, y: f64) -> Option<i64> {
        let place = self.y.place(y);
        (-1e-9..=1.0 + 1e-9).contains(&place).then(|| self.at((0.0, place.clamp(0.0, 1.0))).1 as i64)
    }
}

impl Chart<'_> {
    /// The axes: the window, or what the data needs.
    pub(super) fn axes(&self) -> (Axis, Axis) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = self.window.x.and_then(|window| Axis::between(window, YScale::Linear));
        let x = x.unwrap_or_else(|| Axis::around(points().map(|p| p.x), YScale::Linear, 0.04));
        let y = self.window.y.and_then(|window| Axis::between(window, self.scale));
        let y = y.unwrap_or_else(|| {
            let bars =
                points().filter(|p| p.y.is_finite()).flat_map(|p| [p.low, p.high].into_iter().flatten());
            let base = self.base.iter().map(|base| base.0);
            Axis::around(points().map(|p| p.y).chain(bars).chain(base), self.scale, 0.06)
        });
        (x, y)
    }

    /// Draws everything inside the frame.
    pub(super) fn draw(&self, area: Rect, buf: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let (x, y) = self.axes();
        let y_ticks = y.ticks(usize::from((area.height / ROWS_PER_TICK).max(2)));
        let label_width = y_ticks.iter().map(|tick| tick.label.len()).max().unwrap_or(0) as u16;
        let layout = PlotLayout::new(area, label_width);
        let plot_area = layout.plot;
        let canvas = Canvas::new(plot_area.width, plot_area.height, self.theme.symbols().braille);
        let mut plot = Plot { canvas, x, y };
        let x_ticks = if self.x_names.is_empty() {
            x.ticks(usize::from((plot_area.width / COLUMNS_PER_TICK).max(2)))
        } else {
            self.named_ticks(&plot)
        };

        if layout.axes {
            self.draw_grid(&plot, &y_ticks, plot_area, buf);
            self.draw_y_axis(&plot, &y_ticks, &layout, buf);
            self.draw_x_axis(&plot, &x_ticks, &layout, buf);
        }
        self.draw_cursor(&plot, plot_area, buf);
        let base_row = self.draw_base(&mut plot);
        match &self.front {
            Some(front) => self.draw_front(&mut plot, front),
            None => self.series.iter().for_each(|series| self.draw_line(&mut plot, series)),
        }
        for series in self.series {
            self.draw_bars(&mut plot, series);
        }
        for series in self.series {
            self.draw_markers(&mut plot, series);
        }
        plot.canvas.render(plot_area, buf);
        if let Some(row) = base_row {
            self.draw_base_label(&plot, row, plot_area, buf);
        }
        if self.legend {
            self.draw_legend(&plot, plot_area, buf);
        }
    }

    /// The names of the places 1, 2, 3 …, cut to the room from one to the next.
    fn named_ticks(&self, plot: &Plot) -> Vec<Tick> {
        let columns = plot.canvas.cells().0 as f64 / (plot.x.high - plot.x.low);
        let room = (columns as usize).saturating_sub(1);
        let label = |name: &String| match room {
            0..5 => String::new(),
            _ => text::truncate(name, room, self.theme.symbols().ellipsis).into_owned(),
        };
        let names = self.x_names.iter().zip(1..);
        names.map(|(name, place)| Tick { value: f64::from(place), label: label(name) }).collect()
    }

    /// Faint lines at the labelled heights.
    fn draw_grid(&self, plot: &Plot, ticks: &[Tick], area: Rect, buf: &mut Buffer) {
        let symbols = self.theme.symbols();
        // With few colours they would be as bright as the data.
        if !symbols.braille || !self.theme.paints() {
            return;
        }
        for row in ticks.iter().filter_map(|tick| plot.row(tick.value)) {
            let y = area.y + (row / 4) as u16;
            for x in area.left()..area.right() {
                put(buf, area, x, y, symbols.dashed, self.theme.grid());
            }
        }
    }

    fn draw_y_axis(&self, plot: &Plot, ticks: &[Tick], layout: &PlotLayout, buf: &mut Buffer) {
        let (theme, symbols, area) = (self.theme, self.theme.symbols(), layout.plot);
        let x = area.x - 1;
        let line = Rect { x, width: 1, ..area };
        for y in area.top()..area.bottom() {
            put(buf, line, x, y, symbols.vertical, theme.border());
        }
        let rows_per_cell = plot.canvas.dots().1 as i64 / i64::from(area.height);
        for tick in ticks {
            let Some(row) = plot.row(tick.value) else { continue };
            let y = area.y + (row / rows_per_cell) as u16;
            put(buf, line, x, y, symbols.tick_left, theme.border());
            if let Some(labels) = layout.y_labels {
                let start = labels.right() - (tick.label.len() as u16).min(labels.width);
                put(buf, labels, start, y, &tick.label, theme.dim());
            }
        }
    }

    fn draw_x_axis(&self, plot: &Plot, ticks: &[Tick], layout: &PlotLayout, buf: &mut Buffer) {
        let (theme, symbols, area) = (self.theme, self.theme.symbols(), layout.plot);
        let line = Rect { x: area.x - 1, y: area.bottom(), width: area.width + 1, height: 1 };
        put(buf, line, line.x, line.y, symbols.corner, theme.border());
        for x in area.left()..area.right() {
            put(buf, line, x, line.y, symbols.horizontal, theme.border());
        }
        let columns_per_cell = plot.canvas.dots().0 as i64 / i64::from(area.width);
        let mut free = layout.x_labels.map_or(0, |labels| labels.x);
        for tick in ticks {
            let Some(column) = plot.column(tick.value) else { continue };
            let x = area.x + (column / columns_per_cell) as u16;
            put(buf, line, x, line.y, symbols.tick_down, theme.border());
            if let Some(labels) = layout.x_labels {
                let width = text::width(&tick.label) as u16;
                let start =
                    x.saturating_sub(width / 2).max(labels.x).min(labels.right().saturating_sub(width));
                if start >= free {
                    put(buf, labels, start, labels.y, &tick.label, theme.dim());
                    free = start + width + 1;
                }
            }
        }
    }

    fn draw_cursor(&self, plot: &Plot, area: Rect, buf: &mut Buffer) {
        let Some(column) = self.cursor.and_then(|x| plot.column(x)) else { return };
        let x = area.x + (column / (plot.canvas.dots().0 as i64 / i64::from(area.width))) as u16;
        for y in area.top()..area.bottom() {
            put(buf, area, x, y, self.theme.symbols().dashed_down, self.theme.accent());
        }
    }

    /// The line of the base; gives its row of dots.
    fn draw_base(&self, plot: &mut Plot) -> Option<i64> {
        let (value, _) = self.base.as_ref()?;
        let row = plot.row(*value)?;
        for x in 0..plot.canvas.dots().0 as i64 {
            // In braille: two dots, one blank.
            if !self.theme.symbols().braille || x % 3 != 2 {
                plot.canvas.dot(x, row, self.theme.symbols().dashed, self.theme.base_line());
            }
        }
        Some(row)
    }

    /// The words beside the line of the base: at its right or left end, above or below it, where nothing else is.
    fn draw_base_label(&self, plot: &Plot, row: i64, area: Rect, buf: &mut Buffer) {
        let Some((_, label)) = &self.base else { return };
        let width = text::width(label);
        if width == 0 || width + 4 > usize::from(area.width) || area.height < 4 {
            return;
        }
        let rows_per_cell = plot.canvas.dots().1 / usize::from(area.height);
        let y = usize::try_from(row).unwrap_or(0) / rows_per_cell;
        let right = usize::from(area.width) - width - 1;
        let places =
            [(right, y.checked_sub(1)), (1, y.checked_sub(1)), (right, Some(y + 1)), (1, Some(y + 1))];
        let free = places.into_iter().find_map(|(x, y)| {
            let y = y.filter(|y| plot.canvas.is_free(x.saturating_sub(1), *y, width + 1, 1))?;
            Some((x, y))
        });
        if let Some((x, y)) = free {
            let style = self.theme.base_line().add_modifier(Modifier::ITALIC);
            put(buf, area, area.x + x as u16, area.y + y as u16, &text::sanitize(label), style);
        }
    }

    /// Joins the points that are fractions, from left to right, as far as they have a place.
    fn draw_line(&self, plot: &mut Plot, series: &Series) {
        let style = self.theme.series(series.style_index);
        let mut points: Vec<&Point> =
            series.points.iter().filter(|p| p.tag == PointTag::Fraction && p.x.is_finite()).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        for pair in points.windows(2) {
            let place = |p: &Point| (plot.x.place(p.x), plot.y.place(p.y));
            if let Some((from, to)) = clip(place(pair[0]), place(pair[1])) {
                let (from, to) = (plot.at(from), plot.at(to));
                plot.canvas.line(from, to, style);
            }
        }
    }

    /// Joins the points of the front by steps: across first, then to the next value.
    fn draw_front(&self, plot: &mut Plot, front: &[(f64, f64)]) {
        let style = self.theme.title();
        let place = |plot: &Plot, (x, y): (f64, f64)| (plot.x.place(x), plot.y.place(y));
        for pair in front.windows(2) {
            let corner = (pair[1].0, pair[0].1);
            if let Some((from, to)) = clip(place(plot, pair[0]), place(plot, corner)) {
                let ((from, row), (to, _)) = (plot.at(from), plot.at(to));
                // Heavy where there is no braille: lines of the base are of the same glyph as other lines there.
                for x in from as i64..=to as i64 {
                    plot.canvas.dot(x, row as i64, self.theme.symbols().heavy, style);
                }
            }
            if let Some((from, to)) = clip(place(plot, corner), place(plot, pair[1])) {
                let (from, to) = (plot.at(from), plot.at(to));
                plot.canvas.line(from, to, style);
            }
        }
    }

    fn draw_bars(&self, plot: &mut Plot, series: &Series) {
        let style = self.theme.series(series.style_index);
        for point in series.points.iter().filter(|p| p.y.is_finite()) {
            let (Some(column), Some(low), Some(high)) = (plot.column(point.x), point.low, point.high) else {
                continue;
            };
            let (low, high) = (plot.y.place(low), plot.y.place(high));
            if low.is_nan() || high.is_nan() || low.min(high) > 1.0 || low.max(high) < 0.0 {
                continue;
            }
            let row = |place: f64| plot.at((0.0, place.clamp(0.0, 1.0))).1 as i64;
            for y in row(low.max(high))..=row(low.min(high)) {
                plot.canvas.dot(column, y, self.theme.symbols().vertical, style);
            }
        }
    }

    fn draw_markers(&self, plot: &mut Plot, series: &Series) {
        let symbols = self.theme.symbols();
        let style = self.theme.series(series.style_index);
        let bottom = plot.canvas.dots().1 as i64 - 1;
        for point in &series.points {
            let Some(column) = plot.column(point.x) else { continue };
            let set = if point.tag == PointTag::Fraction { &symbols.markers } else { &symbols.nm_markers };
            let style = if point.pinned { pinned(style) } else { style };
            let place = plot.y.place(point.y);
            let (row, glyph) = match plot.row(point.y) {
                Some(row) => (row, set[series.marker % set.len()]),
                None if point.y.is_nan() => (bottom, symbols.missing),
                None if point.y.is_infinite() => (if point.y > 0.0 { 0 } else { bottom }, symbols.infinity),
                // A finite value outside the window, or one that has no logarithm.
                None if place > 1.0 => (0, symbols.up),
                None => (bottom, symbols.down),
            };
            plot.canvas.point(column, row, glyph, style);
        }
    }

    /// The legend, in the first corner that is free of data.
    fn draw_legend(&self, plot: &Plot, area: Rect, buf: &mut Buffer) {
        let entries = self.legend_spans();
        let entry_width =
            |entry: &Vec<_>| entry.iter().map(|s: &ratatui::text::Span| text::width(&s.content)).sum();
        let width: usize = entries.iter().map(entry_width).max().unwrap_or(0);
        let height = entries.len();
        if height == 0 || width + 2 > usize::from(area.width) || height > usize::from(area.height) {
            return;
        }
        let (right, bottom) = (usize::from(area.width) - width - 1, usize::from(area.height) - height);
        let corners = [(1, 0), (right, 0), (right, bottom), (1, bottom)];
        let free = corners.into_iter().find(|&(x, y)| plot.canvas.is_free(x - 1, y, width + 2, height));
        let Some((x, y)) = free else { return };
        for (i, entry) in entries.iter().enumerate() {
            let (mut x, y) = (area.x + x as u16, area.y + (y + i) as u16);
            let blank = " ".repeat(width);
            put(buf, area, x, y, &blank, self.theme.text());
            for span in entry {
                x += put(buf, area, x, y, &span.content, span.style);
            }
        }
    }
}

fn pinned(style: Style) -> Style {
    style.add_modifier(Modifier::BOLD | Modifier::REVERSED)
}

/// The part of a line between two places that lies on the axes, both `0 … 1`; `None` if there is none, or if an end has
/// no place.
fn clip(from: (f64, f64), to: (f64, f64)) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    if ![from.0, from.1, dx, dy].iter().all(|v| v.is_finite()) {
        return None;
    }
    let (mut start, mut end) = (0.0_f64, 1.0_f64);
    for (at, d) in [(from.0, dx), (from.1, dy)] {
        if d == 0.0 {
            if !(0.0..=1.0).contains(&at) {
                return None;
            }
            continue;
        }
        let (a, b) = ((0.0 - at) / d, (1.0 - at) / d);
        start = start.max(a.min(b));
        end = end.min(a.max(b));
    }
    let at = |t: f64| ((from.0 + dx * t).clamp(0.0, 1.0), (from.1 + dy * t).clamp(0.0, 1.0));
    (start <= end).then(|| (at(start), at(end)))
}
