//! A screen as SVG.
//!
//! Backgrounds are rectangles, as large as they can be; box drawing, blocks, braille and markers are shapes; all else is
//! text. Text comes in runs whose length is given, so that columns stay where they are whichever font is found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::style::Modifier;

use super::cells::{Shown, row};
use super::glyphs::{self, HEIGHT, Shapes, WIDTH};
use crate::tui::theme::{Rgb, Theme};

const PADDING: f32 = 18.0;
/// Size of the text, chosen so that the embedded font is as wide as a cell.
const FONT_SIZE: f32 = 15.0;
/// The line that text stands on, from the top of its cell.
const BASELINE: f32 = 15.0;
/// Fonts to look for, best first.
const FONTS: &str = "'JetBrains Mono','SF Mono',Menlo,'Cascadia Mono',Consolas,'DejaVu Sans Mono','Liberation Mono',monospace";

pub(crate) fn render(buffer: &Buffer, theme: &Theme) -> String {
    let mut drawing = Drawing::default();
    for y in 0..buffer.area().height {
        drawing.row(y, &row(buffer, theme, y));
    }
    let (width, height) = (f32::from(buffer.area().width) * WIDTH, f32::from(buffer.area().height) * HEIGHT);
    drawing.write(width + 2.0 * PADDING, height + 2.0 * PADDING, theme)
}

/// Whether a character is in every monospaced font that one meets, and in the embedded one, so that it can stand in a run
/// with others.
fn is_common(c: char) -> bool {
    matches!(c,
        ' '..='~' | '\u{a0}'..='\u{131}' | '\u{134}'..='\u{17f}'
        | '\u{391}'..='\u{3a1}' | '\u{3a3}'..='\u{3c9}'
        | '\u{401}'..='\u{40c}' | '\u{40e}'..='\u{44f}' | '\u{451}'..='\u{45c}')
}

/// What else is in the embedded font, as far as texts are likely to have it.
const EMBEDDED: &str = "‐–—‘’‚“”„†‡…‰′″‹›⁄€™←↑→↓↔⇒∂∅∈∑−√∞≈≠≤≥⟨⟩\u{fffd}";

/// Whether a character can be drawn without the fonts of the system.
pub(crate) fn is_embedded(c: char) -> bool {
    is_common(c)
        || EMBEDDED.contains(c)
        || glyphs::shade(c).is_some()
        || glyphs::draw(c, 0.0, 0.0, &mut Shapes::default())
}

/// Whether a character belongs to a script that is written from right to left.
fn is_rtl(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1eeff}')
}

/// What the glyphs of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Style {
    fill: Rgb,
    bold: bool,
    italic: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunKind {
    /// Common characters: blanks between them are stretched.
    Common,
    /// Right to left: glyphs are stretched, since those of Arabic are joined.
    Rtl,
    /// One grapheme that may come from any font: centred in its cell or cells.
    Single,
}

/// Text of one style and kind in neighbouring cells.
struct Run {
    style: Style,
    kind: RunKind,
    start: u16,
    /// The column behind its last cell that is not blank.
    end: u16,
    text: String,
}

/// A rectangle of cells with one background, open below.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Backdrop {
    from: u16,
    to: u16,
    top: u16,
    colour: Rgb,
}

/// Everything that is drawn, by kind and colour.
#[derive(Default)]
struct Drawing {
    backgrounds: BTreeMap<Rgb, Shapes>,
    shapes: BTreeMap<Rgb, Shapes>,
    texts: BTreeMap<Style, String>,
    /// Backgrounds of the row above, which this row may continue.
    open: Vec<Backdrop>,
    rows: u16,
}

impl Drawing {
    fn row(&mut self, y: u16, cells: &[(u16, Shown<'_>)]) {
        self.rows = y + 1;
        self.fill(y, cells);
        let top = PADDING + f32::from(y) * HEIGHT;
        let mut run: Option<Run> = None;
        for (x, cell) in cells {
            let left = PADDING + f32::from(*x) * WIDTH;
            self.lines(left, top, cell);
            if cell.symbol.trim().is_empty() || cell.modifier.contains(Modifier::HIDDEN) {
                // Blanks belong to the run if more follows.
                if let Some(run) = run.as_mut() {
                    run.text.push_str(&" ".repeat(usize::from(cell.width)));
                }
                continue;
            }
            if self.shape(left, top, cell) {
                self.end(y, run.take());
                continue;
            }
            let style = Style {
                fill: cell.fg,
                bold: cell.modifier.contains(Modifier::BOLD),
                italic: cell.modifier.contains(Modifier::ITALIC),
            };
            let kind = match () {
                () if cell.width == 1 && cell.symbol.chars().all(is_common) => RunKind::Common,
                () if cell.symbol.chars().any(is_rtl) => RunKind::Rtl,
                () => RunKind::Single,
            };
            let joins = |run: &Run| run.style == style && run.kind == kind && kind != RunKind::Single;
            if !run.as_ref().is_some_and(joins) {
                self.end(y, run.take());
            }
            let run = run.get_or_insert_with(|| Run { style, kind, start: *x, end: *x, text: String::new() });
            run.text.push_str(cell.symbol);
            run.end = x + cell.width;
        }
        self.end(y, run);
    }

    /// Notes the backgrounds of a row; those that continue the row above are joined with it into one rectangle.
    fn fill(&mut self, y: u16, cells: &[(u16, Shown<'_>)]) {
        let mut fields: Vec<Backdrop> = Vec::new();
        for (x, cell) in cells {
            let Some(colour) = cell.bg else { continue };
            match fields.last_mut() {
                Some(last) if last.to == *x && last.colour == colour => last.to += cell.width,
                _ => fields.push(Backdrop { from: *x, to: x + cell.width, top: y, colour }),
            }
        }
        for old in std::mem::take(&mut self.open) {
            let same = |new: &&mut Backdrop| (new.from, new.to, new.colour) == (old.from, old.to, old.colour);
            match fields.iter_mut().find(same) {
                Some(new) => new.top = old.top,
                None => self.close(old, y),
            }
        }
        self.open = fields;
    }

    /// Draws a background that ends above a row.
    fn close(&mut self, field: Backdrop, below: u16) {
        let Backdrop { from, to, top, colour } = field;
        self.backgrounds.entry(colour).or_default().rect(
            PADDING + f32::from(from) * WIDTH,
            PADDING + f32::from(top) * HEIGHT,
            f32::from(to - from) * WIDTH,
            f32::from(below - top) * HEIGHT,
        );
    }

    /// Draws lines under and through a cell.
    fn lines(&mut self, left: f32, top: f32, cell: &Shown<'_>) {
        let width = f32::from(cell.width) * WIDTH;
        if let Some(colour) = cell.underline {
            self.shapes.entry(colour).or_default().rect(left, top + BASELINE + 2.0, width, 1.0);
        }
        if cell.modifier.contains(Modifier::CROSSED_OUT) {
            self.shapes.entry(cell.fg).or_default().rect(left, top + 10.0, width, 1.0);
        }
    }

    /// Draws a cell whose character is a shape.
    fn shape(&mut self, left: f32, top: f32, cell: &Shown<'_>) -> bool {
        let mut chars = cell.symbol.chars();
        let (Some(symbol), None) = (chars.next(), chars.next()) else { return false };
        if let Some(cover) = glyphs::shade(symbol) {
            let colour = cell.under.mix(cell.fg, cover);
            self.shapes.entry(colour).or_default().rect(left, top, WIDTH, HEIGHT);
            return true;
        }
        let mut shapes = Shapes::default();
        if !glyphs::draw(symbol, left, top, &mut shapes) {
            return false;
        }
        let all = self.shapes.entry(cell.fg).or_default();
        all.fill.push_str(&shapes.fill);
        all.stroke.push_str(&shapes.stroke);
        true
    }

    /// Draws a run of text that has ended.
    fn end(&mut self, y: u16, run: Option<Run>) {
        let Some(run) = run else { return };
        let (x, y) = (PADDING + f32::from(run.start) * WIDTH, PADDING + f32::from(y) * HEIGHT + BASELINE);
        let width = f32::from(run.end - run.start) * WIDTH;
        let text = run.text.trim_end_matches(' ');
        let out = self.texts.entry(run.style).or_default();
        // Writing to a String cannot fail.
        _ = match run.kind {
            RunKind::Single => write!(out, r#"<text x="{}" y="{y}" text-anchor="middle">"#, x + width / 2.0),
            _ if run.end - run.start == 1 => write!(out, r#"<text x="{x}" y="{y}">"#),
            RunKind::Common => {
                write!(out, r#"<text x="{x}" y="{y}" textLength="{width}" xml:space="preserve">"#)
            }
            RunKind::Rtl => write!(
                out,
                r#"<text x="{x}" y="{y}" textLength="{width}" lengthAdjust="spacingAndGlyphs" xml:space="preserve">"#
            ),
        };
        escape(text, out);
        out.push_str("</text>\n");
    }

    fn write(mut self, width: f32, height: f32, theme: &Theme) -> String {
        for field in std::mem::take(&mut self.open) {
            self.close(field, self.rows);
        }
        let mut svg = String::new();
        // Writing to a String cannot fail; so below.
        _ = write!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<rect x="0.5" y="0.5" width="{}" height="{}" rx="10" fill="{}" stroke="{}"/>
"#,
            width - 1.0,
            height - 1.0,
            theme.background_rgb().css(),
            theme.border_rgb().css()
        );
        svg.push_str("<g shape-rendering=\"crispEdges\">\n");
        for (colour, shapes) in &self.backgrounds {
            _ = writeln!(svg, r#"<path fill="{}" d="{}"/>"#, colour.css(), shapes.fill);
        }
        svg.push_str("</g>\n");
        for (colour, shapes) in &self.shapes {
            if !shapes.fill.is_empty() {
                _ = writeln!(svg, r#"<path fill="{}" d="{}"/>"#, colour.css(), shapes.fill);
            }
            if !shapes.stroke.is_empty() {
                _ = writeln!(svg, r#"<path fill="none" stroke="{}" d="{}"/>"#, colour.css(), shapes.stroke);
            }
        }
        _ = writeln!(
            svg,
            r#"<g font-family="{FONTS}" font-size="{FONT_SIZE}" style="font-variant-ligatures:none">"#
        );
        for (style, texts) in &self.texts {
            let weight = if style.bold { r#" font-weight="700""# } else { "" };
            let slant = if style.italic { r#" font-style="italic""# } else { "" };
            _ = write!(svg, "<g fill=\"{}\"{weight}{slant}>\n{texts}</g>\n", style.fill.css());
        }
        svg.push_str("</g>\n</svg>\n");
        svg
    }
}

/// Adds text as XML has it. Control characters are gone by then; the two other characters that XML forbids are replaced.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}
