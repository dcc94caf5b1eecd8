//! What only the inspect screen knows.

use std::collections::HashMap;

use super::screen::Panel;
use crate::results::CellState;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pane {
    /// The selection in the list of prompts.
    #[default]
    Prompts,
    Prompt,
    Answers,
}

/// Which records are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RecordFilter {
    #[default]
    All,
    /// Right on one side and wrong on the other.
    Flipped,
    /// Wrong on the right-hand side.
    Wrong,
}

impl RecordFilter {
    /// The one behind, from the last on to the first.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::All => Self::Flipped,
            Self::Flipped => Self::Wrong,
            Self::Wrong => Self::All,
        }
    }
}

/// In which order records are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RecordOrder {
    #[default]
    AsInTask,
    /// The largest JS divergence first.
    Divergence,
    /// The smallest margin of the right choice first.
    Margin,
}

impl RecordOrder {
    /// The one behind, from the last on to the first.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::AsInTask => Self::Divergence,
            Self::Divergence => Self::Margin,
            Self::Margin => Self::AsInTask,
        }
    }
}

/// What is shown, and how far it is scrolled.
#[derive(Debug, Clone, Default)]
pub(crate) struct InspectView {
    /// Modules are shown instead of answers.
    pub modules: bool,
    /// The cell on the left-hand side; `None` is the base.
    pub left: Option<String>,
    /// The cell on the right-hand side; `None` until one is chosen.
    pub right: Option<String>,
    pub pane: Pane,
    pub filter: RecordFilter,
    pub order: RecordOrder,
    /// Of modules, the largest error comes first.
    pub largest_error_first: bool,
    /// Task and record of the selected prompt; `None` is the first in the list.
    pub prompt: Option<(String, usize)>,
    /// Name of the selected module; `None` is the first in the table.
    pub module: Option<String>,
    /// Lines by which the prompt is scrolled.
    pub prompt_scroll: usize,
    /// Lines by which the answers are scrolled.
    pub answer_scroll: usize,
    /// Answers that were asked for, by study and cell, with the state in which the cell was then.
    pub asked: HashMap<(i64, Option<String>), CellState>,
}

impl InspectView {
    pub(crate) fn panel(&self) -> Panel {
        match self.pane {
            _ if self.modules => Panel::Modules,
            Pane::Prompts => Panel::Prompts,
            Pane::Prompt | Pane::Answers => Panel::Answers,
        }
    }

    /// Forgets what belongs to the study that was shown.
    pub(crate) fn reset(&mut self) {
        let Self { modules, pane, filter, order, largest_error_first, .. } = std::mem::take(self);
        *self = Self { modules, pane, filter, order, largest_error_first, ..Self::default() };
    }

    /// Shows a cell (by id) beside the base.
    pub(crate) fn choose(&mut self, cell: &str) {
        self.left = None;
        self.right = Some(cell.to_owned());
        self.module = None;
        (self.prompt_scroll, self.answer_scroll) = (0, 0);
    }
}
