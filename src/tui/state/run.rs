//! What only the run screen knows.

use super::board::Board;
use crate::results::CellState;

/// Which cell is selected, what the heat map shows, how far the log is scrolled.
#[derive(Debug, Clone, Default)]
pub struct RunView {
    /// Row of the list of cells that is selected; `None` follows the running one. Row 0 is the base.
    pub chosen: Option<usize>,
    /// The heat map shows reconstruction errors instead of achieved sparsities.
    pub errors: bool,
    /// Lines of the log that are scrolled back.
    pub scrolled: usize,
}

impl RunView {
    /// The row of the list of cells that is shown as selected; 0 is the base.
    pub fn row(&self, board: Option<&Board>) -> usize {
        let Some(board) = board else { return 0 };
        let running =
            || board.cells.iter().position(|cell| cell.state == CellState::Running).map(|at| at + 1);
        self.chosen.or_else(running).unwrap_or(0).min(board.cells.len())
    }
}
