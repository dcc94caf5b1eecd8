//! Where the parts that all screens share are.

use ratatui::layout::{Constraint, Layout, Rect};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScreenAreas {
    /// Tabs and what the engine is doing.
    pub head: Rect,
    pub body: Rect,
    pub foot: Rect,
}

impl ScreenAreas {
    /// Divides a terminal of this size.
    pub(crate) fn of(area: Rect) -> Self {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
        Self { head, body, foot }
    }
}
