//! Inspect: answers side by side, and what pruning did to every module of a cell.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::state::{Panel, State};

/// What only the inspect screen knows.
#[derive(Debug, Clone, Default)]
pub struct InspectView {
    /// Modules are shown instead of answers.
    pub modules: bool,
}

/// Does what a key asks for.
pub fn act(_state: &mut State, _action: Action) -> Vec<Effect> {
    Vec::new()
}

/// Forgets what belongs to the study that was shown.
pub fn reset(_state: &mut State) {}

/// Shows a cell (by id) against the base.
pub fn choose(_state: &mut State, _cell: &str) {}

/// Answers that are shown and have not been read yet.
pub fn wanted(_state: &State) -> Vec<Effect> {
    Vec::new()
}

/// Where the panels are.
pub fn panels(_state: &State, _area: Rect) -> Vec<(Panel, Rect)> {
    Vec::new()
}

/// Draws the screen.
pub fn draw(_state: &State, _area: Rect, _buffer: &mut Buffer) {}
