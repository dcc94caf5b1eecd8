//! Any data at any size: no panic, and not a cell outside of the area.

use proptest::prelude::*;
use ratatui::layout::Alignment;
use ratatui::text::{Line, Span};

use super::super::{
    Chart, Gauge, HeatMap, HeatRow, Point, PointTag, Series, Slider, Spark, Table, TableColumn, TableRow,
};
use super::super::{ChartWindow, YScale, text};
use super::stays_inside;
use crate::tui::theme::{Background, ColorMode, Theme};

fn theme() -> impl Strategy<Value = Theme> {
    let modes = prop::sample::select(vec![
        ColorMode::TrueColor,
        ColorMode::Ansi256,
        ColorMode::Ansi16,
        ColorMode::None,
    ]);
    let background = prop::sample::select(vec![Background::Dark, Background::Light]);
    (modes, background, any::<bool>()).prop_map(|(m, b, ascii)| Theme::new(m, b, ascii))
}

/// Any number that a computation could give, common ones more often.
fn number() -> impl Strategy<Value = f64> {
    let odd = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, f64::MIN, 5e-324, -1.0];
    prop_oneof![-10.0..110.0_f64, any::<f64>(), prop::sample::select(odd)]
}

/// Text with wide characters, marks, emoji, right-to-left and control characters.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9 ]{0,12}", "[漢字🦀שלום\u{301}\u{1b}\n\u{202e}👩\u{200d}🔬é]{0,8}", any::<String>()]
}

fn points() -> impl Strategy<Value = Vec<Point>> {
    let tag = prop_oneof![Just(PointTag::Fraction), Just(PointTag::NofM("2:4".to_owned()))];
    let bar = || prop::option::of(number());
    let point = (number(), number(), bar(), bar(), tag, any::<bool>());
    let point = point.prop_map(|(x, y, low, high, tag, pinned)| Point { x, y, low, high, tag, pinned });
    prop::collection::vec(point, 0..8)
}

fn all_series() -> impl Strategy<Value = Vec<Series>> {
    let one = (word(), points(), any::<usize>(), any::<usize>());
    let one =
        one.prop_map(|(name, points, style_index, marker)| Series { name, points, style_index, marker });
    prop::collection::vec(one, 0..5)
}

fn window() -> impl Strategy<Value = ChartWindow> {
    let span = || prop::option::of((number(), number()));
    (span(), span()).prop_map(|(x, y)| ChartWindow { x, y })
}

proptest! {
    #[test]
    fn charts(
        theme in theme(), series in all_series(), window in window(), log: bool, base in number(), label in word(),
        cursor in prop::option::of(number()), width in 0_u16..70, height in 0_u16..30
    ) {
        let drawn = |text: &str| text.contains(|c| ('\u{2500}'..='\u{28ff}').contains(&c));
        let given = series.iter().map(|s| &s.name).chain([&label]).any(|text| drawn(text));
        let chart = Chart::new(&theme, &series)
            .title(label.clone())
            .unit(label.clone())
            .x_label(label.clone())
            .scale(if log { YScale::Log10 } else { YScale::Linear })
            .base(base, label)
            .cursor(cursor)
            .window(window)
            .focused(log)
            .legend(true);
        let view = chart.view();
        prop_assert!(view.x.0 < view.x.1 && view.y.0 < view.y.1, "{view:?}");
        let buffer = stays_inside(chart, width, height);
        if theme.ascii && !given {
            prop_assert!(!buffer.content().iter().any(|cell| drawn(cell.symbol())));
        }
    }

    #[test]
    fn heat_maps(
        theme in theme(), labels in prop::collection::vec(word(), 0..9),
        values in prop::collection::vec(prop::option::of(number()), 0..90), scale in word(),
        width in 0_u16..100, height in 0_u16..20
    ) {
        // Rows of different lengths.
        let row = |(i, label)| HeatRow { label, values: values[i * values.len() / 10..].to_vec() };
        let rows: Vec<_> = labels.into_iter().enumerate().map(row).collect();
        let map = HeatMap::new(&theme, &rows).scale(scale.clone(), scale);
        stays_inside(map.clone().bars(rows.first()), width, height);
        stays_inside(map, width, height);
    }

    #[test]
    fn tables(
        theme in theme(), titles in prop::collection::vec((word(), any::<u16>(), any::<u8>(), 0_usize..3), 0..6),
        cells in prop::collection::vec(prop::collection::vec((word(), word()), 0..7), 0..12),
        selected in prop::option::of(0_usize..14), sort in prop::option::of((0_usize..7, any::<bool>())),
        width in 0_u16..70, height in 0_u16..12
    ) {
        let align = [Alignment::Left, Alignment::Center, Alignment::Right];
        let columns: Vec<_> = titles.into_iter().map(|(t, min, p, a)| TableColumn::new(t, align[a], min, p)).collect();
        let cell = |(a, b)| Line::from(vec![Span::raw(a), Span::raw(b)]);
        let rows: Vec<_> = cells.into_iter().map(|cells| TableRow::new(cells.into_iter().map(cell))).collect();
        stays_inside(Table::new(&theme, &columns, &rows).sort(sort).selected(selected), width, height);
    }

    #[test]
    fn gauges_sliders_and_sparklines(
        theme in theme(), value in number(), label in word(),
        history in prop::collection::vec(prop::option::of(number()), 0..40), width in 0_u16..50, height in 0_u16..4
    ) {
        stays_inside(Gauge::new(&theme, value).label(label.clone()), width, height);
        let slider = Slider::new(&theme, value);
        stays_inside(slider.clone().focused(true), width, height);
        stays_inside(slider.shown(label.clone()), width, height);
        let spark = Spark::new(&theme, &history).max(value);
        stays_inside(spark.label(label.clone()).label_width(height).value(label), width, height);
    }

    #[test]
    fn cut_lines_fit(words in prop::collection::vec(word(), 0..5), width in 0_usize..30) {
        let line = Line::from(words.iter().map(Span::raw).collect::<Vec<_>>());
        let cut = text::truncate_line(&line, width, "…");
        let total: usize = cut.spans.iter().map(|span| text::width(&span.content)).sum();
        prop_assert!(total <= width, "{cut:?}");
    }
}
