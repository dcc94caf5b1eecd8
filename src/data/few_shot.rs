//! Examples before questions with choices, as lm-evaluation-harness has them: the question of a record of the same set
//! with its right answer behind it, and an empty line.
//!
//! The harness draws them with Python's generator of random numbers, whose state goes on from question to question. That is
//! not imitated: here a question's examples depend on the seed and on its own place alone.

use std::collections::{BTreeMap, HashMap};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::choice_record::ChoiceRecord;
use super::field_names::FieldNames;
use super::source::Fetch;
use super::task::{Task, TaskRecords, load_examples};
use crate::error::{Error, Result};
use crate::study::ShotsSpec;

/// Puts examples before every question of a task that was read from `source`. A task that is answered in words stays as
/// it is. A question is never among its own examples, nor is another record that asks the same.
///
/// # Errors
/// What reading the examples says; a mistake where they are no questions with choices, or fewer than are wanted.
pub(crate) fn put_examples(
    mut task: Task,
    source: &str,
    shots: &ShotsSpec,
    seed: u64,
    fields: &FieldNames,
    fetch: &mut dyn Fetch,
) -> Result<Task> {
    let TaskRecords::Choices(questions) = &mut task.records else { return Ok(task) };
    if shots.count == 0 {
        return Ok(task);
    }
    let from = shots.sources.get(&task.name).map_or(source, String::as_str);
    let examples = load_examples(from, fields, fetch)?;
    task.names_used |= examples.names_used;
    // Of one file it has been said already.
    if examples.omissions != task.omissions {
        task.omitted_examples = examples.omissions.warning();
    }
    let TaskRecords::Choices(records) = &examples.records else {
        return Err(Error::mistake(format!(
            "`{from}` has questions that are answered in words: examples for the task {} are questions with choices",
            task.name
        )));
    };
    let pool = ExamplePool::new(records);
    for (place, question) in questions.iter_mut().enumerate() {
        fetch.go_on()?;
        let drawn = pool.draw(question, place, shots.count, seed);
        if drawn.len() < shots.count {
            return Err(too_few(&task.name, from, question, drawn.len(), shots.count));
        }
        question.set_examples(drawn);
    }
    Ok(task)
}

fn too_few(task: &str, from: &str, question: &ChoiceRecord, found: usize, wanted: usize) -> Error {
    let kind = match question.description.trim() {
        "" => String::new(),
        description => format!(" under \"{description}\""),
    };
    Error::mistake(format!(
        "`{from}` has too few examples for a question of the task {task}{kind}: {found} of {wanted}; accepted are a \
         smaller number (--shots), or a file with more (--shots-from {task}=FILE)"
    ))
}

/// Records that can be examples.
struct ExamplePool<'a> {
    /// By their description: those of MMLU are of the question's own subject.
    by_description: BTreeMap<&'a str, Vec<&'a ChoiceRecord>>,
}

impl<'a> ExamplePool<'a> {
    fn new(records: &'a [ChoiceRecord]) -> Self {
        let mut by_description: BTreeMap<&str, Vec<&ChoiceRecord>> = BTreeMap::new();
        for record in records {
            by_description.entry(&record.description).or_default().push(record);
        }
        Self { by_description }
    }

    /// As many examples as are wanted and there are, for the question at a place of its task. Sets with a description
    /// (MMLU) have theirs in a fixed order, of which the first are taken; of others they are drawn.
    fn draw(&self, question: &ChoiceRecord, place: usize, wanted: usize, seed: u64) -> Vec<&'a ChoiceRecord> {
        let candidates =
            self.by_description.get(question.description.as_str()).map_or(&[][..], Vec::as_slice);
        let other = |record: &&ChoiceRecord| !record.asks_the_same(question);
        if !question.description.is_empty() {
            return candidates.iter().copied().filter(other).take(wanted).collect();
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(place as u64);
        shuffled(candidates.len(), random).map(|at| candidates[at]).filter(other).take(wanted).collect()
    }
}

/// The numbers below `count` in random order, made one by one: of a large set only a few are needed.
fn shuffled(count: usize, mut random: impl Rng) -> impl Iterator<Item = usize> {
    // Where a number was exchanged, what stands there now.
    let mut exchanged: HashMap<usize, usize> = HashMap::new();
    (0..count).map(move |first| {
        let other = random.random_range(first..count);
        let at_first = exchanged.get(&first).copied().unwrap_or(first);
        exchanged.insert(other, at_first).unwrap_or(other)
    })
}
