//! A search for the edge, while it is defined.

use super::line::{Line, Typed};
use crate::find::{EdgeSearch, OpenRecipe, ScoreBound};
use crate::methods::needs_calibration;
use crate::study::CellSpec;

/// Asks for the recipe whose level is looked for, and for the bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchDialog {
    pub recipe: Line,
    pub bound: Line,
    /// The bound is being typed, not the recipe.
    pub at_bound: bool,
    /// The calibration sets of the study, and which of them the cells are calibrated on.
    pub sets: Vec<String>,
    pub set: usize,
    pub seed: u64,
    /// What is wrong with what was typed.
    pub fault: Option<String>,
}

impl SearchDialog {
    /// Asks with these proposals.
    pub(crate) fn new(recipe: &str, bound: &str, sets: Vec<String>, seed: u64) -> Self {
        let (recipe, bound) = (Line::new(recipe), Line::new(bound));
        Self { recipe, bound, at_bound: true, sets, set: 0, seed, fault: None }
    }

    /// The line that is being typed.
    pub(crate) fn line(&mut self) -> &mut Line {
        if self.at_bound { &mut self.bound } else { &mut self.recipe }
    }

    /// A key for that line.
    pub(crate) fn key(&mut self, event: &crossterm::event::KeyEvent) -> Typed {
        self.fault = None;
        self.line().key(event)
    }

    /// The next calibration set.
    pub(crate) fn next_set(&mut self) {
        self.set = (self.set + 1) % self.sets.len().max(1);
    }

    /// The set that cells are calibrated on, if there is one.
    pub(crate) fn chosen_set(&self) -> Option<&String> {
        self.sets.get(self.set)
    }

    /// The search that was asked for.
    ///
    /// # Errors
    /// What is wrong with what was typed.
    pub(crate) fn search(&self) -> Result<EdgeSearch, String> {
        let recipe = OpenRecipe::parse(self.recipe.text().trim()).map_err(|e| e.to_string())?;
        let bound: ScoreBound = self.bound.text().parse().map_err(|e: crate::Error| e.to_string())?;
        bound.check_recipe(&recipe).map_err(|e| e.to_string())?;
        let least = recipe.levels().first().ok_or("a recipe without levels")?;
        let like = recipe.at(*least);
        let calibration = match (needs_calibration(&like), self.chosen_set()) {
            (false, _) => None,
            (true, Some(set)) => Some(set.clone()),
            (true, None) => return Err(format!("{recipe} needs a calibration set, and the study has none")),
        };
        Ok(EdgeSearch::new(recipe, bound, &CellSpec { recipe: like, calibration, seed: self.seed }))
    }
}
