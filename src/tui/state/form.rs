//! The study that a user defines: fields, and a grid of methods and sparsities.

use std::collections::BTreeSet;

use super::field::{Field, FieldKind};
use super::line::Line;
use crate::config::{Given, Means, split_list};
use crate::engine::ResourceEstimate;
use crate::methods::{METHODS, find};
use crate::results::ModelInfo;
use crate::study::{CellSpec, Level, Parameters, Sparsity, Step, StudySpec, short_name};

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

/// Methods down, sparsities across; methods that look at data have a row for every calibration set.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Grid {
    /// The columns: fractions by size, then N:M.
    pub sparsities: Vec<Sparsity>,
    /// Methods with parameters of their own, which have rows beside those of the plain methods.
    variants: Vec<(String, Parameters)>,
    /// Cells that are not selected, by id.
    left_out: BTreeSet<String>,
    /// Row and column of the cursor.
    pub cursor: (usize, usize),
}

/// A row of the grid: cells that differ by level alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GridRow {
    pub method: String,
    /// The method's parameters, where they are not the study's.
    pub parameters: Parameters,
    /// Its calibration set, as given.
    pub set: Option<String>,
}

impl GridRow {
    /// The rows of a method: one for every set where it looks at data.
    pub(crate) fn of_method(method: &str, parameters: &Parameters, sets: &[String]) -> Vec<Self> {
        let row = |set| Self { method: method.to_owned(), parameters: parameters.clone(), set };
        if find(method).is_ok_and(|method| !method.needs_calibration()) {
            return vec![row(None)];
        }
        sets.iter().cloned().map(|set| row(Some(set))).collect()
    }

    pub(crate) fn cell(&self, sparsity: Sparsity, seed: u64) -> CellSpec {
        let (method, parameters) = (self.method.clone(), self.parameters.clone());
        let step = Step { method, level: sparsity.into(), parameters };
        CellSpec { recipe: step.into(), calibration: self.set.clone(), seed }
    }

    pub(crate) fn label(&self) -> String {
        let series = self.cell(Sparsity::Fraction(0.0), 0).recipe.series();
        match &self.set {
            None => series,
            Some(set) => format!("{series} {}", short_name(set)),
        }
    }
}

/// Fractions by size, then N:M by their share.
fn order(a: Sparsity, b: Sparsity) -> std::cmp::Ordering {
    let group = |s| matches!(s, Sparsity::SemiStructured { .. });
    let size = |s| if let Sparsity::SemiStructured { group: m, .. } = s { m } else { 0 };
    (group(a).cmp(&group(b))).then(a.fraction().total_cmp(&b.fraction())).then(size(a).cmp(&size(b)))
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
    pub grid: Grid,
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
        let mut grid = Grid::default();
        for step in spec.cells.iter().flat_map(|cell| cell.recipe.steps()) {
            let Level::Sparsity(sparsity) = step.level;
            if !grid.sparsities.contains(&sparsity) {
                grid.sparsities.push(sparsity);
            }
            let variant = (step.method.clone(), step.parameters.clone());
            let plain = variant.1.is_empty() && find(&variant.0).is_ok();
            if !plain && !grid.variants.contains(&variant) {
                grid.variants.push(variant);
            }
        }
        grid.sparsities.sort_by(|a, b| order(*a, *b));
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
        if self.fields[field as usize] != text {
            text.clone_into(&mut self.fields[field as usize]);
            self.changed();
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

    pub(crate) fn rows(&self) -> Vec<GridRow> {
        let sets = split_list(self.get(Field::Calibration));
        let plain = METHODS.iter().map(|method| (method.name().to_owned(), Parameters::new()));
        let all = plain.chain(self.grid.variants.iter().cloned());
        all.flat_map(|(method, parameters)| GridRow::of_method(&method, &parameters, &sets)).collect()
    }

    pub(crate) fn seed(&self) -> u64 {
        self.get(Field::Seed).trim().parse().unwrap_or(0)
    }

    fn all_cells(&self) -> impl Iterator<Item = CellSpec> + '_ {
        let seed = self.seed();
        let row = move |row: GridRow| self.grid.sparsities.iter().map(move |&s| row.cell(s, seed));
        self.rows().into_iter().flat_map(row)
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
        Some(self.rows().get(row)?.cell(*self.grid.sparsities.get(column)?, self.seed()))
    }

    /// Selects cells, or deselects them when all of them are selected.
    fn toggle(&mut self, cells: &[CellSpec]) {
        let all_on = cells.iter().all(|cell| self.is_on(cell));
        for cell in cells {
            if all_on {
                self.grid.left_out.insert(cell.id());
            } else {
                self.grid.left_out.remove(&cell.id());
            }
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
            let cells: Vec<_> = self.grid.sparsities.iter().map(|&s| row.cell(s, seed)).collect();
            self.toggle(&cells);
        }
    }

    /// The same for the cursor's column.
    pub(crate) fn toggle_column(&mut self) {
        let seed = self.seed();
        if let Some(&sparsity) = self.grid.sparsities.get(self.grid.cursor.1) {
            let cells: Vec<_> = self.rows().iter().map(|row| row.cell(sparsity, seed)).collect();
            self.toggle(&cells);
        }
    }

    pub(crate) fn toggle_all(&mut self) {
        let cells: Vec<_> = self.all_cells().collect();
        self.toggle(&cells);
    }

    /// Adds a column and puts the cursor there.
    pub(crate) fn add_sparsity(&mut self, sparsity: Sparsity) {
        if !self.grid.sparsities.contains(&sparsity) {
            self.grid.sparsities.push(sparsity);
            self.grid.sparsities.sort_by(|a, b| order(*a, *b));
            self.changed();
        }
        let at = self.grid.sparsities.iter().position(|s| *s == sparsity);
        self.grid.cursor.1 = at.unwrap_or(0);
    }

    pub(crate) fn drop_sparsity(&mut self) {
        if self.grid.cursor.1 < self.grid.sparsities.len() {
            self.grid.sparsities.remove(self.grid.cursor.1);
            self.changed();
        }
    }

    /// Keeps the cursors inside, and has the study checked again.
    fn changed(&mut self) {
        let rows = self.rows().len();
        let cursor = &mut self.grid.cursor;
        cursor.0 = cursor.0.min(rows.saturating_sub(1));
        cursor.1 = cursor.1.min(self.grid.sparsities.len().saturating_sub(1));
        self.version += 1;
        self.check = Check::Pending;
    }

    /// What can be told without looking anything up; `None` where that finds no fault.
    pub(crate) fn obvious_fault(&self) -> Option<(Option<Field>, String)> {
        if self.get(Field::Model).trim().is_empty() {
            return Some((Some(Field::Model), "enter a Hugging Face folder or hub id".into()));
        }
        if self.grid.sparsities.is_empty() {
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

    #[test]
    fn the_form_has_exactly_the_fields_that_the_table_of_settings_gives_it() {
        let shown = |field: Field| field.setting().is_some_and(|setting| setting.form().is_some());
        assert!(Field::ALL.into_iter().all(shown));
        let in_table = settings().iter().filter(|setting| setting.form().is_some()).count();
        assert_eq!(in_table, Field::ALL.len());
    }
}
