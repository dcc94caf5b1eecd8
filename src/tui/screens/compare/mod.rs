//! Compare: perplexity, JS divergence and task scores side by side, and the table of all cells.

mod data;
mod draw;
mod figures;
mod insight;
mod readout;
mod table;
#[cfg(test)]
mod tests;
mod update;

use crate::tui::state::{Line, Panel, State};

use data::Comparison;
pub use draw::{draw, panels};
pub use update::{act, reset, typing};

/// The base (`None`) or a cell of a study.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Number of the study.
    pub study: i64,
    /// Id of the cell.
    pub cell: Option<String>,
}

/// Which task score is charted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Score {
    /// SQuAD exact match.
    ExactMatch,
    /// SQuAD token F1.
    #[default]
    F1,
    /// ROUGE-1.
    Rouge1,
    /// All three.
    All,
}

/// A column of the table that rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    /// Method, calibration set, sparsity.
    Cell,
    /// How far the cell has come.
    State,
    /// Share of zeroes counted.
    Achieved,
    /// Perplexity.
    Perplexity,
    /// Its change against the base.
    Change,
    /// JS divergence.
    Js,
    /// KL divergence.
    Kl,
    /// Top-1 agreement.
    Top1,
    /// Exact match, F1 or ROUGE-1, in this order from 0.
    Score(usize),
    /// Time spent.
    Seconds,
}

/// What only the compare screen knows.
#[derive(Debug, Clone)]
pub struct CompareView {
    /// The panel in focus.
    pub panel: Panel,
    /// The filter that is being typed.
    pub typing: Option<Line>,
    /// The filter that was typed last.
    pub kept: String,
    /// The task score that is charted.
    pub score: Score,
    /// Which of the texts is shown; counts on past their number.
    pub text: usize,
    /// Values are relative to the base.
    pub relative: bool,
    /// Where the cursor was put, in percent of sparsity.
    pub cursor: Option<f64>,
    /// What the x axes show, in percent of sparsity; `None` is everything.
    pub zoom: Option<(f64, f64)>,
    /// Cells that stay on top of the table, in the order in which they were pinned.
    pub pinned: Vec<Key>,
    /// The row that was selected; `None` is the first.
    pub selected: Option<Key>,
    /// The column that rows are sorted by; `None` is the order of the grid.
    pub sort: Option<SortBy>,
    /// The order is turned around.
    pub descending: bool,
}

impl Default for CompareView {
    fn default() -> Self {
        Self {
            panel: Panel::Perplexity,
            typing: None,
            kept: String::new(),
            score: Score::default(),
            text: 0,
            relative: false,
            cursor: None,
            zoom: None,
            pinned: Vec::new(),
            selected: None,
            sort: None,
            descending: false,
        }
    }
}

impl CompareView {
    /// The filter that holds now: what is being typed, or was.
    pub fn filter(&self) -> &str {
        self.typing.as_ref().map_or(&self.kept, |line| line.text())
    }
}

/// The study that is open with its overlays; `None` when none is.
fn comparison(state: &State) -> Option<Comparison<'_>> {
    let board = state.board.as_ref()?;
    Some(Comparison::new(board, &state.overlays, state.compare.text))
}

/// Id of the selected cell; `None` for the base, a cell of an overlay, or no selection.
pub fn selected(state: &State) -> Option<String> {
    let board = state.board.as_ref()?;
    let key = state.compare.selected.as_ref().filter(|key| key.study == board.study)?;
    key.cell.clone().filter(|id| board.cell(id).is_some())
}

/// Sparsity under the cursor, in percent.
pub fn cursor(state: &State) -> Option<f64> {
    comparison(state)?.cursor(state.compare.cursor)
}
