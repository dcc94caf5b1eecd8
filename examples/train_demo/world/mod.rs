//! A small closed world that writes English: plain stories, and instructions over stories whose answers are known.
//!
//! People are in places and go to others, have things and pass them on. Which ones is drawn evenly, so that nothing can
//! be guessed: how a sentence goes on is language, what it says is a fact that stands somewhere above. Everything comes
//! from seeds.

mod chat;
mod choices;
mod questions;
mod story;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashSet;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use chat::{ASSISTANT, BEGIN, END, TEMPLATE, USER, conversation, prompt};
pub use questions::{Question, QuestionKind};
pub use story::{Split, Story, StoryLevel};

/// What stands between stories of a plain text.
pub const BETWEEN: &str = "\n\n";

/// An instruction over a story, to be measured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryRecord {
    /// The story's text.
    pub story: String,
    /// What is asked of it.
    pub question: Question,
}

/// A question about a story with choices, to be measured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceRecord {
    /// The story's text.
    pub story: String,
    /// What is asked of it.
    pub question: Question,
    /// Answers of one form, of words that the story has.
    pub choices: Vec<String>,
    /// Place of the right one among them.
    pub right: usize,
}

/// `count` held-out records, the kinds in turn, no two alike. Every second one asks for a pair of words that training
/// never joined.
pub fn records(kinds: &[QuestionKind], count: usize, seed: u64) -> Vec<StoryRecord> {
    draw_records(kinds, count, seed, |_, story, question| Some(StoryRecord { story: story.text(), question }))
}

/// `count` held-out records with choices, likewise.
pub fn choice_records(count: usize, seed: u64) -> Vec<ChoiceRecord> {
    draw_records(&QuestionKind::CHOICES, count, seed, |rng, story, question| {
        let (choices, right) = choices::draw(rng, story, &question)?;
        Some(ChoiceRecord { story: story.text(), question, choices, right })
    })
}

/// Records of held-out stories, made of a story and a question; a story of which none can be made is passed over.
fn draw_records<R>(
    kinds: &[QuestionKind],
    count: usize,
    seed: u64,
    make: impl Fn(&mut ChaCha8Rng, &Story, Question) -> Option<R>,
) -> Vec<R> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = HashSet::new();
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        let kind = kinds[records.len() % kinds.len()];
        let new = (records.len() / kinds.len()).is_multiple_of(2);
        let story = Story::draw(&mut rng, Split::HeldOut, StoryLevel::Full, false);
        let Some(question) = Question::ask(&mut rng, &story, kind) else { continue };
        let asked = (story.text(), question.text.clone());
        if question.reserved != new || seen.contains(&asked) {
            continue;
        }
        if let Some(record) = make(&mut rng, &story, question) {
            seen.insert(asked);
            records.push(record);
        }
    }
    records
}

/// `count` plain stories of a split, none twice.
pub fn stories(split: Split, count: usize, seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = HashSet::new();
    let mut stories = Vec::with_capacity(count);
    while stories.len() < count {
        let story = Story::draw(&mut rng, split, StoryLevel::Full, true).text();
        if seen.insert(story.clone()) {
            stories.push(story);
        }
    }
    stories
}

/// `count` conversations of a split: a story and some questions about it with their answers.
pub fn conversations(split: Split, count: usize, seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| draw_conversation(&mut rng, split, StoryLevel::Full)).collect()
}

/// A story of a level and a dozen questions about it at most, some of them asked again; now and then one has a long answer.
///
/// Many questions on one story teach to look things up with few words, and what is asked again teaches to copy.
pub fn draw_conversation(rng: &mut impl Rng, split: Split, level: StoryLevel) -> String {
    let story = Story::draw(rng, split, level, false);
    let fits = |kind: &&QuestionKind| kind.level() <= level;
    let often = |&kind: &QuestionKind| std::iter::repeat_n(kind, kind.weight());
    let short: Vec<QuestionKind> = QuestionKind::SHORT.iter().filter(fits).flat_map(often).collect();
    let long: Vec<QuestionKind> = QuestionKind::LONG.iter().filter(fits).copied().collect();
    let count = rng.random_range(6..=12);
    let mut questions = Vec::new();
    for _ in 0..count {
        let kind = short.choose(rng).copied();
        questions.extend(kind.and_then(|kind| Question::ask(rng, &story, kind)));
    }
    if rng.random_bool(0.4)
        && let Some(question) = long.choose(rng).and_then(|&kind| Question::ask(rng, &story, kind))
    {
        questions.push(question);
        questions.shuffle(rng);
    }
    conversation(&story.text(), &questions)
}
