//! The grid of a study: methods and levels, section by section.

use std::collections::BTreeSet;

use crate::methods::{FORMATS, Family, Method, find, needs_calibration};
use crate::study::{CellSpec, Level, Parameters, Recipe, Sparsity, Step, short_name};

/// Methods down, levels across, a section for each family of methods; methods that look at data have a row for every
/// calibration set. Recipes of several steps have a section of their own, and one cell a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct StudyGrid {
    /// The columns of all sections: fractions by size, then N:M, then bits, then formats, then
    /// what is removed.
    pub(super) levels: Vec<Level>,
    /// Methods with parameters of their own, which have rows beside those of the plain methods.
    pub(super) variants: Vec<(String, Parameters)>,
    /// Recipes of several steps.
    pub(super) recipes: Vec<Recipe>,
    /// Cells that are not selected, by id.
    pub(super) left_out: BTreeSet<String>,
    /// Row and column of the cursor.
    pub cursor: (usize, usize),
}

/// A part of the grid with columns of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GridSection {
    Family(Family),
    /// Recipes of several steps.
    Recipes,
}

impl GridSection {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Family(Family::Prune) => "sparsity",
            Self::Family(Family::Quantise) => "bits",
            Self::Family(Family::Format) => "formats",
            Self::Family(Family::Structure) => "structure",
            Self::Recipes => "recipes",
        }
    }

    /// What a new column is called.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Family(Family::Quantise) => "bits",
            Self::Family(Family::Format) => "a format",
            Self::Family(Family::Structure) => "a share",
            Self::Family(Family::Prune) | Self::Recipes => "a sparsity",
        }
    }
}

impl StudyGrid {
    /// Makes room for a recipe.
    pub(super) fn take_in(&mut self, recipe: &Recipe) {
        let mut steps = recipe.steps();
        let (Some(step), None) = (steps.next(), steps.next()) else {
            if !self.recipes.contains(recipe) {
                self.recipes.push(recipe.clone());
            }
            return;
        };
        let level = find(&step.method).map_or(step.level, |method| method.family().own(step.level));
        if !self.levels.contains(&level) {
            self.levels.push(level);
            self.levels.sort_by(|a, b| order(*a, *b));
        }
        let variant = (step.method.clone(), step.parameters.clone());
        let plain = variant.1.is_empty() && find(&variant.0).is_ok();
        if !plain && !self.variants.contains(&variant) {
            self.variants.push(variant);
        }
    }

    /// The columns of a section; recipes have one, without a level.
    pub(crate) fn columns(&self, section: GridSection) -> Vec<Option<Level>> {
        match section {
            GridSection::Family(family) => {
                self.levels.iter().copied().filter(|level| family_of(*level) == family).map(Some).collect()
            }
            GridSection::Recipes => vec![None],
        }
    }
}

/// The family of methods that have such levels.
pub(super) fn family_of(level: Level) -> Family {
    match level {
        Level::Sparsity(_) => Family::Prune,
        Level::Bits(_) => Family::Quantise,
        Level::Format(_) => Family::Format,
        Level::Share(_) | Level::Blocks(_) => Family::Structure,
    }
}

/// What the cells of a row have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowRecipe {
    /// A method, with its parameters where they are not the study's.
    Method(String, Parameters),
    /// A recipe of several steps.
    Whole(Recipe),
}

impl RowRecipe {
    /// The recipe at a level of its section.
    fn recipe(&self, level: Option<Level>) -> Recipe {
        match self {
            Self::Whole(recipe) => recipe.clone(),
            Self::Method(method, parameters) => {
                let level = level.unwrap_or(Level::Sparsity(Sparsity::Fraction(0.0)));
                Step { parameters: parameters.clone(), ..Step::new(method, level) }.into()
            }
        }
    }
}

/// A row of the grid: cells that differ by level alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GridRow {
    pub recipe: RowRecipe,
    /// Its calibration set, as given.
    pub set: Option<String>,
}

impl GridRow {
    /// The rows of a method: one for every set where it looks at data.
    pub(crate) fn of_method(method: &str, parameters: &Parameters, sets: &[String]) -> Vec<Self> {
        let row = RowRecipe::Method(method.to_owned(), parameters.clone());
        let looks_at_data = needs_calibration(&row.recipe(None));
        Self::of_sets(&row, looks_at_data, sets)
    }

    pub(super) fn of_recipe(recipe: &Recipe, sets: &[String]) -> Vec<Self> {
        Self::of_sets(&RowRecipe::Whole(recipe.clone()), needs_calibration(recipe), sets)
    }

    fn of_sets(recipe: &RowRecipe, looks_at_data: bool, sets: &[String]) -> Vec<Self> {
        let row = |set| Self { recipe: recipe.clone(), set };
        if !looks_at_data {
            return vec![row(None)];
        }
        sets.iter().cloned().map(|set| row(Some(set))).collect()
    }

    /// The part of the grid that it stands in.
    pub(crate) fn section(&self) -> GridSection {
        match &self.recipe {
            RowRecipe::Method(method, _) => {
                GridSection::Family(find(method).map_or(Family::Prune, Method::family))
            }
            RowRecipe::Whole(_) => GridSection::Recipes,
        }
    }

    /// The cell at a level of its section.
    pub(crate) fn cell(&self, level: Option<Level>, seed: u64) -> CellSpec {
        CellSpec { recipe: self.recipe.recipe(level), calibration: self.set.clone(), seed }
    }

    /// Whether its method works at a level at all. Of a method that is not known, and of a whole recipe, the study's check
    /// tells more.
    pub(crate) fn takes(&self, level: Option<Level>) -> bool {
        match (&self.recipe, level) {
            (RowRecipe::Method(method, _), Some(level)) => {
                find(method).map_or(true, |method| method.check_level(level).is_ok())
            }
            _ => true,
        }
    }

    pub(crate) fn label(&self) -> String {
        let cell = self.cell(None, 0);
        let name = match &self.recipe {
            RowRecipe::Method(..) => cell.recipe.series(),
            RowRecipe::Whole(recipe) => recipe.label(),
        };
        match &self.set {
            None => name,
            Some(set) => format!("{name} {}", short_name(set)),
        }
    }
}

/// Fractions by size, then N:M by their share, then bits and formats, the most first, then what is removed.
pub(super) fn order(a: Level, b: Level) -> std::cmp::Ordering {
    let rank = |level| match level {
        Level::Sparsity(Sparsity::Fraction(s)) => (0, s, 0),
        Level::Sparsity(nm @ Sparsity::SemiStructured { group, .. }) => (1, nm.fraction(), group),
        Level::Bits(bits) => (2, -f64::from(bits), 0),
        Level::Format(name) => {
            // Formats of another version come last.
            let known = FORMATS.iter().position(|format| *format == name.as_str());
            (3, known.unwrap_or(FORMATS.len()) as f64, 0)
        }
        Level::Share(share) => (4, share, 0),
        Level::Blocks(count) => (5, count as f64, 0),
    };
    let (a, b) = (rank(a), rank(b));
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
}
