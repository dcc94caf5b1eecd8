//! Tests of which records are listed, and in which order.

use crossterm::event::KeyCode;

use super::rows;
use super::sample::*;
use super::tests::{chosen, keys, picture, prompts};
use crate::results::CellState;
use crate::tui::state::{RecordFilter, RecordOrder, State};
use crate::tui::testing::press;
use crate::tui::theme::ColorMode;

fn title(state: &State) -> String {
    let picture = picture(state);
    let line = picture.lines().next().unwrap().trim_matches(|c: char| !c.is_alphanumeric() && c != ')');
    line.to_owned()
}

#[test]
fn o_steps_through_the_orders_of_choices() {
    let mut state = choosing((80, 24));
    assert_eq!(title(&state), "1/6 records: as in the task");
    keys(&mut state, "o");
    assert_eq!(title(&state), "1/6 records: by JS divergence");
    let bits: Vec<f64> = rows::rows(&state).iter().map(|row| row.divergence().unwrap()).collect();
    assert!(bits.is_sorted_by(|a, b| a >= b), "{bits:?}");
    assert_ne!(prompts(&state), [0, 1, 2, 3, 4, 5]);
    keys(&mut state, "o");
    assert_eq!(title(&state), "1/6 records: by margin");
    // Margins in the cell: 1.5, -3, 4, -0.25, 2, 1.
    assert_eq!(prompts(&state), [1, 3, 5, 0, 4, 2]);
    keys(&mut state, "o");
    assert_eq!(prompts(&state), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn o_puts_the_largest_disagreement_of_texts_first_else_the_largest_loss() {
    let mut state = inspecting((80, 24));
    keys(&mut state, "o");
    assert_eq!((prompts(&state), chosen(&state)), (vec![0, 3, 1, 2], 0));
    assert_eq!(title(&state), "1/4 records: by JS divergence");
    // Where it was not measured, the loss of F1 counts.
    keys(&mut state, "h");
    assert_eq!(title(&state), "1/4 records: by loss of F1");
    assert_eq!(prompts(&state), [0, 1, 2, 3]);
    state.study_view.as_mut().unwrap().answers.get_mut(&Some(MAGNITUDE.into())).unwrap()[0]
        .scores
        .put("f1", 0.9);
    assert_eq!(prompts(&state), [1, 0, 2, 3]);
    // Texts have no margins, and the title says so.
    keys(&mut state, "o");
    assert_eq!(prompts(&state), [0, 1, 2, 3]);
    assert_eq!(title(&state), "1/4 records: as in the task (no margins)");
}

#[test]
fn f_lists_what_has_flipped_then_what_is_wrong_then_all() {
    let mut state = choosing((80, 24));
    keys(&mut state, "f");
    assert_eq!(
        (prompts(&state), title(&state)),
        (vec![1, 4], "1/2 of 6 records: flipped, as in the task".into())
    );
    keys(&mut state, "f");
    assert_eq!(
        (prompts(&state), title(&state)),
        (vec![1, 3], "1/2 of 6 records: wrong, as in the task".into())
    );
    keys(&mut state, "oo");
    assert_eq!(title(&state), "1/2 of 6 records: wrong, by margin");
    keys(&mut state, "f");
    assert_eq!(prompts(&state).len(), 6);
    // Texts are judged by exact match: the first two are right in the base.
    let mut state = inspecting((80, 24));
    keys(&mut state, "f");
    assert_eq!(prompts(&state), [0, 1]);
    keys(&mut state, "f");
    assert_eq!(prompts(&state), [0, 1, 2, 3]);
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.inspect.filter, RecordFilter::All);
}

#[test]
fn the_chosen_record_stays_while_it_is_listed_and_comes_back() {
    let mut state = choosing((80, 24));
    keys(&mut state, "jjjj");
    assert_eq!(chosen(&state), 4);
    keys(&mut state, "foo");
    assert_eq!((prompts(&state), chosen(&state)), (vec![1, 4], 4));
    state.inspect.prompt_scroll = 1;
    keys(&mut state, "o");
    assert_eq!((chosen(&state), state.inspect.prompt_scroll), (4, 1));
    // It is right in the cell, so it is not among the wrong ones; another one is read from its beginning.
    keys(&mut state, "f");
    assert_eq!((chosen(&state), state.inspect.prompt_scroll), (1, 0));
    keys(&mut state, "f");
    assert_eq!(chosen(&state), 4);
}

#[test]
fn an_empty_list_says_why_and_names_the_key_that_shows_all() {
    let mut state = choosing((80, 24));
    let study_view = state.study_view.as_mut().unwrap();
    // Of the base's answers those that are right.
    let of_base = study_view.answers[&None].iter().filter(|answer| ![3, 4].contains(&answer.record));
    let same: Vec<_> = of_base.cloned().collect();
    study_view.answers.insert(None, same.clone());
    study_view.answers.insert(Some(WANDA.into()), same);
    keys(&mut state, "f");
    assert_eq!(title(&state), "0 of 4 records: flipped");
    let flat = |state: &State| {
        let inside = |line: &str| line.trim_matches(|c: char| c == '│' || c == '|' || c == ' ').to_owned();
        picture(state).lines().map(inside).collect::<Vec<_>>().join(" ")
    };
    let text = flat(&state);
    let expected = "No record has flipped between base and wanda 50% c4: press Esc to show all records.";
    assert!(text.contains(expected), "{text}");
    // Keys that move have nothing to move to.
    keys(&mut state, "jkGgwjw");
    press(&mut state, KeyCode::PageDown);
    keys(&mut state, "f");
    let text = flat(&state);
    assert!(text.contains("wanda 50% c4 has no wrong answers: press Esc to show all records."), "{text}");
    state.study_view.as_mut().unwrap().cells[1].state = CellState::Running;
    let text = flat(&state);
    assert!(text.contains("has no wrong answers so far: press Esc"), "{text}");
    for answers in state.study_view.as_mut().unwrap().answers.values_mut() {
        for answer in answers {
            answer.scores = [("f1", 0.5)].into_iter().collect();
        }
    }
    let text = flat(&state);
    assert!(text.contains("No score judges these records right or wrong: press Esc"), "{text}");
    keys(&mut state, "l");
    let text = flat(&state);
    assert!(text.contains("sparsegpt 50% c4 has no answers here: press Esc"), "{text}");
    press(&mut state, KeyCode::Esc);
    assert_eq!(prompts(&state).len(), 4);
}

#[test]
fn modules_have_no_filter_and_an_order_of_their_own() {
    let mut state = choosing((80, 24));
    keys(&mut state, "mf");
    assert!(state.toast.as_ref().unwrap().text.contains("press m"));
    keys(&mut state, "o");
    assert!(state.inspect.largest_error_first);
    assert_eq!((state.inspect.filter, state.inspect.order), (RecordFilter::All, RecordOrder::AsInTask));
}

#[test]
fn how_records_are_listed_is_kept_when_another_study_is_shown() {
    let mut state = choosing((80, 24));
    keys(&mut state, "jfoo");
    state.inspect.reset();
    assert_eq!((state.inspect.filter, state.inspect.order), (RecordFilter::Flipped, RecordOrder::Margin));
    assert_eq!(state.inspect.prompt, None);
}

#[test]
fn lists_look_as_they_did() {
    for size in [(80, 24), (160, 48), (40, 12), (1, 1)] {
        let snapshot = |what: &str, state: &State| {
            insta::assert_snapshot!(format!("{what}-{}x{}", size.0, size.1), picture(state));
        };
        let mut state = choosing(size);
        snapshot("choices", &state);
        keys(&mut state, "foo");
        snapshot("flipped-by-margin", &state);
        let mut ascii = state.clone();
        ascii.theme = theme(ColorMode::None, true);
        snapshot("flipped-ascii", &ascii);
        keys(&mut state, "fo");
        snapshot("wrong", &state);
        let base = state.study_view.as_ref().unwrap().answers[&None].clone();
        state.study_view.as_mut().unwrap().answers.insert(Some(WANDA.into()), base);
        keys(&mut state, "ff");
        snapshot("none-flipped", &state);
        let mut texts = inspecting(size);
        keys(&mut texts, "fo");
        snapshot("texts-flipped", &texts);
    }
}
