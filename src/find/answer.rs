//! What a search has found out: as a sentence, and as data.

use serde::Serialize;

use super::bounded::BoundedFigure;

/// The edge, or what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct EdgeAnswer {
    /// Number of the study in its store, where it has begun.
    pub study: Option<i64>,
    /// The recipe without its level: `gptq,group=64`.
    pub recipe: String,
    /// The bound as it was given: `js<=0.05`.
    pub bound: String,
    /// Id of the score, or `size`.
    pub score: &'static str,
    /// The limit in the score's unit (bytes of a size); `None` where it is a share of a base that is not measured.
    pub limit: Option<f64>,
    /// Levels there are, the base not counted.
    pub levels: usize,
    /// Cells that were run for it; those that the study had already are not counted.
    pub cells_run: usize,
    /// Whether the edge is known to one level.
    pub complete: bool,
    /// The last level that holds, the least compression being the first. Of a bound that compressing meets, such as a size,
    /// the least compression that meets it.
    pub holds: Option<TriedLevel>,
    /// The first level that breaks the bound; of one that compressing meets, the greatest compression that does not.
    pub breaks: Option<TriedLevel>,
    /// Levels that hold although a lesser one breaks: where there are any, the bound has no single edge.
    pub out_of_order: Vec<TriedLevel>,
    /// Every level whose value is known, in the order in which it became known.
    pub tried: Vec<TriedLevel>,
    #[serde(skip)]
    pub figure: BoundedFigure,
    /// The bound is met by compressing rather than broken.
    #[serde(skip)]
    pub met_by_compressing: bool,
}

/// A level whose value is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TriedLevel {
    /// `41%`, `4bit`, `q4_k`; `base` is no compression.
    pub level: String,
    /// Id of its cell; `None` for the base.
    pub cell: Option<String>,
    /// What the bound looks at.
    #[serde(with = "crate::number")]
    pub value: f64,
    /// Whether it keeps the bound.
    pub holds: bool,
}

impl TriedLevel {
    fn is_base(&self) -> bool {
        self.cell.is_none()
    }
}

impl EdgeAnswer {
    /// The answer in a few sentences.
    pub(crate) fn sentence(&self) -> String {
        let edge = match (self.complete, self.met_by_compressing) {
            (false, _) => self.interval(),
            (true, false) => self.last_that_holds(),
            (true, true) => self.first_that_meets(),
        };
        format!("{edge}{} {}", self.disorder(), self.effort())
    }

    /// What is known while the edge is not: `The edge lies between 25% and 50%.`
    pub(crate) fn interval(&self) -> String {
        let name = |level: &Option<TriedLevel>| level.as_ref().map(|level| level.level.clone());
        match (name(&self.holds), name(&self.breaks)) {
            (Some(holds), Some(breaks)) => format!("The edge lies between {holds} and {breaks}."),
            (Some(holds), None) if self.met_by_compressing => {
                format!("The edge is at {holds} or at less compression.")
            }
            (Some(holds), None) => format!("The edge lies after {holds}."),
            (None, Some(breaks)) if self.met_by_compressing => {
                format!("If any level meets the bound, it compresses more than {breaks}.")
            }
            (None, Some(breaks)) => format!("The edge lies before {breaks}."),
            (None, None) => "Nothing is known of the edge.".into(),
        }
    }

    fn last_that_holds(&self) -> String {
        let Self { recipe, bound, .. } = self;
        match (&self.holds, &self.breaks) {
            (Some(holds), Some(breaks)) if holds.is_base() => {
                format!(
                    "{recipe} breaks {bound} at {}, its least level, already: {}.",
                    breaks.level,
                    self.value(breaks)
                )
            }
            (Some(holds), Some(breaks)) => format!(
                "{recipe} keeps {bound} up to {} ({}) and breaks it at {} ({}).",
                holds.level,
                self.value(holds),
                breaks.level,
                self.value(breaks)
            ),
            (Some(holds), None) => {
                format!(
                    "{recipe} keeps {bound} at every level, up to {} ({}).",
                    holds.level,
                    self.value(holds)
                )
            }
            (None, Some(breaks)) => {
                format!(
                    "The base itself breaks {bound}: {}. There is no edge among the levels of {recipe}.",
                    self.value(breaks)
                )
            }
            (None, None) => self.interval(),
        }
    }

    fn first_that_meets(&self) -> String {
        let Self { recipe, bound, .. } = self;
        match (&self.holds, &self.breaks) {
            (Some(holds), _) if holds.is_base() => {
                format!("The base itself meets {bound}: {}. Nothing has to be compressed.", self.value(holds))
            }
            (Some(holds), Some(breaks)) => {
                let less = if breaks.is_base() { "the base" } else { &breaks.level };
                format!(
                    "{recipe} meets {bound} from {} on ({}); {less} does not ({}).",
                    holds.level,
                    self.value(holds),
                    self.value(breaks)
                )
            }
            (None, Some(breaks)) => {
                format!(
                    "{recipe} meets {bound} at no level: at {}, its greatest, {}.",
                    breaks.level,
                    self.value(breaks)
                )
            }
            (_, None) => self.interval(),
        }
    }

    /// Levels that stand in no order.
    fn disorder(&self) -> String {
        let Some(breaks) = self.breaks.as_ref().filter(|_| !self.out_of_order.is_empty()) else {
            return String::new();
        };
        let levels: Vec<String> = self
            .out_of_order
            .iter()
            .map(|level| format!("{} ({})", level.level, self.value(level)))
            .collect();
        format!(" Yet {} holds, beyond {}: the bound has no single edge.", levels.join(", "), breaks.level)
    }

    fn effort(&self) -> String {
        let cells = if self.cells_run == 1 {
            "1 cell was run".into()
        } else {
            format!("{} cells were run", self.cells_run)
        };
        let cells_tried = self.tried.iter().filter(|level| !level.is_base()).count();
        match cells_tried.saturating_sub(self.cells_run) {
            0 => format!("{cells}."),
            known => format!("{cells}, {known} the study had already."),
        }
    }

    fn value(&self, level: &TriedLevel) -> String {
        self.figure.in_line(level.value)
    }
}
