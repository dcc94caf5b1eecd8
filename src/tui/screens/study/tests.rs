use std::time::Duration;

use crossterm::event::KeyCode;

use crate::engine::ResourceEstimate;
use crate::tui::message::{EffectOutcome, Message};
use crate::tui::screens::inspect::sample::{self, theme};
use crate::tui::state::{Check, Checked, EngineState, Field, Focus, Screen, State};
use crate::tui::testing::{self, press, text, typed};
use crate::tui::theme::ColorMode;
use crate::tui::update::update;

const SIZES: [(u16, u16); 4] = [(80, 24), (160, 48), (40, 12), (1, 1)];

/// A study that was looked at and can run.
fn checked(size: (u16, u16)) -> State {
    let mut state = testing::state();
    state.size = size;
    let estimate = ResourceEstimate {
        host_bytes: 540_000_000,
        host_available: 8_000_000_000,
        disk_bytes: 120_000_000,
        disk_available: 40_000_000_000,
        seconds: 754.0,
        ..ResourceEstimate::default()
    };
    let plan = Checked { model: sample::study_view().model, device: "cpu in f32".into(), estimate };
    let number = state.form.version;
    update(&mut state, Message::Done(EffectOutcome::Checked { number, plan: Box::new(plan) }));
    state
}

#[test]
fn it_looks_as_it_did() {
    for size in SIZES {
        let snapshot = |what: &str, state: &State| {
            insta::assert_snapshot!(format!("{what}-{}x{}", size.0, size.1), text(state, size.0, size.1));
        };
        let mut state = testing::state();
        state.form.check = Check::Pending;
        snapshot("unchecked", &state);

        let mut state = checked(size);
        snapshot("checked", &state);
        state.theme = theme(ColorMode::None, true);
        typed(&mut state, " ");
        snapshot("ascii", &state);

        let mut state = checked(size);
        typed(&mut state, "+37");
        snapshot("slider", &state);

        let mut state = checked(size);
        typed(&mut state, "+wanda@50%+g");
        snapshot("recipe", &state);
        state.theme = theme(ColorMode::None, true);
        snapshot("recipe-ascii", &state);
        press(&mut state, KeyCode::Tab);
        typed(&mut state, "@5bit");
        press(&mut state, KeyCode::Enter);
        snapshot("recipe-refused", &state);

        let mut state = checked(size);
        state.form.focus = Focus::Fields;
        state.form.set(Field::Corpora, "missing.txt");
        let (number, message) = (state.form.version, "missing.txt: no such file".to_owned());
        let field = Some(Field::Corpora);
        update(&mut state, Message::Done(EffectOutcome::Refused { number, field, message }));
        typed(&mut state, "r");
        state.toast = None;
        snapshot("refused", &state);

        let mut state = checked(size);
        let mut open = sample::study_view();
        open.model.source = state.form.get(Field::Model).to_owned();
        state.study_view = Some(open);
        state.engine.study = Some(3);
        state.engine.starting(Duration::ZERO);
        state.engine.state = EngineState::Running;
        state.screen = Screen::Study;
        snapshot("mid-run", &state);
    }
}

#[test]
fn settings_of_another_model_than_the_open_study_say_so() {
    let mut state = checked((100, 30));
    state.screen = Screen::Study;
    let mut open = sample::study_view();
    open.model.source = "other/model".into();
    let number = open.study;
    state.study_view = Some(open);
    assert!(text(&state, 100, 30).contains(&format!("Settings, not of study {number}")));
    state.study_view.as_mut().unwrap().model.source = state.form.get(Field::Model).to_owned();
    assert!(!text(&state, 100, 30).contains("not of study"));
}
