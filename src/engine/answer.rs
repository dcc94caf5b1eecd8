//! Task answers: the whole pruned model is loaded from its checkpoints and asked.

use std::time::Instant;

use super::Reporter;
use super::cell::apply_checkpoint;
use super::costs::Work;
use super::event::{Event, Phase};
use super::session::{PreparedTask, Session};
use crate::error::{Error, Result};
use crate::eval::{stats, text};
use crate::kernels::scratch;
use crate::model::{Block, Generator, Head};
use crate::results::{Answer, Scores, TaskScores};

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
) -> Result<Vec<TaskScores>> {
    if session.tasks.is_empty() {
        return Ok(Vec::new());
    }
    let started = Instant::now();
    let scores = answer_tasks(session, reporter, id);
    *seconds += started.elapsed().as_secs_f64();
    scores
}

fn answer_tasks(session: &Session, reporter: &mut Reporter, id: Option<&str>) -> Result<Vec<TaskScores>> {
    let known = session.store.answers(session.study, id)?;
    let total: usize = session.tasks.iter().map(|t| t.records.len()).sum();
    reporter.phase(id, Phase::Answer, total as u64, "answers");
    let mut generator = None;
    let mut done = 0;
    let mut scores = Vec::new();
    for task in &session.tasks {
        let mut of_task: Vec<Scores> = Vec::with_capacity(task.records.len());
        let batch = session.spec.compute.batch_prompts.max(1);
        for first in (0..task.records.len()).step_by(batch) {
            let records = first..task.records.len().min(first + batch);
            let stored: Vec<&Answer> = records
                .clone()
                .filter_map(|r| known.iter().find(|a| a.task == task.name && a.record == r))
                .collect();
            if stored.len() == records.len() {
                of_task.extend(stored.iter().map(|a| a.scores));
            } else {
                reporter.boundary()?;
                let generator = match &generator {
                    Some(generator) => generator,
                    None => generator.insert(load(session, id)?),
                };
                let answers = ask(session, reporter, generator, task, records.clone())?;
                session.store.put_answers(session.study, id, &answers)?;
                for answer in answers {
                    of_task.push(answer.scores);
                    reporter.event(Event::Answer { cell: id.map(str::to_string), answer });
                }
            }
            done += records.len();
            reporter.tracker.step(done as u64);
        }
        scores.push(summary(&task.name, &of_task, session.spec.seed));
    }
    scratch::release();
    Ok(scores)
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
    let head = Head::load(&session.folder, session.dtype, &session.device)?;
    Ok(Generator::new(&session.folder, blocks, head, session.dtype, &session.device))
}

fn ask(
    session: &Session,
    reporter: &mut Reporter,
    generator: &Generator<'_>,
    task: &PreparedTask,
    records: std::ops::Range<usize>,
) -> Result<Vec<Answer>> {
    let started = Instant::now();
    let prompts = &task.prompts[records.clone()];
    let longest = session.spec.evaluation.max_new_tokens;
    let tokens = generator.answer(prompts, longest, &mut || reporter.check())?;
    let share = prompts.len() as f64 / session.sizes.prompts.max(1) as f64;
    reporter.tracker.did(Work::Answer, session.sizes.answers() * share, started.elapsed().as_secs_f64());
    records
        .zip(tokens)
        .map(|(record, tokens)| {
            let text = session
                .tokenizer
                .decode(&tokens, true)
                .map_err(|e| Error::failure(format!("the tokenizer cannot decode an answer: {e}")))?;
            let text = text.trim().to_string();
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
                scores: text::score(&text, &asked.references),
                text,
                tokens,
            })
        })
        .collect()
}

fn summary(name: &str, scores: &[Scores], seed: u64) -> TaskScores {
    let of = |f: fn(&Scores) -> f64| {
        let values: Vec<f64> = scores.iter().map(f).collect();
        stats::bootstrap_mean(&values, seed)
    };
    TaskScores {
        name: name.into(),
        n: scores.len(),
        exact_match: of(|s| s.exact_match),
        f1: of(|s| s.f1),
        rouge1: of(|s| s.rouge1),
    }
}
