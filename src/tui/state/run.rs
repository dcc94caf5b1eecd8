//! What only the run screen knows.

use super::study_view::StudyView;
use crate::results::CellState;

/// Which cell is selected, what the heat map shows, how far the log is scrolled.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunView {
    /// Row of the list of cells that is selected; `None` follows the running one. Row 0 is the base.
    pub chosen: Option<usize>,
    /// The heat map shows reconstruction errors instead of the shares of zeros.
    pub errors: bool,
    /// Lines of the log that are scrolled back.
    pub scrolled: usize,
}

impl RunView {
    /// The row of the list of cells that is shown as selected; 0 is the base.
    pub(crate) fn row(&self, study_view: Option<&StudyView>) -> usize {
        let Some(study_view) = study_view else { return 0 };
        let running =
            || study_view.cells.iter().position(|cell| cell.state == CellState::Running).map(|at| at + 1);
        self.chosen.or_else(running).unwrap_or(0).min(study_view.cells.len())
    }
}
