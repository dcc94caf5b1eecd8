//! What stands in front of the screen and takes the keys.

use super::grid::{GridRow, GridSection};
use super::line::Line;
use super::search::SearchDialog;
use crate::methods::{
    BITS, Bits, Completion, FORMATS, Family, KnownFormat, StructureLevel, complete, needs_calibration,
    understand,
};
use crate::scores::comparison::ModelComparison;
use crate::study::{CellSpec, Level, Recipe, Sparsity};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Dialog {
    /// The keys, scrolled by so many lines.
    Help(usize),
    /// Two models side by side, scrolled by so many lines.
    Comparison(Box<ModelComparison>, usize),
    /// Which metric ranks the cells as the tasks do, scrolled by so many lines.
    RankCorrelations(usize),
    /// The columns of Compare's table; which of them the keys mean.
    Columns(usize),
    Palette(CommandPalette),
    Level(LevelDialog),
    Question(QuestionDialog),
    Prompt(Prompt),
    Search(SearchDialog),
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

/// A slider for percentages, bits or formats that also takes typed levels, and whole recipes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LevelDialog {
    pub wanted: Wanted,
    /// The family of the new column.
    pub family: Family,
    /// Percentage of the slider, 0 … 99.
    pub percent: u16,
    /// Bits of the slider.
    pub bits: u8,
    /// Format of the slider: its place among all.
    pub format: usize,
    /// What was typed; while it is empty the slider counts.
    pub line: Line,
    /// Method and calibration set of the new cell, among these.
    pub rows: Vec<GridRow>,
    pub row: usize,
    pub seed: u64,
    /// What is wrong with what was typed.
    pub fault: Option<String>,
}

impl LevelDialog {
    /// The family whose level is asked for: that of the chosen row, or of the column.
    pub(crate) fn family(&self) -> Family {
        match (self.wanted == Wanted::Cell, self.rows.get(self.row).map(GridRow::section)) {
            (true, Some(GridSection::Family(family))) => family,
            _ => self.family,
        }
    }

    /// Moves the slider: percentages by `by`, bits and formats to the next choice.
    pub(crate) fn step(&mut self, by: i32) {
        match self.family() {
            Family::Structure => self.percent = (i32::from(self.percent) + by).clamp(1, 99) as u16,
            Family::Prune => self.percent = (i32::from(self.percent) + by).clamp(0, 99) as u16,
            Family::Quantise => {
                // More bits stand to the left.
                let at = BITS.iter().position(|bits| *bits == self.bits).unwrap_or(0);
                let next = if by > 0 { at + 1 } else { at.saturating_sub(1) };
                self.bits = BITS[next.min(BITS.len() - 1)];
            }
            Family::Format => {
                let next = if by > 0 { self.format + 1 } else { self.format.saturating_sub(1) };
                self.format = next.min(FORMATS.len() - 1);
            }
        }
        self.line = Line::default();
        self.fault = None;
    }

    /// The level that is chosen.
    ///
    /// # Errors
    /// What is wrong with what was typed.
    pub(crate) fn level(&self) -> Result<Level, String> {
        let text = self.line.text().trim();
        match self.family() {
            Family::Prune if text.is_empty() => {
                Ok(Sparsity::Fraction(f64::from(self.percent) / 100.0).into())
            }
            Family::Quantise if text.is_empty() => Ok(Level::Bits(self.bits)),
            Family::Format => {
                let name = if text.is_empty() { FORMATS[self.format.min(FORMATS.len() - 1)] } else { text };
                let format: Result<KnownFormat, crate::error::Error> = name.parse();
                format.map(|KnownFormat(name)| Level::Format(name)).map_err(|e| e.to_string())
            }
            Family::Structure if text.is_empty() => Ok(Level::Share(f64::from(self.percent.max(1)) / 100.0)),
            Family::Structure => {
                let bare = text.parse::<f64>().ok().filter(|value| *value >= 1.0);
                let text = if bare.is_some() { format!("{text}%") } else { text.to_owned() };
                let level: Result<StructureLevel, crate::error::Error> = text.parse();
                level.map(|StructureLevel(level)| level).map_err(|e| e.to_string())
            }
            Family::Prune => {
                // A bare number above 1 can only be meant as a percentage.
                let bare = text.parse::<f64>().ok().filter(|value| *value >= 1.0);
                let text = if bare.is_some() { format!("{text}%") } else { text.to_owned() };
                let sparsity: Result<Sparsity, crate::error::Error> = text.parse();
                sparsity.map(Level::from).map_err(|e| e.to_string())
            }
            Family::Quantise => {
                let bits: Result<Bits, crate::error::Error> = text.parse();
                bits.map(|Bits(bits)| Level::Bits(bits)).map_err(|e| e.to_string())
            }
        }
    }

    /// Whether a recipe is being typed: it has an `@`, or is the beginning of a method's name.
    fn is_recipe(&self) -> bool {
        let text = self.line.text().trim();
        let names = || !text.is_empty() && self.level().is_err() && !complete(text).words.is_empty();
        text.contains('@') || names()
    }

    /// The recipe that was typed, if it was one.
    pub(crate) fn recipe(&self) -> Option<Result<Recipe, String>> {
        self.is_recipe().then(|| understand(self.line.text()).map_err(|e| e.to_string()))
    }

    /// What may stand at the cursor, at the end of a recipe that is being typed.
    pub(crate) fn completion(&self) -> Option<Completion> {
        let (before, after) = self.line.split();
        (after.is_empty() && self.is_recipe()).then(|| complete(before))
    }

    /// What the first word that may stand there adds to what was typed of it; empty where there is none.
    pub(crate) fn proposed(&self) -> String {
        let Some(found) = self.completion() else { return String::new() };
        let typed = self.line.text().len() - found.start;
        found.words.first().and_then(|word| word.get(typed..)).unwrap_or_default().to_owned()
    }

    /// Takes that word; `false` where there is none.
    pub(crate) fn complete(&mut self) -> bool {
        let Some((found, true)) = self.completion().map(|found| (found, !self.proposed().is_empty())) else {
            return false;
        };
        if let Some(word) = found.words.first() {
            self.line.complete(found.start, word);
        }
        self.fault = None;
        true
    }

    /// The cell that is chosen.
    ///
    /// # Errors
    /// What is wrong with what was typed.
    pub(crate) fn cell(&self) -> Result<CellSpec, String> {
        let row = self.rows.get(self.row).ok_or("there is no method to choose")?;
        if let Some(recipe) = self.recipe() {
            let recipe = recipe?;
            let sets = || self.rows.iter().find_map(|row| row.set.clone());
            let calibration = needs_calibration(&recipe).then(|| row.set.clone().or_else(sets)).flatten();
            return Ok(CellSpec { recipe, calibration, seed: self.seed });
        }
        Ok(row.cell(Some(self.level()?), self.seed))
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
    /// Start the study of the form.
    Start,
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
