//! History: the studies of the store.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::store::StudySummary;
use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::state::{Panel, State};

/// What only the history screen knows.
#[derive(Debug, Clone, Default)]
pub struct HistoryView {
    /// The studies of the store, the newest first.
    pub studies: Vec<StudySummary>,
}

/// Does what a key asks for.
pub fn act(_state: &mut State, _action: Action) -> Vec<Effect> {
    Vec::new()
}

/// The studies of the store were read, the oldest first.
pub fn listed(_state: &mut State, _studies: Vec<StudySummary>) -> Vec<Effect> {
    Vec::new()
}

/// Where the panels are.
pub fn panels(_state: &State, _area: Rect) -> Vec<(Panel, Rect)> {
    Vec::new()
}

/// Draws the screen.
pub fn draw(_state: &State, _area: Rect, _buffer: &mut Buffer) {}
