//! Instructions over a story, with their answers.

use std::fmt;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::story::{Story, StoryEvent, StoryLevel, Word};
use super::words::{PLACES, reserved};

/// A kind of instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuestionKind {
    /// Where is somebody?
    Where,
    /// Who has a thing?
    Who,
    /// What colour is a thing?
    Colour,
    /// How many goods has somebody?
    Count,
    /// Is somebody in a place? Where they are, and so yes or no.
    YesNo,
    /// Where was somebody before?
    Before,
    /// Where did somebody go after?
    After,
    /// When did somebody go to a place?
    When,
    /// Where is a thing? In two steps: with whom, and in which place.
    ThingPlace,
    /// What colour is what somebody has? In two steps: what is it, and what colour is it.
    HeldColour,
    /// Where everybody is and what they have, at the end.
    Summary,
    /// What happened to one person, as that person tells it.
    View,
    /// All moves, in order.
    Moves,
}

impl QuestionKind {
    /// Kinds with a short answer that is right or wrong.
    pub const SHORT: [Self; 10] = [
        Self::Where,
        Self::Who,
        Self::Colour,
        Self::Count,
        Self::YesNo,
        Self::Before,
        Self::After,
        Self::When,
        Self::ThingPlace,
        Self::HeldColour,
    ];

    /// Kinds whose answers are names and places, so that others of the story could be meant.
    pub const CHOICES: [Self; 4] = [Self::Where, Self::Who, Self::Before, Self::After];

    /// Kinds with a longer answer.
    pub const LONG: [Self; 3] = [Self::Summary, Self::View, Self::Moves];

    /// How often this is asked in training, beside the other kinds: twice where it is learnt late.
    pub fn weight(self) -> usize {
        match self {
            Self::YesNo | Self::When | Self::ThingPlace => 2,
            _ => 1,
        }
    }

    /// The least level of stories that this can be asked of.
    pub fn level(self) -> StoryLevel {
        match self {
            Self::Where
            | Self::Who
            | Self::Colour
            | Self::Count
            | Self::YesNo
            | Self::View
            | Self::Summary => StoryLevel::Facts,
            Self::Before | Self::After | Self::When | Self::Moves => StoryLevel::Moves,
            Self::ThingPlace | Self::HeldColour => StoryLevel::Full,
        }
    }

    /// A short name, for tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Where => "where",
            Self::Who => "who",
            Self::Colour => "colour",
            Self::Count => "count",
            Self::YesNo => "yes-no",
            Self::Before => "before",
            Self::After => "after",
            Self::When => "when",
            Self::ThingPlace => "thing-place",
            Self::HeldColour => "held-colour",
            Self::Summary => "summary",
            Self::View => "view",
            Self::Moves => "moves",
        }
    }
}

impl fmt::Display for QuestionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An instruction with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What kind it is.
    pub kind: QuestionKind,
    /// The instruction.
    pub text: String,
    /// The one right answer.
    pub answer: String,
    /// Whether asking and answering joins a pair of words that no training story joins.
    pub reserved: bool,
}

impl Question {
    /// Asks something of a kind about a story; `None` where the story has nothing to ask so.
    pub fn ask(rng: &mut impl Rng, story: &Story, kind: QuestionKind) -> Option<Self> {
        let person = *story.people.choose(rng)?;
        let (text, answer, reserved) = match kind {
            QuestionKind::Where => {
                let place = story.place(person)?;
                (format!("Where is {person}?"), format!("in the {place}"), reserved(person, place))
            }
            QuestionKind::YesNo => yes_no(rng, story, person)?,
            QuestionKind::Who | QuestionKind::Colour | QuestionKind::ThingPlace => {
                let (thing, colour, holder) = *story.things().choose(rng)?;
                match kind {
                    QuestionKind::Who => {
                        (format!("Who has the {thing}?"), holder.to_string(), reserved(holder, thing))
                    }
                    QuestionKind::Colour => {
                        let text = format!("What colour is the {thing}?");
                        (text, colour.to_string(), reserved(thing, colour))
                    }
                    _ => {
                        let place = story.place(holder)?;
                        let new = reserved(holder, place) || reserved(holder, thing);
                        (format!("Where is the {thing}?"), format!("with {holder} in the {place}"), new)
                    }
                }
            }
            QuestionKind::HeldColour => {
                let (thing, colour, holder) = *story.things().choose(rng)?;
                let new = reserved(holder, thing) || reserved(thing, colour);
                (format!("What colour is the thing that {holder} has?"), colour.to_string(), new)
            }
            QuestionKind::Count => count(rng, story)?,
            QuestionKind::Before | QuestionKind::After | QuestionKind::When => moved(rng, story, kind)?,
            QuestionKind::Summary => ("Sum up the story.".into(), summary(story), story.has_reserved_pair()),
            QuestionKind::View => {
                let text = format!("Tell the story as {person}.");
                (text, view(story, person), story.has_reserved_pair())
            }
            QuestionKind::Moves => {
                let answer = moves(story)?;
                ("List all moves in order.".into(), answer, story.has_reserved_pair())
            }
        };
        Some(Self { kind, text, answer, reserved })
    }
}

type Asked = (String, String, bool);

fn yes_no(rng: &mut impl Rng, story: &Story, person: Word) -> Option<Asked> {
    let place = story.place(person)?;
    let asked = if rng.random_bool(0.5) {
        place
    } else {
        // Places of the story, so that having read of a place is no answer.
        let others: Vec<Word> = story
            .people
            .iter()
            .flat_map(|who| story.path(who))
            .map(|(other, _)| other)
            .filter(|other| *other != place)
            .collect();
        let anywhere: Vec<Word> = PLACES.iter().copied().filter(|other| *other != place).collect();
        others.choose(rng).or_else(|| anywhere.choose(rng)).copied()?
    };
    let word = if asked == place { "yes" } else { "no" };
    let answer = format!("{person} is in the {place}, so {word}");
    Some((format!("Is {person} in the {asked}?"), answer, reserved(person, place)))
}

fn count(rng: &mut impl Rng, story: &Story) -> Option<Asked> {
    let counts: Vec<(Word, Word, Word)> = story
        .events()
        .filter_map(|event| match event {
            StoryEvent::Count { person, number, goods } => Some((person, number, goods)),
            _ => None,
        })
        .collect();
    let (person, number, goods) = *counts.choose(rng)?;
    let text = format!("How many {goods} does {person} have?");
    Some((text, number.to_string(), reserved(person, goods) || reserved(goods, number)))
}

/// Before, after and when: about somebody who has been in two places.
fn moved(rng: &mut impl Rng, story: &Story, kind: QuestionKind) -> Option<Asked> {
    let steps: Vec<(Word, Word, Word, Word)> = story
        .people
        .iter()
        .flat_map(|&person| {
            let path = story.path(person);
            let step = move |pair: &[(Word, Option<Word>)]| Some((person, pair[0].0, pair[1].0, pair[1].1?));
            path.windows(2).filter_map(step).collect::<Vec<_>>()
        })
        .collect();
    let (person, from, to, time) = *steps.choose(rng)?;
    Some(match kind {
        QuestionKind::Before => {
            let text = format!("Where was {person} before the {to}?");
            (text, format!("in the {from}"), reserved(person, from) || reserved(person, to))
        }
        QuestionKind::After => {
            let text = format!("Where did {person} go after the {from}?");
            (text, format!("to the {to}"), reserved(person, from) || reserved(person, to))
        }
        _ => (format!("When did {person} go to the {to}?"), time.to_string(), reserved(person, to)),
    })
}

/// `Tom is in the barn and has a red ball. Mia is in the hall.`
fn summary(story: &Story) -> String {
    let things = story.things();
    let sentences: Vec<String> = story
        .people
        .iter()
        .filter_map(|&person| {
            let place = story.place(person)?;
            let held = things.iter().find(|(.., holder)| *holder == person);
            let held =
                held.map(|(thing, colour, _)| format!(" and has the {colour} {thing}")).unwrap_or_default();
            Some(format!("{person} is in the {place}{held}."))
        })
        .collect();
    sentences.join(" ")
}

/// What a person was part of, in the first person.
fn view(story: &Story, person: Word) -> String {
    let sentences: Vec<String> = story
        .events()
        .filter_map(|event| match event {
            StoryEvent::Start { person: who, place } if who == person => {
                Some(format!("I was in the {place}."))
            }
            StoryEvent::Has { person: who, thing, colour } if who == person => {
                Some(format!("I had a {colour} {thing}."))
            }
            StoryEvent::Count { person: who, number, goods } if who == person => {
                Some(format!("I had {number} {goods}."))
            }
            StoryEvent::Move { person: who, place, time } if who == person => {
                Some(format!("I went to the {place} {time}."))
            }
            StoryEvent::Send { giver, thing, receiver } if giver == person => {
                Some(format!("I sent the {thing} to {receiver}."))
            }
            StoryEvent::Send { giver, thing, receiver } if receiver == person => {
                Some(format!("I got the {thing} from {giver}."))
            }
            _ => None,
        })
        .collect();
    sentences.join(" ")
}

/// Every move in a sentence of its own; `None` where nobody goes.
fn moves(story: &Story) -> Option<String> {
    let sentences: Vec<String> = story
        .events()
        .filter_map(|event| match event {
            StoryEvent::Move { person, place, time } => Some(format!("{person} went to the {place} {time}.")),
            _ => None,
        })
        .collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}
