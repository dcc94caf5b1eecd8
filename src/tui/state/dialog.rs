//! What stands in front of the screen and takes the keys.

use super::form::GridRow;
use super::line::Line;
use crate::study::{CellSpec, Sparsity};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Dialog {
    /// The keys, scrolled by so many lines.
    Help(usize),
    Palette(CommandPalette),
    Sparsity(SparsityDialog),
    Question(QuestionDialog),
    Prompt(Prompt),
}

/// Commands by name: what was typed, and which of those that match is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CommandPalette {
    pub line: Line,
    /// Place among the commands that match.
    pub chosen: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Column,
    /// A cell of the study that runs or is open.
    Cell,
}

/// A slider for percentages that also takes typed ones, and N:M.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SparsityDialog {
    pub wanted: Wanted,
    /// Percentage of the slider, 0 … 99.
    pub percent: u16,
    /// What was typed; while it is empty the slider counts.
    pub line: Line,
    /// Method and calibration set of the new cell, among these.
    pub rows: Vec<GridRow>,
    pub row: usize,
    pub seed: u64,
    /// What is wrong with what was typed.
    pub fault: Option<String>,
}

impl SparsityDialog {
    /// The sparsity that is chosen.
    ///
    /// # Errors
    /// What is wrong with what was typed.
    pub(crate) fn sparsity(&self) -> Result<Sparsity, String> {
        let text = self.line.text().trim();
        if text.is_empty() {
            return Ok(Sparsity::Fraction(f64::from(self.percent) / 100.0));
        }
        // A bare number above 1 can only be meant as a percentage.
        let bare = text.parse::<f64>().ok().filter(|value| *value >= 1.0);
        let text = if bare.is_some() { format!("{text}%") } else { text.to_owned() };
        text.parse().map_err(|e: crate::error::Error| e.to_string())
    }

    /// The cell that is chosen.
    ///
    /// # Errors
    /// What is wrong with what was typed.
    pub(crate) fn cell(&self) -> Result<CellSpec, String> {
        let sparsity = self.sparsity()?;
        let row = self.rows.get(self.row).ok_or("there is no method to choose")?;
        Ok(row.cell(sparsity, self.seed))
    }
}

/// What an answer to a question does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialogAnswer {
    /// Nothing.
    Back,
    /// Stop after the current block, then quit.
    StopAfterBlock,
    /// Quit at once; the current block is lost.
    StopNow,
    /// Continue without a screen.
    Headless,
    Delete(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuestionDialog {
    pub title: String,
    /// What is asked; lines.
    pub text: Vec<String>,
    /// A key for each answer, what it says, what it does.
    pub answers: Vec<(char, String, DialogAnswer)>,
    /// The answer that Enter gives.
    pub chosen: usize,
    pub bad: bool,
}

impl QuestionDialog {
    /// Something to be read, with nothing to decide.
    pub(crate) fn notice(title: impl Into<String>, text: impl Into<String>, bad: bool) -> Self {
        let text: String = text.into();
        Self {
            title: title.into(),
            text: text.lines().map(str::to_owned).collect(),
            answers: vec![('o', "OK".into(), DialogAnswer::Back)],
            chosen: 0,
            bad,
        }
    }
}

/// A line of text is asked for: the folder that a cell is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub title: String,
    pub line: Line,
    pub study: i64,
    pub cells: Vec<String>,
    pub chosen: usize,
}

impl Prompt {
    /// The folder that is proposed for a cell.
    pub(crate) fn proposal(cell: &str) -> String {
        format!("./{cell}")
    }

    /// Chooses a cell, or the last where there are fewer. The proposed folder follows, unless another was typed.
    pub(crate) fn choose(&mut self, place: usize) {
        let proposed = |cell: Option<&String>| cell.map(|cell| Self::proposal(cell));
        let untouched = proposed(self.cells.get(self.chosen)).as_deref() == Some(self.line.text());
        self.chosen = place.min(self.cells.len().saturating_sub(1));
        if let (true, Some(folder)) = (untouched, proposed(self.cells.get(self.chosen))) {
            self.line = Line::new(&folder);
        }
    }
}
