//! What the widgets look like, and that nothing makes them panic or leave their area.

#![allow(clippy::float_cmp, reason = "exact values are meant")]

mod any;
mod look;

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use super::{HeatRow, Point, PointTag, Series};
use crate::tui::snapshot::{PictureFormat, render};
use crate::tui::theme::{Background, ColorMode, Theme};

const FULL: Theme = Theme::new(ColorMode::TrueColor, Background::Dark, false);
const PLAIN: Theme = Theme::new(ColorMode::None, Background::Dark, false);
const ASCII: Theme = Theme::new(ColorMode::None, Background::Dark, true);

/// The characters of a widget of this size, a line a row. Blanks at the ends of lines are dropped.
fn drawn(widget: impl Widget, width: u16, height: u16) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    widget.render(*buffer.area(), &mut buffer);
    String::from_utf8(render(&buffer, &PLAIN, PictureFormat::Text).unwrap()).unwrap()
}

/// Draws a widget into the middle of a larger screen and checks that what is around it stays.
fn stays_inside(widget: impl Widget, width: u16, height: u16) -> Buffer {
    let mut around = Cell::new("#");
    around.set_fg(ratatui::style::Color::Red);
    let area = Rect::new(2, 1, width, height);
    let mut buffer = Buffer::filled(Rect::new(0, 0, width + 5, height + 3), around.clone());
    for position in area.positions() {
        buffer[position].reset();
    }
    widget.render(area, &mut buffer);
    for position in buffer.area().positions().filter(|p| !area.contains(*p)) {
        assert_eq!(buffer[position], around, "{position:?} outside of {area:?}");
    }
    buffer
}

fn point(x: f64, y: f64) -> Point {
    Point { x, y, low: None, high: None, tag: PointTag::Fraction, pinned: false }
}

fn series(name: &str, index: usize, points: Vec<Point>) -> Series {
    Series { name: name.to_owned(), points, style_index: index, marker: index }
}

/// Perplexities as a study gives them, with error bars and 2:4, and one that is infinite.
fn perplexities() -> Vec<Series> {
    let bar = |x: f64, y: f64| Point { low: Some(y * 0.9), high: Some(y * 1.1), ..point(x, y) };
    let nm = |y: f64| Point { tag: PointTag::NofM("2:4".to_owned()), ..point(50.0, y) };
    let infinite = point(80.0, f64::INFINITY);
    vec![
        series(
            "magnitude",
            0,
            vec![bar(10.0, 29.1), bar(30.0, 41.0), bar(50.0, 320.0), infinite, nm(1483.0)],
        ),
        series(
            "wanda",
            1,
            vec![bar(10.0, 28.6), bar(30.0, 32.7), bar(50.0, 55.0), bar(80.0, 900.0), nm(140.0)],
        ),
        series("sparsegpt", 2, vec![bar(10.0, 28.6), bar(30.0, 31.5), bar(50.0, 43.0), bar(80.0, 210.0)]),
    ]
}

/// A heat map half filled: seven modules of `blocks` blocks.
fn half_filled(blocks: usize) -> Vec<HeatRow> {
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        .into_iter()
        .enumerate()
        .map(|(i, label)| HeatRow {
            label: label.to_owned(),
            values: (0..blocks)
                .map(|b| (b * 7 + i < blocks * 4).then(|| ((b * 5 + i * 11) % 31) as f64 / 30.0))
                .collect(),
        })
        .collect()
}
