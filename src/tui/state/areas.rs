//! Where the parts that all screens share are.

use ratatui::layout::{Constraint, Layout, Rect};

/// The rows of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenAreas {
    /// Tabs and what the engine is doing.
    pub head: Rect,
    /// The screen itself.
    pub body: Rect,
    /// Keys or a message.
    pub foot: Rect,
}

impl ScreenAreas {
    /// Divides a terminal of this size.
    pub fn of(area: Rect) -> Self {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
        Self { head, body, foot }
    }
}
