use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use super::super::{draw, panels};
use super::*;
use crate::engine::Event;
use crate::tui::snapshot::{PictureFormat, render};
use crate::tui::state::{Line, Panel, XQuantity};

const SIZES: [(u16, u16); 4] = [(160, 48), (80, 24), (40, 12), (1, 1)];

fn buffer(state: &State, width: u16, height: u16) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(state, *buffer.area(), &mut buffer);
    buffer
}

fn drawn(state: &State, width: u16, height: u16) -> String {
    String::from_utf8(render(&buffer(state, width, height), &state.theme, PictureFormat::Text).unwrap())
        .unwrap()
}

fn look(name: &str, state: &State) {
    for (width, height) in SIZES {
        insta::assert_snapshot!(format!("{name}_{width}x{height}"), drawn(state, width, height));
    }
}

/// A study in the middle: some cells are done, one has its perplexity but no scores, one failed, the rest wait.
fn under_way() -> StudyView {
    let mut cells = complete().cells;
    for (i, cell) in cells.iter_mut().enumerate() {
        if i > 8 {
            *cell = CellResult::queued(&cell.spec);
        }
    }
    cells[8].state = CellState::Running;
    forget_tasks(&mut cells[8].metrics);
    cells[8].seconds = Seconds::default();
    cells[9].state = CellState::Failed;
    cells[7].warnings.push("Cholesky needed more damping".into());
    let mut study_view = study_view(3, cells);
    study_view.failures.insert(Some(study_view.cells[9].id.clone()), "out of memory".into());
    study_view
}

/// Figures that no axis has a place for.
fn extreme() -> StudyView {
    let mut study_view = complete();
    for cell in &mut study_view.cells {
        let strong = cell.spec.recipe.zeros() > 0.7;
        if strong && cell.spec.recipe.method() == "magnitude" {
            let perplexity = first(&mut cell.metrics, &PERPLEXITY);
            perplexity.value = f64::INFINITY;
            perplexity.ci95 = [f64::INFINITY; 2];
        } else if strong && cell.spec.recipe.method() == "wanda" {
            first(&mut cell.metrics, &PERPLEXITY).value = f64::NAN;
            first(&mut cell.metrics, &JS_DIVERGENCE).value = f64::NAN;
        } else if strong {
            first(&mut cell.metrics, &PERPLEXITY).ci95 = [0.0, f64::INFINITY];
        }
    }
    study_view
}

#[test]
fn empty() {
    look("empty", &state(None, FULL));
    look("empty_ascii", &state(None, ASCII));
}

#[test]
fn mid_run() {
    let mut state = state(Some(under_way()), FULL);
    press(&mut state, &[Action::PageDown]);
    look("mid_run", &state);
    assert!(drawn(&state, 160, 48).contains("out of memory"), "why the selected cell failed");
    press(&mut state, &[Action::Up, Action::Up]);
    assert!(drawn(&state, 160, 48).contains("Cholesky needed more damping"), "what it warns of");
}

#[test]
fn complete_study() {
    let mut state = state(Some(complete()), FULL);
    look("done", &state);
    press(&mut state, &[Action::NextPanel, Action::NextPanel]);
    look("done_scores", &state);
    press(&mut state, &[Action::NextPanel]);
    look("done_table", &state);
}

#[test]
fn one_sparsity() {
    let mut study_view = complete();
    study_view.cells.retain(|cell| (cell.spec.recipe.zeros() - 0.5).abs() < 1e-9);
    look("one_sparsity", &state(Some(study_view), FULL));
}

#[test]
fn infinite_and_missing_values() {
    let mut state = state(Some(extreme()), FULL);
    press(&mut state, &[Action::Right, Action::Right]);
    look("infinite", &state);
}

#[test]
fn ascii() {
    let mut state = state(Some(extreme()), ASCII);
    press(&mut state, &[Action::Last, Action::Pin]);
    look("ascii", &state);
    for (width, height) in SIZES {
        let text = drawn(&state, width, height);
        assert!(text.is_ascii(), "{text}");
    }
}

#[test]
fn without_colour() {
    let state = state(Some(complete()), PLAIN);
    look("no_colour", &state);
    for (width, height) in SIZES {
        let buffer = buffer(&state, width, height);
        assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}

#[test]
fn all_scores_relative_pinned_filtered_zoomed() {
    let mut state = state(Some(complete()), FULL);
    press(&mut state, &[Action::NextScore, Action::NextScore, Action::Relative, Action::ZoomIn]);
    press(&mut state, &[Action::Last, Action::Pin, Action::First, Action::Sort, Action::Sort, Action::Sort]);
    state.compare.typing = Some(Line::new("sparsegpt"));
    look("all_relative", &state);
}

#[test]
fn over_size() {
    let mut state = size::over_size(size::families(), FULL);
    look("size", &state);
    press(&mut state, &[Action::Left, Action::Left, Action::NextPanel]);
    look("size_divergence", &state);
    press(&mut state, &[Action::NextPanel, Action::NextPanel]);
    look("size_table", &state);
    look("size_no_colour", &size::over_size(size::families(), PLAIN));
    let plain = size::over_size(size::families(), ASCII);
    look("size_ascii", &plain);
    assert!(drawn(&plain, 160, 48).is_ascii());
    let mut bits = size::over_size(size::families(), FULL);
    bits.compare.x = XQuantity::BitsPerWeight;
    look("bits_per_weight", &bits);
}

#[test]
fn pruned_cells_are_as_large_as_the_base() {
    look("size_pruned", &size::over_size(complete(), FULL));
}

#[test]
fn sizes_that_an_earlier_version_did_not_record_are_missing() {
    let mut study_view = size::families();
    study_view.model.source_bits = None;
    let text = drawn(&size::over_size(study_view, FULL), 160, 48);
    assert!(text.contains("no sizes are recorded"), "{text}");
    let row = text.lines().find(|line| line.contains("magnitude 30%")).unwrap();
    assert!(!row.contains("MB") && row.contains("·"), "{row}");
}

#[test]
fn overlays_and_several_texts() {
    let mut shown = complete();
    for metrics in
        std::iter::once(&mut shown.base.metrics).chain(shown.cells.iter_mut().map(|c| &mut c.metrics))
    {
        let perplexity = first(metrics, &PERPLEXITY).clone();
        metrics.values.push(Measurement { data_set: "c4_val".into(), value: 40.0, ..perplexity });
    }
    let mut state = state(Some(shown), FULL);
    state.overlays = vec![study_view(7, vec![done("wanda", fraction(50.0), Some("c4"))])];
    insta::assert_snapshot!("overlay_160x48", drawn(&state, 160, 48));
    press(&mut state, &[Action::NextCorpus]);
    let text = drawn(&state, 160, 48);
    assert!(text.contains("Perplexity on c4_val"), "{text}");
}

#[test]
fn panels_tile_the_screen_without_overlap() {
    let mut state = state(Some(complete()), FULL);
    for _ in 0..4 {
        for (width, height) in [(160, 48), (100, 30), (99, 30), (80, 22), (40, 12), (10, 4), (1, 1)] {
            let area = Rect::new(3, 2, width, height);
            let found = panels(&state, area);
            for (i, (_, a)) in found.iter().enumerate() {
                assert_eq!(a.intersection(area), *a);
                assert!(found[i + 1..].iter().all(|(_, b)| !a.intersects(*b)), "{found:?}");
            }
            assert!(found.iter().any(|(panel, _)| *panel == state.compare.panel), "the focused one is there");
        }
        press(&mut state, &[Action::NextPanel]);
    }
    let names =
        |width| panels(&state, Rect::new(0, 0, width, 40)).into_iter().map(|p| p.0).collect::<Vec<_>>();
    assert_eq!(names(160), [Panel::Perplexity, Panel::Divergence, Panel::Scores, Panel::Table]);
    assert_eq!(names(80), [Panel::Perplexity, Panel::Table]);
}

#[test]
fn every_series_is_listed_with_its_values_at_the_cursor() {
    let state = state(Some(complete()), FULL);
    let text = drawn(&state, 160, 48);
    let listed = text.split_once(" at 50%").unwrap().1;
    assert!(listed.lines().next().unwrap().contains("JS bits"));
    let line = listed.lines().find(|line| line.contains("● magnitude ")).unwrap();
    // 28.5 · e^(5 · 0.55 · 2.2 · 0.125), 1 − e^(−2 · 2.2 · 0.125) and 0.62 / (1 + 4 · 2.2 · 0.125).
    assert!(["60.71", "0.423", "0.295"].iter().all(|value| line.contains(value)), "{line}");
    assert!(listed.contains("△ wanda c4 2:4"), "N:M has a line of its own: {listed}");
    assert!(listed.contains("rows 2 to "), "rows are left over: {listed}");
    let text = drawn(&state, 80, 24);
    let listed = text.split_once(" at 50%").unwrap().1;
    assert!(listed.contains("● magnitude 60.71") && listed.contains("△ 2:4"), "{listed}");
}

#[test]
fn names_from_files_cannot_steer_the_terminal() {
    let mut study_view = study_view(3, vec![done("wanda", fraction(50.0), Some("c4"))]);
    for metrics in [&mut study_view.base.metrics, &mut study_view.cells[0].metrics] {
        first(metrics, &PERPLEXITY).data_set = "a\u{1b}[2J\n\u{202e}文字".into();
        for score in [&EXACT_MATCH, &F1, &ROUGE1] {
            first(metrics, score).data_set = "\u{7}task\u{9b}".into();
        }
    }
    let mut state = state(Some(study_view), FULL);
    state.compare.typing = Some(Line::new("wanda \u{202e}x"));
    for (width, height) in SIZES {
        for cell in buffer(&state, width, height).content() {
            assert!(!cell.symbol().chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", cell.symbol());
        }
    }
}

#[test]
fn a_running_cells_values_appear_as_soon_as_they_are_measured() {
    let mut cells = vec![cell("magnitude", fraction(50.0), None)];
    cells[0].state = CellState::Running;
    let id = cells[0].id.clone();
    let mut state = state(Some(study_view(3, cells)), FULL);
    assert!(drawn(&state, 160, 48).contains("nothing measured yet"));
    let mut metrics = measured(61.7, 0.25, [0.0; 3]);
    forget_tasks(&mut metrics);
    state.study_view.as_mut().unwrap().apply(&Event::Metrics { cell: Some(id), metrics });
    let text = drawn(&state, 160, 48);
    let listed = text.split_once(" at 50%").unwrap().1;
    let line = listed.lines().find(|line| line.contains("● magnitude ")).unwrap();
    assert!(line.contains("61.70") && line.contains("0.250"), "{line}");
    let chart = text.split_once(" at 50%").unwrap().0;
    assert_eq!(chart.matches('●').count(), 3, "two points, and one in the legend: {chart}");
    assert!(chart.contains("nothing measured yet"), "the scores are to come: {chart}");
}

#[test]
fn a_study_without_tasks_says_so() {
    let mut study_view = complete();
    study_view.spec.as_mut().unwrap().evaluation.tasks.clear();
    for metrics in std::iter::once(&mut study_view.base.metrics)
        .chain(study_view.cells.iter_mut().map(|c| &mut c.metrics))
    {
        forget_tasks(metrics);
    }
    study_view.rank_correlations = crate::scores::rank_done_cells(&study_view.base.metrics, &[]);
    let text = drawn(&state(Some(study_view), FULL), 160, 48);
    assert!(text.contains("The study has no tasks"), "{text}");
    assert!(text.contains("the study has no tasks"), "{text}");
}

/// The labels of the vertical axis of the only chart.
fn labels(study_view: StudyView) -> Vec<String> {
    let text = drawn(&state(Some(study_view), FULL), 80, 40);
    text.lines()
        .filter_map(|line| line.strip_prefix('│')?.split_once('┤'))
        .map(|(l, _)| l.to_owned())
        .collect()
}

#[test]
fn infinite_values_and_long_error_bars_do_not_bend_the_axis() {
    let five = || [20.0, 40.0, 50.0, 60.0, 70.0].map(|p| done("wanda", fraction(p), Some("c4"))).to_vec();
    let plain = labels(study_view(3, five()));
    assert!(plain.len() > 2, "{plain:?}");
    let mut cells = five();
    for (sparsity, value) in [(65.0, f64::INFINITY), (66.0, f64::NAN), (67.0, -1.0)] {
        let mut odd = done("wanda", fraction(sparsity), Some("c4"));
        let perplexity = first(&mut odd.metrics, &PERPLEXITY);
        perplexity.value = value;
        perplexity.ci95 = [value; 2];
        cells.push(odd);
    }
    assert_eq!(labels(study_view(3, cells)), plain);
    let mut cells = five();
    first(&mut cells[2].metrics, &PERPLEXITY).ci95 = [1e-9, 1e200];
    let long = labels(study_view(3, cells));
    assert!(
        long.len() > 3 && long.iter().all(|label| label.trim().parse::<f64>().unwrap() < 1e4),
        "{long:?}"
    );
}

#[test]
fn zooming_rescales_the_heights_to_what_is_in_sight() {
    let mut state = state(Some(complete()), FULL);
    let highest = |state: &State| {
        let text = drawn(state, 80, 40);
        let line = text.lines().find_map(|line| line.strip_prefix('│')?.split_once('┤')).unwrap();
        line.0.trim().parse::<f64>().unwrap()
    };
    let before = highest(&state);
    press(&mut state, &[Action::Left, Action::Left, Action::ZoomIn]);
    assert!(highest(&state) < before / 2.0, "80% is out of sight");
}

#[test]
fn every_score_has_its_column() {
    let shown = |relative: bool| {
        let mut study_view = complete();
        let metrics = &mut study_view.cells[0].metrics;
        for score in crate::scores::SCORES {
            if metrics.first(score).is_none() {
                let data_set = if score.subject() == Subject::Corpus { "wikitext2" } else { "alpaca" };
                metrics.values.push(on(data_set, score, 0.5, 0.1));
            }
        }
        let mut state = state(Some(study_view), ASCII);
        state.compare.panel = Panel::Table;
        state.compare.relative = relative;
        drawn(&state, 480, 40)
    };
    let (plain, relative) = (shown(false), shown(true));
    for score in crate::scores::SCORES {
        assert!(plain.contains(&score.head()), "no {} in\n{plain}", score.head());
        assert!(relative.contains(score.short), "no {} in\n{relative}", score.short);
    }
}
