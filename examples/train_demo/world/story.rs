//! Stories: what happens, and the sentences that tell it.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::words::{
    COLOURS, ENDINGS, GOODS, MOODS, NUMBERS, OPENINGS, PEOPLE, PLACES, THINGS, TIMES, hash, reserved,
};

/// A word of the world.
pub(crate) type Word = &'static str;

/// Something that a sentence tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoryEvent {
    /// Where somebody is at first.
    Start {
        /// Who.
        person: Word,
        /// Where.
        place: Word,
    },
    /// What somebody has at first.
    Has {
        /// Who.
        person: Word,
        /// What.
        thing: Word,
        /// Its colour.
        colour: Word,
    },
    /// How many goods somebody has, once and for all.
    Count {
        /// Who.
        person: Word,
        /// How many.
        number: Word,
        /// Of what.
        goods: Word,
    },
    /// Somebody goes elsewhere.
    Move {
        /// Who.
        person: Word,
        /// To where.
        place: Word,
        /// When; later in a story is later in the day.
        time: Word,
    },
    /// Something changes hands.
    Send {
        /// From whom.
        giver: Word,
        /// What.
        thing: Word,
        /// To whom.
        receiver: Word,
    },
    /// Words for their own sake.
    Filler,
}

/// Which stories there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoryLevel {
    /// Two people; where they are and what they have, nothing happens.
    Facts,
    /// Two people, and some go somewhere.
    Moves,
    /// Two or three people; they go to places, and things change hands.
    Full,
}

/// What a story is for. No story is ever written for two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For training.
    Train,
    /// For calibration: as the training stories are, but never trained on.
    Calibration,
    /// For measuring: also with pairs of words that no other story has.
    HeldOut,
}

impl Split {
    /// The split that a story belongs to, by its text.
    pub fn of(text: &str) -> Self {
        match hash(&[text]) % 8 {
            0 => Self::HeldOut,
            1 => Self::Calibration,
            _ => Self::Train,
        }
    }
}

/// A story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// Its people, in the order in which they are first named.
    pub people: Vec<Word>,
    /// What is told, with the sentence that tells it.
    pub sentences: Vec<(StoryEvent, String)>,
}

impl Story {
    /// Draws a story of a split; `plain` ones have more words for their own sake and end with a look back.
    pub fn draw(rng: &mut impl Rng, split: Split, level: StoryLevel, plain: bool) -> Self {
        loop {
            let mut story = Self::any(rng, level, split == Split::HeldOut);
            if plain {
                story.embellish(rng);
            } else if rng.random_bool(0.3) {
                let at = rng.random_range(0..=story.sentences.len());
                let sentence = story.filler(rng, at);
                story.sentences.insert(at, (StoryEvent::Filler, sentence));
            }
            let text = story.text();
            story.people.sort_by_key(|person| text.find(person));
            if Split::of(&text) == split {
                return story;
            }
        }
    }

    /// The sentences, one after the other.
    pub fn text(&self) -> String {
        let sentences: Vec<&str> = self.sentences.iter().map(|(_, text)| text.as_str()).collect();
        sentences.join(" ")
    }

    /// What happens, in order.
    pub fn events(&self) -> impl Iterator<Item = StoryEvent> + '_ {
        self.sentences.iter().map(|(event, _)| *event)
    }

    /// Every place that somebody was in, in order, with the time of arrival.
    pub fn path(&self, person: Word) -> Vec<(Word, Option<Word>)> {
        self.events()
            .filter_map(|event| match event {
                StoryEvent::Start { person: who, place } if who == person => Some((place, None)),
                StoryEvent::Move { person: who, place, time } if who == person => Some((place, Some(time))),
                _ => None,
            })
            .collect()
    }

    /// Where somebody is at the end.
    pub fn place(&self, person: Word) -> Option<Word> {
        self.path(person).last().map(|(place, _)| *place)
    }

    /// Every thing with its colour and who has it at the end.
    pub fn things(&self) -> Vec<(Word, Word, Word)> {
        let mut things = Vec::new();
        for event in self.events() {
            match event {
                StoryEvent::Has { person, thing, colour } => things.push((thing, colour, person)),
                StoryEvent::Send { thing, receiver, .. } => {
                    for known in &mut things {
                        if known.0 == thing {
                            known.2 = receiver;
                        }
                    }
                }
                _ => {}
            }
        }
        things
    }

    /// Whether a pair of words occurs that is kept for held-out stories.
    pub fn has_reserved_pair(&self) -> bool {
        self.events().any(|event| match event {
            StoryEvent::Start { person, place } | StoryEvent::Move { person, place, .. } => {
                reserved(person, place)
            }
            StoryEvent::Has { person, thing, colour } => reserved(person, thing) || reserved(thing, colour),
            StoryEvent::Count { person, number, goods } => reserved(person, goods) || reserved(goods, number),
            StoryEvent::Send { thing, receiver, .. } => reserved(receiver, thing),
            StoryEvent::Filler => false,
        })
    }

    fn any(rng: &mut impl Rng, level: StoryLevel, any_pair: bool) -> Self {
        let allowed = |a: Word, b: Word| any_pair || !reserved(a, b);
        let count = if level == StoryLevel::Full { rng.random_range(2..=3) } else { 2 };
        let people: Vec<Word> = PEOPLE.choose_multiple(rng, count).copied().collect();
        let mut facts = Vec::new();
        for &person in &people {
            facts.push(StoryEvent::Start {
                person,
                place: pick(rng, &PLACES, |place| allowed(person, place)),
            });
        }
        let holders =
            if level == StoryLevel::Full { rng.random_range(1..count) } else { rng.random_range(1..=2) };
        let things: Vec<Word> = THINGS.choose_multiple(rng, THINGS.len()).copied().collect();
        let mut held: Vec<(Word, Word)> = Vec::new();
        for &person in people.choose_multiple(rng, holders) {
            let free = |thing: &Word| allowed(person, thing) && held.iter().all(|(_, t)| t != thing);
            let thing = things.iter().copied().find(free).unwrap_or(things[0]);
            facts.push(StoryEvent::Has { person, thing, colour: pick(rng, &COLOURS, |c| allowed(thing, c)) });
            held.push((person, thing));
        }
        let counts = rng.random_range(0..=2 - usize::from(count == 3));
        for &person in people.choose_multiple(rng, counts) {
            let goods = pick(rng, &GOODS, |goods| allowed(person, goods));
            facts.push(StoryEvent::Count {
                person,
                number: pick(rng, &NUMBERS, |n| allowed(goods, n)),
                goods,
            });
        }
        facts.shuffle(rng);
        let mut story = Self { people: people.clone(), sentences: Vec::new() };
        for fact in facts {
            story.tell(rng, fact);
        }
        story.happen(rng, level, &people, &mut held, allowed);
        story
    }

    /// Lets people go and send.
    fn happen(
        &mut self,
        rng: &mut impl Rng,
        level: StoryLevel,
        people: &[Word],
        held: &mut [(Word, Word)],
        allowed: impl Fn(Word, Word) -> bool,
    ) {
        let events = match level {
            StoryLevel::Facts => 0,
            StoryLevel::Moves => rng.random_range(1..=2),
            StoryLevel::Full => rng.random_range(1..=3),
        };
        let mut times: Vec<usize> = rand::seq::index::sample(rng, TIMES.len(), events).into_vec();
        times.sort_unstable();
        for time in times {
            if level == StoryLevel::Full && rng.random_bool(0.35) {
                let giver = rng.random_range(0..held.len());
                let (person, thing) = held[giver];
                let free: Vec<Word> = people
                    .iter()
                    .copied()
                    .filter(|&p| held.iter().all(|&(holder, _)| holder != p) && allowed(p, thing))
                    .collect();
                if let Some(&receiver) = free.choose(rng) {
                    held[giver].0 = receiver;
                    self.tell(rng, StoryEvent::Send { giver: person, thing, receiver });
                    continue;
                }
            }
            let person = people[rng.random_range(0..people.len())];
            let been = self.path(person);
            let fresh = |place| allowed(person, place) && been.iter().all(|(known, _)| *known != place);
            let place = pick(rng, &PLACES, fresh);
            self.tell(rng, StoryEvent::Move { person, place, time: TIMES[time] });
        }
    }

    fn tell(&mut self, rng: &mut impl Rng, event: StoryEvent) {
        let sentence = match event {
            StoryEvent::Start { person, place } => {
                let verb = ["is", "is", "sits", "waits"].choose(rng).copied().unwrap_or("is");
                format!("{person} {verb} in the {place}.")
            }
            StoryEvent::Has { person, thing, colour } => {
                let verb = ["has", "has", "holds", "carries"].choose(rng).copied().unwrap_or("has");
                format!("{person} {verb} a {colour} {thing}.")
            }
            StoryEvent::Count { person, number, goods } => format!("{person} has {number} {goods}."),
            StoryEvent::Move { person, place, time } => {
                let verb = ["went", "went", "walked", "ran"].choose(rng).copied().unwrap_or("went");
                format!("{person} {verb} to the {place} {time}.")
            }
            StoryEvent::Send { giver, thing, receiver } => format!("{giver} sent the {thing} to {receiver}."),
            StoryEvent::Filler => return,
        };
        self.sentences.push((event, sentence));
    }

    /// A sentence that says nothing, to stand at index `at`.
    fn filler(&self, rng: &mut impl Rng, at: usize) -> String {
        if at == 0 {
            return pick(rng, &OPENINGS, |_| true).to_string();
        }
        let person = self.people[rng.random_range(0..self.people.len())];
        format!("{person} {}", pick(rng, &MOODS, |_| true))
    }

    /// Adds an opening, moods, a look back and an ending.
    fn embellish(&mut self, rng: &mut impl Rng) {
        for _ in 0..rng.random_range(1..=2) {
            let at = rng.random_range(1..=self.sentences.len());
            let sentence = self.filler(rng, at);
            self.sentences.insert(at, (StoryEvent::Filler, sentence));
        }
        let opening = self.filler(rng, 0);
        self.sentences.insert(0, (StoryEvent::Filler, opening));
        if rng.random_bool(0.7) {
            let person = self.people[rng.random_range(0..self.people.len())];
            if let Some(place) = self.place(person) {
                let back = format!("In the end {person} was in the {place}.");
                self.sentences.push((StoryEvent::Filler, back));
            }
        }
        self.sentences.push((StoryEvent::Filler, pick(rng, &ENDINGS, |_| true).to_string()));
    }
}

/// A random word among those that fit; the first where none does, which lists of this length do not come to.
fn pick(rng: &mut impl Rng, words: &[Word], fits: impl Fn(Word) -> bool) -> Word {
    let fitting: Vec<Word> = words.iter().copied().filter(|word| fits(word)).collect();
    fitting.choose(rng).copied().unwrap_or(words[0])
}
