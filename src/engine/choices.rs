//! Questions with choices: how likely a model finds each, from the final states of the pass that the windows go through.
//! Nothing is generated.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::Tensor;

use super::Reporter;
use super::assignment::Assignment;
use super::choice_requests::PreparedChoices;
use super::costs::Work;
use super::evaluate;
use super::event::Phase;
use super::finding::{Finding, Findings};
use super::measure::load_heads;
use super::place::Place;
use super::stream::HiddenStates;
use super::study::Study;
use crate::error::Result;
use crate::kernels::scratch;
use crate::model::Activations;
use crate::number::NamedNumbers;
use crate::results::{Answer, ChoiceLikelihood, Measurement, Seconds};
use crate::scores::choice::most_likely;
use crate::scores::choice_outcome::ChoiceOutcome;
use crate::scores::likelihood::{TokenLikelihood, token_likelihoods};
use crate::scores::{measure_choices, score_choices};

/// Scores the records of all tasks with choices by the final states of a model, and tells what it finds of them. Time is
/// added to `seconds`.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled); anything that fails.
pub(super) fn score(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    (states, seconds): (&HiddenStates, &mut Seconds),
    findings: &mut Findings<'_>,
) -> Result<Vec<Measurement>> {
    if study.choices.is_empty() {
        return Ok(Vec::new());
    }
    let started = reporter.clock();
    let heads = load_heads(study, place, assignment.cell.as_ref(), None)?;
    let total: usize = study.choices.iter().map(|task| task.records.len()).sum();
    reporter.phase(assignment.id.as_deref(), Phase::Evaluate, total as u64, "questions");
    let rows = 2 * evaluate::chunk(place.device.is_cpu(), heads.vocabulary()?);
    let mut measurements = Vec::new();
    // Behind the windows of all corpora.
    let mut first = study.sizes.evaluation_windows;
    let mut done = 0;
    for task in &study.choices {
        let mut scores: Vec<NamedNumbers> = Vec::with_capacity(task.records.len());
        for records in groups(task, rows) {
            reporter.check()?;
            let before = reporter.clock();
            let logits = |parts: &[Tensor]| heads.logits(parts, &place.device);
            let answers = answers(task, records.clone(), |record| states.sequence(first + record), logits)?;
            done += answers.len() as u64;
            let share = answers.len() as f64 / total.max(1) as f64;
            let work = study.sizes.choice_head() * share;
            reporter.tracker.did(Work::Head, work, reporter.clock() - before);
            reporter.tracker.step(done);
            scores.extend(answers.iter().map(|answer| answer.scores.clone()));
            findings(Finding::Answers { answers })?;
        }
        measurements.extend(measure_choices(&task.name, &scores, study.spec.seed));
        first += task.records.len();
    }
    scratch::release();
    seconds.evaluate += reporter.clock() - started;
    Ok(measurements)
}

/// Records whose rows of logits live at the same time: some, of at most so many rows, and one at least.
fn groups(task: &PreparedChoices, most: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut rows = 0;
    for record in 0..task.records.len() {
        let more = task.asked(record).len();
        match groups.last_mut() {
            Some(group) if rows + more <= most => group.end = record + 1,
            _ => {
                groups.push(record..record + 1);
                rows = 0;
            }
        }
        rows += more;
    }
    groups
}

/// The answers of a model to some records.
fn answers(
    task: &PreparedChoices,
    records: Range<usize>,
    states_of: impl Fn(usize) -> Result<Tensor>,
    logits_of: impl Fn(&[Tensor]) -> Result<Activations>,
) -> Result<Vec<Answer>> {
    let (mut parts, mut asked, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for record in records.clone() {
        let states = states_of(record)?;
        let of_record = task.asked(record);
        let rows: Vec<u32> = of_record.keys().map(|row| *row as u32).collect();
        let rows = Tensor::from_slice(&rows, rows.len(), states.device())?;
        parts.push(states.index_select(&rows, 0)?);
        for tokens in of_record.into_values() {
            asked.push(tokens.iter().map(|(_, token)| *token).collect());
            owners.push(tokens.into_iter().map(|(choice, _)| (record, choice)).collect::<Vec<_>>());
        }
    }
    let logits = logits_of(&[Tensor::cat(&parts, 0)?])?;
    let mut found: BTreeMap<(usize, usize), Vec<TokenLikelihood>> = BTreeMap::new();
    for (owners, likelihoods) in owners.into_iter().zip(token_likelihoods(&logits, &asked)?) {
        for (owner, likelihood) in owners.into_iter().zip(likelihoods) {
            found.entry(owner).or_default().push(likelihood);
        }
    }
    let of_record = |record: usize| {
        let choices = (0..task.requests[record].len()).map(|choice| {
            let tokens = found.remove(&(record, choice)).unwrap_or_default();
            (tokens.iter().map(|token| token.log).sum(), tokens.iter().all(|token| token.is_greedy))
        });
        answer(task, record, &choices.collect::<Vec<_>>())
    };
    Ok(records.map(of_record).collect())
}

/// A record's answer: of every choice its log-likelihood, and whether greedy decoding gives it.
fn answer(task: &PreparedChoices, record: usize, found: &[(f64, bool)]) -> Answer {
    let asked = &task.records[record];
    let texts = asked.choices();
    let log_likelihoods: Vec<f64> = found.iter().map(|(log, _)| *log).collect();
    let characters = asked.characters();
    let outcome = ChoiceOutcome {
        log_likelihoods: &log_likelihoods,
        characters: characters.as_deref(),
        gold: asked.gold,
        last_word: asked.is_last_word().then(|| found.first().is_some_and(|(_, greedy)| *greedy)),
    };
    // What greedy decoding says instead of a last word is not known, and a broken model says nothing.
    let said = if outcome.last_word == Some(false) || log_likelihoods.iter().any(|log| log.is_nan()) {
        String::new()
    } else {
        texts[most_likely(log_likelihoods.iter().copied())].clone()
    };
    let choice = |(text, (log_likelihood, is_greedy)): (&String, &(f64, bool))| ChoiceLikelihood {
        text: text.clone(),
        log_likelihood: *log_likelihood,
        is_greedy: *is_greedy,
    };
    Answer {
        task: task.name.clone(),
        record,
        prompt: asked.prompt(),
        references: vec![texts[asked.gold].clone()],
        text: said,
        tokens: Vec::new(),
        pieces: Vec::new(),
        disagreement_bits: Vec::new(),
        choices: texts.iter().zip(found).map(choice).collect(),
        scores: score_choices(&outcome),
    }
}
