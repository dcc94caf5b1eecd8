//! Questions with choices: how likely a model finds each, from the final states of the pass that the windows go through.
//! Nothing is generated. Sequences are cut into a trunk, which all choices of a question begin with, and branches, so
//! that what they share is computed once.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::Tensor;
use tokenizers::Tokenizer;

use super::Reporter;
use super::assignment::Assignment;
use super::cell::load_heads;
use super::costs::Work;
use super::evaluate;
use super::event::Phase;
use super::finding::{Finding, Findings};
use super::place::Place;
use super::stream::HiddenStates;
use super::study::Study;
use crate::data::{ChoiceRecord, Encoder};
use crate::error::{Error, Result};
use crate::interrupt::GoOn;
use crate::kernels::scratch;
use crate::model::Tree;
use crate::number::NamedNumbers;
use crate::results::{Answer, ChoiceLikelihood, Measurement, Seconds};
use crate::scores::choice::{ChoiceOutcome, most_likely};
use crate::scores::likelihood::{TokenLikelihood, token_likelihoods};
use crate::scores::{measure_choices, score_choices};

/// A task with choices, tokenised.
#[derive(Debug)]
pub(super) struct PreparedChoices {
    pub name: String,
    pub records: Vec<ChoiceRecord>,
    /// What goes through the blocks, a tree for each record.
    pub trees: Vec<Tree<Vec<u32>>>,
    /// Where the continuation of every choice of every record is read off.
    pub requests: Vec<Vec<Request>>,
    /// Records whose context was cut at its beginning, since the model has positions for no more.
    pub cut: usize,
}

/// A continuation, and how many tokens stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub context: usize,
    pub continuation: Vec<u32>,
}

impl PreparedChoices {
    /// Tokenises records for a model of so many positions; `start` is what stands for an empty context. `go_on` is asked
    /// before each.
    pub fn new(
        (name, records): (String, Vec<ChoiceRecord>),
        tokenizer: &Tokenizer,
        (positions, start): (usize, Option<u32>),
        go_on: &mut GoOn<'_>,
    ) -> Result<Self> {
        let pairs = Pairs::new(tokenizer, positions, start)?;
        let mut prepared = Self { name, records, trees: Vec::new(), requests: Vec::new(), cut: 0 };
        for record in &prepared.records {
            go_on()?;
            let (mut sequences, mut requests, mut is_cut) = (Vec::new(), Vec::new(), false);
            for (context, continuation) in record.requests() {
                let (context, continuation, cut) = pairs.tokens(&context, &continuation)?;
                is_cut |= cut;
                requests.push(Request { context: context.len(), continuation: continuation.clone() });
                let mut sequence = [context, continuation].concat();
                // Nothing is asked of what follows the last token.
                sequence.pop();
                sequences.push(sequence);
            }
            prepared.trees.push(tree(&sequences));
            prepared.requests.push(requests);
            prepared.cut += usize::from(is_cut);
        }
        Ok(prepared)
    }

    /// What to say of records that a model has not positions enough for.
    pub fn warning(&self, positions: usize) -> Option<String> {
        (self.cut > 0).then(|| {
            format!(
                "task {}: of {} of {} records the beginning is not read: the model was made for {positions} positions",
                self.name,
                self.cut,
                self.records.len()
            )
        })
    }

    /// Rows of logits that are looked at.
    pub fn scored_rows(&self) -> usize {
        (0..self.trees.len()).map(|record| self.asked(record).len()).sum()
    }

    /// The rows of a record's tree that are looked at, with the tokens that are asked of each: place of the choice among
    /// the record's, and token.
    fn asked(&self, record: usize) -> BTreeMap<usize, Vec<(usize, u32)>> {
        let shape = self.trees[record].shape();
        let mut asked: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
        let mut branch = shape.trunk;
        for (choice, request) in self.requests[record].iter().enumerate() {
            for (position, &token) in (request.context - 1..).zip(&request.continuation) {
                let row = if position < shape.trunk { position } else { branch + position - shape.trunk };
                asked.entry(row).or_default().push((choice, token));
            }
            branch += shape.branches.get(choice).copied().unwrap_or(0);
        }
        asked
    }
}

/// Sequences as a trunk, which is what all begin with, and a branch for each.
fn tree(sequences: &[Vec<u32>]) -> Tree<Vec<u32>> {
    let Some((first, others)) = sequences.split_first() else { return Tree::alone(Vec::new()) };
    let same = |other: &Vec<u32>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    let shared = others.iter().map(same).min().unwrap_or(first.len());
    let branches: Vec<Vec<u32>> = sequences.iter().map(|s| s[shared..].to_vec()).collect();
    let trunk = first[..shared].to_vec();
    if branches.iter().all(Vec::is_empty) { Tree::alone(trunk) } else { Tree { trunk, branches } }
}

/// Tokenises pairs of a context and its continuation as lm-evaluation-harness does.
struct Pairs<'a> {
    encoder: Encoder<'a>,
    /// Special tokens that the tokenizer puts before a text.
    before: Vec<u32>,
    start: Option<u32>,
    positions: usize,
}

impl<'a> Pairs<'a> {
    fn new(tokenizer: &'a Tokenizer, positions: usize, start: Option<u32>) -> Result<Self> {
        let encoder = Encoder::new(tokenizer)?;
        let (plain, whole) = (encoder.encode_plain("a")?, encoder.encode("a")?);
        let at = whole.windows(plain.len().max(1)).position(|window| window == plain).unwrap_or(0);
        Ok(Self { encoder, before: whole[..at].to_vec(), start, positions })
    }

    /// Tokens of context and continuation, written together and split where the tokens of the context alone end; and
    /// whether the context was cut.
    fn tokens(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>, bool)> {
        let with_specials = |text: &str| -> Result<Vec<u32>> {
            Ok([self.before.clone(), self.encoder.encode_plain(text)?].concat())
        };
        let mut before = with_specials(context)?;
        let mut behind = if before.is_empty() {
            let none = || {
                Error::mistake("a question has no context, and the tokenizer no token that stands for none")
            };
            before = vec![self.start.ok_or_else(none)?];
            self.encoder.encode_plain(continuation)?
        } else {
            let whole = with_specials(&format!("{context}{continuation}"))?;
            whole.get(before.len()..).unwrap_or_default().to_vec()
        };
        if behind.is_empty() {
            // Its letters joined the context's last token: it is scored as it stands alone.
            behind = self.encoder.encode_plain(continuation)?;
        }
        // The last token is predicted, but not read. One token at least is read before the continuation.
        let room = self.positions + 1;
        behind.drain(..behind.len().saturating_sub(room - 1));
        let over = (before.len() + behind.len()).saturating_sub(room);
        before.drain(..over);
        Ok((before, behind, over > 0))
    }
}

/// Scores the records of all tasks with choices by the final states of a model, and tells what it finds of them. Time is
/// added to `seconds`.
///
/// # Errors
/// [`Error::Cancelled`]; anything that fails.
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

/// What a model makes of some records.
fn answers(
    task: &PreparedChoices,
    records: Range<usize>,
    states_of: impl Fn(usize) -> Result<Tensor>,
    logits_of: impl Fn(&[Tensor]) -> Result<crate::model::Activations>,
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
    let said = match outcome.last_word {
        // What greedy decoding says instead is not known.
        Some(false) => String::new(),
        _ => texts[most_likely(log_likelihoods.iter().copied())].clone(),
    };
    let choice = |(text, (log_likelihood, is_greedy)): (&String, &(f64, bool))| ChoiceLikelihood {
        text: text.clone(),
        log_likelihood: *log_likelihood,
        is_greedy: *is_greedy,
    };
    Answer {
        task: task.name.clone(),
        record,
        prompt: asked.prompt().to_owned(),
        references: vec![texts[asked.gold].clone()],
        text: said,
        tokens: Vec::new(),
        pieces: Vec::new(),
        disagreement_bits: Vec::new(),
        choices: texts.iter().zip(found).map(choice).collect(),
        scores: score_choices(&outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_share_what_they_begin_with() {
        let made = tree(&[vec![1, 2, 3, 4], vec![1, 2, 5], vec![1, 2]]);
        assert_eq!(made, Tree { trunk: vec![1, 2], branches: vec![vec![3, 4], vec![5], vec![]] });
        assert_eq!(tree(&[vec![1, 2]]), Tree::alone(vec![1, 2]));
        assert_eq!(tree(&[vec![1, 2], vec![1, 2]]), Tree::alone(vec![1, 2]));
    }

    #[test]
    fn every_token_is_asked_of_the_row_before_it() {
        let request =
            |context, continuation: &[u32]| Request { context, continuation: continuation.to_vec() };
        let task = PreparedChoices {
            name: "t".into(),
            records: Vec::new(),
            trees: vec![Tree { trunk: vec![1, 2], branches: vec![vec![3, 4], vec![], vec![3]] }],
            // The third context has a token more than the others.
            requests: vec![vec![request(2, &[3, 4, 5]), request(2, &[9]), request(3, &[6])]],
            cut: 0,
        };
        let asked = task.asked(0);
        let expected = [(1, vec![(0, 3), (1, 9)]), (2, vec![(0, 4)]), (3, vec![(0, 5)]), (4, vec![(2, 6)])];
        assert_eq!(asked, expected.into_iter().collect());
        assert_eq!(task.scored_rows(), 4);
    }
}
