//! What a bound can be on: every score of the registry, and the size of the model.

use crate::results::{DataSetName, Measurement, Metrics, ModelFootprint};
use crate::scores::stats::mean_over_tasks;
use crate::scores::{Better, Notation, SCORES, Scale, Score, Subject, data_sets};

/// What a model's size is called in bounds.
const SIZE: &str = "size";

/// A figure that can be bounded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BoundedScore {
    /// Its name in bounds and messages, and the others that are accepted. Case does not matter.
    pub names: Vec<String>,
    /// What is looked at.
    pub figure: BoundedFigure,
    /// Which of two values is the better one. A bound is on the other side.
    pub better: Better,
    /// The least and the greatest value there can be.
    pub range: [f64; 2],
    /// How values are written.
    pub values: BoundedValues,
}

/// What a bound looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundedFigure {
    /// A score.
    Score(&'static Score),
    /// What the whole model takes, in bytes.
    Size,
}

/// How the values of a bounded score are written, and what a percentage of it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundedValues {
    /// A number that the base has, too, such as F1 or a perplexity. A percentage is of the base's.
    OfEveryModel,
    /// A share that compares with the base, such as flips or agreement. A percentage is the share itself.
    ShareAgainstBase,
    /// A number that compares with the base, such as a divergence in bits. A percentage means nothing.
    NumberAgainstBase,
    /// Bytes, with a unit. A percentage is of the base's.
    Bytes,
}

/// Everything that a bound can be on, in the order of the registry.
pub(crate) fn bounded_scores() -> Vec<BoundedScore> {
    let size = BoundedScore {
        names: vec![SIZE.into()],
        figure: BoundedFigure::Size,
        better: Better::Lower,
        range: [0.0, f64::INFINITY],
        values: BoundedValues::Bytes,
    };
    SCORES.iter().map(|score| BoundedScore::of(score)).chain([size]).collect()
}

impl BoundedScore {
    fn of(score: &'static Score) -> Self {
        let is_share = matches!(score.notation, Notation::Fraction | Notation::Percent);
        Self {
            names: names(score),
            figure: BoundedFigure::Score(score),
            better: score.better,
            range: score.range,
            values: match (score.compares(), is_share) {
                (false, _) => BoundedValues::OfEveryModel,
                (true, true) => BoundedValues::ShareAgainstBase,
                (true, false) => BoundedValues::NumberAgainstBase,
            },
        }
    }

    /// The name that is shown.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// The names of a score that can be typed: as it is called on screen, in full and short, and its id. Those that are one
/// word come first.
fn names(score: &Score) -> Vec<String> {
    let is_word = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let mut names: Vec<String> = Vec::new();
    for name in [score.name, score.short, score.id].map(str::to_ascii_lowercase) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| !is_word(name));
    names
}

impl BoundedFigure {
    /// Its value for a model: of a score, the mean over all data sets that the base was measured on. `None` while one is
    /// missing. `base` is what was measured on the base, `whole` the size of the model.
    pub(crate) fn of_cell(
        self,
        metrics: &Metrics,
        base: &Metrics,
        whole: Option<ModelFootprint>,
    ) -> Option<f64> {
        let score = match self {
            Self::Score(score) => score,
            Self::Size => return whole.map(|whole| whole.size_bytes as f64),
        };
        match score.subject() {
            Subject::Corpus => mean_over_corpora(score, metrics, base),
            Subject::Task => {
                let (own, asked): (Vec<&Measurement>, Vec<&Measurement>) =
                    (metrics.of(score).collect(), base.of(score).collect());
                mean_over_tasks(&own, &asked).map(|mean| mean.value)
            }
        }
    }

    /// The same for the base. Against itself, a score that compares has a value without being measured.
    pub(crate) fn of_base(self, base: &Metrics, whole: Option<ModelFootprint>) -> Option<f64> {
        match self {
            Self::Score(Score { of_itself: Some(value), .. }) => Some(*value),
            _ => self.of_cell(base, base, whole),
        }
    }

    /// A value as it stands in a sentence: `JS 0.0531 bits`, `size 4.5 GB`.
    pub(crate) fn in_line(self, value: f64) -> String {
        match self {
            Self::Score(score) => score.in_line(value),
            Self::Size => format!("{SIZE} {}", crate::human::bytes(value as u64)),
        }
    }

    /// What it is called in JSON.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Score(score) => score.id,
            Self::Size => SIZE,
        }
    }
}

/// The mean over the base's corpora, on the scale of the score: of perplexities, whose scale is logarithmic, the
/// geometric mean.
fn mean_over_corpora(score: &Score, metrics: &Metrics, base: &Metrics) -> Option<f64> {
    let corpora = data_sets([base], Subject::Corpus);
    let value = |corpus: &DataSetName| metrics.find(score, corpus).map(|found| score.on_scale(found.value));
    let values: Vec<f64> = corpora.iter().map(value).collect::<Option<_>>()?;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    match (&values[..], score.scale) {
        ([], _) => None,
        // As it was measured, without the rounding of a logarithm there and back.
        ([_], _) => metrics.find(score, corpora.first()?).map(|found| found.value),
        (_, Scale::Linear) => Some(mean),
        (_, Scale::Log) => Some(mean.exp()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::NamedNumbers;
    use crate::scores::{F1, JS_DIVERGENCE, PERPLEXITY};

    fn measured(values: &[(&Score, &str, f64, usize)]) -> Metrics {
        let value = |(score, data_set, value, n): &(&Score, &str, f64, usize)| Measurement {
            score: score.id.into(),
            data_set: (*data_set).into(),
            value: *value,
            ci95: [*value; 2],
            n: *n,
            details: NamedNumbers::default(),
        };
        Metrics { values: values.iter().map(value).collect() }
    }

    fn of(score: &'static Score, cell: &Metrics, base: &Metrics) -> Option<f64> {
        BoundedFigure::Score(score).of_cell(cell, base, None)
    }

    #[test]
    fn every_score_has_a_name_that_can_be_typed_and_no_two_share_one() {
        let scores = bounded_scores();
        assert_eq!(scores.len(), SCORES.len() + 1);
        let mut seen = Vec::new();
        for score in &scores {
            assert!(!score.name().is_empty() && !score.name().contains(' '), "{}", score.name());
            for name in &score.names {
                assert!(!seen.contains(name), "{name}");
                seen.push(name.clone());
            }
            if let BoundedFigure::Score(known) = score.figure {
                assert!(score.names.contains(&known.id.to_owned()), "{}", known.id);
            }
        }
        for name in [
            "js",
            "kl",
            "perplexity",
            "ppl",
            "f1",
            "em",
            "acc",
            "acc_norm",
            "flips",
            "top-1",
            "dp rms",
            "size",
        ] {
            assert!(seen.contains(&name.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_value_is_the_mean_over_the_data_sets_of_the_base() {
        let base = measured(&[
            (&PERPLEXITY, "a", 4.0, 8),
            (&PERPLEXITY, "b", 9.0, 8),
            (&F1, "x", 0.9, 10),
            (&F1, "y", 0.5, 30),
        ]);
        let cell = measured(&[
            (&PERPLEXITY, "a", 4.0, 8),
            (&PERPLEXITY, "b", 16.0, 8),
            (&JS_DIVERGENCE, "a", 0.1, 8),
            (&JS_DIVERGENCE, "b", 0.3, 8),
            (&F1, "x", 0.8, 10),
            (&F1, "y", 0.4, 30),
        ]);
        let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-12;
        assert!(near(of(&JS_DIVERGENCE, &cell, &base), 0.2));
        assert!(near(of(&PERPLEXITY, &cell, &base), 8.0), "the geometric mean");
        assert!(near(of(&F1, &cell, &base), 0.5), "records count, not tasks");
        assert!(near(BoundedFigure::Score(&PERPLEXITY).of_base(&base, None), 6.0));
        assert_eq!(BoundedFigure::Score(&JS_DIVERGENCE).of_base(&base, None), Some(0.0));
        let mut partial = cell.clone();
        partial.values.retain(|value| value.data_set != "b" && value.data_set != "y");
        assert_eq!(of(&JS_DIVERGENCE, &partial, &base), None, "a corpus is missing");
        assert_eq!(of(&F1, &partial, &base), None, "a task is missing");
    }
}
