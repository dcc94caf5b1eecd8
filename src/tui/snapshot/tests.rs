//! What is on the screen is what is in the file.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use resvg::{tiny_skia, usvg};

use super::glyphs::{self, HEIGHT, Shapes, WIDTH};
use super::{PictureFormat, png, render, save, svg};
use crate::tui::theme::{Background, ColorMode, Theme};

const DARK: Theme = Theme::new(ColorMode::TrueColor, Background::Dark, false);

fn buffer(lines: &[&str]) -> Buffer {
    Buffer::with_lines(lines.iter().copied())
}

fn parsed(svg: &str) -> Result<usvg::Tree, usvg::Error> {
    usvg::Tree::from_str(svg, &usvg::Options { fontdb: Arc::new(png::embedded()), ..Default::default() })
}

/// The text elements of an SVG: their content and the columns that they are said to span.
fn texts(svg: &str) -> Vec<(String, f32)> {
    let value = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}=\""))?.1;
        rest.split_once('"')?.0.parse::<f32>().ok()
    };
    let elements =
        svg.split("<text ").skip(1).filter_map(|rest| rest.split_once("</text>")).filter_map(|e| {
            let (tag, content) = e.0.split_once('>')?;
            Some((content.to_owned(), value(&format!(" {tag}"), "textLength").unwrap_or(WIDTH) / WIDTH))
        });
    elements.collect()
}

#[test]
fn the_extension_names_the_format() {
    for (name, format) in
        [("a.svg", PictureFormat::Svg), ("b/c.PNG", PictureFormat::Png), ("d.txt", PictureFormat::Text)]
    {
        assert_eq!(PictureFormat::from_path(name.as_ref()).unwrap(), format);
    }
    for name in ["a", "a.jpg", ".svg", ""] {
        let error = PictureFormat::from_path(name.as_ref()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(".svg, .png or .txt"), "{error}");
    }
}

#[test]
fn text_is_the_characters_without_blanks_at_the_ends() {
    let text = render(&buffer(&["┌漢字┐  ", "", " é🦀x"]), &DARK, PictureFormat::Text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "┌漢字┐\n\n é🦀x\n");
}

#[test]
fn files_are_written_in_the_format_of_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = buffer(&["hello"]);
    for (name, start) in [("a.svg", &b"<svg "[..]), ("a.png", &b"\x89PNG"[..]), ("a.txt", &b"hello\n"[..])] {
        let path = dir.path().join(name);
        save(&path, &buffer, &DARK).unwrap();
        assert!(std::fs::read(path).unwrap().starts_with(start), "{name}");
    }
    assert_eq!(save(&dir.path().join("a.gif"), &buffer, &DARK).unwrap_err().exit_code(), 2);
}

#[test]
fn a_run_of_text_is_one_element_as_long_as_its_cells() {
    let svg = svg::render(&buffer(&["a <b> & c   │  漢→é"]), &DARK);
    assert_eq!(
        texts(&svg),
        [("a &lt;b&gt; &amp; c", 9.0), ("漢", 1.0), ("→", 1.0), ("é", 1.0)].map(|(t, w)| (t.to_owned(), w))
    );
    // A character of two columns stands in the middle of both.
    let middle = 18.0 + 15.0 * WIDTH + WIDTH;
    assert!(svg.contains(&format!(r#"<text x="{middle}" y="33" text-anchor="middle">漢"#)), "{svg}");
}

#[test]
fn text_from_right_to_left_stays_in_its_cells() {
    assert_eq!(
        texts(&svg::render(&buffer(&["ab שלום עולם cd"]), &DARK)),
        [("ab".to_owned(), 2.0), ("שלום עולם".to_owned(), 9.0), ("cd".to_owned(), 2.0)]
    );
}

#[test]
fn styles_become_attributes() {
    let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 2));
    let red = Style::new().fg(Color::Rgb(200, 0, 0));
    buffer.set_string(0, 0, "bold", red.add_modifier(Modifier::BOLD));
    buffer.set_string(4, 0, "slant", red.add_modifier(Modifier::ITALIC | Modifier::UNDERLINED));
    buffer.set_string(0, 1, "turned", red.add_modifier(Modifier::REVERSED));
    let svg = svg::render(&buffer, &DARK);
    assert!(svg.contains(r##"<g fill="#c80000" font-weight="700">"##), "{svg}");
    assert!(svg.contains(r##"<g fill="#c80000" font-style="italic">"##), "{svg}");
    assert!(svg.contains(&format!(r#"<g fill="{}">"#, DARK.background_rgb().css())), "{svg}");
    // Six cells of background, and a line under five.
    assert!(svg.contains(r##"<path fill="#c80000" d="M18 38h54v20h-54z"/>"##), "{svg}");
    assert_eq!(svg.matches("h9v1h-9z").count(), 5, "{svg}");
}

#[test]
fn equal_backgrounds_are_one_rectangle() {
    let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 5));
    buffer.set_style(Rect::new(1, 1, 4, 3), Style::new().bg(Color::Rgb(1, 2, 3)));
    assert!(svg::render(&buffer, &DARK).contains(r##"<path fill="#010203" d="M27 38h36v60h-36z"/>"##));
}

/// The pixels of one character, white on black, without its surroundings.
fn pixels(symbol: &str) -> Vec<bool> {
    const SCALE: u32 = 4;
    let (width, height) = (WIDTH as u32 * SCALE, HEIGHT as u32 * SCALE);
    let mut shapes = Shapes::default();
    assert!(glyphs::draw(symbol.chars().next().unwrap(), 0.0, 0.0, &mut shapes), "{symbol} is no shape");
    let svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="20"><path fill="white" d="M0 0{}"/><path fill="none" stroke="white" d="M0 0{}"/></svg>"#,
        shapes.fill, shapes.stroke
    );
    let mut pixmap = tiny_skia::Pixmap::new(width, height).unwrap();
    let scale = tiny_skia::Transform::from_scale(SCALE as f32, SCALE as f32);
    resvg::render(&parsed(&svg).unwrap(), scale, &mut pixmap.as_mut());
    pixmap.pixels().iter().map(|p| p.alpha() > 127).collect()
}

/// Where a character touches the edges of its cell: left, right, top, bottom, each from its first end.
fn edges(symbol: &str) -> [Vec<bool>; 4] {
    let pixels = pixels(symbol);
    let (width, height) = (WIDTH as usize * 4, HEIGHT as usize * 4);
    let column = |x: usize| (0..height).map(|y| pixels[y * width + x]).collect();
    let row = |y: usize| (0..width).map(|x| pixels[y * width + x]).collect();
    [column(0), column(width - 1), row(0), row(height - 1)]
}

#[test]
fn lines_meet_their_neighbours_on_every_side() {
    // Each character has, at each edge, what the straight line of that weight has there, or nothing.
    let across = ["─", "━", "═"].map(|s| edges(s)[0].clone());
    let down = ["│", "┃", "║"].map(|s| edges(s)[2].clone());
    for (symbol, arms) in [
        ("┌", [0, 1, 0, 1]),
        ("┛", [2, 0, 2, 0]),
        ("├", [0, 1, 1, 1]),
        ("╋", [2, 2, 2, 2]),
        ("┼", [1, 1, 1, 1]),
        ("┥", [2, 0, 1, 1]),
        ("┯", [2, 2, 0, 1]),
        ("╉", [2, 1, 2, 2]),
        ("╔", [0, 3, 0, 3]),
        ("╝", [3, 0, 3, 0]),
        ("╬", [3, 3, 3, 3]),
        ("╪", [3, 3, 1, 1]),
        ("╟", [0, 1, 3, 3]),
        ("╤", [3, 3, 0, 1]),
        ("╭", [0, 1, 0, 1]),
        ("╮", [1, 0, 0, 1]),
        ("╯", [1, 0, 1, 0]),
        ("╰", [0, 1, 1, 0]),
        ("╴", [1, 0, 0, 0]),
        ("╽", [0, 0, 1, 2]),
    ] {
        for (i, edge) in edges(symbol).iter().enumerate() {
            let line = if i < 2 { &across } else { &down };
            match arms[i] {
                0 => assert!(edge.iter().all(|p| !p), "{symbol} touches edge {i}"),
                kind => assert_eq!(edge, &line[kind - 1], "{symbol} at edge {i}"),
            }
        }
    }
}

#[test]
fn a_box_is_closed_whatever_its_lines() {
    // From the middle of a box nothing leads outside: lines have no gaps where they meet.
    for [tl, tr, bl, br, h, v] in [
        ["┌", "┐", "└", "┘", "─", "│"],
        ["╭", "╮", "╰", "╯", "─", "│"],
        ["┏", "┓", "┗", "┛", "━", "┃"],
        ["╔", "╗", "╚", "╝", "═", "║"],
        ["╓", "╖", "╙", "╜", "─", "║"],
        ["╒", "╕", "╘", "╛", "═", "│"],
        ["┍", "┑", "┕", "┙", "━", "│"],
        ["┎", "┒", "┖", "┚", "─", "┃"],
    ] {
        let (width, height) = (WIDTH as usize * 4, HEIGHT as usize * 4);
        let cells = [[tl, h, tr], [v, " ", v], [bl, h, br]];
        let cells =
            cells.map(|row| row.map(|s| if s == " " { vec![false; width * height] } else { pixels(s) }));
        let wall = |x: usize, y: usize| cells[y / height][x / width][y % height * width + x % width];
        let mut seen = BTreeSet::from([(width * 3 / 2, height * 3 / 2)]);
        let mut next: Vec<_> = seen.iter().copied().collect();
        while let Some((x, y)) = next.pop() {
            assert!(
                x > 0 && y > 0 && x + 1 < 3 * width && y + 1 < 3 * height,
                "{tl}{h}{tr} leaks at {x}, {y}"
            );
            for (x, y) in [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)] {
                if !wall(x, y) && seen.insert((x, y)) {
                    next.push((x, y));
                }
            }
        }
    }
}

#[test]
fn blocks_cover_what_their_names_say() {
    for (symbol, share) in [
        ("█", 1.0),
        ("▄", 0.5),
        ("▀", 0.5),
        ("▌", 0.5),
        ("▐", 0.5),
        ("▂", 0.25),
        ("▎", 0.25),
        ("▙", 0.75),
        ("▗", 0.25),
        ("▚", 0.5),
        ("▔", 0.125),
        ("▕", 0.125),
    ] {
        let pixels = pixels(symbol);
        let covered = pixels.iter().filter(|p| **p).count() as f32 / pixels.len() as f32;
        assert!((covered - share).abs() < 0.03, "{symbol} covers {covered}");
    }
    let [left, right, top, bottom] = edges("▞");
    let half = |edge: &[bool]| [edge[2], edge[edge.len() - 3]];
    assert_eq!(
        [half(&left), half(&right), half(&top), half(&bottom)],
        [[false, true], [true, false], [false, true], [true, false]]
    );
}

#[test]
fn braille_has_its_dots() {
    for bits in 0..=255_u32 {
        let mut shapes = Shapes::default();
        assert!(glyphs::draw(char::from_u32(0x2800 + bits).unwrap(), 0.0, 0.0, &mut shapes));
        assert_eq!(shapes.fill.matches('M').count() as u32, bits.count_ones());
    }
    // Dots 1 and 8: upper left and lower right.
    let pixels = pixels("⢁");
    let at = |x: f32, y: f32| pixels[(y * 4.0) as usize * 36 + (x * 4.0) as usize];
    assert!(at(2.2, 2.4) && at(6.7, 17.4) && !at(6.7, 2.4) && !at(2.2, 17.4));
}

#[test]
fn every_box_and_block_is_a_shape() {
    for code in (0x2500..=0x259f).filter(|c| !(0x2591..=0x2593).contains(c)) {
        let mut shapes = Shapes::default();
        let symbol = char::from_u32(code).unwrap();
        assert!(glyphs::draw(symbol, 0.0, 0.0, &mut shapes), "{symbol}");
        assert!(!(shapes.fill.is_empty() && shapes.stroke.is_empty()), "{symbol}");
    }
}

/// A picture with the embedded fonts alone.
fn picture(text: &str) -> Vec<u8> {
    let svg = svg::render(&buffer(&[text]), &DARK);
    let mut pixels = tiny_skia::Pixmap::new(80, 60).unwrap();
    resvg::render(&parsed(&svg).unwrap(), tiny_skia::Transform::identity(), &mut pixels.as_mut());
    pixels.data().to_vec()
}

#[test]
fn the_glyphs_of_the_screen_need_no_font_of_the_system() {
    let (blank, unknown) = (picture(" "), picture("\u{10a0}"));
    let symbols = DARK.symbols().all();
    let embedded =
        (0x21..0x3000).filter_map(char::from_u32).filter(|c| svg::is_embedded(*c) && *c != '\u{a0}');
    let embedded: Vec<String> =
        embedded.filter(|c| *c != '\u{ad}' && *c != '\u{2800}').map(String::from).collect();
    assert!(embedded.len() > 500, "{}", embedded.len());
    for symbol in symbols.iter().filter(|s| **s != " ") {
        assert!(svg::is_embedded(symbol.chars().next().unwrap()), "{symbol}");
    }
    for symbol in embedded {
        let picture = picture(&symbol);
        assert!(picture != blank && picture != unknown, "{symbol} is not in the font");
    }
}

#[test]
fn a_picture_has_two_pixels_to_a_unit() {
    for (width, height) in [(0, 0), (1, 1), (20, 3)] {
        let png = render(&Buffer::empty(Rect::new(0, 0, width, height)), &DARK, PictureFormat::Png).unwrap();
        let pixels = tiny_skia::Pixmap::decode_png(&png).unwrap();
        let expected = (2 * (36 + 9 * u32::from(width)), 2 * (36 + 20 * u32::from(height)));
        assert_eq!((pixels.width(), pixels.height()), expected);
    }
}

/// Cells of any kind, odd ones more often.
fn symbols() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ a-z<>&\"']",
        "[─│┌╬╭█▓▌⣿●☆✓]",
        "[漢🦀שعé\u{301}\u{1b}\u{0}\u{fffe}\u{ffff}\u{202e}]{1,2}",
        any::<String>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_screen_is_well_formed(
        width in 0_u16..12, height in 0_u16..5, light: bool,
        cells in prop::collection::vec((symbols(), any::<u32>(), any::<u16>()), 60)
    ) {
        let mut buffer = Buffer::empty(Rect::new(3, 2, width, height));
        for (position, (symbol, colours, modifiers)) in buffer.area().positions().zip(&cells) {
            let colour = |bits: u32| match bits % 4 {
                0 => Color::Reset,
                1 => Color::Indexed((bits >> 2) as u8),
                2 => Color::LightMagenta,
                _ => Color::Rgb((bits >> 2) as u8, 7, 9),
            };
            let cell = &mut buffer[position];
            cell.set_symbol(symbol).set_fg(colour(*colours)).set_bg(colour(colours >> 16));
            cell.modifier = Modifier::from_bits_truncate(*modifiers);
        }
        let theme = Theme::new(ColorMode::TrueColor, if light { Background::Light } else { Background::Dark }, false);
        let svg = String::from_utf8(render(&buffer, &theme, PictureFormat::Svg).unwrap()).unwrap();
        let tree = parsed(&svg);
        prop_assert!(tree.is_ok(), "{:?} in {svg}", tree.err());
        prop_assert!(!svg.contains(|c: char| c.is_control() && c != '\n'));
        let text = String::from_utf8(render(&buffer, &theme, PictureFormat::Text).unwrap()).unwrap();
        prop_assert_eq!(text.lines().count(), usize::from(height));
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }
}
