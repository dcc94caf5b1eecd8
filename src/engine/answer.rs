//! Task answers: the whole pruned model is loaded from its checkpoints and asked.

use std::ops::Range;

use candle_core::Tensor;

use super::Reporter;
use super::cell::apply_checkpoint;
use super::costs::Work;
use super::disagreement::{self, Asked};
use super::event::{Event, Phase};
use super::prompts::PreparedTask;
use super::session::Session;
use crate::error::{Error, Result};
use crate::kernels::scratch;
use crate::model::{Block, Generator, LmHead};
use crate::number::NamedNumbers;
use crate::results::{Answer, Measurement};
use crate::scores::{measure_task, score_answer};
use crate::store::checkpoint::answers::{answer_states_path, read_rows, remove_rows, write_rows};

/// Batches whose answers are compared with the base together: each of its blocks is loaded once for so many.
const GROUP: usize = 8;

/// Has every task record answered by a cell (or the base) and scored. Records that the store has answers of are not
/// asked again, whole batches at a time, so that a resumed run computes the very same. Time is added to `seconds`, also
/// where the work ends early.
///
/// # Errors
/// [`Error::Cancelled`], with the answers of every whole batch kept; anything that fails.
pub(super) fn answer(
    session: &Session,
    reporter: &mut Reporter,
    id: Option<&str>,
    seconds: &mut f64,
) -> Result<Vec<Measurement>> {
    if session.tasks.is_empty() {
        return Ok(Vec::new());
    }
    let started = reporter.clock();
    let scores = answer_tasks(session, reporter, id);
    *seconds += reporter.clock() - started;
    scores
}

/// The answers of one model in the making.
struct Answering<'a> {
    session: &'a Session,
    id: Option<&'a str>,
    known: Vec<Answer>,
    /// Loaded when the first record has to be asked.
    generator: Option<Generator<'a>>,
    /// Whether what the prompts leave in the blocks is kept, for cells to be compared with.
    keep_prompts: bool,
    done: u64,
}

fn answer_tasks(session: &Session, reporter: &mut Reporter, id: Option<&str>) -> Result<Vec<Measurement>> {
    let total: usize = session.tasks.iter().map(|t| t.records.len()).sum();
    reporter.phase(id, Phase::Answer, total as u64, "answers");
    let mut answering = Answering {
        session,
        id,
        known: session.store.answers(session.study, id)?,
        generator: None,
        keep_prompts: id.is_none() && !session.cells.is_empty() && disagreement::keeps_prompts(session),
        done: 0,
    };
    let mut scores = Vec::new();
    for (index, task) in session.tasks.iter().enumerate() {
        let batch = session.spec.compute.batch_prompts.max(1);
        let mut of_task: Vec<NamedNumbers> = Vec::with_capacity(task.records.len());
        for group in (0..task.records.len()).step_by(batch * GROUP) {
            let end = task.records.len().min(group + batch * GROUP);
            of_task.extend(answering.group(reporter, index, group..end)?);
        }
        scores.extend(measure_task(&task.name, &of_task, session.spec.seed));
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
        task: usize,
        records: Range<usize>,
    ) -> Result<Vec<NamedNumbers>> {
        let session = self.session;
        let batch = session.spec.compute.batch_prompts.max(1);
        let (mut scores, mut waiting) = (Vec::new(), Vec::new());
        for first in records.clone().step_by(batch) {
            let records = first..records.end.min(first + batch);
            let stored: Vec<&Answer> = records.clone().filter_map(|r| self.known(task, r)).collect();
            let held = !self.compares() || stored.iter().all(|a| a.disagreement_bits.len() == a.tokens.len());
            let kept = if held { None } else { self.kept(task, &records, &stored)? };
            if stored.len() == records.len() && (held || kept.is_some()) {
                scores.extend(stored.iter().map(|a| score_answer(&a.text, &a.references, &a.scores)));
                waiting.extend(kept);
                let share = records.len() as f64 / session.sizes.prompts.max(1) as f64;
                reporter.tracker.skip(Work::Answer, session.sizes.answers() * share);
                if held && self.compares() {
                    reporter.tracker.skip(Work::Compare, session.sizes.compare() * share);
                    remove_rows(&answer_states_path(&session.checkpoints(self.id), task, first))?;
                }
            } else {
                reporter.boundary()?;
                let (answers, asked) = self.ask(reporter, task, records.clone())?;
                session.store.put_answers(session.study, self.id, &answers)?;
                for answer in answers {
                    scores.push(answer.scores.clone());
                    reporter.event(Event::Answer { cell: self.id.map(str::to_string), answer });
                }
                waiting.extend(asked);
            }
            self.done += records.len() as u64;
            reporter.tracker.step(self.done);
        }
        if !waiting.is_empty() {
            self.compare(reporter, task, &waiting)?;
        }
        Ok(scores)
    }

    /// Whether answers are compared with the base.
    fn compares(&self) -> bool {
        self.id.is_some() && self.session.spec.evaluation.disagreement
    }

    fn known(&self, task: usize, record: usize) -> Option<&Answer> {
        let name = &self.session.tasks[task].name;
        self.known.iter().find(|a| a.task == *name && a.record == record)
    }

    /// Answers of an earlier run that were not compared with the base, with the states that it kept for that; `None`
    /// where they are not there.
    fn kept(&self, task: usize, records: &Range<usize>, stored: &[&Answer]) -> Result<Option<Asked>> {
        let path = answer_states_path(&self.session.checkpoints(self.id), task, records.start);
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
        let (session, keep_prompts) = (self.session, self.keep_prompts);
        let compares = self.compares();
        let generator = match &self.generator {
            Some(generator) => generator,
            None => self.generator.insert(load(session, self.id)?),
        };
        let prepared = &session.tasks[task];
        let started = reporter.clock();
        let said = generator.answer(
            &prepared.prompts[records.clone()],
            &prepared.limits[records.clone()],
            &mut |caches| {
                if keep_prompts {
                    disagreement::keep_prompts(session, task, &records, caches)
                } else {
                    Ok(())
                }
            },
            &mut || reporter.check(),
        )?;
        // The next prompts have other lengths, and need buffers of other sizes.
        scratch::release();
        let share = records.len() as f64 / session.sizes.prompts.max(1) as f64;
        let seconds = reporter.clock() - started;
        reporter.tracker.did(Work::Answer, session.sizes.answers() * share, seconds);

        let (mut tokens, mut states) = (Vec::new(), Vec::new());
        for said in said {
            tokens.push(said.tokens);
            states.push(said.states);
        }
        let answers = records
            .clone()
            .zip(&tokens)
            .map(|(record, tokens)| made(session, prepared, record, tokens))
            .collect::<Result<_>>()?;
        if !compares {
            return Ok((answers, None));
        }
        let rows: Vec<(String, Tensor)> = records
            .clone()
            .zip(&states)
            .filter_map(|(record, states)| Some((record.to_string(), states.clone()?)))
            .collect();
        write_rows(&answer_states_path(&session.checkpoints(self.id), task, records.start), &rows)?;
        Ok((answers, Some(Asked { records, tokens, states })))
    }

    /// Holds answers against the base, and keeps what comes of it.
    fn compare(&self, reporter: &mut Reporter, task: usize, group: &[Asked]) -> Result<()> {
        let session = self.session;
        let Some(id) = self.id else { return Ok(()) };
        let started = reporter.clock();
        let head = match &self.generator {
            Some(generator) => generator.head().clone(),
            None => LmHead::load(&session.folder, session.dtype, &session.device)?,
        };
        let bits = disagreement::disagreements(session, task, group, &head, &mut || reporter.check())?;
        let name = session.tasks[task].name.as_str();
        let records = group.iter().flat_map(|asked| asked.records.clone());
        let found: Vec<(&str, usize, Vec<f32>)> =
            records.zip(bits.into_iter().flatten()).map(|(record, bits)| (name, record, bits)).collect();
        session.store.put_disagreements(session.study, id, &found)?;
        let share = found.len() as f64 / session.sizes.prompts.max(1) as f64;
        let seconds = reporter.clock() - started;
        reporter.tracker.did(Work::Compare, session.sizes.compare() * share, seconds);
        for (task, record, bits) in found {
            reporter.event(Event::Disagreement { cell: id.into(), task: task.into(), record, bits });
        }
        for asked in group {
            remove_rows(&answer_states_path(&session.checkpoints(self.id), task, asked.records.start))?;
        }
        Ok(())
    }
}

/// Loads every block of the model, with the cell's checkpoints in place.
fn load<'a>(session: &'a Session, id: Option<&str>) -> Result<Generator<'a>> {
    let dir = session.checkpoints(id);
    let mut blocks = Vec::with_capacity(session.folder.config.blocks);
    for index in 0..session.folder.config.blocks {
        let mut block = Block::load(&session.folder, index, session.dtype, &session.device)?;
        if id.is_some() {
            apply_checkpoint(&mut block, session, &dir, index)?;
        }
        blocks.push(block);
    }
    let head = LmHead::load(&session.folder, session.dtype, &session.device)?;
    let batch_tokens = session.spec.compute.batch_tokens;
    Ok(Generator::new(&session.folder, blocks, head, session.dtype, &session.device, batch_tokens))
}

/// An answer of these tokens, scored.
fn made(session: &Session, task: &PreparedTask, record: usize, tokens: &[u32]) -> Result<Answer> {
    let said = session
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
        pieces: pieces(&session.tokenizer, tokens, &said)?,
        disagreement_bits: Vec::new(),
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
