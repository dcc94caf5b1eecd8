#![allow(clippy::float_cmp, reason = "exact values are meant")]

use super::super::axis::XAxis;
use super::super::cursor;
use super::super::data::Comparison;
use super::*;
use crate::scores::choice::{ACCURACY, NORMALISED_ACCURACY};
use crate::tui::state::{ChartedScore, CompareView, RowKey, SortBy};

fn tasks(tasks: &[[Measurement; 3]]) -> Metrics {
    Metrics { values: tasks.concat() }
}

fn labels(found: &Comparison<'_>, view: &CompareView) -> Vec<String> {
    found.table(view).0.into_iter().map(|i| found.rows[i].label.clone()).collect()
}

#[test]
fn a_series_is_a_method_with_a_calibration_set() {
    let study_view = complete();
    let found = compared(&study_view, &[], 0);
    let names: Vec<&str> = found.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["magnitude", "wanda c4", "wanda alpaca", "sparsegpt c4", "sparsegpt alpaca"]);
    let mut styles: Vec<usize> = found.series.iter().map(|series| series.style).collect();
    assert_eq!((styles[0], styles[1], styles[3]), (0, 1, 2), "methods look alike in every study");
    styles.sort_unstable();
    styles.dedup();
    assert_eq!(styles.len(), 5, "no two look the same");
    assert_eq!(found.xs, [20.0, 40.0, 50.0, 60.0, 80.0]);
}

#[test]
fn one_calibration_set_goes_without_saying() {
    let cells = vec![done("magnitude", fraction(30.0), None), done("wanda", fraction(30.0), Some("c4"))];
    let study_view = study_view(1, cells);
    let found = compared(&study_view, &[], 0);
    assert_eq!(found.series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["magnitude", "wanda"]);
}

#[test]
fn patterns_stand_at_their_fraction_and_behind_the_cell_that_is_one() {
    let nm = |n, m| Sparsity::SemiStructured { zeros: n, group: m };
    let study_view = study_view(
        1,
        vec![
            done("magnitude", nm(4, 8), None),
            done("magnitude", nm(1, 4), None),
            done("magnitude", fraction(50.0), None),
        ],
    );
    let found = compared(&study_view, &[], 0);
    let points: Vec<(Option<f64>, Option<&str>)> =
        found.series[0].rows.iter().map(|&i| (found.rows[i].x, found.rows[i].pattern.as_deref())).collect();
    assert_eq!(points, [(Some(25.0), Some("1:4")), (Some(50.0), None), (Some(50.0), Some("4:8"))]);
}

#[test]
fn cells_of_one_sparsity_have_places_of_their_own() {
    let two_of_four = Sparsity::SemiStructured { zeros: 2, group: 4 };
    let cells = vec![
        done("magnitude", fraction(50.0), None),
        done("wanda", fraction(50.0), Some("c4")),
        done("wanda", two_of_four, Some("c4")),
        done("sparsegpt", fraction(50.0), Some("c4")),
    ];
    let mut shown = state(Some(study_view(1, cells)), FULL);
    let study_view = shown.study_view.clone().unwrap();
    let found = compared(&study_view, &[], 0);
    let names = ["magnitude", "wanda", "wanda 2:4", "sparsegpt"].map(str::to_owned).to_vec();
    assert_eq!(found.axis, XAxis::Cells { sparsity: 50.0, names });
    assert_eq!(found.xs, [1.0, 2.0, 3.0, 4.0]);
    // The cursor goes from cell to cell; a cell that is added has the sparsity of all.
    assert_eq!(found.cursor(None), Some(1.0));
    press(&mut shown, &[Action::Right, Action::Right]);
    assert_eq!(shown.selected_cell().as_deref(), Some("wanda-2of4-c4-s0"));
    assert_eq!(cursor(&shown), Some(50.0));
    press(&mut shown, &[Action::Down]);
    assert_eq!(shown.compare.cursor, Some(4.0));
    // One cell of another sparsity, and sparsity is what is shown.
    shown.study_view.as_mut().unwrap().cells.push(done("magnitude", fraction(60.0), None));
    let found = compared(shown.study_view.as_ref().unwrap(), &[], 0);
    assert_eq!((found.axis, found.xs), (XAxis::Sparsity, vec![50.0, 60.0]));
}

#[test]
fn a_cell_that_removes_blocks_stands_at_the_share_that_is_gone_or_zero() {
    let cut = |recipe: &str, found: Option<Footprint>| {
        let spec = CellSpec { recipe: recipe.parse().unwrap(), calibration: Some("c4".into()), seed: 0 };
        CellResult { footprint: found, ..CellResult::queued(&spec) }
    };
    let all = zeros(0.5);
    let left = Footprint { weights: all.weights / 30 * 24, zeros: 0, ..all };
    let cells = vec![
        cut("depth@6blocks", None),
        cut("depth@20%,by=angular", Some(left)),
        cut("depth@6blocks+wanda@50%", Some(Footprint { zeros: left.weights / 2, ..left })),
        cut("depth@20%+wanda@50%", None),
        cut("depth@6blocks+rtn@4bit", None),
        done("wanda", fraction(50.0), Some("c4")),
    ];
    let mut study_view = study_view(1, cells);
    let found = compared(&study_view, &[], 0);
    let places: Vec<f64> = found.rows.iter().filter_map(|row| row.x).collect();
    assert_eq!(places, [20.0, 20.0, 60.0, 60.0, 20.0, 50.0]);
    assert_eq!(found.axis_label(), "zero or gone %");
    study_view.cells.drain(..5);
    study_view.cells.push(done("wanda", fraction(60.0), Some("c4")));
    assert_eq!(compared(&study_view, &[], 0).axis_label(), "sparsity %");
}

#[test]
fn overlays_are_named_by_their_study_and_compared_with_their_own_base() {
    let shown = study_view(3, vec![done("wanda", fraction(50.0), Some("c4"))]);
    let mut other = study_view(7, vec![done("wanda", fraction(50.0), Some("c4"))]);
    other.base.metrics = measured(10.0, -1.0, [0.5, 0.5, 0.5]);
    other.cells[0].metrics = measured(20.0, 0.2, [0.25, 0.5, 0.5]);
    let overlays = [other];
    let found = compared(&shown, &overlays, 0);
    let names: Vec<&str> = found.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["wanda", "#7 wanda"]);
    assert_ne!(found.series[0].style, found.series[1].style);
    assert_eq!(labels(&found, &CompareView::default()), ["base", "#7 base", "wanda 50%", "#7 wanda 50%"]);
    assert_eq!(found.only_set.as_deref(), Some("c4"), "which the labels leave out");
    let view = CompareView { kept: "#7 c4".into(), ..CompareView::default() };
    assert_eq!(labels(&found, &view), ["base", "#7 base", "#7 wanda 50%"], "a filter still finds it");
    let row = found.row(&RowKey { study: 7, cell: Some("wanda-0.5-c4-s0".into()) }).unwrap();
    let relative = |score: &Score| row.figures.value(score, &row.base, true).unwrap().value;
    assert_eq!(relative(&PERPLEXITY), 2.0);
    assert_eq!(relative(&EXACT_MATCH), 0.5);
    assert_eq!(relative(&JS_DIVERGENCE), 0.2, "a divergence is relative to the base as it is");
    assert_eq!(row.change(&PERPLEXITY), Some(1.0));
}

#[test]
fn relative_values_need_a_base_above_zero() {
    let mut study_view = study_view(1, vec![done("magnitude", fraction(50.0), None)]);
    study_view.base.metrics = measured(f64::INFINITY, -1.0, [0.0, 0.5, f64::NAN]);
    let found = compared(&study_view, &[], 0);
    let row = &found.rows[1];
    let relative = |score: &Score| row.figures.value(score, &row.base, true);
    assert_eq!(relative(&PERPLEXITY), None);
    assert_eq!(relative(&EXACT_MATCH), None);
    assert_eq!(relative(&ROUGE1), None);
    assert!(relative(&F1).is_some());
    assert_eq!(row.change(&PERPLEXITY), None);
}

#[test]
fn scores_are_averaged_by_the_records_of_the_tasks() {
    let mut study_view = study_view(1, vec![done("magnitude", fraction(50.0), None)]);
    study_view.base.metrics = tasks(&[task("a", 30, [0.8; 3]), task("b", 10, [0.4; 3])]);
    study_view.cells[0].metrics = tasks(&[task("a", 30, [0.4; 3]), task("b", 10, [0.0; 3])]);
    let found = compared(&study_view, &[], 0);
    assert!((found.rows[0].figures.get(&EXACT_MATCH).unwrap().value - 0.7).abs() < 1e-12);
    let own = found.rows[1].figures.get(&F1).unwrap();
    assert!((own.value - 0.3).abs() < 1e-12);
    // Half widths of 0.04 each, weighted by 3/4 and 1/4, add up as squares.
    let half = 0.04 * (0.75_f64.powi(2) + 0.25_f64.powi(2)).sqrt();
    assert!((own.ci95[1] - own.value - half).abs() < 1e-12);
}

#[test]
fn a_cell_that_lacks_a_task_has_no_score_yet() {
    let mut study_view = study_view(1, vec![done("magnitude", fraction(50.0), None)]);
    study_view.base.metrics = tasks(&[task("a", 30, [0.8; 3]), task("b", 10, [0.4; 3])]);
    study_view.cells[0].metrics = tasks(&[task("a", 30, [0.4; 3])]);
    study_view.cells[0].metrics.values.push(on("wikitext2", &PERPLEXITY, 30.0, 0.04));
    let found = compared(&study_view, &[], 0);
    let figures = found.rows[1].figures;
    assert_eq!([&EXACT_MATCH, &F1, &ROUGE1].map(|score| figures.get(score)), [None; 3]);
    assert!(figures.get(&PERPLEXITY).is_some());
}

#[test]
fn texts_are_told_apart_even_by_the_same_name() {
    let mut study_view = study_view(1, vec![done("magnitude", fraction(50.0), None)]);
    for metrics in [&mut study_view.base.metrics, &mut study_view.cells[0].metrics] {
        let perplexity = first(metrics, &PERPLEXITY).clone();
        metrics.values.push(Measurement { value: perplexity.value * 2.0, ..perplexity.clone() });
        metrics.values.push(Measurement { data_set: "c4".into(), ..perplexity });
    }
    let of = |text: usize| {
        let found = compared(&study_view, &[], text);
        (found.corpus.as_ref().unwrap().to_string(), found.rows[0].figures.get(&PERPLEXITY).unwrap().value)
    };
    assert_eq!(
        [of(0), of(1), of(2)],
        [("wikitext2".into(), 28.5), ("wikitext2#2".into(), 57.0), ("c4".into(), 28.5)]
    );
    let found = compared(&study_view, &[], 1);
    assert_eq!(found.rows[1].figures.get(&JS_DIVERGENCE), None, "JS was measured on the first only");
}

#[test]
fn rows_without_a_value_come_last_whichever_way_the_table_runs() {
    let mut study_view = study_view(
        1,
        vec![
            cell("magnitude", fraction(10.0), None),
            done("magnitude", fraction(50.0), None),
            done("magnitude", fraction(20.0), None),
            done("magnitude", fraction(70.0), None),
            done("magnitude", fraction(60.0), None),
        ],
    );
    first(&mut study_view.cells[3].metrics, &PERPLEXITY).value = f64::INFINITY;
    first(&mut study_view.cells[4].metrics, &PERPLEXITY).value = f64::NAN;
    let found = compared(&study_view, &[], 0);
    let up = CompareView { sort: Some(SortBy::Score(&PERPLEXITY)), ..CompareView::default() };
    assert_eq!(
        labels(&found, &up),
        ["base", "magnitude 20%", "magnitude 50%", "magnitude 70%", "magnitude 10%", "magnitude 60%"]
    );
    let down = CompareView { descending: true, ..up };
    assert_eq!(
        labels(&found, &down),
        ["base", "magnitude 70%", "magnitude 50%", "magnitude 20%", "magnitude 10%", "magnitude 60%"]
    );
}

#[test]
fn the_filter_wants_all_words_and_leaves_base_and_pins_alone() {
    let study_view = complete();
    let found = compared(&study_view, &[], 0);
    let pinned = RowKey { study: 3, cell: Some("magnitude-0.8".into()) };
    let view = CompareView { kept: "WANDA  50%".into(), pinned: vec![pinned], ..CompareView::default() };
    assert_eq!(labels(&found, &view), ["base", "magnitude 80%", "wanda 50% c4", "wanda 50% alpaca"]);
}

#[test]
fn scores_of_tasks_are_charted_in_turn_and_then_all() {
    assert_eq!(ChartedScore::default(), ChartedScore::One(&F1));
    let scores = [&EXACT_MATCH, &F1, &ROUGE1];
    assert_eq!(ChartedScore::All.shown(&scores), scores);
    let mut turn = vec![ChartedScore::default()];
    for _ in 0..4 {
        turn.push(turn.last().unwrap().next(&scores));
    }
    let shown: Vec<usize> = turn.iter().map(|charted| charted.shown(&scores).len()).collect();
    assert_eq!((shown, turn[0]), (vec![1, 1, 3, 1, 1], turn[4]));
    // Where F1 is not measured, another one is shown, and the turn goes on behind it.
    let scores = [&ACCURACY, &NORMALISED_ACCURACY];
    assert_eq!(turn[0].shown(&scores), [&ACCURACY]);
    assert_eq!(turn[0].next(&scores), ChartedScore::One(&NORMALISED_ACCURACY));
    assert!(ChartedScore::All.shown(&[]).is_empty());
}
