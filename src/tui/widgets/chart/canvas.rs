//! A grid of cells to draw lines on, in dots finer than the cells where braille may be used.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::tui::widgets::put;

/// Bits of a braille character's dots by row and column.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    dots: u8,
    glyph: Option<&'static str>,
    point: bool,
    style: Style,
}

/// The grid. Places are in dots, from the upper left; what lies outside is not drawn.
#[derive(Debug)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    braille: bool,
    marks: Vec<Mark>,
}

impl Canvas {
    pub(crate) fn new(width: u16, height: u16, braille: bool) -> Self {
        let (width, height) = (usize::from(width), usize::from(height));
        Self { width, height, braille, marks: vec![Mark::default(); width * height] }
    }

    /// Dots across and down.
    pub(crate) fn dots(&self) -> (usize, usize) {
        let (x, y) = self.density();
        (self.width * x, self.height * y)
    }

    /// Cells across and down.
    pub(crate) fn cells(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Dots of one cell, across and down.
    fn density(&self) -> (usize, usize) {
        if self.braille { (2, 4) } else { (1, 1) }
    }

    fn cell(&mut self, x: i64, y: i64) -> Option<&mut Mark> {
        let (dx, dy) = self.density();
        let (x, y) = (usize::try_from(x).ok()? / dx, usize::try_from(y).ok()? / dy);
        (x < self.width && y < self.height).then(|| &mut self.marks[y * self.width + x])
    }

    /// Draws one dot; without braille its whole cell as `glyph`.
    pub(crate) fn dot(&mut self, x: i64, y: i64, glyph: &'static str, style: Style) {
        let braille = self.braille;
        if let Some(mark) = self.cell(x, y) {
            if braille {
                mark.dots |= DOTS[(y % 4) as usize][(x % 2) as usize];
            } else {
                mark.glyph = Some(glyph);
            }
            mark.style = style;
        }
    }

    /// Draws a straight line between two places, both ends included.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), style: Style) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let steep = dy.abs() > 2.0 * dx.abs();
        let glyph = match () {
            () if steep => "|",
            () if dy.abs() < 0.5 * dx.abs() => "-",
            () if (dx > 0.0) == (dy > 0.0) => "\\",
            () => "/",
        };
        let steps = dx.abs().max(dy.abs()).ceil().max(1.0);
        for i in 0..=steps as usize {
            let t = i as f64 / steps;
            let (x, y) = (from.0 + dx * t, from.1 + dy * t);
            self.dot(x.floor() as i64, y.floor() as i64, glyph, style);
        }
    }

    /// Marks a point over the cell in which a dot lies; where another point is marked there already, beside it.
    pub(crate) fn point(&mut self, x: i64, y: i64, glyph: &'static str, style: Style) {
        /// Columns from the cell, in the order in which they are tried.
        const BESIDE: [i64; 5] = [0, 1, -1, 2, -2];
        let across = self.density().0 as i64;
        let mut last = None;
        for by in BESIDE {
            let Some(mark) = self.cell(x + by * across, y) else { continue };
            if !mark.point {
                *mark = Mark { dots: 0, glyph: Some(glyph), point: true, style };
                return;
            }
            last = Some(by);
        }
        // All are taken: the last says that there are more.
        if let Some(mark) = last.and_then(|by| self.cell(x + by * across, y)) {
            mark.glyph = Some("+");
        }
    }

    /// Whether nothing is drawn in a rectangle of cells.
    pub(crate) fn is_free(&self, x: usize, y: usize, width: usize, height: usize) -> bool {
        let empty = |mark: &Mark| mark.dots == 0 && mark.glyph.is_none();
        x + width <= self.width
            && (y..y + height).all(|y| {
                y < self.height
                    && self.marks[y * self.width + x..y * self.width + x + width].iter().all(empty)
            })
    }

    /// Puts what is drawn over the cells of an area of the grid's size.
    pub(crate) fn render(&self, area: Rect, buf: &mut Buffer) {
        for (i, mark) in self.marks.iter().enumerate() {
            let (x, y) = (area.x + (i % self.width) as u16, area.y + (i / self.width) as u16);
            match mark {
                Mark { glyph: Some(glyph), style, .. } => _ = put(buf, area, x, y, glyph, *style),
                Mark { dots: 0, .. } => {}
                Mark { dots, style, .. } => {
                    // All 256 characters from U+2800 on are braille.
                    let c = char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' ');
                    put(buf, area, x, y, c.encode_utf8(&mut [0; 4]), *style);
                }
            }
        }
    }
}
