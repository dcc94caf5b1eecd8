//! What only the compare screen knows.

use super::line::Line;
use super::screen::Panel;

/// The base (`None`) or a cell of a study.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowKey {
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
    pub pinned: Vec<RowKey>,
    /// The row that was selected; `None` is the first.
    pub selected: Option<RowKey>,
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
    /// Forgets what belongs to the study that was shown. How one likes to look at things stays.
    pub fn reset(&mut self) {
        let old = std::mem::take(self);
        *self = Self {
            panel: old.panel,
            score: old.score,
            relative: old.relative,
            sort: old.sort,
            descending: old.descending,
            ..Self::default()
        };
    }

    /// The filter that holds now: what is being typed, or was.
    pub fn filter(&self) -> &str {
        self.typing.as_ref().map_or(&self.kept, |line| line.text())
    }
}

impl SortBy {
    /// The columns from left to right.
    pub const ALL: [Self; 12] = [
        Self::Cell,
        Self::State,
        Self::Achieved,
        Self::Perplexity,
        Self::Change,
        Self::Js,
        Self::Kl,
        Self::Top1,
        Self::Score(0),
        Self::Score(1),
        Self::Score(2),
        Self::Seconds,
    ];
}

impl Score {
    /// The scores that are shown, by their place among exact match, F1 and ROUGE-1.
    pub fn shown(self) -> &'static [usize] {
        match self {
            Self::ExactMatch => &[0],
            Self::F1 => &[1],
            Self::Rouge1 => &[2],
            Self::All => &[0, 1, 2],
        }
    }

    /// How a score is called.
    pub fn name(which: usize) -> &'static str {
        ["Exact match", "F1", "ROUGE-1"].get(which).copied().unwrap_or("score")
    }
}
