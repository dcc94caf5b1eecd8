//! Compare: perplexity, JS divergence and task scores side by side.

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::state::{Line, Panel, State};

/// What only the compare screen knows.
#[derive(Debug, Clone)]
pub struct CompareView {
    /// The panel in focus.
    pub panel: Panel,
    /// The filter that is being typed.
    pub typing: Option<Line>,
}

impl Default for CompareView {
    fn default() -> Self {
        Self { panel: Panel::Perplexity, typing: None }
    }
}

/// Does what a key asks for.
pub fn act(_state: &mut State, _action: Action) -> Vec<Effect> {
    Vec::new()
}

/// Keys that go into the filter; `None` when none is being typed.
pub fn typing(_state: &mut State, _event: &KeyEvent) -> Option<Vec<Effect>> {
    None
}

/// Forgets what belongs to the study that was shown.
pub fn reset(_state: &mut State) {}

/// Id of the selected cell; `None` for the base or no selection.
pub fn selected(_state: &State) -> Option<String> {
    None
}

/// Sparsity under the cursor, in percent.
pub fn cursor(_state: &State) -> Option<f64> {
    None
}

/// Where the panels are.
pub fn panels(_state: &State, _area: Rect) -> Vec<(Panel, Rect)> {
    Vec::new()
}

/// Draws the screen.
pub fn draw(_state: &State, _area: Rect, _buffer: &mut Buffer) {}
