//! A screen as pixels: the SVG, drawn with the fonts that come with the program.

use std::sync::Arc;

use ratatui::buffer::Buffer;
use resvg::{tiny_skia, usvg};
use usvg::fontdb;

use super::cells::row;
use super::svg;
use crate::error::{Error, Result};
use crate::tui::theme::Theme;

/// Pixels to a unit of the SVG.
const SCALE: f32 = 2.0;

/// The faces that come with the program; `assets/fonts` has their licence, and what was left out of them.
const FACES: [&[u8]; 3] = [
    include_bytes!("../../../assets/fonts/JetBrainsMono-Regular.ttf"),
    include_bytes!("../../../assets/fonts/JetBrainsMono-Bold.ttf"),
    include_bytes!("../../../assets/fonts/JetBrainsMono-Italic.ttf"),
];

pub(crate) fn render(buffer: &Buffer, theme: &Theme) -> Result<Vec<u8>> {
    let failed = |what: &str| Error::failure(format!("cannot draw the snapshot: {what}"));
    let tree =
        parse(&svg::render(buffer, theme), fonts(buffer, theme)).map_err(|e| failed(&e.to_string()))?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| failed("it has no size"))?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height())
        .ok_or_else(|| failed("it is too large for a picture; SVG has no such limit"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| failed(&e.to_string()))
}

/// Reads an SVG with the given fonts.
fn parse(svg: &str, fonts: fontdb::Database) -> Result<usvg::Tree, usvg::Error> {
    let options = usvg::Options {
        font_family: "JetBrains Mono".to_owned(),
        fontdb: Arc::new(fonts),
        ..Default::default()
    };
    usvg::Tree::from_str(svg, &options)
}

/// The fonts that come with the program.
pub(crate) fn embedded() -> fontdb::Database {
    let mut fonts = fontdb::Database::new();
    for face in FACES {
        fonts.load_font_source(fontdb::Source::Binary(Arc::new(face)));
    }
    fonts
}

/// The embedded fonts; those of the system too if some character is in none of them.
fn fonts(buffer: &Buffer, theme: &Theme) -> fontdb::Database {
    let mut fonts = embedded();
    let foreign =
        |y| row(buffer, theme, y).iter().any(|(_, cell)| !cell.symbol.chars().all(svg::is_embedded));
    if (0..buffer.area().height).any(foreign) {
        fonts.load_system_fonts();
    }
    fonts
}
