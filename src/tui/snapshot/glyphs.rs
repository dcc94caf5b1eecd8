//! Box drawing, blocks, braille and markers as shapes, so that they meet without seams whatever the font.
//!
//! Shapes are paths in SVG's notation. A cell is [`WIDTH`] by [`HEIGHT`]; light lines are one unit thick and lie on whole
//! units, so that they are crisp at any whole scale.

use std::fmt::Write as _;

pub(crate) const WIDTH: f32 = 9.0;
pub(crate) const HEIGHT: f32 = 20.0;
/// Where lines down have their middle.
const MIDDLE_X: f32 = 4.5;
/// Where lines across have their middle.
const MIDDLE_Y: f32 = 9.5;
/// Half the distance between the lines of a double one.
const APART: f32 = 1.5;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shapes {
    pub fill: String,
    /// To be stroked, one unit thick.
    pub stroke: String,
}

/// A coordinate to a hundredth, which is finer than any pixel.
fn n(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

impl Shapes {
    pub(crate) fn rect(&mut self, x: f32, y: f32, width: f32, height: f32) {
        let width = n(width);
        // Writing to a String cannot fail; so below.
        _ = write!(self.fill, "M{} {}h{width}v{}h{}z", n(x), n(y), n(height), -width);
    }

    fn polygon(&mut self, x: f32, y: f32, points: &[(f32, f32)]) {
        for (i, (dx, dy)) in points.iter().enumerate() {
            _ = write!(self.fill, "{}{} {}", if i == 0 { 'M' } else { 'L' }, n(x + dx), n(y + dy));
        }
        self.fill.push('z');
    }

    /// The outline of a polygon, as a polygon with a hole: the inner one runs the other way around.
    fn outline(&mut self, x: f32, y: f32, points: &[(f32, f32)], inner: &[(f32, f32)]) {
        self.polygon(x, y, points);
        let reversed: Vec<_> = inner.iter().rev().copied().collect();
        self.polygon(x, y, &reversed);
    }

    fn circle(&mut self, x: f32, y: f32, r: f32) {
        _ = write!(
            self.fill,
            "M{} {}a{r} {r} 0 1 1 {d} 0a{r} {r} 0 1 1 -{d} 0z",
            n(x - r),
            n(y),
            d = n(2.0 * r)
        );
    }

    fn ring(&mut self, x: f32, y: f32, r: f32, thickness: f32) {
        self.circle(x, y, r);
        let r = n(r - thickness);
        let d = n(2.0 * r);
        _ = write!(self.fill, "M{} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z", n(x - r), n(y));
    }

    fn line(&mut self, x: f32, y: f32, points: &[(f32, f32)]) {
        for (i, (dx, dy)) in points.iter().enumerate() {
            _ = write!(self.stroke, "{}{} {}", if i == 0 { 'M' } else { 'L' }, n(x + dx), n(y + dy));
        }
    }
}

/// How much of a cell a shade covers; `None` for what is no shade.
pub(crate) fn shade(symbol: char) -> Option<f32> {
    match symbol {
        '░' => Some(0.25),
        '▒' => Some(0.5),
        '▓' => Some(0.75),
        _ => None,
    }
}

/// Adds the shape of a character whose cell has its upper left corner at `x`, `y`. `false` for characters that are left
/// to the font.
pub(crate) fn draw(symbol: char, x: f32, y: f32, shapes: &mut Shapes) -> bool {
    match symbol {
        '\u{2500}'..='\u{257f}' => boxes(symbol, x, y, shapes),
        '\u{2580}'..='\u{259f}' => blocks(symbol, x, y, shapes),
        '\u{2800}'..='\u{28ff}' => braille(symbol, x, y, shapes),
        _ => markers(symbol, x, y, shapes),
    }
}

/// The arms of a box drawing character: left, right, up, down; 0 none, 1 light, 2 heavy, 3 double. Sixteen to a row, in
/// the order of Unicode from U+2500 on. Dashes, arcs and diagonals, which are drawn by themselves, are `----`.
const ARMS: [&str; 8] = [
    "1100 2200 0011 0022 ---- ---- ---- ---- ---- ---- ---- ---- 0101 0201 0102 0202",
    "1001 2001 1002 2002 0110 0210 0120 0220 1010 2010 1020 2020 0111 0211 0121 0112",
    "0122 0221 0212 0222 1011 2011 1021 1012 1022 2021 2012 2022 1101 2101 1201 2201",
    "1102 2102 1202 2202 1110 2110 1210 2210 1120 2120 1220 2220 1111 2111 1211 2211",
    "1121 1112 1122 2121 1221 2112 1212 2221 2212 2122 1222 2222 ---- ---- ---- ----",
    "3300 0033 0301 0103 0303 3001 1003 3003 0310 0130 0330 3010 1030 3030 0311 0133",
    "0333 3011 1033 3033 3301 1103 3303 3310 1130 3330 3311 1133 3333 ---- ---- ----",
    "---- ---- ---- ---- 1000 0010 0100 0001 2000 0020 0200 0002 1200 0012 2100 0021",
];

/// Looks the arms of a box drawing character up.
fn arms(symbol: char) -> Option<[u8; 4]> {
    let index = (symbol as usize).checked_sub(0x2500)?;
    let word = ARMS.get(index / 16)?.split(' ').nth(index % 16)?.as_bytes();
    let arms = [0, 1, 2, 3].map(|i| word.get(i).map_or(b'-', |digit| *digit));
    arms.iter().all(u8::is_ascii_digit).then(|| arms.map(|digit| digit - b'0'))
}

fn boxes(symbol: char, x: f32, y: f32, shapes: &mut Shapes) -> bool {
    let (cx, cy, w, h) = (MIDDLE_X, MIDDLE_Y, WIDTH, HEIGHT);
    match symbol {
        '╭' | '╮' | '╯' | '╰' => {
            // A quarter of a circle that touches the middle lines, and the rest of the line down.
            let right = matches!(symbol, '╭' | '╰');
            let below = matches!(symbol, '╭' | '╮');
            let (end_x, end_y) = (if right { w } else { 0.0 }, if below { h } else { 0.0 });
            let r = MIDDLE_X;
            let turn = if below { cy + r } else { cy - r };
            let sweep = u8::from(right == below);
            _ = write!(
                shapes.stroke,
                "M{} {}V{}A{r} {r} 0 0 {sweep} {} {}",
                x + cx,
                y + end_y,
                y + turn,
                x + end_x,
                y + cy
            );
        }
        '╱' => shapes.line(x, y, &[(0.0, h), (w, 0.0)]),
        '╲' => shapes.line(x, y, &[(0.0, 0.0), (w, h)]),
        '╳' => {
            shapes.line(x, y, &[(0.0, h), (w, 0.0)]);
            shapes.line(x, y, &[(0.0, 0.0), (w, h)]);
        }
        '┄' | '┅' => dashes(x, y, 3, thickness(symbol == '┅'), true, shapes),
        '┆' | '┇' => dashes(x, y, 3, thickness(symbol == '┇'), false, shapes),
        '┈' | '┉' => dashes(x, y, 4, thickness(symbol == '┉'), true, shapes),
        '┊' | '┋' => dashes(x, y, 4, thickness(symbol == '┋'), false, shapes),
        '╌' | '╍' => dashes(x, y, 2, thickness(symbol == '╍'), true, shapes),
        '╎' | '╏' => dashes(x, y, 2, thickness(symbol == '╏'), false, shapes),
        _ => {
            let Some([left, right, up, down]) = arms(symbol) else { return false };
            // Each arm as one that goes right: along, its width across, who stands opposite and at either side.
            arm(right, left, up, down, w - cx, &mut |a, b, from, to| {
                shapes.rect(x + cx + from, y + cy + a, to - from, b - a);
            });
            arm(left, right, up, down, cx, &mut |a, b, from, to| {
                shapes.rect(x + cx - to, y + cy + a, to - from, b - a);
            });
            arm(down, up, left, right, h - cy, &mut |a, b, from, to| {
                shapes.rect(x + cx + a, y + cy + from, b - a, to - from);
            });
            arm(up, down, left, right, cy, &mut |a, b, from, to| {
                shapes.rect(x + cx + a, y + cy - to, b - a, to - from);
            });
        }
    }
    true
}

fn thickness(heavy: bool) -> f32 {
    if heavy { 3.0 } else { 1.0 }
}

/// Draws an arm from the middle of the cell to its edge, `length` away: `rect` is called with the extent across and along,
/// from the middle. `opposite` is the arm on the other side, `before` and `after` those at negative and positive places
/// across. Lines overlap where they meet, so that corners are closed.
fn arm(kind: u8, opposite: u8, before: u8, after: u8, length: f32, rect: &mut dyn FnMut(f32, f32, f32, f32)) {
    let across = |kind: u8| if kind == 2 { 1.5 } else { 0.5 };
    match kind {
        0 => {}
        1 | 2 => {
            // Meeting a double line the arm stops at its near side, goes through it, or closes its end.
            let reach = match (before == 3, after == 3) {
                (false, false) => across(before.max(after)),
                _ if opposite != 0 => 0.5,
                (true, true) => 0.5 - APART,
                _ => APART + 0.5,
            };
            rect(-across(kind), across(kind), -reach, length);
        }
        _ => {
            for (place, same, other) in [(-APART, before, after), (APART, after, before)] {
                let start = if same == 3 {
                    APART
                } else if same == 0 && other == 3 && opposite == 0 {
                    -APART
                } else {
                    0.0
                };
                rect(place - 0.5, place + 0.5, start - 0.5, length);
            }
        }
    }
}

/// A line of `count` dashes with gaps between, so that the dashes of neighbouring cells are evenly spaced.
fn dashes(x: f32, y: f32, count: u8, thickness: f32, flat: bool, shapes: &mut Shapes) {
    let length = if flat { WIDTH } else { HEIGHT };
    let step = length / f32::from(count);
    let half = thickness / 2.0;
    for i in 0..count {
        let from = f32::from(i) * step + step * 0.2;
        if flat {
            shapes.rect(x + from, y + MIDDLE_Y - half, step * 0.6, thickness);
        } else {
            shapes.rect(x + MIDDLE_X - half, y + from, thickness, step * 0.6);
        }
    }
}

fn blocks(symbol: char, x: f32, y: f32, shapes: &mut Shapes) -> bool {
    let (w, h) = (WIDTH, HEIGHT);
    let index = symbol as u32;
    match symbol {
        '▀' => shapes.rect(x, y, w, h / 2.0),
        // Lower eighths, up to the full block.
        '\u{2581}'..='\u{2588}' => {
            let part = h * (index - 0x2580) as f32 / 8.0;
            shapes.rect(x, y + h - part, w, part);
        }
        // Left eighths, from seven on down.
        '\u{2589}'..='\u{258f}' => shapes.rect(x, y, w * (0x2590 - index) as f32 / 8.0, h),
        '▐' => shapes.rect(x + w / 2.0, y, w / 2.0, h),
        '▔' => shapes.rect(x, y, w, h / 8.0),
        '▕' => shapes.rect(x + w * 7.0 / 8.0, y, w / 8.0, h),
        // Quadrants: upper left 1, upper right 2, lower left 4, lower right 8.
        '\u{2596}'..='\u{259f}' => {
            let quadrants = [4, 8, 1, 13, 9, 7, 11, 2, 6, 14][(index - 0x2596) as usize];
            for bit in (0..4).filter(|bit| quadrants & (1 << bit) != 0) {
                let (right, below) = ((bit % 2) as f32, (bit / 2) as f32);
                shapes.rect(x + right * w / 2.0, y + below * h / 2.0, w / 2.0, h / 2.0);
            }
        }
        _ => return false,
    }
    true
}

fn braille(symbol: char, x: f32, y: f32, shapes: &mut Shapes) -> bool {
    // Bits of the dots by row and column.
    const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    let bits = symbol as u32 - 0x2800;
    for (i, row) in DOTS.iter().enumerate() {
        for (j, bit) in row.iter().enumerate() {
            if bits & bit != 0 {
                let (column, row) = (j as f32 + 0.5, i as f32 + 0.5);
                shapes.circle(x + column * WIDTH / 2.0, y + row * HEIGHT / 4.0, 1.9);
            }
        }
    }
    true
}

/// Corners, from the middle of the cell: of a shape, and of the hole that makes it an outline.
type Outline<const N: usize> = [[(f32, f32); N]; 2];

const TRIANGLE: Outline<3> = [[(0.0, -4.6), (4.5, 3.4), (-4.5, 3.4)], [(0.0, -2.4), (2.5, 2.2), (-2.5, 2.2)]];
const SQUARE: Outline<4> = [
    [(-3.8, -3.8), (3.8, -3.8), (3.8, 3.8), (-3.8, 3.8)],
    [(-2.6, -2.6), (2.6, -2.6), (2.6, 2.6), (-2.6, 2.6)],
];
const DIAMOND: Outline<4> =
    [[(0.0, -5.0), (4.5, 0.0), (0.0, 5.0), (-4.5, 0.0)], [(0.0, -3.1), (2.8, 0.0), (0.0, 3.1), (-2.8, 0.0)]];

fn markers(symbol: char, x: f32, y: f32, shapes: &mut Shapes) -> bool {
    let (x, y) = (x + WIDTH / 2.0, y + HEIGHT / 2.0);
    // A triangle turned: its points with the axes swapped or mirrored.
    let mut triangle = |filled: bool, turn: &dyn Fn((f32, f32)) -> (f32, f32)| {
        let (outer, inner) = (TRIANGLE[0].map(turn), TRIANGLE[1].map(turn));
        if filled { shapes.polygon(x, y, &outer) } else { shapes.outline(x, y, &outer, &inner) }
    };
    match symbol {
        '▲' | '△' => triangle(symbol == '▲', &|p| p),
        '▼' | '▽' => triangle(symbol == '▼', &|(a, b)| (a, -b)),
        '▶' | '▷' => triangle(symbol == '▶', &|(a, b)| (-b, a)),
        '◀' | '◁' => triangle(symbol == '◀', &|(a, b)| (b, a)),
        '●' => shapes.circle(x, y, 4.1),
        '○' => shapes.ring(x, y, 4.1, 1.3),
        '◉' => {
            shapes.ring(x, y, 4.1, 1.1);
            shapes.circle(x, y, 1.9);
        }
        '•' => shapes.circle(x, y, 2.4),
        '·' => shapes.circle(x, y, 1.1),
        '■' => shapes.polygon(x, y, &SQUARE[0]),
        '□' => shapes.outline(x, y, &SQUARE[0], &SQUARE[1]),
        '◆' => shapes.polygon(x, y, &DIAMOND[0]),
        '◇' => shapes.outline(x, y, &DIAMOND[0], &DIAMOND[1]),
        '◈' => {
            shapes.outline(x, y, &DIAMOND[0], &DIAMOND[1]);
            shapes.polygon(x, y, &DIAMOND[1].map(|(a, b)| (a * 0.55, b * 0.55)));
        }
        '★' => shapes.polygon(x, y, &star(5.2, 2.2)),
        '☆' => shapes.outline(x, y, &star(5.2, 2.5), &star(3.2, 1.5)),
        '✓' => shapes.polygon(
            x,
            y,
            &[(-3.9, 0.4), (-2.7, -0.8), (-1.0, 1.3), (2.9, -4.2), (4.1, -3.2), (-0.9, 3.8)],
        ),
        '✗' => {
            shapes.polygon(x, y, &[(-3.6, -3.0), (-2.5, -4.0), (3.6, 3.0), (2.5, 4.0)]);
            shapes.polygon(x, y, &[(3.6, -3.0), (-2.5, 4.0), (-3.6, 3.0), (2.5, -4.0)]);
        }
        '‖' => {
            shapes.rect(x - 2.5, y - 5.0, 1.5, 10.0);
            shapes.rect(x + 1.0, y - 5.0, 1.5, 10.0);
        }
        _ => return false,
    }
    true
}

/// Corners of a star with five points.
fn star(outer: f32, inner: f32) -> [(f32, f32); 10] {
    std::array::from_fn(|i| {
        let r = if i % 2 == 0 { outer } else { inner };
        let (sin, cos) = (std::f32::consts::PI * i as f32 / 5.0).sin_cos();
        (r * sin, -r * cos)
    })
}
