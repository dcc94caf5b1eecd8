//! Two models of a study side by side: every score with its paired difference, flips each way, and the records on which
//! they are furthest apart. Screen, command and JSON show this.

use std::collections::BTreeMap;

use serde::Serialize;

use super::flips::{Flips, SignTest, changed_answers};
use super::judges::judged;
use super::overlap::overlap_f;
use super::paired::{PairedDifference, is_more_than_noise, paired_bootstrap};
use super::registry::{SCORES, scores_on};
use super::score::{Scale, Score, Subject};
use super::text_windows::TextWindows;
use crate::number;
use crate::results::{Answer, DataSetName, Estimate, Metrics};

/// A p below this is more than noise.
const SIGNIFICANT: f64 = 0.05;
/// Records that are shown of all that differ.
const RECORDS: usize = 10;

/// What is known of one of the two models.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ComparedModel<'a> {
    /// Id of the cell, or `base`.
    pub name: &'a str,
    pub metrics: &'a Metrics,
    /// In the order of tasks and records.
    pub answers: &'a [Answer],
    /// What every window of every text showed, as far as it was kept.
    pub windows: &'a [TextWindows],
}

/// Model A against model B.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelComparison {
    pub a: String,
    pub b: String,
    /// What every window of the texts showed is known of both.
    pub windows_are_known: bool,
    /// Every score that both have, data set by data set.
    pub scores: Vec<ScoreDifference>,
    /// Every task that some score judges right or wrong, by each such score.
    pub flips: Vec<FlipsOfTask>,
    /// The records on which both are furthest apart, the furthest first.
    pub records: Vec<RecordDifference>,
}

/// How far two models are apart by one score on one data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ScoreDifference {
    /// Id of the score.
    pub score: String,
    pub data_set: String,
    #[serde(with = "number")]
    pub a: f64,
    #[serde(with = "number")]
    pub b: f64,
    /// B less A; of a perplexity the ratio B / A.
    pub difference: Option<Estimate>,
    pub is_ratio: bool,
    /// Share of the resamples in which the difference has the same sign; of texts it is not known.
    pub sign_holds: Option<f64>,
    /// How likely so uneven a difference is by chance: `McNemar`'s p where records are right or wrong, else that of the sign
    /// test over records; of texts it is not known.
    pub p: Option<f64>,
    /// The interval of the difference leaves out zero (of a ratio: one); where records are right or wrong, `McNemar`'s p is
    /// below 0.05.
    pub more_than_noise: bool,
}

/// Flips of a task by one score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FlipsOfTask {
    pub task: String,
    /// Id of the score that judges.
    pub score: String,
    pub records: usize,
    /// Right in A, wrong in B.
    pub right_to_wrong: usize,
    /// Wrong in A, right in B.
    pub wrong_to_right: usize,
    /// Share of the records that flipped either way.
    pub share: f64,
    /// Answered differently, right or wrong.
    pub changed: usize,
    pub mcnemar_p: f64,
}

/// A record on which two models differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecordDifference {
    pub task: String,
    /// Record number in the task file, from 0.
    pub record: usize,
    pub prompt: String,
    pub reference: String,
    pub a: String,
    pub b: String,
    /// `0 … 1`: of choices the Jensen-Shannon divergence in bits of their likelihoods, of answers the share of words that
    /// they do not share.
    pub distance: f64,
}

impl ModelComparison {
    /// Compares two models; bootstraps have this seed.
    pub fn between(a: &ComparedModel<'_>, b: &ComparedModel<'_>, seed: u64) -> Self {
        let pairs = paired_answers(a.answers, b.answers);
        // The ratio of perplexities to the base's says nothing that theirs to each other does not.
        let told = scores_on(Subject::Corpus).filter(|score| !score.is_ratio());
        let of_texts = told.flat_map(|score| text_differences(score, a, b));
        let mut scores: Vec<ScoreDifference> = of_texts.collect();
        let mut flips = Vec::new();
        for (task, (of_a, of_b)) in &pairs {
            for score in scores_on(Subject::Task) {
                scores.extend(task_difference(score, task, (a, of_a), (b, of_b), seed));
                flips.extend(task_flips(score, task, of_a, of_b));
            }
        }
        let mut records: Vec<RecordDifference> = pairs
            .values()
            .flat_map(|(of_a, of_b)| of_a.iter().zip(of_b).map(|(a, b)| record_difference(a, b)))
            .filter(|record| record.distance > 0.0)
            .collect();
        records.sort_by(|one, other| other.distance.total_cmp(&one.distance));
        records.truncate(RECORDS);
        let windows_are_known = !a.windows.is_empty() && !b.windows.is_empty();
        Self { a: a.name.to_owned(), b: b.name.to_owned(), windows_are_known, scores, flips, records }
    }

    /// The score of a difference.
    pub fn score(difference: &ScoreDifference) -> Option<&'static Score> {
        SCORES.iter().copied().find(|score| score.id == difference.score)
    }
}

/// The records that both models have answered, task by task in the order of the first model's answers.
type PairedAnswers<'a> = BTreeMap<&'a str, (Vec<&'a Answer>, Vec<&'a Answer>)>;

fn paired_answers<'a>(a: &'a [Answer], b: &'a [Answer]) -> PairedAnswers<'a> {
    let of_b: BTreeMap<(&str, usize), &Answer> = b.iter().map(|x| ((x.task.as_str(), x.record), x)).collect();
    let mut pairs: PairedAnswers<'_> = BTreeMap::new();
    for one in a {
        if let Some(other) = of_b.get(&(one.task.as_str(), one.record)) {
            let (of_a, of_b) = pairs.entry(&one.task).or_default();
            of_a.push(one);
            of_b.push(other);
        }
    }
    pairs
}

/// A score of texts, on every text that both models were measured on.
fn text_differences(
    score: &'static Score,
    a: &ComparedModel<'_>,
    b: &ComparedModel<'_>,
) -> Vec<ScoreDifference> {
    let mut found = Vec::new();
    for data_set in super::data_sets([a.metrics, b.metrics], Subject::Corpus) {
        let value = |model: &ComparedModel<'_>| {
            let measured = model.metrics.find(score, &data_set).map(|found| found.value);
            measured.or(score.of_itself.filter(|_| model.name == super::BASE))
        };
        let (Some(of_a), Some(of_b)) = (value(a), value(b)) else { continue };
        let is_ratio = score.scale == Scale::Log;
        let difference = text_difference(score, &data_set, a, b);
        found.push(ScoreDifference {
            score: score.id.to_owned(),
            data_set: data_set.to_string(),
            a: of_a,
            b: of_b,
            more_than_noise: difference.is_some_and(|found| differs(&found, is_ratio)),
            difference,
            is_ratio,
            sign_holds: None,
            p: None,
        });
    }
    found
}

/// The difference over windows, where they were kept of both models and the score is told by them.
fn text_difference(
    score: &Score,
    data_set: &DataSetName,
    a: &ComparedModel<'_>,
    b: &ComparedModel<'_>,
) -> Option<Estimate> {
    score.paired?(windows_of(a, data_set)?, windows_of(b, data_set)?)
}

fn windows_of<'a>(model: &ComparedModel<'a>, data_set: &DataSetName) -> Option<&'a TextWindows> {
    model.windows.iter().filter(|text| text.corpus == data_set.name).nth(data_set.nth)
}

fn task_difference(
    score: &'static Score,
    task: &str,
    (a, of_a): (&ComparedModel<'_>, &[&Answer]),
    (b, of_b): (&ComparedModel<'_>, &[&Answer]),
    seed: u64,
) -> Option<ScoreDifference> {
    let values = |answers: &[&Answer]| -> Option<Vec<f64>> {
        answers.iter().map(|answer| answer.scores.get(score.id).map(|value| score.on_scale(value))).collect()
    };
    let (Some(before), Some(after)) = (values(of_a), values(of_b)) else { return None };
    let PairedDifference { difference, sign_holds, .. } = paired_bootstrap(&before, &after, seed)?;
    let is_ratio = score.scale == Scale::Log;
    let shown = if is_ratio {
        Estimate { value: difference.value.exp(), ci95: difference.ci95.map(f64::exp) }
    } else {
        difference
    };
    let flips = task_flips(score, task, of_a, of_b);
    let sign = SignTest::between(&before, &after)?;
    let value = |model: &ComparedModel<'_>| {
        let of_task = |found: &&crate::results::Measurement| found.data_set == task;
        model.metrics.of(score).find(of_task).map(|found| found.value)
    };
    Some(ScoreDifference {
        score: score.id.to_owned(),
        data_set: task.to_owned(),
        a: value(a)?,
        b: value(b)?,
        difference: Some(shown),
        is_ratio,
        sign_holds,
        p: Some(flips.as_ref().map_or_else(|| sign.p_two_sided(), |flips| flips.mcnemar_p)),
        // Of few flips the bootstrap says too much.
        more_than_noise: flips
            .as_ref()
            .map_or_else(|| is_more_than_noise(&difference), |flips| flips.mcnemar_p < SIGNIFICANT),
    })
}

fn differs(difference: &Estimate, is_ratio: bool) -> bool {
    let logs = Estimate { value: difference.value.ln(), ci95: difference.ci95.map(f64::ln) };
    is_more_than_noise(if is_ratio { &logs } else { difference })
}

fn task_flips(score: &Score, task: &str, a: &[&Answer], b: &[&Answer]) -> Option<FlipsOfTask> {
    if !score.is_right_or_wrong() {
        return None;
    }
    let flips = Flips::between(&judged(score, a)?, &judged(score, b)?).filter(|flips| flips.records > 0)?;
    let texts = |answers: &[&Answer]| -> Vec<String> { answers.iter().map(|a| a.text.clone()).collect() };
    Some(FlipsOfTask {
        task: task.to_owned(),
        score: score.id.to_owned(),
        records: flips.records,
        right_to_wrong: flips.right_to_wrong,
        wrong_to_right: flips.wrong_to_right,
        share: flips.share(),
        changed: changed_answers(&texts(a), &texts(b))?,
        mcnemar_p: flips.mcnemar_p(),
    })
}

fn record_difference(a: &Answer, b: &Answer) -> RecordDifference {
    let distance = divergence_of_choices(a, b).unwrap_or_else(|| {
        let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_lowercase).collect() };
        if a.text == b.text { 0.0 } else { 1.0 - overlap_f(&words(&a.text), &words(&b.text)) }
    });
    RecordDifference {
        task: a.task.clone(),
        record: a.record,
        prompt: a.prompt.clone(),
        reference: a.references.first().cloned().unwrap_or_default(),
        a: said(a),
        b: said(b),
        distance,
    }
}

/// What a model answered; of a last word that it would not say there is only its likelihood.
fn said(answer: &Answer) -> String {
    match (answer.text.is_empty(), answer.choices.as_slice()) {
        (true, [word]) => format!("another word than {} (p {:.3})", word.text, word.log_likelihood.exp()),
        _ => answer.text.clone(),
    }
}

/// Jensen-Shannon divergence in bits of how two models divide their belief among the choices of a record, as if there
/// were no others; of a single choice, between it and everything else. `None` where they did not have as many choices.
pub(crate) fn divergence_of_choices(a: &Answer, b: &Answer) -> Option<f64> {
    if a.choices.is_empty() || a.choices.len() != b.choices.len() {
        return None;
    }
    let shares = |answer: &Answer| -> Vec<f64> {
        let logs: Vec<f64> = answer.choices.iter().map(|choice| choice.log_likelihood).collect();
        if let [log] = logs[..] {
            return vec![log.exp(), 1.0 - log.exp()];
        }
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logs.iter().map(|log| (log - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    };
    let term = |p: f64, m: f64| if p > 0.0 { p * (p / m).log2() } else { 0.0 };
    let pairs = shares(a).into_iter().zip(shares(b));
    let bits: f64 = pairs.map(|(p, q)| 0.5 * (term(p, p.midpoint(q)) + term(q, p.midpoint(q)))).sum();
    Some(bits.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "scores of 0 and 1 are exact")]

    use super::super::choice::ACCURACY;
    use super::super::divergence::JS_DIVERGENCE;
    use super::super::perplexity::PERPLEXITY;
    use super::*;
    use crate::number::NamedNumbers;
    use crate::results::{ChoiceLikelihood, Measurement};

    fn answer(record: usize, logs: [f64; 2], right: bool) -> Answer {
        let choice = |text: &str, log_likelihood| ChoiceLikelihood {
            text: text.into(),
            log_likelihood,
            is_greedy: false,
        };
        let choices = vec![choice("yes", logs[0]), choice("no", logs[1])];
        Answer {
            task: "t".into(),
            record,
            prompt: "?".into(),
            references: vec!["yes".into()],
            text: if logs[0] >= logs[1] { "yes" } else { "no" }.into(),
            tokens: Vec::new(),
            pieces: Vec::new(),
            disagreement_bits: Vec::new(),
            choices,
            scores: [(ACCURACY.id, f64::from(u8::from(right)))].into_iter().collect(),
        }
    }

    fn metrics(values: &[(&Score, &str, f64)]) -> Metrics {
        let value = |(score, data_set, value): &(&Score, &str, f64)| Measurement {
            score: score.id.into(),
            data_set: (*data_set).into(),
            value: *value,
            ci95: [*value; 2],
            n: 3,
            details: NamedNumbers::default(),
        };
        Metrics { values: values.iter().map(value).collect() }
    }

    #[test]
    fn differences_are_paired_and_flips_counted_each_way() {
        let a: Vec<Answer> = (0..40).map(|i| answer(i, [-1.0, -2.0], true)).collect();
        let b: Vec<Answer> = (0..40)
            .map(|i| if i % 2 == 0 { answer(i, [-2.0, -1.0], false) } else { answer(i, [-1.0, -2.0], true) })
            .collect();
        let (of_a, of_b) = (
            metrics(&[(&PERPLEXITY, "text", 10.0), (&ACCURACY, "t", 1.0)]),
            metrics(&[(&PERPLEXITY, "text", 20.0), (&JS_DIVERGENCE, "text", 0.1), (&ACCURACY, "t", 0.5)]),
        );
        let windows = |nll: [f64; 3], js: Option<f64>| {
            vec![TextWindows {
                corpus: "text".into(),
                nll: nll.to_vec(),
                divergences: js.map(|js| [vec![js; 3], vec![2.0 * js; 3]]),
            }]
        };
        let (windows_a, windows_b) = (windows([2.0, 2.5, 3.0], None), windows([2.7, 3.2, 3.7], Some(0.2)));
        let model = |name, metrics, answers, windows| ComparedModel { name, metrics, answers, windows };
        let found = ModelComparison::between(
            &model("base", &of_a, &a, &windows_a),
            &model("wanda-0.5", &of_b, &b, &windows_b),
            7,
        );
        let of = |score: &Score| found.scores.iter().find(|row| row.score == score.id).unwrap();
        let perplexity = of(&PERPLEXITY);
        assert!(perplexity.is_ratio && perplexity.more_than_noise, "every window is worse by 0.7 nats");
        assert!((perplexity.difference.unwrap().value - 0.7f64.exp()).abs() < 1e-12);
        let js = of(&JS_DIVERGENCE);
        assert_eq!((js.a, js.b), (0.0, 0.1));
        assert!((js.difference.unwrap().value - 0.2 / std::f64::consts::LN_2).abs() < 1e-12);
        let accuracy = of(&ACCURACY);
        assert_eq!((accuracy.difference.unwrap().value, accuracy.sign_holds), (-0.5, Some(1.0)));
        assert!(accuracy.more_than_noise);
        let flips = &found.flips[0];
        assert_eq!(
            (flips.right_to_wrong, flips.wrong_to_right, flips.changed, flips.records),
            (20, 0, 20, 40)
        );
        assert!((flips.mcnemar_p - 2f64.powi(-19)).abs() < 1e-18);
        assert_eq!(found.records.len(), RECORDS);
        assert!(found.records.iter().all(|record| record.record % 2 == 0 && record.b == "no"));
    }

    #[test]
    fn a_record_is_as_far_apart_as_the_belief_in_its_choices() {
        let far = divergence_of_choices(&answer(0, [0.0, -90.0], true), &answer(0, [-90.0, 0.0], false));
        let far = far.unwrap();
        assert!((far - 1.0).abs() < 1e-12);
        let same = answer(0, [-3.0, -4.0], true);
        assert_eq!(divergence_of_choices(&same, &answer(0, [-13.0, -14.0], true)), Some(0.0));
        let (mut one, mut other) =
            (answer(0, [0.5f64.ln(), 0.0], true), answer(0, [0.25f64.ln(), 0.0], true));
        one.choices.truncate(1);
        other.choices.truncate(1);
        assert!((divergence_of_choices(&one, &other).unwrap() - 0.048_794).abs() < 1e-5);
        assert_eq!(divergence_of_choices(&one, &same), None);
    }
}
