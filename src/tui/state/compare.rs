//! What only the compare screen knows.

use super::line::Line;
use super::screen::Panel;
use crate::scores::{Score, Subject, headline_scores, scores_on};

/// The base (`None`) or a cell of a study.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RowKey {
    pub study: i64,
    pub cell: Option<String>,
}

/// Which scores of tasks are charted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChartedScore {
    One(&'static Score),
    All,
}

/// What the x axis of the charts shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum XQuantity {
    #[default]
    Sparsity,
    /// Bits per weight of the whole model.
    BitsPerWeight,
    /// Bytes of the whole model.
    Size,
}

impl XQuantity {
    /// All of them, in the order in which they take turns.
    pub(crate) const ALL: [Self; 3] = [Self::Sparsity, Self::BitsPerWeight, Self::Size];

    /// Its name in files.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Sparsity => "sparsity",
            Self::BitsPerWeight => "bits_per_weight",
            Self::Size => "size",
        }
    }

    /// What is shown after this.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Sparsity => Self::BitsPerWeight,
            Self::BitsPerWeight => Self::Size,
            Self::Size => Self::Sparsity,
        }
    }

    /// Whether it says how much room models take, so that all kinds of cells can be compared over it.
    pub(crate) fn is_room(self) -> bool {
        self != Self::Sparsity
    }
}

/// A column of the table that rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SortBy {
    /// Method, calibration set, sparsity.
    Cell,
    State,
    /// Whether it is on the Pareto front.
    Front,
    Zeros,
    /// Bits per weight of the whole model.
    Bits,
    /// Bytes of the whole model.
    Size,
    Score(&'static Score),
    Change(&'static Score),
    Seconds,
}

/// How one likes to look at comparisons, whichever study is open. It is kept from one start of the dashboard to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CompareChoices {
    /// What the x axes show.
    pub x: XQuantity,
    /// The task scores that are charted. When room is short, the table keeps their columns.
    pub score: ChartedScore,
    /// Values are relative to the base.
    pub relative: bool,
    /// The column that rows are sorted by; `None` is the order of the grid.
    pub sort: Option<SortBy>,
    pub descending: bool,
    /// The columns that the table leaves out.
    pub hidden: Vec<SortBy>,
}

/// What only the compare screen knows.
#[derive(Debug, Clone)]
pub(crate) struct CompareView {
    pub panel: Panel,
    /// The filter that is being typed.
    pub typing: Option<Line>,
    /// The filter that was typed last.
    pub kept: String,
    /// The scores of tasks that are charted.
    pub score: ChartedScore,
    /// Which of the corpora is shown; counts on past their number.
    pub corpus: usize,
    /// Values are relative to the base.
    pub relative: bool,
    /// What the x axes show.
    pub x: XQuantity,
    /// Where the cursor was put, on the x axis as it is labelled.
    pub cursor: Option<f64>,
    /// The part of the x axes that is shown; `None` is everything.
    pub zoom: Option<(f64, f64)>,
    /// Cells that stay on top of the table, in the order in which they were pinned.
    pub pinned: Vec<RowKey>,
    /// The row that was selected; `None` is the first.
    pub selected: Option<RowKey>,
    /// The column that rows are sorted by; `None` is the order of the grid.
    pub sort: Option<SortBy>,
    pub descending: bool,
    /// The columns that the table leaves out.
    pub hidden: Vec<SortBy>,
}

impl Default for CompareView {
    fn default() -> Self {
        Self {
            panel: Panel::Perplexity,
            typing: None,
            kept: String::new(),
            score: ChartedScore::default(),
            corpus: 0,
            relative: false,
            x: XQuantity::default(),
            cursor: None,
            zoom: None,
            pinned: Vec::new(),
            selected: None,
            sort: None,
            descending: false,
            hidden: Vec::new(),
        }
    }
}

impl CompareView {
    /// Forgets what belongs to the study that was shown. How one likes to look at things stays.
    pub(crate) fn reset(&mut self) {
        let (panel, choices) = (self.panel, self.choices());
        *self = Self { panel, ..Self::default() };
        self.choose(choices);
    }

    /// How one likes to look at comparisons.
    pub(crate) fn choices(&self) -> CompareChoices {
        let &Self { x, score, relative, sort, descending, ref hidden, .. } = self;
        CompareChoices { x, score, relative, sort, descending, hidden: hidden.clone() }
    }

    /// Shows comparisons in this way.
    pub(crate) fn choose(&mut self, choices: CompareChoices) {
        let CompareChoices { x, score, relative, sort, descending, hidden } = choices;
        (self.x, self.score, self.relative) = (x, score, relative);
        (self.sort, self.descending, self.hidden) = (sort, descending, hidden);
    }

    /// The columns of the table, given which scores there are.
    pub(crate) fn columns(&self, scores: &[&'static Score]) -> Vec<SortBy> {
        SortBy::of(self.x, scores).into_iter().filter(|column| !self.hidden.contains(column)).collect()
    }

    /// The columns that can be left out: all but the names of the cells.
    pub(crate) fn optional_columns(&self, scores: &[&'static Score]) -> Vec<SortBy> {
        SortBy::of(self.x, scores).into_iter().filter(|column| *column != SortBy::Cell).collect()
    }

    /// Leaves a column out, or shows it again. Rows are no longer sorted by one that is not there.
    pub(crate) fn switch(&mut self, column: SortBy) {
        if let Some(at) = self.hidden.iter().position(|hidden| *hidden == column) {
            self.hidden.remove(at);
            return;
        }
        self.hidden.push(column);
        if self.sort == Some(column) {
            self.sort = None;
        }
    }

    /// The filter that holds now: what is being typed, or was.
    pub(crate) fn filter(&self) -> &str {
        self.typing.as_ref().map_or(&self.kept, |line| line.text())
    }
}

impl SortBy {
    /// What it shows, for a person.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Cell => "cell".into(),
            Self::State => "state".into(),
            Self::Front => "on the Pareto front".into(),
            Self::Zeros => "zeros".into(),
            Self::Bits => "bits per weight".into(),
            Self::Size => "size of the model".into(),
            Self::Score(score) => score.name.into(),
            Self::Change(score) => format!("{}: change from the base", score.name),
            Self::Seconds => "seconds".into(),
        }
    }

    /// Its name in files.
    pub(crate) fn id(self) -> String {
        match self {
            Self::Cell => "cell".into(),
            Self::State => "state".into(),
            Self::Front => "front".into(),
            Self::Zeros => "zeros".into(),
            Self::Bits => "bits".into(),
            Self::Size => "size".into(),
            Self::Score(score) => score.id.into(),
            Self::Change(score) => format!("{}_change", score.id),
            Self::Seconds => "seconds".into(),
        }
    }

    /// The columns from left to right, given what the x axis shows and which scores have one.
    pub(crate) fn of(x: XQuantity, scores: &[&'static Score]) -> Vec<Self> {
        let has_column = |column: &Self| match column {
            Self::Score(score) | Self::Change(score) => scores.contains(score),
            _ => true,
        };
        Self::all(x).into_iter().filter(has_column).collect()
    }

    /// Every column that there may be.
    pub(crate) fn all(x: XQuantity) -> Vec<Self> {
        let mut columns = vec![Self::Cell, Self::State];
        if x.is_room() {
            columns.push(Self::Front);
        }
        columns.extend([Self::Zeros, Self::Bits, Self::Size]);
        for score in scores_on(Subject::Corpus) {
            columns.push(Self::Score(score));
            if !score.compares() {
                columns.push(Self::Change(score));
            }
        }
        columns.extend(scores_on(Subject::Task).map(Self::Score));
        columns.push(Self::Seconds);
        columns
    }
}

impl Default for ChartedScore {
    fn default() -> Self {
        headline_scores(Subject::Task).next().map_or(Self::All, Self::One)
    }
}

impl ChartedScore {
    /// Every choice there is.
    pub(crate) fn every() -> Vec<Self> {
        scores_on(Subject::Task).map(Self::One).chain([Self::All]).collect()
    }

    /// Its name in files.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::One(score) => score.id,
            Self::All => "all",
        }
    }

    /// What is charted of these scores of tasks. One that is not among them gives way to the one that is told first.
    pub(crate) fn shown(self, scores: &[&'static Score]) -> Vec<&'static Score> {
        match self {
            Self::One(score) if scores.contains(&score) => vec![score],
            Self::One(_) => {
                scores.iter().find(|score| score.headline).or(scores.first()).copied().into_iter().collect()
            }
            Self::All => scores.to_vec(),
        }
    }

    /// What is charted after this: each of these scores in turn, then all.
    #[must_use]
    pub(crate) fn next(self, scores: &[&'static Score]) -> Self {
        let next = match (self, self.shown(scores).first()) {
            (Self::One(_), Some(shown)) => scores.iter().skip_while(|known| *known != shown).nth(1),
            _ => scores.first(),
        };
        next.map_or(Self::All, |score| Self::One(score))
    }
}
