//! What a score is: what it is called, how to read it, how it is measured.

use super::choice_outcome::ChoiceOutcome;
use super::notation::Notation;
use super::text_windows::TextWindows;
use super::window::Window;
use crate::number::NamedNumbers;
use crate::results::{Estimate, Measurement};

/// A named number about a model. Everything that is to be known of it is asked of it; [`super::SCORES`] lists all.
#[derive(Debug)]
pub struct Score {
    /// Its name in reports and stores: `js_divergence`.
    pub id: &'static str,
    /// What columns of CSV files begin with.
    pub csv: &'static str,
    /// Its name at the beginning of a line: `JS divergence`.
    pub title: &'static str,
    /// Its name within a line and over a column: `JS`. A unit comes behind.
    pub name: &'static str,
    /// The same where room is short.
    pub short: &'static str,
    /// What its values are counted in; empty for shares and ratios.
    pub unit: &'static str,
    /// What it says of a model, in one sentence.
    pub about: &'static str,
    /// Which of two values is the better one.
    pub better: Better,
    /// The least and the greatest value there can be.
    pub range: [f64; 2],
    /// On which scale values lie apart, are drawn and are averaged over corpora.
    pub scale: Scale,
    /// How values are written.
    pub notation: Notation,
    /// The value of a model that is compared with itself; `None` where the score compares nothing.
    pub of_itself: Option<f64>,
    /// By how much model B differs from model A on a text, from what its windows showed of both: B less A, on
    /// [`Scale::Log`] the ratio B / A. `None` where windows do not tell, and of scores of tasks, whose records do.
    pub paired: Option<fn(&TextWindows, &TextWindows) -> Option<Estimate>>,
    /// Flips are counted by it, unless a score with a lower rank judges all records too.
    pub flips_rank: Option<u8>,
    /// It is one of the few that are told where there is room for few.
    pub headline: bool,
    /// Few people look at it. Where a table is too wide, its column is left out first.
    pub seldom: bool,
    /// Tables show its 95% interval behind the value: without it the value says little more than another column.
    pub interval_in_tables: bool,
    /// Numbers that come with every value.
    pub details: &'static [Detail],
    /// How it is measured.
    pub measure: Measure,
}

/// The direction in which values get better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The less the better, as with a perplexity.
    Lower,
    /// The more the better, as with an accuracy.
    Higher,
}

/// How far values lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// By their difference.
    Linear,
    /// By their ratio; values are above zero.
    Log,
}

/// A number that comes with a value.
#[derive(Debug, Clone, Copy)]
pub struct Detail {
    /// Its name among [`Measurement::details`].
    pub name: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
}

/// How a score is measured.
#[derive(Debug, Clone, Copy)]
pub enum Measure {
    /// On a corpus: from what every window showed.
    Windows(fn(&[Window]) -> Summary),
    /// On a task: each answer (the first text) against its references, averaged over the records.
    Answers {
        /// The score of one answer.
        score: fn(&str, &[String]) -> f64,
        /// Whether it says something where these answers are accepted.
        applies: fn(&[String]) -> bool,
        /// An answer is right (1) or wrong (0), and nothing between.
        right_or_wrong: bool,
    },
    /// On a task: records that the base gets right and the cell wrong, or the other way round.
    Flips,
    /// On a task with choices: the value of one record (`None` where the score does not apply to such records), and what
    /// the values of all, with the seed of a bootstrap, say together.
    Choices {
        /// The score of one record.
        score: fn(&ChoiceOutcome<'_>) -> Option<f64>,
        /// What is said of all.
        summary: fn(&[f64], u64) -> Summary,
        /// A record is right (1) or wrong (0), and nothing between.
        right_or_wrong: bool,
    },
}

/// What a score was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The text of a corpus.
    Corpus,
    /// The records of a task.
    Task,
}

/// What a measurement found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The value with its interval.
    pub estimate: Estimate,
    /// Numbers for [`Score::details`], in the same order.
    pub details: Vec<f64>,
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Score {}

/// A score is referred to by its id.
impl AsRef<str> for Score {
    fn as_ref(&self) -> &str {
        self.id
    }
}

impl Score {
    /// What it is measured on.
    pub fn subject(&self) -> Subject {
        match self.measure {
            Measure::Windows(_) => Subject::Corpus,
            Measure::Answers { .. } | Measure::Choices { .. } | Measure::Flips => Subject::Task,
        }
    }

    /// Whether it judges a record right or wrong, and nothing between.
    pub fn is_right_or_wrong(&self) -> bool {
        match self.measure {
            Measure::Answers { right_or_wrong, .. } | Measure::Choices { right_or_wrong, .. } => {
                right_or_wrong
            }
            Measure::Windows(_) | Measure::Flips => false,
        }
    }

    /// Whether it compares a cell with the base, so that the base itself has none.
    pub fn compares(&self) -> bool {
        self.of_itself.is_some()
    }

    /// Whether it is another score over the base's, so that it ranks models as that one does.
    pub fn is_ratio(&self) -> bool {
        self.compares() && self.scale == Scale::Log
    }

    /// The head of a column: its name with its unit.
    pub fn head(&self) -> String {
        with_unit(self.name, self.unit)
    }

    /// The same where room is short.
    pub fn short_head(&self) -> String {
        with_unit(self.short, self.unit)
    }

    /// A value as tables have it: `8.75`, `0.0531`, `62.5%`.
    pub fn in_table(&self, value: f64) -> String {
        self.notation.in_table(value)
    }

    /// Name and value within a line: `JS 0.0531 bits`.
    pub fn in_line(&self, value: f64) -> String {
        with_unit(&format!("{} {}", self.name, self.notation.in_line(value)), self.unit)
    }

    /// Where a value lies on the score's scale.
    pub fn on_scale(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.ln(),
        }
    }

    /// How much a value speaks against a model: greater is worse.
    pub fn damage(&self, value: f64) -> f64 {
        match self.better {
            Better::Lower => self.on_scale(value),
            Better::Higher => -self.on_scale(value),
        }
    }

    /// What was found out of a model on a data set; `n` windows or records were looked at.
    pub fn measurement(&self, data_set: &str, n: usize, found: Summary) -> Measurement {
        debug_assert_eq!(found.details.len(), self.details.len(), "{}", self.id);
        let Estimate { value, ci95 } = found.estimate;
        let details: NamedNumbers =
            self.details.iter().map(|detail| detail.name).zip(found.details).collect();
        Measurement { score: self.id.into(), data_set: data_set.into(), value, ci95, n, details }
    }
}

fn with_unit(text: &str, unit: &str) -> String {
    if unit.is_empty() { text.to_owned() } else { format!("{text} {unit}") }
}
