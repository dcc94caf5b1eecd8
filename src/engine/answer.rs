//! Task answers: the whole pruned model is loaded from its checkpoints and asked.

use std::ops::Range;

use candle_core::Tensor;

use super::Reporter;
use super::assignment::Assignment;
use super::checkpointed::apply_checkpoint;
use super::costs::Work;
use super::disagreement::{self, Asked};
use super::event::Phase;
use super::finding::{AnswerDisagreement, Finding, Findings};
use super::measure::load_heads;
use super::place::Place;
use super::prompts::PreparedTask;
use super::study::Study;
use crate::error::{Error, Result};
use crate::kernels::scratch;
use crate::model::{Generator, LmHead};
use crate::number::NamedNumbers;
use crate::results::{Answer, Measurement};
use crate::scores::{measure_task, score_answer};
use crate::store::checkpoint::answers::{answer_states_path, read_rows, remove_rows, write_rows};

/// Batches whose answers are compared with the base together: each of its blocks is loaded once for so many.
const GROUP: usize = 8;

/// Has every task record answered by a cell (or the base) and scored. Records whose answers are known are not asked
/// again, whole batches at a time, so that a resumed run computes the very same. Time is added to `seconds`, also where
/// the work ends early.
///
/// # Errors
/// [`Error::Cancelled`], with the answers of every whole batch told; anything that fails.
pub(super) fn answer(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    seconds: &mut f64,
    findings: &mut Findings<'_>,
) -> Result<Vec<Measurement>> {
    if study.tasks.is_empty() {
        return Ok(Vec::new());
    }
    let started = reporter.clock();
    let scores = answer_tasks(study, place, assignment, reporter, findings);
    *seconds += reporter.clock() - started;
    scores
}

/// The answers of one model in the making.
struct Answering<'a> {
    study: &'a Study,
    place: &'a Place,
    assignment: &'a Assignment,
    /// Loaded when the first record has to be asked.
    generator: Option<Generator<'a>>,
    /// Whether what the prompts leave in the blocks is kept, for cells to be compared with.
    keep_prompts: bool,
    done: u64,
}

fn answer_tasks(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    findings: &mut Findings<'_>,
) -> Result<Vec<Measurement>> {
    let total: usize = study.tasks.iter().map(|t| t.records.len()).sum();
    reporter.phase(assignment.id.as_deref(), Phase::Answer, total as u64, "answers");
    let is_compared = assignment.cell.is_none() && assignment.has_cells;
    let mut answering = Answering {
        study,
        place,
        assignment,
        generator: None,
        keep_prompts: is_compared && disagreement::keeps_prompts(study, &assignment.base_folder),
        done: 0,
    };
    let mut scores = Vec::new();
    for (index, task) in study.tasks.iter().enumerate() {
        let batch = study.spec.compute.batch_prompts.max(1);
        let mut of_task: Vec<NamedNumbers> = Vec::with_capacity(task.records.len());
        for group in (0..task.records.len()).step_by(batch * GROUP) {
            let end = task.records.len().min(group + batch * GROUP);
            of_task.extend(answering.group(reporter, findings, index, group..end)?);
        }
        scores.extend(measure_task(&task.name, &of_task, study.spec.seed));
    }
    drop(answering);
    scratch::release();
    Ok(scores)
}

impl Answering<'_> {
    /// Answers the records of some batches, and compares the answers with the base if that is wanted.
    fn group(
        &mut self,
        reporter: &mut Reporter,
        findings: &mut Findings<'_>,
        task: usize,
        records: Range<usize>,
    ) -> Result<Vec<NamedNumbers>> {
        let (study, folder) = (self.study, &self.assignment.folder);
        let batch = study.spec.compute.batch_prompts.max(1);
        let (mut scores, mut waiting) = (Vec::new(), Vec::new());
        for first in records.clone().step_by(batch) {
            let records = first..records.end.min(first + batch);
            let stored: Vec<&Answer> = records.clone().filter_map(|r| self.known(task, r)).collect();
            let held = !self.compares() || stored.iter().all(|a| a.disagreement_bits.len() == a.tokens.len());
            let kept = if held { None } else { self.kept(task, &records, &stored)? };
            if stored.len() == records.len() && (held || kept.is_some()) {
                scores.extend(stored.iter().map(|a| score_answer(&a.text, &a.references, &a.scores)));
                waiting.extend(kept);
                let share = records.len() as f64 / study.sizes.prompts.max(1) as f64;
                reporter.tracker.skip(Work::Answer, study.sizes.answers() * share);
                if held && self.compares() {
                    reporter.tracker.skip(Work::Compare, study.sizes.compare() * share);
                    remove_rows(&answer_states_path(folder, task, first))?;
                }
            } else {
                reporter.boundary()?;
                let (answers, asked) = self.ask(reporter, task, records.clone())?;
                scores.extend(answers.iter().map(|answer| answer.scores.clone()));
                findings(Finding::Answers { answers })?;
                waiting.extend(asked);
            }
            self.done += records.len() as u64;
            reporter.tracker.step(self.done);
        }
        if !waiting.is_empty() {
            self.compare(reporter, findings, task, &waiting)?;
        }
        Ok(scores)
    }

    /// Whether answers are compared with the base.
    fn compares(&self) -> bool {
        self.assignment.cell.is_some() && self.study.spec.evaluation.disagreement
    }

    fn known(&self, task: usize, record: usize) -> Option<&Answer> {
        let name = &self.study.tasks[task].name;
        self.assignment.answers.iter().find(|a| a.task == *name && a.record == record)
    }

    /// Answers of an earlier run that were not compared with the base, with the states that it kept for that; `None`
    /// where they are not there.
    fn kept(&self, task: usize, records: &Range<usize>, stored: &[&Answer]) -> Result<Option<Asked>> {
        let path = answer_states_path(&self.assignment.folder, task, records.start);
        if stored.len() < records.len() {
            return Ok(None);
        }
        let Some(rows) = read_rows(&path)? else { return Ok(None) };
        let of = |answer: &&Answer| {
            rows.iter().find(|(name, _)| *name == answer.record.to_string()).map(|(_, states)| states.clone())
        };
        let states: Vec<Option<Tensor>> = stored.iter().map(of).collect();
        let fits = |(answer, states): (&&Answer, &Option<Tensor>)| {
            states.as_ref().map_or(0, |states| states.dim(0).unwrap_or(0)) == answer.tokens.len()
        };
        if !stored.iter().zip(&states).all(fits) {
            return Ok(None);
        }
        let tokens = stored.iter().map(|a| a.tokens.clone()).collect();
        Ok(Some(Asked { records: records.clone(), tokens, states }))
    }

    /// Asks a batch of records. The states of the answers are kept until they have been compared with the base.
    fn ask(
        &mut self,
        reporter: &mut Reporter,
        task: usize,
        records: Range<usize>,
    ) -> Result<(Vec<Answer>, Option<Asked>)> {
        let (study, assignment, keep_prompts) = (self.study, self.assignment, self.keep_prompts);
        let compares = self.compares();
        let generator = match &self.generator {
            Some(generator) => generator,
            None => self.generator.insert(load(study, self.place, assignment)?),
        };
        let prepared = &study.tasks[task];
        let started = reporter.clock();
        let said = generator.answer(
            &prepared.prompts[records.clone()],
            &prepared.limits[records.clone()],
            &mut |caches| {
                if keep_prompts {
                    disagreement::keep_prompts(study, assignment, task, &records, caches)
                } else {
                    Ok(())
                }
            },
            &mut || reporter.check(),
        )?;
        // The next prompts have other lengths, and need buffers of other sizes.
        scratch::release();
        let share = records.len() as f64 / study.sizes.prompts.max(1) as f64;
        let seconds = reporter.clock() - started;
        reporter.tracker.did(Work::Answer, study.sizes.answers() * share, seconds);

        let (mut tokens, mut states) = (Vec::new(), Vec::new());
        for said in said {
            tokens.push(said.tokens);
            states.push(said.states);
        }
        let answers = records
            .clone()
            .zip(&tokens)
            .map(|(record, tokens)| made(study, prepared, record, tokens))
            .collect::<Result<_>>()?;
        if !compares {
            return Ok((answers, None));
        }
        let rows: Vec<(String, Tensor)> = records
            .clone()
            .zip(&states)
            .filter_map(|(record, states)| Some((record.to_string(), states.clone()?)))
            .collect();
        write_rows(&answer_states_path(&assignment.folder, task, records.start), &rows)?;
        Ok((answers, Some(Asked { records, tokens, states })))
    }

    /// Compares answers with the base, and tells what comes of it.
    fn compare(
        &self,
        reporter: &mut Reporter,
        findings: &mut Findings<'_>,
        task: usize,
        group: &[Asked],
    ) -> Result<()> {
        let (study, place) = (self.study, self.place);
        let started = reporter.clock();
        let own = self.generator.as_ref().map(|generator| generator.head().clone());
        let heads = load_heads(study, place, self.assignment.cell.as_ref(), own)?;
        let base = &self.assignment.base_folder;
        let bits =
            disagreement::disagreements(study, place, base, task, group, &heads, &mut || reporter.check())?;
        let records = group.iter().flat_map(|asked| asked.records.clone());
        let found: Vec<AnswerDisagreement> = records
            .zip(bits.into_iter().flatten())
            .map(|(record, bits)| AnswerDisagreement { record, bits })
            .collect();
        let share = found.len() as f64 / study.sizes.prompts.max(1) as f64;
        let seconds = reporter.clock() - started;
        reporter.tracker.did(Work::Compare, study.sizes.compare() * share, seconds);
        findings(Finding::Disagreements { task: study.tasks[task].name.clone(), found })?;
        for asked in group {
            remove_rows(&answer_states_path(&self.assignment.folder, task, asked.records.start))?;
        }
        Ok(())
    }
}

/// Loads every block of the model, with the cell's checkpoints in place.
fn load<'a>(study: &'a Study, place: &Place, assignment: &'a Assignment) -> Result<Generator<'a>> {
    let model = assignment.model(study)?;
    let mut blocks = Vec::with_capacity(model.config.blocks);
    for index in (0..model.config.blocks).map(|block| model.config.number_in_files(block)) {
        let mut block = study.load_block_of(&model, index, &place.device)?;
        if assignment.cell.is_some() {
            apply_checkpoint(&mut block, study, place, &assignment.folder, index)?;
        }
        blocks.push(block);
    }
    let head = LmHead::load(&model, study.dtype, &place.device)?;
    let batch_tokens = study.spec.compute.batch_tokens;
    Ok(Generator::new(model, blocks, head, study.dtype, &place.device, batch_tokens))
}

/// An answer of these tokens, scored.
fn made(study: &Study, task: &PreparedTask, record: usize, tokens: &[u32]) -> Result<Answer> {
    let said = study
        .tokenizer
        .decode(tokens, true)
        .map_err(|e| Error::failure(format!("the tokenizer cannot decode an answer: {e}")))?;
    let text = said.trim().to_string();
    let asked = &task.records[record];
    let prompt = if asked.input.is_empty() {
        asked.instruction.clone()
    } else {
        format!("{}\n\n{}", asked.instruction, asked.input)
    };
    Ok(Answer {
        task: task.name.clone(),
        record,
        prompt,
        references: asked.references.clone(),
        scores: score_answer(&text, &asked.references, &NamedNumbers::default()),
        pieces: pieces(&study.tokenizer, tokens, &said)?,
        disagreement_bits: Vec::new(),
        choices: Vec::new(),
        text,
        tokens: tokens.to_vec(),
    })
}

/// The text of every token of `said`: what the text of all tokens up to it has in common with the whole, less what came
/// before. Put together they are `said`, whatever the tokenizer does where tokens meet.
fn pieces(tokenizer: &tokenizers::Tokenizer, tokens: &[u32], said: &str) -> Result<Vec<String>> {
    let mut pieces = Vec::with_capacity(tokens.len());
    let mut told = 0;
    for end in 1..=tokens.len() {
        let known = if end == tokens.len() {
            said.len()
        } else {
            let begun = tokenizer
                .decode(&tokens[..end], true)
                .map_err(|e| Error::failure(format!("the tokenizer cannot decode an answer: {e}")))?;
            let same = begun.chars().zip(said.chars()).take_while(|(a, b)| a == b);
            same.map(|(c, _)| c.len_utf8()).sum()
        };
        pieces.push(said[told..known.max(told)].to_string());
        told = told.max(known);
    }
    Ok(pieces)
}
