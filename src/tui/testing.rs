//! What the tests of the screens share: a state on a small study, keys, the screen as text.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::message::{Effect, Message};
use super::snapshot;
use super::state::{Options, State};
use super::theme::{Background, ColorMode, Theme};
use super::update::update;
use super::view::view;
use crate::methods::{GridLevels, grid, recipes};
use crate::study::{
    CalibrationSpec, ComputeSpec, EvaluationSpec, PruneSpec, Sampling, ScoredPositions, ShotsSpec, Sparsity,
    StudySpec,
};

/// A study of three methods at two sparsities.
pub(crate) fn study() -> StudySpec {
    let sparsities = vec![Sparsity::Fraction(0.5), Sparsity::Fraction(0.7)];
    let levels = GridLevels { sparsities, ..GridLevels::default() };
    let sets = ["c4".to_owned()];
    StudySpec {
        model: "models/tiny".into(),
        cells: grid(&recipes(&["magnitude", "wanda", "sparsegpt"], &levels), &sets, 0),
        seq_len: 128,
        calibration: CalibrationSpec { sets: sets.to_vec(), samples: 16, sampling: Sampling::Random },
        evaluation: EvaluationSpec {
            corpora: vec!["data/wiki.txt".into()],
            max_windows: None,
            score: ScoredPositions::All,
            tasks: vec!["data/squad.jsonl".into()],
            task_limit: Some(32),
            shots: ShotsSpec::default(),
            max_new_tokens: 32,
            prompt: None,
            disagreement: true,
        },
        prune: PruneSpec::default(),
        compute: ComputeSpec {
            device: "auto".into(),
            dtype: "auto".into(),
            batch_tokens: 2048,
            batch_prompts: 16,
        },
        seed: 0,
        fields: BTreeMap::new(),
    }
}

/// A dashboard on that study, in 256 colours.
pub(crate) fn state() -> State {
    let theme = Theme::new(ColorMode::Ansi256, Background::Dark, false);
    let mut state = State::new(&study(), Options::default(), theme, (80, 24));
    // As if it had been looked at already.
    state.form.checked = state.form.version;
    state
}

/// Presses a key.
pub(crate) fn press(state: &mut State, code: KeyCode) -> Vec<Effect> {
    update(state, Message::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

/// Types text.
pub(crate) fn typed(state: &mut State, text: &str) {
    for c in text.chars() {
        press(state, KeyCode::Char(c));
    }
}

/// The screen as text.
pub(crate) fn text(state: &State, columns: u16, rows: u16) -> String {
    let area = Rect::new(0, 0, columns, rows);
    let mut buffer = Buffer::empty(area);
    view(state, area, &mut buffer);
    let drawn = snapshot::render(&buffer, &state.theme, snapshot::PictureFormat::Text).unwrap_or_default();
    String::from_utf8_lossy(&drawn).into_owned()
}
