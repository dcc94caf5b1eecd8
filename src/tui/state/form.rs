//! The study that a user defines: fields, and a grid of methods and sparsities.

use std::collections::BTreeSet;

use super::line::Line;
use crate::config::{FormField, Given, Means, Setting, setting, split_list};
use crate::study::{CellSpec, Method, Sparsity, StudySpec, short_name};
use crate::tui::message::Checked;

/// A field of the form; each is also a flag of `secateur run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the flags are")]
pub enum Field {
    Model,
    Device,
    Dtype,
    Calibration,
    Samples,
    Sampling,
    SeqLen,
    Corpora,
    MaxWindows,
    Tasks,
    TaskLimit,
    MaxNewTokens,
    Seed,
}

/// How a field is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text or a list with commas.
    Text,
    /// One of these.
    Choice(&'static [&'static str]),
}

impl Field {
    /// All fields, in the order of the form.
    pub const ALL: [Self; 13] = [
        Self::Model,
        Self::Device,
        Self::Dtype,
        Self::Calibration,
        Self::Samples,
        Self::Sampling,
        Self::SeqLen,
        Self::Corpora,
        Self::MaxWindows,
        Self::Tasks,
        Self::TaskLimit,
        Self::MaxNewTokens,
        Self::Seed,
    ];

    /// The setting that it fills in.
    fn setting(self) -> Option<&'static Setting> {
        setting(&self.flag()[2..])
    }

    fn shown(self) -> Option<&'static FormField> {
        self.setting().and_then(Setting::form)
    }

    /// What stands before it.
    pub fn label(self) -> &'static str {
        self.shown().map_or("", |field| field.label)
    }

    /// A word on what goes in.
    pub fn hint(self) -> &'static str {
        self.shown().map_or("", |field| field.hint)
    }

    /// The flag of the command line, as mistakes name it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Model => "--model",
            Self::Device => "--device",
            Self::Dtype => "--dtype",
            Self::Calibration => "--calibration",
            Self::Samples => "--calibration-samples",
            Self::Sampling => "--sampling",
            Self::SeqLen => "--seq-len",
            Self::Corpora => "--corpus",
            Self::MaxWindows => "--max-windows",
            Self::Tasks => "--tasks",
            Self::TaskLimit => "--task-limit",
            Self::MaxNewTokens => "--max-new-tokens",
            Self::Seed => "--seed",
        }
    }

    /// How it is filled in.
    pub fn kind(self) -> Kind {
        match self.setting().map_or(&[][..], Setting::choices) {
            [] => Kind::Text,
            choices => Kind::Choice(choices),
        }
    }
}

/// What the form says, to be checked and run.
#[derive(Debug, Clone, PartialEq)]
pub struct FormValues {
    /// The text of every field, in the order of [`Field::ALL`].
    pub fields: [String; Field::ALL.len()],
    /// The cells of the grid that are taken in.
    pub cells: Vec<CellSpec>,
}

impl FormValues {
    /// The text of a field.
    pub fn get(&self, field: Field) -> &str {
        &self.fields[field as usize]
    }

    /// The settings that the form comes to; what it does not show is as in `base`.
    pub fn given(&self, base: &Given) -> Given {
        let mut given = base.clone();
        let fields = Field::ALL.into_iter().filter_map(|field| Some((field.setting()?, self.get(field))));
        for (setting, text) in fields {
            given.set(setting, Means::Flag, text.trim());
        }
        // The grid is given cell by cell; these say what the cells need.
        let of_cells =
            |what: fn(&CellSpec) -> String| self.cells.iter().map(what).collect::<Vec<_>>().join(",");
        let grid = [
            ("methods", of_cells(|c| c.method.to_string())),
            ("sparsity", of_cells(|c| c.sparsity.to_string())),
        ];
        for (flag, text) in grid {
            if let Some(setting) = setting(flag) {
                given.set(setting, Means::Flag, &text);
            }
        }
        given
    }
}

/// Methods down, sparsities across; methods that look at data have a row for every calibration set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grid {
    /// The columns: fractions by size, then N:M.
    pub sparsities: Vec<Sparsity>,
    /// Cells that are not taken in, by id.
    left_out: BTreeSet<String>,
    /// Row and column of the cursor.
    pub cursor: (usize, usize),
}

/// A row of the grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridRow {
    /// Its method.
    pub method: Method,
    /// Its calibration set, as given.
    pub set: Option<String>,
}

impl GridRow {
    /// The row's cell at a sparsity.
    pub fn cell(&self, sparsity: Sparsity, seed: u64) -> CellSpec {
        CellSpec { method: self.method, sparsity, calibration: self.set.clone(), seed }
    }

    /// What stands before the row.
    pub fn label(&self) -> String {
        match &self.set {
            None => self.method.to_string(),
            Some(set) => format!("{} {}", self.method, short_name(set)),
        }
    }
}

/// Fractions by size, then N:M by their share.
fn order(a: Sparsity, b: Sparsity) -> std::cmp::Ordering {
    let group = |s| matches!(s, Sparsity::NOfM { .. });
    let size = |s| if let Sparsity::NOfM { m, .. } = s { m } else { 0 };
    (group(a).cmp(&group(b))).then(a.fraction().total_cmp(&b.fraction())).then(size(a).cmp(&size(b)))
}

/// Where the cursor of the study screen is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Focus {
    /// In the fields.
    Fields,
    /// In the grid.
    #[default]
    Grid,
}

/// What is known of the study that the form defines.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Check {
    /// Nothing yet: it changed a moment ago, or is being looked at.
    #[default]
    Pending,
    /// Model or data are not here yet, and are fetched when the study starts.
    Remote,
    /// It can run, and needs this.
    Fine(Box<Checked>),
    /// It cannot run.
    Refused {
        /// The field at fault, where that can be told.
        field: Option<Field>,
        /// Why, and what is accepted.
        message: String,
    },
}

/// The form with its cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// The text of every field.
    fields: [String; Field::ALL.len()],
    /// The grid.
    pub grid: Grid,
    /// Where the cursor is.
    pub focus: Focus,
    /// The field under the cursor.
    pub field: usize,
    /// The text that is being typed into that field.
    pub editing: Option<Line>,
    /// What is known of it.
    pub check: Check,
    /// Number of the newest version; each change counts.
    pub version: u64,
    /// The version that a check was last asked for.
    pub checked: u64,
    /// Models that were studied before, the newest first.
    pub recent: Vec<String>,
}

impl Form {
    /// The form that shows a study.
    pub fn new(spec: &StudySpec) -> Self {
        let fields =
            Field::ALL.map(|field| field.shown().map_or_else(String::new, |field| (field.show)(spec)));
        let mut grid = Grid::default();
        for cell in &spec.cells {
            if !grid.sparsities.contains(&cell.sparsity) {
                grid.sparsities.push(cell.sparsity);
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

    /// The text of a field.
    pub fn get(&self, field: Field) -> &str {
        &self.fields[field as usize]
    }

    /// Fills a field in.
    pub fn set(&mut self, field: Field, text: &str) {
        if self.fields[field as usize] != text {
            text.clone_into(&mut self.fields[field as usize]);
            self.changed();
        }
    }

    /// The field under the cursor.
    pub fn current(&self) -> Field {
        Field::ALL[self.field.min(Field::ALL.len() - 1)]
    }

    /// Steps through the choices of the field under the cursor; for the model, through those studied before.
    /// `false` where it has none.
    pub fn step(&mut self, by: isize) -> bool {
        let field = self.current();
        let choices: Vec<String> = match field.kind() {
            Kind::Choice(choices) => choices.iter().map(|&choice| choice.to_owned()).collect(),
            Kind::Text if field == Field::Model => self.recent.clone(),
            Kind::Text => Vec::new(),
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

    /// The rows of the grid.
    pub fn rows(&self) -> Vec<GridRow> {
        let sets = split_list(self.get(Field::Calibration));
        let of = |method: Method| -> Vec<GridRow> {
            if method.needs_calibration() {
                sets.iter().map(|set| GridRow { method, set: Some(set.clone()) }).collect()
            } else {
                vec![GridRow { method, set: None }]
            }
        };
        Method::ALL.into_iter().flat_map(of).collect()
    }

    /// The seed that the cells have.
    pub fn seed(&self) -> u64 {
        self.get(Field::Seed).trim().parse().unwrap_or(0)
    }

    fn all_cells(&self) -> impl Iterator<Item = CellSpec> + '_ {
        let seed = self.seed();
        let row = move |row: GridRow| self.grid.sparsities.iter().map(move |&s| row.cell(s, seed));
        self.rows().into_iter().flat_map(row)
    }

    /// Whether a cell is taken in.
    pub fn is_on(&self, cell: &CellSpec) -> bool {
        !self.grid.left_out.contains(&cell.id())
    }

    /// The cells that are taken in.
    pub fn cells(&self) -> Vec<CellSpec> {
        let mut cells: Vec<CellSpec> = Vec::new();
        for cell in self.all_cells() {
            if self.is_on(&cell) && !cells.iter().any(|c| c.id() == cell.id()) {
                cells.push(cell);
            }
        }
        cells
    }

    /// What the form says.
    pub fn values(&self) -> FormValues {
        FormValues { fields: self.fields.clone(), cells: self.cells() }
    }

    /// The cell under the grid's cursor.
    pub fn cell_at_cursor(&self) -> Option<CellSpec> {
        let (row, column) = self.grid.cursor;
        Some(self.rows().get(row)?.cell(*self.grid.sparsities.get(column)?, self.seed()))
    }

    /// Takes cells in, or leaves them out when all of them are in.
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

    /// Takes the cell under the cursor in, or leaves it out.
    pub fn toggle_cell(&mut self) {
        if let Some(cell) = self.cell_at_cursor() {
            self.toggle(&[cell]);
        }
    }

    /// The same for the cursor's row.
    pub fn toggle_row(&mut self) {
        let seed = self.seed();
        if let Some(row) = self.rows().get(self.grid.cursor.0) {
            let cells: Vec<_> = self.grid.sparsities.iter().map(|&s| row.cell(s, seed)).collect();
            self.toggle(&cells);
        }
    }

    /// The same for the cursor's column.
    pub fn toggle_column(&mut self) {
        let seed = self.seed();
        if let Some(&sparsity) = self.grid.sparsities.get(self.grid.cursor.1) {
            let cells: Vec<_> = self.rows().iter().map(|row| row.cell(sparsity, seed)).collect();
            self.toggle(&cells);
        }
    }

    /// The same for the whole grid.
    pub fn toggle_all(&mut self) {
        let cells: Vec<_> = self.all_cells().collect();
        self.toggle(&cells);
    }

    /// Adds a column and puts the cursor there.
    pub fn add_sparsity(&mut self, sparsity: Sparsity) {
        if !self.grid.sparsities.contains(&sparsity) {
            self.grid.sparsities.push(sparsity);
            self.grid.sparsities.sort_by(|a, b| order(*a, *b));
            self.changed();
        }
        let at = self.grid.sparsities.iter().position(|s| *s == sparsity);
        self.grid.cursor.1 = at.unwrap_or(0);
    }

    /// Drops the cursor's column.
    pub fn drop_sparsity(&mut self) {
        if self.grid.cursor.1 < self.grid.sparsities.len() {
            self.grid.sparsities.remove(self.grid.cursor.1);
            self.changed();
        }
    }

    /// Keeps the cursors inside, and has the study looked at anew.
    fn changed(&mut self) {
        let rows = self.rows().len();
        let cursor = &mut self.grid.cursor;
        cursor.0 = cursor.0.min(rows.saturating_sub(1));
        cursor.1 = cursor.1.min(self.grid.sparsities.len().saturating_sub(1));
        self.version += 1;
        self.check = Check::Pending;
    }

    /// What can be told without looking anything up; `None` where that finds no fault.
    pub fn obvious_fault(&self) -> Option<(Option<Field>, String)> {
        if self.get(Field::Model).trim().is_empty() {
            return Some((Some(Field::Model), "name a Hugging Face folder or a hub id".into()));
        }
        if self.grid.sparsities.is_empty() {
            return Some((None, "the grid has no sparsity: + adds one".into()));
        }
        if self.cells().is_empty() {
            return Some((None, "no cell of the grid is taken in: Space takes one in".into()));
        }
        let wrong = |field: Field| Some((Some(field), field.setting()?.refusal(self.get(field))?));
        Field::ALL.into_iter().find_map(wrong)
    }

    /// The field that a message is about: the one whose flag it names first, or whose value it quotes.
    pub fn blame(&self, message: &str) -> Option<Field> {
        let begins =
            |field: &Field| message.strip_prefix(field.flag()).is_some_and(|rest| !rest.starts_with('-'));
        let quoted = |field: &Field| {
            let entries = split_list(self.get(*field));
            entries.iter().any(|entry| entry.len() > 2 && message.contains(entry.as_str()))
        };
        let keyed = |field: &Field| match field {
            Field::SeqLen => message.starts_with("seq_len"),
            Field::Device => message.contains("cuda") && message.contains("device"),
            _ => false,
        };
        let sources = [Field::Corpora, Field::Tasks, Field::Calibration, Field::Model];
        Field::ALL
            .into_iter()
            .find(|f| begins(f))
            .or_else(|| Field::ALL.into_iter().find(|f| keyed(f)))
            .or_else(|| sources.into_iter().find(|f| quoted(f)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn the_form_has_exactly_the_fields_that_the_table_of_settings_gives_it() {
        let shown = |field: Field| field.setting().filter(|setting| setting.form().is_some()).is_some();
        assert!(Field::ALL.into_iter().all(shown));
        let in_table = settings().iter().filter(|setting| setting.form().is_some()).count();
        assert_eq!(in_table, Field::ALL.len());
    }
}
