//! What the model reads: batches to train on, drawn anew for every step, and the files of the built-in study.

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur::{Error, Result};
use serde_json::json;
use tokenizers::Tokenizer;

use super::world::{self, BEGIN, BETWEEN, ChoiceRecord, QuestionKind, Split, Story, StoryLevel, StoryRecord};

/// Longest sequence, in tokens.
const LONGEST: usize = 256;
/// Windows of plain stories are at least so long; the built-in study's are as long.
const SHORTEST_WINDOW: usize = 128;
/// Share of the sequences that are windows of plain stories.
const PLAIN: f64 = 0.2;

/// Token ids of a text.
pub fn encode(tokenizer: &Tokenizer, text: &str, special: bool) -> Result<Vec<u32>> {
    let tokens = tokenizer
        .encode_fast(text, special)
        .map_err(|e| Error::failure(format!("the tokenizer failed on a text: {e}")))?;
    Ok(tokens.get_ids().to_vec())
}

/// Part `part` of the batch of a step: whole sequences of at least `tokens` tokens together. The same numbers give the
/// same sequences. `seen` are the tokens trained on so far: stories are short and still at first.
pub fn part(
    tokenizer: &Tokenizer,
    seed: u64,
    (step, part): (u64, u64),
    tokens: usize,
    seen: u64,
) -> Result<Vec<Vec<u32>>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step << 16 | part);
    let (mut sequences, mut count) = (Vec::new(), 0);
    while count < tokens {
        let level = level(&mut rng, seen);
        let sequence = if rng.random_bool(PLAIN) {
            window(tokenizer, &mut rng, level)?
        } else {
            let mut tokens =
                encode(tokenizer, &world::draw_conversation(&mut rng, Split::Train, level), false)?;
            tokens.truncate(LONGEST);
            tokens
        };
        count += sequence.len();
        sequences.push(sequence);
    }
    Ok(sequences)
}

/// How much happens in a story, by the tokens trained on so far.
fn level(rng: &mut impl Rng, seen: u64) -> StoryLevel {
    let millions = seen as f64 / 1e6;
    let full = ((millions - 1.0) / 3.0).clamp(0.0, 0.8);
    let moves = ((millions - 0.5) / 1.0).clamp(0.0, 0.5) * (1.0 - full);
    let drawn: f64 = rng.random();
    if drawn < full {
        StoryLevel::Full
    } else if drawn < full + moves {
        StoryLevel::Moves
    } else {
        StoryLevel::Facts
    }
}

/// A window of plain stories, from their beginning or somewhere within.
fn window(tokenizer: &Tokenizer, rng: &mut ChaCha8Rng, level: StoryLevel) -> Result<Vec<u32>> {
    let length = rng.random_range(SHORTEST_WINDOW..=LONGEST);
    let at_start = rng.random_bool(0.2);
    let mut stories = Vec::new();
    let mut tokens = Vec::new();
    while tokens.len() < length {
        stories.extend((0..6).map(|_| Story::draw(rng, Split::Train, level, true).text()));
        tokens = encode(tokenizer, &stories.join(BETWEEN), at_start)?;
    }
    let start = if at_start { 0 } else { rng.random_range(0..=tokens.len() - length) };
    Ok(tokens[start..start + length].to_vec())
}

/// Seeds and sizes of the study's files.
mod sizes {
    pub const HELD_OUT_STORIES: usize = 150;
    pub const CALIBRATION_STORIES: usize = 400;
    pub const CALIBRATION_CONVERSATIONS: usize = 300;
    pub const QUESTIONS: usize = 100;
    pub const TELLINGS: usize = 40;
    pub const CHOICES: usize = 100;
    pub const SEEDS: [u64; 6] = [101, 102, 103, 104, 105, 106];
}

/// Writes corpora, calibration sets and tasks of the built-in study into a folder.
pub fn write_study(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("cannot make", folder, e))?;
    let [held_out, calibration, conversations, questions, tellings, choices] = sizes::SEEDS;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|e| Error::io("cannot write", &path, e))
    };
    let plain = |split, count, seed| world::stories(split, count, seed).join(BETWEEN);
    write("held_out.txt", plain(Split::HeldOut, sizes::HELD_OUT_STORIES, held_out))?;
    write("stories.txt", plain(Split::Calibration, sizes::CALIBRATION_STORIES, calibration))?;
    // The tokenizer begins every text itself.
    let line = |text: &String| json!({ "text": text.trim_start_matches(BEGIN) }).to_string() + "\n";
    let dialogues = world::conversations(Split::Calibration, sizes::CALIBRATION_CONVERSATIONS, conversations);
    write("dialogues.jsonl", dialogues.iter().map(line).collect())?;
    let tasks = |kinds: &[QuestionKind], count, seed| -> String {
        world::records(kinds, count, seed).iter().map(task_line).collect()
    };
    write("questions.jsonl", tasks(&QuestionKind::SHORT, sizes::QUESTIONS, questions))?;
    write("tellings.jsonl", tasks(&QuestionKind::LONG, sizes::TELLINGS, tellings))?;
    write("choices.jsonl", world::choice_records(sizes::CHOICES, choices).iter().map(choice_line).collect())
}

fn task_line(record: &StoryRecord) -> String {
    let question = &record.question;
    json!({
        "kind": question.kind.name(),
        "instruction": question.text,
        "input": record.story,
        "output": question.answer,
    })
    .to_string()
        + "\n"
}

/// The context is what the model would be asked; its answers begin with a blank, as a choice does.
fn choice_line(record: &ChoiceRecord) -> String {
    let prompt = world::prompt(&record.story, &record.question.text);
    json!({
        "kind": record.question.kind.name(),
        // The tokenizer begins every text itself.
        "query": prompt.trim_start_matches(BEGIN),
        "choices": record.choices,
        "gold": record.right,
    })
    .to_string()
        + "\n"
}
