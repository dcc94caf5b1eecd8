//! Cells side by side at equal size.

#![allow(clippy::float_cmp, reason = "exact values are meant")]

use super::super::axis::XAxis;
use super::super::cursor;
use super::*;
use crate::scores::SCORES;
use crate::tui::state::{Panel, SortBy, XQuantity};

/// A finished cell whose modules take so many bits a weight, with this perplexity and divergence.
pub(super) fn sized(
    method: &str,
    percent: f64,
    set: Option<&str>,
    bits: f64,
    (perplexity, js): (f64, f64),
) -> CellResult {
    let mut cell = done(method, fraction(percent), set);
    let footprint = cell.footprint.as_mut().unwrap();
    footprint.stored_bits = (footprint.weights as f64 * bits) as u64;
    cell.metrics = measured(perplexity, js, [0.3 - js / 2.0, 0.6 - js / 2.0, 0.65 - js / 2.0]);
    cell
}

/// Cells of three families from two to sixteen bits; one of each size is beaten by a smaller one.
pub(super) fn families() -> StudyView {
    let mut cells = vec![
        sized("magnitude", 30.0, None, 16.0, (33.0, 0.11)),
        sized("magnitude", 50.0, None, 16.0, (60.0, 0.35)),
        sized("wanda", 50.0, Some("c4"), 16.0, (40.0, 0.18)),
        sized("wanda", 10.0, Some("c4"), 8.5, (28.7, 0.01)),
        sized("wanda", 20.0, Some("c4"), 4.25, (31.0, 0.06)),
        sized("wanda", 30.0, Some("c4"), 3.25, (45.0, 0.20)),
        sized("sparsegpt", 20.0, Some("c4"), 4.5, (30.0, 0.07)),
        sized("sparsegpt", 30.0, Some("c4"), 2.25, (90.0, 0.45)),
    ];
    cells.push(cell("sparsegpt", fraction(40.0), Some("c4")));
    study_view(3, cells)
}

pub(super) fn over_size(study_view: StudyView, theme: Theme) -> State {
    let mut state = state(Some(study_view), theme);
    press(&mut state, &[Action::NextAxis, Action::NextAxis]);
    state
}

/// The labels of the cells on the front, from left to right.
fn front(state: &State, score: &Score) -> Vec<String> {
    let found = Comparison::new(state.study_view.as_ref().unwrap(), &state.overlays, &state.compare);
    found.front(&state.compare, score).into_iter().map(|i| found.rows[i].label.clone()).collect()
}

#[test]
fn the_axis_goes_from_sparsity_over_bits_to_size_and_back() {
    let mut state = state(Some(families()), FULL);
    let axis = |state: &State| Comparison::new(state.study_view.as_ref().unwrap(), &[], &state.compare).axis;
    let mut seen = vec![axis(&state)];
    for _ in 0..3 {
        press(&mut state, &[Action::NextAxis]);
        seen.push(axis(&state));
    }
    let size = XAxis::Size { unit: "MB", unit_bytes: 1e6 };
    assert_eq!(seen, [XAxis::Sparsity, XAxis::BitsPerWeight, size, XAxis::Sparsity]);
}

#[test]
fn cells_stand_at_the_size_of_the_whole_model() {
    let mut state = state(Some(families()), FULL);
    press(&mut state, &[Action::NextAxis]);
    let study_view = state.study_view.as_ref().unwrap();
    let found = Comparison::new(study_view, &[], &state.compare);
    // 28,346,688 weights outside of the modules keep sixteen bits.
    let (rest, modules) = (28_346_688.0, 106_168_320.0);
    let bits = |own: f64| (rest * 16.0 + (modules * own).floor()) / (rest + modules);
    assert_eq!(found.xs, [2.25, 3.25, 4.25, 4.5, 8.5, 16.0].map(bits));
    assert_eq!(found.rows.last().unwrap().x, None, "a cell that waits has no size");
    press(&mut state, &[Action::NextAxis]);
    let found = Comparison::new(state.study_view.as_ref().unwrap(), &[], &state.compare);
    assert_eq!(found.xs.last(), Some(&269.030_016));
    assert_eq!(cursor(&state), None, "there is no sparsity under the cursor");
}

#[test]
fn the_front_goes_by_the_score_that_is_shown() {
    let mut state = over_size(families(), FULL);
    let by_perplexity = ["sparsegpt 30%", "wanda 30%", "wanda 20%", "sparsegpt 20%", "wanda 10%"];
    assert_eq!(front(&state, &PERPLEXITY), by_perplexity);
    // By divergence SparseGPT's cell of 4.5 bits is worse than Wanda's smaller one; so are the answers of both.
    let by_js = ["sparsegpt 30%", "wanda 30%", "wanda 20%", "wanda 10%"];
    assert_eq!(front(&state, &JS_DIVERGENCE), by_js);
    assert_eq!(front(&state, &F1), by_js, "the more the better");
    let marked = |state: &State| {
        let found = Comparison::new(state.study_view.as_ref().unwrap(), &[], &state.compare);
        found.rows.iter().filter(|row| row.front).count()
    };
    assert_eq!(marked(&state), 5);
    press(&mut state, &[Action::NextPanel]);
    assert_eq!(marked(&state), 4, "the chart of divergences has the focus");
    press(&mut state, &[Action::NextAxis]);
    assert_eq!(marked(&state), 0, "over sparsity there is none");
}

#[test]
fn the_cursor_goes_by_size_and_selects_the_best_cell_up_to_it() {
    let mut state = over_size(families(), FULL);
    let at = |state: &State| {
        let found = Comparison::new(state.study_view.as_ref().unwrap(), &[], &state.compare);
        (found.cursor(state.compare.cursor).unwrap() * 10.0).round() / 10.0
    };
    assert_eq!(at(&state), 269.0, "at first everything is in reach");
    press(&mut state, &[Action::Left]);
    assert_eq!((at(&state), state.selected_cell().as_deref()), (169.5, Some("wanda-0.1-c4-s0")));
    press(&mut state, &[Action::Left; 2]);
    assert_eq!((at(&state), state.selected_cell().as_deref()), (113.1, Some("wanda-0.2-c4-s0")));
    press(&mut state, &[Action::Right; 9]);
    assert_eq!(state.selected_cell().as_deref(), Some("wanda-0.1-c4-s0"), "no larger one is better");
    press(&mut state, &[Action::First, Action::Down]);
    assert_eq!(at(&state), 269.0, "a row that is selected takes the cursor along");
    press(&mut state, &[Action::ZoomIn; 40]);
    let (low, high) = state.compare.zoom.unwrap();
    assert!(low < high && (low..=high).contains(&269.0), "{low} to {high}");
    press(&mut state, &[Action::NextAxis]);
    assert_eq!((state.compare.zoom, cursor(&state)), (None, Some(30.0)), "the cursor stays on its cell");
}

#[test]
fn tables_sort_by_size_bits_and_front() {
    let mut state = over_size(families(), FULL);
    let labels = |state: &State| {
        let found = Comparison::new(state.study_view.as_ref().unwrap(), &[], &state.compare);
        let order = found.table(&state.compare).0;
        order.into_iter().skip(1).map(|i| found.rows[i].label.clone()).collect::<Vec<_>>()
    };
    state.compare.sort = Some(SortBy::Front);
    assert_eq!(labels(&state)[5..8], ["magnitude 30%", "magnitude 50%", "wanda 50%"], "those on it first");
    for column in [SortBy::Size, SortBy::Bits] {
        state.compare.sort = Some(column);
        assert_eq!(labels(&state)[..2], ["sparsegpt 30%", "wanda 30%"]);
        assert_eq!(labels(&state).last().unwrap(), "sparsegpt 40%", "what is not known comes last");
    }
    assert!(SortBy::all(XQuantity::Size).contains(&SortBy::Front));
    assert!(!SortBy::all(XQuantity::Sparsity).contains(&SortBy::Front));
}

#[test]
fn every_score_can_decide() {
    for score in SCORES {
        let mut state = over_size(families(), FULL);
        (state.compare.panel, state.compare.sort) = (Panel::Table, Some(SortBy::Score(score)));
        let found = Comparison::new(state.study_view.as_ref().unwrap(), &[], &state.compare);
        if !found.scores.contains(score) {
            continue;
        }
        let marked: Vec<_> = found.rows.iter().filter(|row| row.front).map(|row| row.label.clone()).collect();
        let mut expected = front(&state, score);
        expected.sort_by_key(|label| found.rows.iter().position(|row| row.label == *label));
        assert_eq!(marked, expected, "{}", score.id);
        assert!(!marked.is_empty(), "{}", score.id);
    }
}
