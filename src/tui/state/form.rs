//! The study that a user defines: fields, and a grid of methods and levels.

use std::collections::BTreeSet;

use super::field::{Field, FieldKind};
use super::grid::{GridRow, GridSection, RowRecipe, StudyGrid, family_of, order};
use super::line::Line;
use crate::config::{Given, Means, split_list};
use crate::engine::ResourceEstimate;
use crate::methods::{Family, METHODS};
use crate::results::ModelInfo;
use crate::study::{CellSpec, Level, Parameters, Recipe, StudySpec};

/// What the form says, to be checked and run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FormValues {
    /// The text of every field, in the order of [`Field::ALL`].
    pub fields: [String; Field::ALL.len()],
    /// The selected cells of the grid.
    pub cells: Vec<CellSpec>,
}

impl FormValues {
    pub(crate) fn get(&self, field: Field) -> &str {
        &self.fields[field as usize]
    }

    /// The settings that the form comes to; what it does not show is as in `base`.
    pub(crate) fn given(&self, base: &Given) -> Given {
        let mut given = base.clone();
        let fields = Field::ALL.into_iter().filter_map(|field| Some((field.setting()?, self.get(field))));
        for (setting, text) in fields {
            given.set(setting, Means::Flag, text.trim());
        }
        given
    }
}

/// Where the cursor of the study screen is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Focus {
    Fields,
    #[default]
    Grid,
}

/// What is known of a study that was only checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked {
    pub model: ModelInfo,
    /// `cpu`, `cuda:0`, and what is computed in.
    pub device: String,
    pub estimate: ResourceEstimate,
}

/// What is known of the study that the form defines.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Check {
    /// Nothing yet: it changed a moment ago, or is being checked.
    #[default]
    Pending,
    /// Model or data are not here yet, and are fetched when the study starts.
    Remote,
    /// It can run, and needs this.
    Fine(Box<Checked>),
    Refused {
        /// The field at fault, where that can be told.
        field: Option<Field>,
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Form {
    fields: [String; Field::ALL.len()],
    pub grid: StudyGrid,
    pub focus: Focus,
    pub field: usize,
    /// The text that is being typed into that field.
    pub editing: Option<Line>,
    pub check: Check,
    /// Number of the newest version; each change counts.
    pub version: u64,
    /// The version that a check was last asked for.
    pub checked: u64,
    /// Models that were studied before, the newest first.
    pub recent: Vec<String>,
}

impl Form {
    pub(crate) fn new(spec: &StudySpec) -> Self {
        let fields =
            Field::ALL.map(|field| field.shown().map_or_else(String::new, |field| (field.show)(spec)));
        let mut grid = StudyGrid::default();
        for recipe in spec.cells.iter().map(|cell| &cell.recipe) {
            grid.take_in(recipe);
        }
        let mut form = Self {
            fields,
            grid,
            focus: Focus::default(),
            field: 0,
            editing: None,
            check: Check::default(),
            version: 1,
            checked: 0,
            recent: Vec::new(),
        };
        let wanted: BTreeSet<String> = spec.cells.iter().map(CellSpec::id).collect();
        form.grid.left_out = form.all_cells().map(|c| c.id()).filter(|id| !wanted.contains(id)).collect();
        form
    }

    pub(crate) fn get(&self, field: Field) -> &str {
        &self.fields[field as usize]
    }

    pub(crate) fn set(&mut self, field: Field, text: &str) {
        if self.fields[field as usize] == text {
            return;
        }
        let selected: BTreeSet<String> = self.cells().iter().map(|cell| cell.recipe.to_string()).collect();
        let before: BTreeSet<String> = self.all_cells().map(|cell| cell.id()).collect();
        text.clone_into(&mut self.fields[field as usize]);
        // Of other sets, or of another seed, the same recipes are selected.
        let new: Vec<CellSpec> = self.all_cells().filter(|cell| !before.contains(&cell.id())).collect();
        for cell in new {
            self.select(&cell, selected.contains(&cell.recipe.to_string()));
        }
        self.changed();
    }

    fn select(&mut self, cell: &CellSpec, on: bool) {
        if on {
            self.grid.left_out.remove(&cell.id());
        } else {
            self.grid.left_out.insert(cell.id());
        }
    }

    pub(crate) fn current(&self) -> Field {
        Field::ALL[self.field.min(Field::ALL.len() - 1)]
    }

    /// Steps through the choices of the field under the cursor; for the model, through those studied before.
    /// `false` where it has none.
    pub(crate) fn step(&mut self, by: isize) -> bool {
        let field = self.current();
        let choices: Vec<String> = match field.kind() {
            FieldKind::Choice(choices) => choices.iter().map(|&choice| choice.to_owned()).collect(),
            FieldKind::Text if field == Field::Model => self.recent.clone(),
            FieldKind::Text => Vec::new(),
        };
        if choices.is_empty() {
            return false;
        }
        let at = choices.iter().position(|choice| choice == self.get(field));
        let next = match at {
            Some(at) => (at as isize + by).rem_euclid(choices.len() as isize) as usize,
            None => 0,
        };
        self.set(field, &choices[next]);
        true
    }

    /// The rows, section by section.
    pub(crate) fn rows(&self) -> Vec<GridRow> {
        let sets = split_list(self.get(Field::Calibration));
        let plain = METHODS.iter().map(|method| (method.name().to_owned(), Parameters::new()));
        let all = plain.chain(self.grid.variants.iter().cloned());
        let rows = all.flat_map(|(method, parameters)| GridRow::of_method(&method, &parameters, &sets));
        let recipes = self.grid.recipes.iter().flat_map(|recipe| GridRow::of_recipe(recipe, &sets));
        let mut rows: Vec<GridRow> = rows.chain(recipes).collect();
        rows.sort_by_key(|row| match row.section() {
            GridSection::Family(Family::Prune) => 0,
            GridSection::Family(Family::Quantise) => 1,
            GridSection::Family(Family::Format) => 2,
            GridSection::Family(Family::Structure) => 3,
            GridSection::Recipes => 4,
        });
        rows
    }

    /// The section that the cursor is in.
    pub(crate) fn section(&self) -> GridSection {
        let section = self.rows().get(self.grid.cursor.0).map(GridRow::section);
        section.unwrap_or(GridSection::Family(Family::Prune))
    }

    /// The columns of that section.
    pub(crate) fn columns(&self) -> Vec<Option<Level>> {
        self.grid.columns(self.section())
    }

    pub(crate) fn seed(&self) -> u64 {
        self.get(Field::Seed).trim().parse().unwrap_or(0)
    }

    fn all_cells(&self) -> impl Iterator<Item = CellSpec> + '_ {
        let seed = self.seed();
        self.rows().into_iter().flat_map(move |row| self.cells_of(&row, seed))
    }

    /// The cells of a row, at the levels that its method knows.
    fn cells_of(&self, row: &GridRow, seed: u64) -> Vec<CellSpec> {
        let levels = self.grid.columns(row.section()).into_iter().filter(|level| row.takes(*level));
        levels.map(|level| row.cell(level, seed)).collect()
    }

    pub(crate) fn is_on(&self, cell: &CellSpec) -> bool {
        !self.grid.left_out.contains(&cell.id())
    }

    pub(crate) fn cells(&self) -> Vec<CellSpec> {
        let mut cells: Vec<CellSpec> = Vec::new();
        for cell in self.all_cells() {
            if self.is_on(&cell) && !cells.iter().any(|c| c.id() == cell.id()) {
                cells.push(cell);
            }
        }
        cells
    }

    pub(crate) fn values(&self) -> FormValues {
        FormValues { fields: self.fields.clone(), cells: self.cells() }
    }

    /// The cell under the grid's cursor.
    pub(crate) fn cell_at_cursor(&self) -> Option<CellSpec> {
        let (row, column) = self.grid.cursor;
        let level = *self.columns().get(column)?;
        Some(self.rows().get(row).filter(|row| row.takes(level))?.cell(level, self.seed()))
    }

    /// Selects cells, or deselects them when all of them are selected.
    fn toggle(&mut self, cells: &[CellSpec]) {
        let all_on = cells.iter().all(|cell| self.is_on(cell));
        for cell in cells {
            self.select(cell, !all_on);
        }
        self.changed();
    }

    /// Selects or deselects the cell under the cursor.
    pub(crate) fn toggle_cell(&mut self) {
        if let Some(cell) = self.cell_at_cursor() {
            self.toggle(&[cell]);
        }
    }

    pub(crate) fn toggle_row(&mut self) {
        let seed = self.seed();
        if let Some(row) = self.rows().get(self.grid.cursor.0) {
            let cells = self.cells_of(row, seed);
            self.toggle(&cells);
        }
    }

    /// The same for the cursor's column, in its section.
    pub(crate) fn toggle_column(&mut self) {
        let (seed, section) = (self.seed(), self.section());
        if let Some(&level) = self.columns().get(self.grid.cursor.1) {
            let rows = self.rows().into_iter().filter(|row| row.section() == section && row.takes(level));
            let cells: Vec<_> = rows.map(|row| row.cell(level, seed)).collect();
            self.toggle(&cells);
        }
    }

    pub(crate) fn toggle_all(&mut self) {
        let cells: Vec<_> = self.all_cells().collect();
        self.toggle(&cells);
    }

    /// Adds a column to the section of its family and puts the cursor there. Selected in it are the rows that have a
    /// selection; where none of the section has one, all.
    pub(crate) fn add_level(&mut self, level: Level) {
        let section = GridSection::Family(family_of(level));
        if !self.grid.levels.contains(&level) {
            let seed = self.seed();
            let rows = self.rows().into_iter().filter(|row| row.section() == section);
            let rows: Vec<(GridRow, bool)> = rows
                .map(|row| {
                    let has_selection = self.cells_of(&row, seed).iter().any(|cell| self.is_on(cell));
                    (row, has_selection)
                })
                .collect();
            let all = rows.iter().all(|(_, has_selection)| !has_selection);
            for (row, has_selection) in &rows {
                self.select(&row.cell(Some(level), seed), all || *has_selection);
            }
            self.grid.levels.push(level);
            self.grid.levels.sort_by(|a, b| order(*a, *b));
            self.changed();
        }
        if self.section() != section {
            let first = self.rows().iter().position(|row| row.section() == section);
            self.grid.cursor.0 = first.unwrap_or(0);
        }
        let at = self.columns().iter().position(|known| *known == Some(level));
        self.grid.cursor.1 = at.unwrap_or(0);
    }

    /// Adds a recipe, selected, and puts the cursor on it. Others that its row or column makes are not selected.
    pub(crate) fn add_recipe(&mut self, recipe: &Recipe) {
        let before: BTreeSet<String> = self.all_cells().map(|cell| cell.id()).collect();
        self.grid.take_in(recipe);
        let seed = self.seed();
        let rows = self.rows();
        let mut at = None;
        for (number, row) in rows.iter().enumerate() {
            for (column, level) in self.grid.columns(row.section()).into_iter().enumerate() {
                let cell = row.cell(level, seed);
                if cell.recipe == *recipe {
                    self.grid.left_out.remove(&cell.id());
                    at = at.or(Some((number, column)));
                } else if !before.contains(&cell.id()) {
                    self.grid.left_out.insert(cell.id());
                }
            }
        }
        self.grid.cursor = at.unwrap_or(self.grid.cursor);
        self.changed();
    }

    /// Drops the cursor's column, or its recipe.
    pub(crate) fn drop_level(&mut self) {
        match (self.columns().get(self.grid.cursor.1), self.rows().get(self.grid.cursor.0)) {
            (Some(Some(level)), _) => self.grid.levels.retain(|known| known != level),
            (_, Some(GridRow { recipe: RowRecipe::Whole(recipe), .. })) => {
                self.grid.recipes.retain(|known| known != recipe);
            }
            _ => return,
        }
        self.changed();
    }

    /// Keeps the cursors inside, and has the study checked again.
    fn changed(&mut self) {
        self.grid.cursor.0 = self.grid.cursor.0.min(self.rows().len().saturating_sub(1));
        self.keep_column();
        self.version += 1;
        self.check = Check::Pending;
    }

    /// Keeps the cursor within the columns of its section.
    pub(crate) fn keep_column(&mut self) {
        self.grid.cursor.1 = self.grid.cursor.1.min(self.columns().len().saturating_sub(1));
    }

    /// What can be told without looking anything up; `None` where that finds no fault.
    pub(crate) fn obvious_fault(&self) -> Option<(Option<Field>, String)> {
        if self.get(Field::Model).trim().is_empty() {
            return Some((Some(Field::Model), "enter a Hugging Face folder or hub id".into()));
        }
        if self.grid.levels.is_empty() && self.grid.recipes.is_empty() {
            return Some((None, "the grid has no sparsity: press + to add one".into()));
        }
        if self.cells().is_empty() {
            return Some((None, "no cells selected: press Space to select one".into()));
        }
        let wrong = |field: Field| Some((Some(field), field.setting()?.refusal(self.get(field))?));
        Field::ALL.into_iter().find_map(wrong)
    }

    /// Puts the cursor where a fault can be put right: on the field, or in the grid.
    pub(crate) fn focus_on(&mut self, field: Option<Field>) {
        match field {
            Some(field) => {
                self.focus = Focus::Fields;
                self.field = field as usize;
            }
            None => self.focus = Focus::Grid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;
    use crate::methods::{GridLevels, grid, recipes};
    use crate::study::Sparsity;
    use crate::tui::testing::study;

    fn selected(form: &Form) -> Vec<String> {
        form.cells().iter().map(|cell| cell.recipe.to_string()).collect()
    }

    /// Two of three methods are selected, at one of two sparsities each.
    fn two_cells() -> Form {
        let mut spec = study();
        spec.cells.retain(|cell| ["wanda@50%", "magnitude@70%"].contains(&cell.recipe.to_string().as_str()));
        Form::new(&spec)
    }

    #[test]
    fn another_set_or_seed_changes_no_selection() {
        let mut form = two_cells();
        let before = selected(&form);
        assert_eq!(before.len(), 2);
        form.set(Field::Calibration, "other");
        assert_eq!(selected(&form), before);
        form.set(Field::Seed, "7");
        assert_eq!(selected(&form), before);
        form.set(Field::Calibration, "other,c4");
        assert_eq!(selected(&form), ["magnitude@70%", "wanda@50%", "wanda@50%"]);
    }

    #[test]
    fn a_new_level_is_selected_in_rows_that_have_a_selection() {
        let mut form = two_cells();
        form.add_level(Level::Sparsity(Sparsity::Fraction(0.6)));
        assert_eq!(selected(&form), ["magnitude@60%", "magnitude@70%", "wanda@50%", "wanda@60%"]);
        form.add_level(Level::Bits(4));
        assert!(selected(&form).contains(&"gptq@4bit".to_owned()), "the first of its section");
    }

    #[test]
    fn what_a_method_does_not_know_is_never_selected() {
        let levels =
            GridLevels { structure: vec![Level::Blocks(1), Level::Share(0.2)], ..GridLevels::default() };
        let mut spec = study();
        spec.cells = grid(&recipes(&["depth", "width"], &levels), &["c4".to_owned()], 0);
        let mut form = Form::new(&spec);
        form.toggle_all();
        let all = selected(&form);
        assert!(all.contains(&"depth@1block".to_owned()) && all.contains(&"width@20%".to_owned()), "{all:?}");
        assert!(!all.contains(&"width@1block".to_owned()), "{all:?}");
    }

    #[test]
    fn the_form_has_exactly_the_fields_that_the_table_of_settings_gives_it() {
        let shown = |field: Field| field.setting().is_some_and(|setting| setting.form().is_some());
        assert!(Field::ALL.into_iter().all(shown));
        let in_table = settings().iter().filter(|setting| setting.form().is_some()).count();
        assert_eq!(in_table, Field::ALL.len());
    }
}
