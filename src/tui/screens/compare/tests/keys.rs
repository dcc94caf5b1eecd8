#![allow(clippy::float_cmp, reason = "exact values are meant")]

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::{cursor, typing};
use super::*;
use crate::tui::state::{Panel, SortBy, XQuantity};

fn key(state: &mut State, code: KeyCode) -> bool {
    typing(state, &KeyEvent::new(code, KeyModifiers::NONE)).is_some()
}

#[test]
fn the_cursor_goes_over_the_sparsities_that_there_are() {
    let mut state = state(Some(complete()), FULL);
    assert_eq!(cursor(&state), Some(50.0), "at first in the middle");
    press(&mut state, &[Action::Right]);
    assert_eq!(cursor(&state), Some(60.0));
    press(&mut state, &[Action::Right, Action::Right, Action::Right]);
    assert_eq!(cursor(&state), Some(80.0), "it stops at the last");
    press(&mut state, &[Action::Left; 9]);
    assert_eq!(cursor(&state), Some(20.0));
    state.study_view = None;
    assert_eq!(cursor(&state), None);
}

#[test]
fn selecting_a_cell_moves_the_cursor_and_the_other_way_round() {
    let mut state = state(Some(complete()), FULL);
    assert_eq!(state.selected_cell(), None, "the base");
    press(&mut state, &[Action::Down, Action::Down]);
    assert_eq!(state.selected_cell().as_deref(), Some("magnitude-0.4"));
    assert_eq!(cursor(&state), Some(40.0));
    press(&mut state, &[Action::Left]);
    assert_eq!(state.selected_cell().as_deref(), Some("magnitude-0.2"));
    press(&mut state, &[Action::Last]);
    assert_eq!(state.selected_cell().as_deref(), Some("sparsegpt-2of4-alpaca-s0"));
    press(&mut state, &[Action::PageUp, Action::PageDown, Action::First]);
    assert_eq!(state.selected_cell(), None);
}

#[test]
fn zooming_keeps_the_cursor_in_sight_and_comes_back() {
    let mut state = state(Some(complete()), FULL);
    press(&mut state, &[Action::ZoomIn]);
    assert_eq!(state.compare.zoom, Some((33.5, 66.5)), "half of 17 to 83 around 50");
    press(&mut state, &[Action::ZoomIn]);
    press(&mut state, &[Action::Right, Action::Right]);
    let (low, high) = state.compare.zoom.unwrap();
    assert!(low < 80.0 && 80.0 < high && (high - low - 16.5).abs() < 1e-9, "{low} to {high}");
    press(&mut state, &[Action::ZoomOut, Action::ZoomOut]);
    assert_eq!(state.compare.zoom, None, "all is in sight again");
    press(&mut state, &[Action::ZoomIn; 40]);
    let (low, high) = state.compare.zoom.unwrap();
    assert!(low <= 80.0 && 80.0 <= high && high - low >= 1.0);
    press(&mut state, &[Action::ZoomReset]);
    assert_eq!(state.compare.zoom, None);
}

#[test]
fn a_pinned_cell_stays_selected_and_goes_to_the_top() {
    let mut state = state(Some(complete()), FULL);
    press(&mut state, &[Action::Last, Action::Pin, Action::First, Action::Down]);
    assert_eq!(state.selected_cell().as_deref(), Some("sparsegpt-2of4-alpaca-s0"));
    press(&mut state, &[Action::Pin, Action::First, Action::Down]);
    assert_eq!(state.selected_cell().as_deref(), Some("magnitude-0.2"), "it is let go");
    press(&mut state, &[Action::First, Action::Pin]);
    assert!(state.compare.pinned.is_empty() && state.toast.as_ref().unwrap().bad, "the base needs no pin");
}

#[test]
fn sorting_goes_through_the_columns_and_back_to_the_grid() {
    let mut state = state(Some(complete()), FULL);
    press(&mut state, &[Action::Sort; 6]);
    assert_eq!(state.compare.sort, Some(SortBy::Score(&PERPLEXITY)));
    press(&mut state, &[Action::First, Action::Down]);
    let best = state.selected_cell();
    press(&mut state, &[Action::SortReverse, Action::Last]);
    assert_eq!(state.selected_cell(), best);
    press(&mut state, &[Action::Sort; 12]);
    assert_eq!((state.compare.sort, state.compare.descending), (None, false));
}

#[test]
fn a_filter_holds_while_it_is_typed_and_esc_drops_it() {
    let mut state = state(Some(complete()), FULL);
    assert!(!key(&mut state, KeyCode::Char('w')), "nothing is typed yet");
    press(&mut state, &[Action::Filter]);
    for c in "alpaca 2:4".chars() {
        assert!(key(&mut state, KeyCode::Char(c)));
    }
    key(&mut state, KeyCode::Down);
    assert_eq!(state.selected_cell().as_deref(), Some("wanda-2of4-alpaca-s0"));
    key(&mut state, KeyCode::Enter);
    assert!(!key(&mut state, KeyCode::Down), "keys go to the screen again");
    press(&mut state, &[Action::Last]);
    assert_eq!(state.selected_cell().as_deref(), Some("sparsegpt-2of4-alpaca-s0"));
    press(&mut state, &[Action::ClearFilter, Action::First, Action::Down]);
    assert_eq!(state.selected_cell().as_deref(), Some("magnitude-0.2"));
    press(&mut state, &[Action::Filter]);
    key(&mut state, KeyCode::Char('x'));
    key(&mut state, KeyCode::Esc);
    assert_eq!((state.compare.filter(), state.compare.typing.is_none()), ("", true));
}

#[test]
fn the_selected_cell_is_inspected_the_base_and_overlays_are_not() {
    let mut state = state(Some(complete()), FULL);
    state.overlays = vec![study_view(7, vec![done("wanda", fraction(50.0), Some("c4"))])];
    press(&mut state, &[Action::Confirm]);
    assert_eq!(state.screen, Screen::Compare);
    press(&mut state, &[Action::Last, Action::Confirm]);
    assert_eq!(state.screen, Screen::Compare);
    assert!(state.toast.as_ref().unwrap().text.contains("study 7"));
    assert_eq!(state.selected_cell(), None, "a cell of another study");
    press(&mut state, &[Action::Up, Action::Confirm]);
    assert_eq!(state.screen, Screen::Inspect);
}

#[test]
fn panels_scores_and_texts_take_turns() {
    let mut state = state(Some(complete()), FULL);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(state.compare.panel);
        press(&mut state, &[Action::NextPanel]);
    }
    assert_eq!(seen, [Panel::Perplexity, Panel::Divergence, Panel::Scores, Panel::Table]);
    assert_eq!(state.compare.panel, Panel::Perplexity);
    press(&mut state, &[Action::NextCorpus]);
    assert!(state.toast.take().unwrap().text.contains("only one corpus"));
    let study_view = state.study_view.as_mut().unwrap();
    let perplexity = first(&mut study_view.base.metrics, &PERPLEXITY).clone();
    study_view.base.metrics.values.push(Measurement { data_set: "c4".into(), ..perplexity });
    press(&mut state, &[Action::NextCorpus]);
    assert_eq!(state.compare.corpus, 1);
    press(&mut state, &[Action::NextCorpus]);
    assert_eq!(state.compare.corpus, 0);
}

#[test]
fn another_study_keeps_how_one_looks_and_forgets_where() {
    let mut state = state(Some(complete()), FULL);
    press(
        &mut state,
        &[
            Action::Relative,
            Action::NextAxis,
            Action::NextScore,
            Action::Sort,
            Action::Last,
            Action::Pin,
            Action::ZoomIn,
        ],
    );
    state.compare.kept = "wanda".into();
    let score = state.compare.score;
    state.compare.reset();
    let view = &state.compare;
    assert!(view.relative && view.score == score && view.sort.is_some());
    assert_eq!(view.x, XQuantity::BitsPerWeight);
    assert!(
        view.pinned.is_empty() && view.zoom.is_none() && view.selected.is_none() && view.filter().is_empty()
    );
}

#[test]
fn columns_can_be_left_out_and_shown_again() {
    let mut state = state(Some(complete()), FULL);
    let shown = |state: &State| testing::text(state, 200, 48);
    assert!(shown(&state).contains("zeros"));
    press(&mut state, &[Action::Sort; 3]);
    assert_eq!(state.compare.sort, Some(SortBy::Zeros));
    testing::press(&mut state, KeyCode::Char('C'));
    let dialog = testing::text(&state, 80, 24);
    assert!(dialog.contains("bits per weight") && dialog.contains("Space shows or hides"), "{dialog}");
    // The state of a cell is the first that can go, its zeros are the second.
    for code in [KeyCode::Down, KeyCode::Char(' '), KeyCode::Esc] {
        testing::press(&mut state, code);
    }
    assert!(!shown(&state).contains("zeros"));
    assert_eq!(state.compare.sort, None, "rows are not sorted by a column that is not there");
    press(&mut state, &[Action::Sort; 3]);
    assert_eq!(state.compare.sort, Some(SortBy::Bits));
    for code in [KeyCode::Char('C'), KeyCode::Char('A'), KeyCode::Esc] {
        testing::press(&mut state, code);
    }
    assert!(shown(&state).contains("zeros") && state.dialogs.is_empty());
}
