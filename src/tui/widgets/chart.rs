//! Series over sparsity, as lines with markers.

mod canvas;
mod plot;
mod scale;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{panel, text};
use crate::tui::theme::Theme;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum YScale {
    /// Evenly.
    #[default]
    Linear,
    /// By the decimal logarithm; values up to 0 stand below the frame.
    Log10,
}

/// What the horizontal place of a point means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PointTag {
    /// A fraction of each matrix; such points are joined by the line of their series.
    Fraction,
    /// N:M sparsity, with its name: `2:4`. Such points stand alone.
    NofM(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    /// Where it stands across; a point whose `x` is no finite number is not drawn.
    pub x: f64,
    /// Its value. An infinite one, or NaN, is marked at the frame, breaks the line and does not bend the axis.
    pub y: f64,
    /// The lower end of its error bar.
    pub low: Option<f64>,
    /// The upper end of its error bar.
    pub high: Option<f64>,
    pub tag: PointTag,
    /// Whether the user has pinned it.
    pub pinned: bool,
}

/// Points of one kind. Their order does not matter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub name: String,
    pub points: Vec<Point>,
    /// Which of [`Theme::series`] it is drawn in.
    pub style_index: usize,
    /// Which of the markers it is drawn with; those of N:M points go along.
    pub marker: usize,
}

/// The part of the plane that the user wants to see; `None` is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct ChartWindow {
    /// From and to, across.
    pub x: Option<(f64, f64)>,
    /// From and to, upwards.
    pub y: Option<(f64, f64)>,
}

/// The part of the plane that is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// From and to, across.
    pub x: (f64, f64),
    /// From and to, upwards.
    pub y: (f64, f64),
}

/// A chart in a frame: title and unit in its upper border, the meaning of the horizontal axis in the lower.
///
/// Small areas lose the legend, then the labels of the axes, then the axes, then the frame.
#[derive(Debug, Clone)]
pub(crate) struct Chart<'a> {
    theme: &'a Theme,
    series: &'a [Series],
    title: String,
    unit: String,
    x_label: String,
    x_names: Vec<String>,
    scale: YScale,
    base: Option<(f64, String)>,
    front: Option<Vec<(f64, f64)>>,
    cursor: Option<f64>,
    window: ChartWindow,
    focused: bool,
    legend: bool,
}

impl<'a> Chart<'a> {
    pub(crate) fn new(theme: &'a Theme, series: &'a [Series]) -> Self {
        Self {
            theme,
            series,
            title: String::new(),
            unit: String::new(),
            x_label: String::new(),
            x_names: Vec::new(),
            scale: YScale::Linear,
            base: None,
            front: None,
            cursor: None,
            window: ChartWindow::default(),
            focused: false,
            legend: false,
        }
    }

    #[must_use]
    pub(crate) fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Its unit, shown behind the title.
    #[must_use]
    pub(crate) fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// The meaning of the horizontal axis.
    #[must_use]
    pub(crate) fn x_label(mut self, label: impl Into<String>) -> Self {
        self.x_label = label.into();
        self
    }

    /// Names of the places 1, 2, 3 … of the horizontal axis, instead of numbers.
    #[must_use]
    pub(crate) fn x_names(mut self, names: Vec<String>) -> Self {
        self.x_names = names;
        self
    }

    /// How heights grow with values; linearly by default.
    #[must_use]
    pub(crate) fn scale(mut self, scale: YScale) -> Self {
        self.scale = scale;
        self
    }

    /// A horizontal line at the value of the base, with its label.
    #[must_use]
    pub(crate) fn base(mut self, value: f64, label: impl Into<String>) -> Self {
        self.base = Some((value, label.into()));
        self
    }

    /// The Pareto front, from left to right: drawn as steps, since what is best at a place stays so until the next one. With
    /// it the points of a series are not joined.
    #[must_use]
    pub(crate) fn front(mut self, front: Option<Vec<(f64, f64)>>) -> Self {
        self.front = front;
        self
    }

    /// A vertical line across all of the chart.
    #[must_use]
    pub(crate) fn cursor(mut self, x: Option<f64>) -> Self {
        self.cursor = x;
        self
    }

    /// The part to show. A window that is empty or not finite counts as none.
    #[must_use]
    pub(crate) fn window(mut self, window: ChartWindow) -> Self {
        self.window = window;
        self
    }

    #[must_use]
    pub(crate) fn focused(mut self, focused: bool) -> Self {
        self.focused = focused;
        self
    }

    /// Whether to draw a legend, into a corner without data.
    #[must_use]
    pub(crate) fn legend(mut self, legend: bool) -> Self {
        self.legend = legend;
        self
    }

    /// The part of the plane that the chart shows: the window, or else all finite values with a margin. A zoom starts
    /// from it.
    pub(crate) fn view(&self) -> View {
        let (x, y) = self.axes();
        View { x: (x.low, x.high), y: (y.low, y.high) }
    }

    /// Marker and name of each series, for a legend that the caller places.
    pub(crate) fn legend_spans(&self) -> Vec<Vec<Span<'static>>> {
        let symbols = self.theme.symbols();
        let entry = |series: &Series| {
            let marker = symbols.markers[series.marker % symbols.markers.len()];
            vec![
                Span::styled(marker, self.theme.series(series.style_index)),
                Span::styled(format!(" {}", text::sanitize(&series.name)), self.theme.text()),
            ]
        };
        let front = self.front.as_ref().filter(|front| front.len() > 1).map(|_| {
            let line = if symbols.braille { symbols.horizontal } else { symbols.heavy };
            vec![Span::styled(line, self.theme.title()), Span::styled(" Pareto front", self.theme.text())]
        });
        self.series.iter().map(entry).chain(front).collect()
    }
}

impl Widget for Chart<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(*buf.area());
        if area.is_empty() {
            return;
        }
        let mut inside = area;
        if area.width >= 8 && area.height >= 4 {
            let room = usize::from(area.width) - 4;
            let ellipsis = self.theme.symbols().ellipsis;
            let title = text::truncate(&self.title, room, ellipsis).into_owned();
            let mut block = panel(self.theme, &title, self.focused);
            if !self.unit.is_empty() && text::width(&title) + text::width(&self.unit) + 3 < room {
                let unit = format!(" {} ", text::sanitize(&self.unit));
                block = block.title_top(Line::styled(unit, self.theme.dim()).right_aligned());
            }
            if !self.x_label.is_empty() && text::width(&self.x_label) <= room {
                let label = format!(" {} ", text::sanitize(&self.x_label));
                block = block.title_bottom(Line::styled(label, self.theme.dim()).right_aligned());
            }
            inside = block.inner(area);
            block.render(area, buf);
        }
        self.draw(inside, buf);
    }
}
