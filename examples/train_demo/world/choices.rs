//! Answers to choose from.

use rand::Rng;
use rand::seq::SliceRandom;

use super::questions::{Question, QuestionKind};
use super::story::{Story, Word};

/// Choices of a question at most.
const MOST: usize = 4;
/// Choices of a question at least: of two, half is right by chance.
const FEWEST: usize = 3;

/// Choices for a question in any order, and the place of the right one. The wrong ones are names and places of the same
/// story, so that having read of a word is no answer.
///
/// `None` where the story has too few, or the kind of question has no such answers.
pub fn draw(rng: &mut impl Rng, story: &Story, question: &Question) -> Option<(Vec<String>, usize)> {
    let places = || story.people.iter().flat_map(|person| story.path(person)).map(|(place, _)| place);
    let words: Vec<Word> = match question.kind {
        QuestionKind::Who => story.people.clone(),
        QuestionKind::Where | QuestionKind::Before | QuestionKind::After => places().collect(),
        _ => return None,
    };
    let form = |word: Word| match question.kind {
        QuestionKind::Who => word.to_string(),
        QuestionKind::After => format!("to the {word}"),
        _ => format!("in the {word}"),
    };
    let mut choices: Vec<String> =
        words.into_iter().map(form).filter(|one| *one != question.answer).collect();
    choices.sort_unstable();
    choices.dedup();
    choices.shuffle(rng);
    choices.truncate(MOST - 1);
    if choices.len() + 1 < FEWEST {
        return None;
    }
    let right = rng.random_range(0..=choices.len());
    choices.insert(right, question.answer.clone());
    Some((choices, right))
}
