//! Studies as series and rows: what charts, read-out and table show, without any drawing.

use std::cmp::Ordering;

use super::axis::XAxis;
use super::charted::{leading, measured};
use crate::methods::{Family, METHODS, find};
use crate::results::{CellResult, CellState, DataSetName, Estimate, Metrics, ModelFootprint};
use crate::scores::stats::mean_over_tasks;
use crate::scores::{SCORES, Score, Subject, Tradeoff, best_within, data_sets, is_measured, pareto_front};
use crate::study::{CellSpec, Level, Recipe, Sparsity, short_name};
use crate::tui::state::{CompareView, RowKey, SortBy, State, StudyView, XQuantity};

/// What was measured on a model, on one corpus and over all tasks. What is not known yet is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Figures {
    values: [Option<Estimate>; SCORES.len()],
}

impl Figures {
    /// Reads them from measurements, those on tasks over all tasks of the base.
    fn of(metrics: &Metrics, corpus: Option<&DataSetName>, base: &Metrics) -> Self {
        let mut figures = Self::default();
        for (value, score) in figures.values.iter_mut().zip(SCORES) {
            *value = match score.subject() {
                Subject::Corpus => corpus.and_then(|corpus| Some(metrics.find(score, corpus)?.estimate())),
                Subject::Task => {
                    let (own, asked): (Vec<_>, Vec<_>) =
                        (metrics.of(score).collect(), base.of(score).collect());
                    mean_over_tasks(&own, &asked)
                }
            };
        }
        figures
    }

    pub(crate) fn get(&self, score: &Score) -> Option<Estimate> {
        let place = SCORES.iter().position(|known| *known == score)?;
        self.values[place]
    }

    /// The value of a score, or its ratio to the base's; what compares with the base is relative to it as it is. `None`
    /// where there is no value, or nothing to relate it to.
    pub(crate) fn value(&self, score: &Score, base: &Self, relative: bool) -> Option<Estimate> {
        let own = self.get(score)?;
        if !relative || score.compares() {
            return Some(own);
        }
        let base = base.get(score)?.value;
        let usable = base.is_finite() && base > 0.0;
        usable.then(|| Estimate { value: own.value / base, ci95: own.ci95.map(|end| end / base) })
    }
}

/// The base or a cell of a study, with what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct ModelRow<'a> {
    pub key: RowKey,
    /// Its study is an overlay.
    pub overlay: bool,
    /// The cell; `None` is the base.
    pub cell: Option<&'a CellResult>,
    /// How people call it; one of an overlay begins with the number of its study.
    pub label: String,
    pub state: CellState,
    /// Sparsity that was asked for, in percent; of a cell that removes parts of the model, the share of the weights that is
    /// gone or zero. `None` for the base.
    pub sparsity: Option<f64>,
    /// Whether it removes parts of the model.
    pub structural: bool,
    /// The whole model as it is exported, where that is known.
    pub whole: Option<ModelFootprint>,
    /// Where it stands on the charts' x axis; `None` for the base, and where that is not known.
    pub x: Option<f64>,
    /// The x axis is one of size, and no other cell is as small and better by the score that is shown.
    pub front: bool,
    /// The sparsity if it is N:M, as it is written.
    pub pattern: Option<String>,
    /// Its place in [`Comparison::series`].
    pub series: Option<usize>,
    pub figures: Figures,
    /// What was measured on the base of its study.
    pub base: Figures,
    /// All the time spent on it, in seconds.
    pub seconds: f64,
}

impl ModelRow<'_> {
    /// Change of a score against the base, as a share of it.
    pub(crate) fn change(&self, score: &Score) -> Option<f64> {
        self.cell?;
        self.figures.value(score, &self.base, true).map(|ratio| ratio.value - 1.0)
    }

    fn number(&self, column: SortBy) -> Option<f64> {
        let number = match column {
            SortBy::Cell => return None,
            SortBy::State => Some(f64::from(self.state as u8)),
            SortBy::Front => self.cell.map(|_| f64::from(u8::from(!self.front))),
            SortBy::Bits => self.whole.map(|whole| whole.bits_per_weight),
            SortBy::Size => self.whole.map(|whole| whole.size_bytes as f64),
            SortBy::Zeros => self.cell.and_then(|cell| cell.footprint).map(|f| f.sparsity()),
            SortBy::Score(score) => self.figures.get(score).map(|value| value.value),
            SortBy::Change(score) => self.change(score),
            SortBy::Seconds => Some(self.seconds).filter(|seconds| *seconds > 0.0),
        };
        number.filter(|number| !number.is_nan())
    }
}

/// A method with a calibration set: the cells that differ by sparsity alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CellSeries {
    /// How it is called: `wanda`, `wanda c4` where there are several sets, `#3 wanda` of an overlay.
    pub name: String,
    /// Place of its colour and marker.
    pub style: usize,
    /// Its rows of [`Comparison::rows`], from low sparsity to high.
    pub rows: Vec<usize>,
}

/// The study that is open and its overlays.
#[derive(Debug, Clone)]
pub(crate) struct Comparison<'a> {
    /// Corpora that something was measured on.
    pub corpora: Vec<DataSetName>,
    pub corpus: Option<DataSetName>,
    /// Tasks of the open study that were answered.
    pub tasks: Vec<DataSetName>,
    /// Whether there are tasks, or may be.
    pub asked: bool,
    /// The scores that have a place on screen.
    pub scores: Vec<&'static Score>,
    /// Bases and cells: of the open study, then of the overlays.
    pub rows: Vec<ModelRow<'a>>,
    /// The series, those of the open study first.
    pub series: Vec<CellSeries>,
    pub axis: XAxis,
    /// Every place on the x axis where a cell stands, ascending.
    pub xs: Vec<f64>,
    /// The calibration set of all cells that have one, where it is the same: their labels leave it out.
    pub only_set: Option<String>,
}

impl<'a> Comparison<'a> {
    /// Looks at a study and its overlays.
    pub(crate) fn new(study_view: &'a StudyView, overlays: &'a [StudyView], view: &CompareView) -> Self {
        let study_views: Vec<&StudyView> = std::iter::once(study_view).chain(overlays).collect();
        let corpora = corpora(&study_views);
        let chosen =
            if corpora.is_empty() { None } else { corpora.get(view.corpus % corpora.len()).cloned() };
        let tasks = data_sets([&study_view.base.metrics], Subject::Task);
        let planned = |study_view: &&StudyView| {
            study_view.spec.as_ref().is_none_or(|spec| !spec.evaluation.tasks.is_empty())
                || is_measured(&study_view.base.metrics, Subject::Task)
        };
        let asked = study_views.iter().any(planned);
        let models = study_views.iter().flat_map(|study_view| {
            let cells = study_view.cells.iter().map(|cell| &cell.metrics);
            std::iter::once(&study_view.base.metrics).chain(cells)
        });
        let scores = measured(&models.collect::<Vec<_>>());
        let mut found = Self {
            corpora,
            corpus: chosen,
            tasks,
            asked,
            scores,
            rows: Vec::new(),
            series: Vec::new(),
            axis: XAxis::Sparsity,
            xs: Vec::new(),
            only_set: None,
        };
        let mut sets: Vec<String> = Vec::new();
        for set in study_views
            .iter()
            .flat_map(|study_view| &study_view.cells)
            .filter_map(|cell| cell.spec.calibration.as_deref())
        {
            let set = short_name(set);
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        for (i, study_view) in study_views.into_iter().enumerate() {
            found.add(study_view, i > 0, &sets);
        }
        found.only_set = if sets.len() == 1 { sets.pop() } else { None };
        found.place(view.x);
        for series in &mut found.series {
            series.rows.sort_by(|&a, &b| by_x(&found.rows[a], &found.rows[b]));
        }
        found.xs = found.rows.iter().filter_map(|row| row.x).collect();
        found.xs.sort_by(f64::total_cmp);
        found.xs.dedup();
        if view.x.is_room() {
            for i in found.front(view, leading(&found.scores, view)) {
                found.rows[i].front = true;
            }
        }
        found
    }

    /// Gives every cell its place on the x axis.
    fn place(&mut self, quantity: XQuantity) {
        let largest = self.rows.iter().filter_map(|row| row.whole).map(|whole| whole.size_bytes).max();
        self.axis = match quantity {
            XQuantity::Sparsity => XAxis::Sparsity,
            XQuantity::BitsPerWeight => XAxis::BitsPerWeight,
            XQuantity::Size => XAxis::of_sizes(largest.unwrap_or(0)),
        };
        for row in self.rows.iter_mut().filter(|row| row.cell.is_some()) {
            row.x = match &self.axis {
                XAxis::BitsPerWeight => row.whole.map(|whole| whole.bits_per_weight),
                XAxis::Size { unit_bytes, .. } => row.whole.map(|whole| whole.size_bytes as f64 / unit_bytes),
                XAxis::Sparsity | XAxis::Cells { .. } => row.sparsity,
            };
        }
        if quantity == XQuantity::Sparsity {
            self.spread();
        }
    }

    /// Where all cells have one sparsity, gives each a place of its own: they would stand above each other.
    fn spread(&mut self) {
        let mut cells: Vec<&mut ModelRow<'_>> =
            self.rows.iter_mut().filter(|row| row.cell.is_some()).collect();
        let Some(sparsity) = cells.first().and_then(|row| row.sparsity) else { return };
        if cells.len() < 2 || cells.iter().any(|row| row.sparsity != Some(sparsity)) {
            return;
        }
        let mut names = Vec::new();
        for (row, place) in cells.iter_mut().zip(1..) {
            row.x = Some(f64::from(place));
            let series = row.series.and_then(|series| self.series.get(series));
            let name = series.map_or(row.label.as_str(), |series| series.name.as_str());
            names.push(match &row.pattern {
                Some(pattern) => format!("{name} {pattern}"),
                None => name.to_owned(),
            });
        }
        self.axis = XAxis::Cells { sparsity, names };
    }

    fn add(&mut self, study_view: &'a StudyView, overlay: bool, sets: &[String]) {
        let prefix = if overlay { format!("#{} ", study_view.study) } else { String::new() };
        let base = Figures::of(&study_view.base.metrics, self.corpus.as_ref(), &study_view.base.metrics);
        self.rows.push(ModelRow {
            key: RowKey { study: study_view.study, cell: None },
            overlay,
            cell: None,
            label: format!("{prefix}base"),
            state: study_view.base_state,
            sparsity: None,
            structural: false,
            whole: study_view.model.base_footprint(),
            x: None,
            front: false,
            pattern: None,
            series: None,
            figures: base,
            base,
            seconds: study_view.base.seconds.total(),
        });
        for cell in &study_view.cells {
            let recipe = &cell.spec.recipe;
            let set = cell.spec.calibration.as_deref().map(short_name);
            let (mut name, mut label) = (recipe.series(), recipe.label());
            if let (Some(set), true) = (&set, sets.len() > 1) {
                name = format!("{name} {set}");
                label = cell.spec.label();
            }
            let (name, label) = (format!("{prefix}{name}"), format!("{prefix}{label}"));
            let series = self.series.iter().position(|series| series.name == name).unwrap_or_else(|| {
                let style = self.style(&cell.spec, study_view, overlay, sets);
                self.series.push(CellSeries { name, style, rows: Vec::new() });
                self.series.len() - 1
            });
            self.series[series].rows.push(self.rows.len());
            let groups = |level| matches!(level, Level::Sparsity(Sparsity::SemiStructured { .. }));
            let pattern = recipe.steps().map(|step| step.level).find(|level| groups(*level));
            self.rows.push(ModelRow {
                key: RowKey { study: study_view.study, cell: Some(cell.id.clone()) },
                overlay,
                cell: Some(cell),
                label,
                state: cell.state,
                sparsity: Some(lost(cell, study_view)),
                structural: is_structural(recipe),
                whole: cell.footprint.as_ref().and_then(|found| study_view.model.cell_footprint(found)),
                x: None,
                front: false,
                pattern: pattern.map(Level::label),
                series: Some(series),
                figures: Figures::of(&cell.metrics, self.corpus.as_ref(), &study_view.base.metrics),
                base,
                seconds: cell.seconds.total(),
            });
        }
    }

    /// Colour and marker of a new series. Methods of the first set always have their own, so that they look alike in
    /// every study; other sets, other parameters and overlays get those that are left, in the order in which they come.
    fn style(&self, cell: &CellSpec, study_view: &StudyView, overlay: bool, sets: &[String]) -> usize {
        let own = |cell: &CellSpec| {
            let name = cell.recipe.series();
            METHODS.iter().position(|method| method.name() == name)
        };
        let set = cell.calibration.as_deref().map(short_name);
        let is_first = set.is_none_or(|set| sets.first().is_some_and(|known| *known == set));
        if let Some(style) = own(cell).filter(|_| is_first && !overlay) {
            return style;
        }
        let used = self.series.iter().map(|series| series.style);
        let taken: Vec<usize> =
            used.chain(study_view.cells.iter().filter_map(|cell| own(&cell.spec))).collect();
        (0..=taken.len()).find(|style| !taken.contains(style)).unwrap_or(0)
    }

    /// The name of the x axis, with its unit.
    pub(crate) fn axis_label(&self) -> String {
        match self.axis {
            XAxis::Sparsity if self.rows.iter().any(|row| row.structural) => "zero or gone %".into(),
            _ => self.axis.label(),
        }
    }

    pub(crate) fn row(&self, key: &RowKey) -> Option<&ModelRow<'a>> {
        self.rows.iter().find(|row| row.key == *key)
    }

    /// The x value where the cursor stands: the one nearest to where it was put, at first where the axis says.
    pub(crate) fn cursor(&self, wanted: Option<f64>) -> Option<f64> {
        let wanted = wanted.or_else(|| self.axis.start(&self.xs))?;
        let distance = |x: f64| (x - wanted).abs();
        self.xs.iter().copied().min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
    }

    /// What the x axis shows when all is shown.
    pub(crate) fn range(&self) -> (f64, f64) {
        self.axis.range(&self.xs)
    }

    /// What the x axis shows: the zoom, unless nothing is there.
    pub(crate) fn window(&self, zoom: Option<(f64, f64)>) -> (f64, f64) {
        let (least, most) = self.range();
        zoom.filter(|(low, high)| *low < most && least < *high).unwrap_or((least, most))
    }

    /// Place on the x axis and damage of every row, in their order.
    fn tradeoffs(&self, view: &CompareView, score: &Score) -> Vec<Option<Tradeoff>> {
        let tradeoff = |row: &ModelRow<'_>| {
            let value = row.figures.value(score, &row.base, view.relative)?;
            Tradeoff::new(row.x?, score.damage(value.value))
        };
        self.rows.iter().map(tradeoff).collect()
    }

    /// The rows on the Pareto front of a score over the x axis, from left to right.
    pub(crate) fn front(&self, view: &CompareView, score: &Score) -> Vec<usize> {
        pareto_front(&self.tradeoffs(view, score))
    }

    /// The best row up to a place on the x axis, by the score that decides, among those that `among` accepts.
    pub(crate) fn best(&self, view: &CompareView, x: f64, among: impl Fn(usize) -> bool) -> Option<usize> {
        let mut tradeoffs = self.tradeoffs(view, leading(&self.scores, view));
        for (place, tradeoff) in tradeoffs.iter_mut().enumerate() {
            *tradeoff = tradeoff.filter(|_| among(place));
        }
        best_within(&tradeoffs, x)
    }

    /// Rows of the table from top to bottom, and how many of them stay on top: bases first, pinned ones next, then
    /// those that the filter lets through, in the order that is wanted.
    pub(crate) fn table(&self, view: &CompareView) -> (Vec<usize>, usize) {
        let all = 0..self.rows.len();
        let mut order: Vec<usize> = all.clone().filter(|&i| self.rows[i].cell.is_none()).collect();
        for key in &view.pinned {
            order.extend(self.rows.iter().position(|row| row.key == *key));
        }
        let fixed = order.len();
        let words: Vec<String> = view.filter().split_whitespace().map(str::to_lowercase).collect();
        let passes = |row: &ModelRow<'_>| {
            let set = row.cell.and_then(|cell| cell.spec.calibration.as_deref()).map(short_name);
            let searched = format!("{} {} {}", row.label, set.unwrap_or_default(), row.state.name());
            let searched = searched.to_lowercase();
            words.iter().all(|word| searched.contains(word.as_str()))
        };
        let mut rest: Vec<usize> = all.filter(|i| !order.contains(i) && passes(&self.rows[*i])).collect();
        if let Some(column) = view.sort {
            rest.sort_by(|&a, &b| self.compare(a, b, column, view.descending));
        } else if view.descending {
            rest.reverse();
        }
        order.extend(rest);
        (order, fixed)
    }

    /// Where the selected row stands among `order`, the rows that are shown; the first, if it is not among them.
    pub(crate) fn selected(&self, view: &CompareView, order: &[usize]) -> usize {
        let chosen = |key: &RowKey| order.iter().position(|&i| self.rows[i].key == *key);
        view.selected.as_ref().and_then(chosen).unwrap_or(0)
    }

    /// Which of two rows comes first. What is missing comes last, whichever way the order runs.
    fn compare(&self, a: usize, b: usize, column: SortBy, descending: bool) -> Ordering {
        let (a, b) = (&self.rows[a], &self.rows[b]);
        let turn = |order: Ordering| if descending { order.reverse() } else { order };
        if column == SortBy::Cell {
            return turn(a.series.cmp(&b.series).then_with(|| by_x(a, b)));
        }
        match (a.number(column), b.number(column)) {
            (Some(a), Some(b)) => turn(a.total_cmp(&b)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }
}

/// From left to right; a pattern behind the fraction that it equals.
fn by_x(a: &ModelRow<'_>, b: &ModelRow<'_>) -> Ordering {
    let key = |row: &ModelRow<'_>| (row.x.unwrap_or(0.0), row.pattern.is_some());
    let ((a, of_a), (b, of_b)) = (key(a), key(b));
    a.total_cmp(&b).then(of_a.cmp(&of_b))
}

/// A sparsity in percent, as people write it: rounding hides that 0.3 is not 30/100 exactly.
pub(crate) fn percent(recipe: &Recipe) -> f64 {
    (recipe.zeros() * 1e6).round() / 1e4
}

/// Whether a recipe removes parts of the model.
fn is_structural(recipe: &Recipe) -> bool {
    recipe.steps().any(|step| find(&step.method).is_ok_and(|method| method.family() == Family::Structure))
}

/// Where a cell stands on an axis of sparsity, in percent: at the sparsity that was asked for; where parts of the model go,
/// at the share of the prunable weights that is gone or zero, which until it is known follows from the levels.
fn lost(cell: &CellResult, study_view: &StudyView) -> f64 {
    let recipe = &cell.spec.recipe;
    if !is_structural(recipe) {
        return percent(recipe);
    }
    let all = study_view.model.prunable_parameters as f64;
    let left = match &cell.footprint {
        Some(found) if all > 0.0 => found.weights.saturating_sub(found.zeros) as f64 / all,
        _ => {
            let left = |level: Level| match level {
                Level::Blocks(count) => 1.0 - count as f64 / (study_view.model.blocks as f64).max(1.0),
                level => 1.0 - level.zeros(),
            };
            recipe.steps().map(|step| left(step.level)).product()
        }
    };
    // To a tenth of a percent, so that the few zeros of the base itself move no cell.
    ((1.0 - left).clamp(0.0, 1.0) * 1e3).round() / 10.0
}

/// Every corpus that something was measured on, in the order in which it is first met.
fn corpora(study_views: &[&StudyView]) -> Vec<DataSetName> {
    let all = study_views.iter().flat_map(|study_view| {
        std::iter::once(&study_view.base.metrics).chain(study_view.cells.iter().map(|cell| &cell.metrics))
    });
    data_sets(all, Subject::Corpus)
}

/// The study that is open with its overlays; `None` when none is.
pub(super) fn comparison(state: &State) -> Option<Comparison<'_>> {
    let study_view = state.study_view.as_ref()?;
    Some(Comparison::new(study_view, &state.overlays, &state.compare))
}

/// The columns of the study's table that can be left out.
pub(crate) fn optional_columns(state: &State) -> Vec<SortBy> {
    comparison(state).map_or_else(Vec::new, |found| state.compare.optional_columns(&found.scores))
}

/// Sparsity under the cursor, in percent; `None` where the x axis is one of size.
pub(crate) fn cursor(state: &State) -> Option<f64> {
    let found = comparison(state)?;
    match found.axis {
        XAxis::Sparsity => found.cursor(state.compare.cursor),
        XAxis::Cells { sparsity, .. } => Some(sparsity),
        XAxis::BitsPerWeight | XAxis::Size { .. } => None,
    }
}
