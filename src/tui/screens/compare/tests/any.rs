use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::super::{act, cursor, draw, panels, typing};
use super::*;
use crate::tui::keymap::{Context, KeyPress, action};
use crate::tui::state::Line;

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => 0.0..1.0_f64,
        3 => 1.0..1e4_f64,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, f64::MAX, 5e-324]),
    ]
}

fn any_sparsity() -> impl Strategy<Value = Sparsity> {
    prop_oneof![
        (0..100_u32).prop_map(|percent| fraction(f64::from(percent))),
        (1..8_usize, 1..9_usize).prop_map(|(n, more)| Sparsity::SemiStructured { zeros: n, group: n + more }),
    ]
}

prop_compose! {
    fn any_metrics()(
        values in prop::collection::vec(any_value(), 9),
        corpora in prop::collection::vec("[a-c]", 0..3),
        tasks in prop::collection::vec("[a-c]", 0..3),
        bits in any::<bool>(),
    ) -> Metrics {
        let value = |score: &Score, data_set: &str, n: usize, i: usize| {
            let estimate = Estimate { value: values[i], ci95: [values[(i + 1) % 9], values[(i + 2) % 9]] };
            let details = score.details.iter().map(|_| 0.1).collect();
            score.measurement(data_set, n, Summary { estimate, details })
        };
        let mut metrics = Metrics::default();
        for corpus in &corpora {
            metrics.values.push(value(&PERPLEXITY, corpus, 1, 0));
            if bits {
                for (score, i) in [(&JS_DIVERGENCE, 3), (&KL_DIVERGENCE, 4), (&TOP1_AGREEMENT, 6)] {
                    metrics.values.push(value(score, corpus, 1, i));
                }
            }
        }
        for (n, task) in tasks.iter().enumerate() {
            for (score, i) in [(&EXACT_MATCH, 6), (&F1, 7), (&ROUGE1, 8)] {
                metrics.values.push(value(score, task, n, i));
            }
        }
        metrics
    }
}

prop_compose! {
    fn any_cell()(
        method in prop::sample::select(vec!["magnitude", "wanda", "sparsegpt", "newer"]),
        sparsity in any_sparsity(),
        set in prop::option::of("[a-d]|文字|\\PC{0,30}"),
        state in prop::sample::select(vec![
            CellState::Queued, CellState::Running, CellState::Done, CellState::Cancelled, CellState::Failed,
        ]),
        zeros in prop::option::of((any::<u32>(), any::<u32>(), any::<u64>())),
        metrics in any_metrics(),
        seconds in any_value(),
        warning in any::<bool>(),
    ) -> CellResult {
        CellResult {
            state,
            footprint: zeros.map(|(zeros, weights, bits)| Footprint {
                weights: weights.into(),
                zeros: zeros.into(),
                stored_bits: bits,
                packed_bits: bits / 2,
                ..Footprint::default()
            }),
            metrics,
            seconds: Seconds { prune: seconds, ..Seconds::default() },
            warnings: if warning { vec!["damping".into()] } else { Vec::new() },
            ..cell(method, sparsity, set.as_deref())
        }
    }
}

prop_compose! {
    fn any_board(study: i64)(
        cells in prop::collection::vec(any_cell(), 0..12),
        base in any_metrics(),
        known in any::<bool>(),
        sized in any::<bool>(),
    ) -> StudyView {
        let mut study_view = study_view(study, cells);
        study_view.model.source_bits = study_view.model.source_bits.filter(|_| sized);
        study_view.base.metrics = base;
        if !known {
            study_view.spec = None;
        }
        study_view
    }
}

/// What a person, or the study, may do next.
#[derive(Debug, Clone)]
enum Step {
    Press(KeyCode),
    StudyView(Box<Option<StudyView>>),
    Draw(u16, u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    let keys: Vec<KeyCode> = crate::tui::keymap::of(Context::Compare)
        .flat_map(|binding| binding.keys)
        .map(|key| key.code)
        .chain([KeyCode::Backspace, KeyCode::Char('2')])
        .collect();
    prop_oneof![
        20 => prop::sample::select(keys).prop_map(Step::Press),
        1 => prop::option::of(any_board(1)).prop_map(|study_view| Step::StudyView(Box::new(study_view))),
        3 => (0..200_u16, 0..60_u16).prop_map(|(width, height)| Step::Draw(width, height)),
    ]
}

fn drawn(state: &State, width: u16, height: u16) {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let area = *buffer.area();
    draw(state, area, &mut buffer);
    for (panel, place) in panels(state, area) {
        assert_eq!(place.intersection(area), place, "{panel:?}");
    }
}

/// A key as the dashboard hands it on; what belongs to other places of the program is left out.
fn press_key(state: &mut State, code: KeyCode) {
    let event = KeyEvent::new(code, KeyModifiers::NONE);
    if typing(state, &event).is_some() {
        return;
    }
    match action(Context::Compare, KeyPress::of(&event)) {
        None | Some(Action::AddCell | Action::Screen(_)) => {}
        Some(action) => _ = act(state, action),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_keys_on_any_study_leave_a_screen_that_draws(
        study_view in prop::option::of(any_board(1)),
        overlays in prop::collection::vec(any_board(2), 0..2),
        steps in prop::collection::vec(any_step(), 0..30),
        (width, height) in (0..200_u16, 0..60_u16),
        theme in prop::sample::select(vec![FULL, PLAIN, ASCII]),
    ) {
        let mut state = state(study_view, theme);
        state.overlays = overlays;
        for step in steps {
            match step {
                Step::Press(code) => press_key(&mut state, code),
                Step::StudyView(study_view) => state.study_view = *study_view,
                Step::Draw(width, height) => drawn(&state, width, height),
            }
            let at = cursor(&state);
            let there = |x: f64| {
                let study_views = state.study_view.iter().chain(&state.overlays);
                study_views.flat_map(|b| &b.cells).any(|c| super::super::data::percent(&c.spec.recipe).total_cmp(&x).is_eq())
            };
            prop_assert!(at.is_none_or(there), "the cursor stands on a cell: {at:?}");
            if let Some(id) = state.selected_cell() {
                prop_assert!(state.study_view.as_ref().is_some_and(|study_view| study_view.cell(&id).is_some()));
            }
            if let Some((low, high)) = state.compare.zoom {
                prop_assert!(low < high, "{low} to {high}");
            }
        }
        drawn(&state, width, height);
        state.compare.typing = Some(Line::new("日本 a"));
        drawn(&state, width, height);
    }
}
