//! What a user sees, at several sizes.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::super::chart::View;
use super::super::{
    Chart, ChartWindow, Gauge, HeatMap, HeatRow, Slider, Spark, Table, TableColumn, TableRow, YScale,
};
use super::{ASCII, FULL, PLAIN, drawn, half_filled, perplexities, point, series};
use crate::tui::theme::Theme;

fn perplexity<'a>(theme: &'a Theme, series: &'a [super::Series]) -> Chart<'a> {
    Chart::new(theme, series)
        .title("Perplexity")
        .unit("log")
        .x_label("sparsity %")
        .scale(YScale::Log10)
        .base(28.5, "base 28.5")
        .legend(true)
}

#[test]
fn chart_at_several_sizes() {
    let data = perplexities();
    for (width, height) in [(72, 22), (40, 12), (24, 8), (12, 5), (7, 3), (1, 1), (0, 0)] {
        insta::assert_snapshot!(
            format!("chart_{width}x{height}"),
            drawn(perplexity(&FULL, &data).cursor(Some(30.0)), width, height)
        );
    }
}

#[test]
fn chart_in_ascii() {
    let data = perplexities();
    insta::assert_snapshot!("chart_ascii_72x22", drawn(perplexity(&ASCII, &data).cursor(Some(30.0)), 72, 22));
    insta::assert_snapshot!("chart_ascii_24x8", drawn(perplexity(&ASCII, &data), 24, 8));
}

#[test]
fn chart_without_data_has_its_frame_and_axes() {
    insta::assert_snapshot!("chart_empty", drawn(Chart::new(&FULL, &[]).title("JS divergence"), 40, 10));
}

#[test]
fn colours_of_a_chart_are_those_of_its_series() {
    let data = perplexities();
    let colours = |theme: &Theme| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 60, 20));
        perplexity(theme, &data).render(*buffer.area(), &mut buffer);
        let of = |glyph: &str| buffer.content().iter().find(|c| c.symbol() == glyph).map(|c| c.fg);
        [of("●"), of("▲"), of("■")]
    };
    assert_eq!(colours(&FULL), [0, 1, 2].map(|i| FULL.series(i).fg));
    assert_eq!(colours(&PLAIN), [Some(Color::Reset); 3]);
}

#[test]
fn values_without_place_stand_at_the_frame_and_break_the_line() {
    let data = [series(
        "a",
        0,
        vec![
            point(0.0, 1.0),
            point(25.0, f64::INFINITY),
            point(50.0, f64::NAN),
            point(75.0, -2.0),
            point(100.0, 1.0),
        ],
    )];
    let text = drawn(Chart::new(&PLAIN, &data).scale(YScale::Log10), 40, 12);
    let lines: Vec<&str> = text.lines().collect();
    // Inside the frame and above the axis and its labels.
    assert!(lines[1].contains('∞'), "{text}");
    assert!(lines[8].contains('?') && lines[8].contains('▼'), "{text}");
    assert_eq!(text.matches('●').count(), 2, "{text}");
    assert!(!text.contains(|c| ('\u{2800}'..='\u{28ff}').contains(&c)), "a line in {text}");
}

#[test]
fn infinities_do_not_bend_the_axes() {
    let finite = [series("a", 0, vec![point(0.0, 1.0), point(50.0, 3.0)])];
    let mut more = finite.to_vec();
    more[0].points.extend([point(25.0, f64::INFINITY), point(30.0, f64::NAN), point(f64::NAN, 2.0)]);
    assert_eq!(Chart::new(&FULL, &more).view(), Chart::new(&FULL, &finite).view());
}

#[test]
fn a_window_cuts_the_lines_and_points_out_what_lies_beyond() {
    let data = perplexities();
    let window = ChartWindow { x: Some((20.0, 60.0)), y: Some((20.0, 100.0)) };
    let chart = perplexity(&FULL, &data).window(window);
    assert_eq!(chart.view(), View { x: (20.0, 60.0), y: (20.0, 100.0) });
    insta::assert_snapshot!("chart_window", drawn(chart, 60, 16));
    let whole = perplexity(&FULL, &data).view();
    let nothing = ChartWindow { x: Some((5.0, 5.0)), y: Some((f64::NAN, 1.0)) };
    assert_eq!(perplexity(&FULL, &data).window(nothing).view(), whole);
}

#[test]
fn points_at_one_place_stand_beside_each_other() {
    let same = |i| series("a", i, vec![point(20.0, 1.0), point(50.0, 3.0)]);
    let window = ChartWindow { x: Some((0.0, 60.0)), y: Some((0.0, 4.0)) };
    let shown = |count| {
        let lines: Vec<_> = (0..count).map(same).collect();
        drawn(Chart::new(&PLAIN, &lines).window(window), 40, 12)
    };
    let markers = PLAIN.symbols().markers;
    // The second stands to the right, the third to the left.
    let three = format!("{}{}{}", markers[2], markers[0], markers[1]);
    assert_eq!(shown(3).matches(&three).count(), 2, "{}", shown(3));
    // Where there is no room for all, a sign says so.
    let many = format!("+{}{}{}{}", markers[2], markers[0], markers[1], markers[3]);
    assert_eq!(shown(7).matches(&many).count(), 2, "{}", shown(7));
}

#[test]
fn named_places_have_names_instead_of_numbers() {
    let data = [series("a", 0, vec![point(1.0, 1.0)]), series("b", 1, vec![point(2.0, 2.0)])];
    let names = || vec!["magnitude".to_owned(), "a recipe with a very long name".to_owned()];
    let window = ChartWindow { x: Some((0.4, 2.6)), y: None };
    let text = drawn(Chart::new(&PLAIN, &data).x_names(names()).window(window), 50, 12);
    let line = text.lines().rev().nth(1).unwrap();
    assert!(line.contains(" magnitude ") && line.contains(" a recipe with a ve… "), "{text}");
    // Names that would be cut to nothing are left out.
    let text = drawn(Chart::new(&PLAIN, &data).x_names(names()).window(window), 13, 8);
    assert!(!text.contains('m'), "{text}");
}

#[test]
fn pinned_points_are_reversed() {
    let mut data = [series("a", 0, vec![point(0.0, 1.0), point(50.0, 3.0)])];
    data[0].points[1].pinned = true;
    let mut buffer = Buffer::empty(Rect::new(0, 0, 30, 10));
    Chart::new(&FULL, &data).render(*buffer.area(), &mut buffer);
    let markers: Vec<_> = buffer.content().iter().filter(|c| c.symbol() == "●").collect();
    let pinned = |c: &&&ratatui::buffer::Cell| c.modifier.contains(Modifier::REVERSED);
    assert_eq!((markers.len(), markers.iter().filter(pinned).count()), (2, 1));
}

#[test]
fn heat_map_at_several_sizes() {
    let rows = half_filled(32);
    for (width, height) in [(80, 10), (50, 9), (24, 8), (9, 4), (1, 1), (0, 0)] {
        let map = HeatMap::new(&PLAIN, &rows).scale("0%", "70%");
        insta::assert_snapshot!(format!("heatmap_{width}x{height}"), drawn(map, width, height));
    }
    let map = HeatMap::new(&ASCII, &rows).scale("0%", "70%");
    insta::assert_snapshot!("heatmap_ascii_50x9", drawn(map.clone(), 50, 9));

    let bars = HeatRow { label: "bars".into(), values: (0..32).map(|i| Some(f64::from(i) / 31.0)).collect() };
    for (width, height) in [(80, 17), (50, 9), (24, 8)] {
        let map = HeatMap::new(&PLAIN, &rows).bars(Some(&bars));
        insta::assert_snapshot!(format!("heatmap_bars_{width}x{height}"), drawn(map, width, height));
    }
    insta::assert_snapshot!("heatmap_bars_ascii_50x9", drawn(map.bars(Some(&bars)), 50, 9));
}

#[test]
fn a_field_that_several_columns_share_shows_their_mean() {
    let rows = [HeatRow {
        label: String::new(),
        values: vec![Some(0.0), Some(1.0), None, Some(0.25), None, None, Some(f64::NAN), Some(1.0)],
    }];
    assert_eq!(drawn(HeatMap::new(&PLAIN, &rows), 4, 1), "52·9\n");
}

#[test]
fn heat_is_colour_where_there_are_colours() {
    let rows = half_filled(8);
    let mut buffer = Buffer::empty(Rect::new(0, 0, 60, 7));
    HeatMap::new(&FULL, &rows).render(*buffer.area(), &mut buffer);
    let value = rows[0].values[0].unwrap();
    assert_eq!(buffer[(10, 0)].bg, FULL.heat(value).bg.unwrap());
}

fn columns() -> Vec<TableColumn> {
    vec![
        TableColumn::new("cell", Alignment::Left, 8, 9),
        TableColumn::new("perplexity", Alignment::Right, 6, 5),
        TableColumn::new("JS bits", Alignment::Right, 6, 4),
        TableColumn::new("note", Alignment::Left, 4, 1),
    ]
}

fn rows() -> Vec<TableRow> {
    let row = |i: usize| {
        let note = if i == 1 { "漢字 \u{1b}[31m" } else { "" };
        let perplexity = Line::from(vec![
            Span::raw(format!("{}.25", 30 + i)),
            Span::styled(format!(" +{i}"), Style::new().fg(Color::Red)),
        ]);
        TableRow::new([
            Line::from(format!("wanda {}%", i * 10)),
            perplexity,
            Line::from(format!("0.0{i}")),
            Line::from(note),
        ])
    };
    (0..12).map(row).collect()
}

#[test]
fn table_at_several_sizes() {
    let (columns, rows) = (columns(), rows());
    for (width, height) in [(60, 14), (48, 8), (30, 8), (14, 5), (5, 3), (1, 1), (0, 0)] {
        let table = Table::new(&FULL, &columns, &rows).sort(Some((1, true))).selected(Some(6));
        insta::assert_snapshot!(format!("table_{width}x{height}"), drawn(table, width, height));
    }
    let table = Table::new(&ASCII, &columns, &rows).sort(Some((1, false))).selected(Some(1));
    insta::assert_snapshot!("table_ascii_48x8", drawn(table, 48, 8));
}

#[test]
fn the_selected_row_is_shown_and_marked_and_spans_keep_their_colours() {
    let (columns, rows) = (columns(), rows());
    for selected in 0..rows.len() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 50, 6));
        Table::new(&FULL, &columns, &rows).selected(Some(selected)).render(*buffer.area(), &mut buffer);
        let line = |y| (0..50).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        let wanted = format!("wanda {}%", selected * 10);
        let y = (1..6).find(|y| line(*y).starts_with(&wanted)).unwrap();
        for (x, other) in [(0, 1 + y % 5), (20, 1 + y % 5)] {
            assert_eq!(Some(buffer[(x, y)].bg), FULL.selected().bg);
            assert_eq!(buffer[(x, other)].bg, Color::Reset);
        }
        assert!((0..50).any(|x| buffer[(x, y)].fg == Color::Red));
    }
}

#[test]
fn rows_scroll_so_that_the_selected_one_is_in_the_middle() {
    for (selected, rows, height, expected) in [
        (None, 9, 4, 0),
        (Some(0), 9, 4, 0),
        (Some(5), 9, 4, 3),
        (Some(8), 9, 4, 5),
        (Some(2), 3, 9, 0),
        (Some(1), 3, 0, 1),
    ] {
        assert_eq!(Table::offset(selected, rows, height), expected, "{selected:?} of {rows} in {height}");
    }
}

#[test]
fn gauges_fill_by_eighths() {
    assert_eq!(drawn(Gauge::new(&PLAIN, 0.5), 8, 1), "████░░░░\n");
    assert_eq!(drawn(Gauge::new(&PLAIN, 0.45), 10, 1), "████▌░░░░░\n");
    assert_eq!(drawn(Gauge::new(&ASCII, 0.5), 8, 1), "####....\n");
    assert_eq!(drawn(Gauge::new(&PLAIN, 0.25).label("25% 3:10"), 25, 1), "████░░░░░░░░░░░░ 25% 3:10\n");
    assert_eq!(drawn(Gauge::new(&PLAIN, 1.0).label("100%"), 10, 1), "███100%███\n");
    assert_eq!(drawn(Gauge::new(&PLAIN, f64::NAN), 4, 2), "░░░░\n\n");
    assert_eq!(drawn(Gauge::new(&PLAIN, 7.0).label("done"), 1, 1), "…\n");
}

#[test]
fn sliders_show_where_and_how_much() {
    assert_eq!(drawn(Slider::new(&PLAIN, 50.0), 16, 1), "━━━━━●─────  50%\n");
    assert_eq!(drawn(Slider::new(&ASCII, 0.0), 16, 1), "O----------   0%\n");
    assert_eq!(drawn(Slider::new(&PLAIN, 50.0).shown("2:4"), 12, 1), "━━━●───  2:4\n");
    assert_eq!(drawn(Slider::new(&PLAIN, 62.5), 3, 1), "62…\n");
}

#[test]
fn sparklines_end_with_the_newest_value() {
    let history: Vec<_> = (0..=8).map(|v| Some(f64::from(v))).collect();
    assert_eq!(drawn(Spark::new(&PLAIN, &history), 9, 1), "▁▁▂▃▄▅▆▇█\n");
    assert_eq!(drawn(Spark::new(&PLAIN, &history), 4, 1), "▅▆▇█\n");
    assert_eq!(drawn(Spark::new(&PLAIN, &history).max(16.0), 4, 1), "▃▃▄▄\n");
    assert_eq!(drawn(Spark::new(&PLAIN, &history), 4, 2), "▂▄▆█\n████\n");
    let gaps = [Some(1.0), None, Some(f64::NAN), Some(0.0)];
    assert_eq!(drawn(Spark::new(&PLAIN, &gaps).label("CPU").value("0%"), 14, 1), "CPU    █··▁ 0%\n");
    assert_eq!(drawn(Spark::new(&ASCII, &gaps), 4, 1), "#.._\n");
    assert_eq!(drawn(Spark::new(&PLAIN, &[]), 4, 1), "\n");
}
