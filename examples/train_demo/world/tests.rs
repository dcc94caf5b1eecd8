//! Every answer is checked by a reader of the sentences that knows nothing of how they were made.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::world::{self, Question, QuestionKind, Split, Story, StoryLevel, StoryRecord};

/// What a reader knows after a story.
#[derive(Default)]
struct Reader {
    /// Places of everybody, in order, with the time of arrival.
    paths: BTreeMap<String, Vec<(String, String)>>,
    holder: BTreeMap<String, String>,
    colour: BTreeMap<String, String>,
    counts: BTreeMap<(String, String), String>,
    /// Sentences about moves, in order.
    moves: Vec<String>,
    /// What happened, as (person, sentence in the first person).
    views: Vec<(String, String)>,
    /// Names in the order in which they first turn up.
    named: Vec<String>,
}

const NAMES: [&str; 16] = [
    "Tom", "Ben", "Sam", "Max", "Leo", "Gus", "Jon", "Ned", "Ana", "Mia", "Eva", "Ida", "Zoe", "Liv", "Kim",
    "Una",
];

impl Reader {
    fn read(story: &str) -> Self {
        let mut reader = Self::default();
        for sentence in story.split_inclusive('.').map(|s| s.trim().trim_end_matches('.')) {
            for word in sentence.split(' ') {
                if NAMES.contains(&word) && !reader.named.iter().any(|known| known == word) {
                    reader.named.push(word.into());
                }
            }
            reader.sentence(sentence);
        }
        reader
    }

    fn sentence(&mut self, sentence: &str) {
        let words: Vec<&str> = sentence.split(' ').collect();
        let own = |s: &str| s.to_string();
        match words[..] {
            [who, "is" | "sits" | "waits", "in", "the", place] => {
                self.paths.entry(own(who)).or_default().push((own(place), String::new()));
                self.views.push((own(who), format!("I was in the {place}.")));
            }
            [who, "has" | "holds" | "carries", "a", colour, thing] => {
                self.holder.insert(own(thing), own(who));
                self.colour.insert(own(thing), own(colour));
                self.views.push((own(who), format!("I had a {colour} {thing}.")));
            }
            [who, "has", number, goods] => {
                self.counts.insert((own(who), own(goods)), own(number));
                self.views.push((own(who), format!("I had {number} {goods}.")));
            }
            [who, "went" | "walked" | "ran", "to", "the", place, ..] if words.len() > 5 => {
                let time = words[5..].join(" ");
                self.moves.push(format!("{who} went to the {place} {time}."));
                self.views.push((own(who), format!("I went to the {place} {time}.")));
                self.paths.get_mut(who).expect("who goes was somewhere").push((own(place), time));
            }
            [who, "sent", "the", thing, "to", to] => {
                assert_eq!(self.holder[thing], who, "nobody sends what another has");
                self.holder.insert(own(thing), own(to));
                self.views.push((own(who), format!("I sent the {thing} to {to}.")));
                self.views.push((own(to), format!("I got the {thing} from {who}.")));
            }
            ["In", "the", "end", who, "was", "in", "the", place] => assert_eq!(self.place(who), place),
            _ => {}
        }
    }

    fn place(&self, who: &str) -> &str {
        &self.paths[who].last().unwrap().0
    }

    /// The path of somebody from the place before `place` on, and from `place` on.
    fn step(
        &self,
        who: &str,
        wanted: impl Fn(&(String, String), &(String, String)) -> bool,
    ) -> [&(String, String); 2] {
        let path = &self.paths[who];
        let fitting: Vec<_> = path.windows(2).filter(|pair| wanted(&pair[0], &pair[1])).collect();
        assert_eq!(fitting.len(), 1, "one answer only");
        [&fitting[0][0], &fitting[0][1]]
    }

    fn answer(&self, question: &str) -> String {
        let words: Vec<&str> = question.trim_end_matches(['?', '.']).split(' ').collect();
        match words[..] {
            ["Where", "is", "the", thing] => {
                let holder = &self.holder[thing];
                format!("with {holder} in the {}", self.place(holder))
            }
            ["Where", "is", who] => format!("in the {}", self.place(who)),
            ["Who", "has", "the", thing] => self.holder[thing].clone(),
            ["What", "colour", "is", "the", "thing", "that", who, "has"] => {
                let held: Vec<&String> =
                    self.holder.iter().filter(|(_, holder)| *holder == who).map(|(thing, _)| thing).collect();
                assert_eq!(held.len(), 1, "one answer only");
                self.colour[held[0]].clone()
            }
            ["What", "colour", "is", "the", thing] => self.colour[thing].clone(),
            ["How", "many", goods, "does", who, "have"] => {
                self.counts[&(who.to_string(), goods.to_string())].clone()
            }
            ["Is", who, "in", "the", place] => {
                let truth = self.place(who);
                format!("{who} is in the {truth}, so {}", if truth == place { "yes" } else { "no" })
            }
            ["Where", "was", who, "before", "the", place] => {
                format!("in the {}", self.step(who, |_, to| to.0 == place)[0].0)
            }
            ["Where", "did", who, "go", "after", "the", place] => {
                format!("to the {}", self.step(who, |from, _| from.0 == place)[1].0)
            }
            ["When", "did", who, "go", "to", "the", place] => {
                self.step(who, |_, to| to.0 == place)[1].1.clone()
            }
            ["Sum", "up", "the", "story"] => self.summary(),
            ["Tell", "the", "story", "as", who] => {
                let told: Vec<&str> =
                    self.views.iter().filter(|(of, _)| of == who).map(|(_, said)| said.as_str()).collect();
                told.join(" ")
            }
            ["List", "all", "moves", "in", "order"] => self.moves.join(" "),
            _ => panic!("an unknown question: {question}"),
        }
    }

    fn summary(&self) -> String {
        let state = |who: &String| {
            let held = self.holder.iter().find(|(_, holder)| *holder == who);
            let held = held.map(|(thing, _)| format!(" and has the {} {thing}", self.colour[thing]));
            format!("{who} is in the {}{}.", self.place(who), held.unwrap_or_default())
        };
        self.named.iter().map(state).collect::<Vec<_>>().join(" ")
    }
}

fn kinds() -> impl Iterator<Item = QuestionKind> {
    QuestionKind::SHORT.into_iter().chain(QuestionKind::LONG)
}

#[test]
fn a_reader_of_the_sentences_finds_the_same_answers() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut asked: BTreeMap<QuestionKind, usize> = BTreeMap::new();
    for round in 0..3000 {
        let split = [Split::Train, Split::Calibration, Split::HeldOut][round % 3];
        let level = [StoryLevel::Facts, StoryLevel::Moves, StoryLevel::Full][round / 3 % 3];
        let story = Story::draw(&mut rng, split, level, round % 5 == 0);
        let text = story.text();
        let reader = Reader::read(&text);
        for kind in kinds() {
            let Some(question) = Question::ask(&mut rng, &story, kind) else { continue };
            assert_eq!(question.answer, reader.answer(&question.text), "{text}\n{}", question.text);
            *asked.entry(kind).or_default() += 1;
        }
    }
    for kind in kinds() {
        assert!(asked.get(&kind).is_some_and(|&count| count > 300), "{kind}: {asked:?}");
    }
}

#[test]
fn no_story_is_written_for_two_splits() {
    let all = [Split::Train, Split::Calibration, Split::HeldOut];
    let stories = all.map(|split| world::stories(split, 400, 9).into_iter().collect::<HashSet<_>>());
    let told = all.map(|split| {
        let text = |text: &String| {
            let story = text.strip_prefix(world::BEGIN).unwrap();
            story.split(world::USER).next().unwrap().to_string()
        };
        world::conversations(split, 400, 9).iter().map(text).collect::<HashSet<_>>()
    });
    for (a, split) in all.into_iter().enumerate() {
        for text in stories[a].iter().chain(&told[a]) {
            assert_eq!(Split::of(text), split);
        }
        for b in 0..a {
            assert!(stories[a].is_disjoint(&stories[b]) && told[a].is_disjoint(&told[b]));
        }
    }
    let records = world::records(&QuestionKind::SHORT, 100, 4);
    assert!(records.iter().all(|record| Split::of(&record.story) == Split::HeldOut));
}

#[test]
fn held_out_questions_are_all_different_and_half_of_them_join_what_training_never_does() {
    let joined = |record: &StoryRecord| record.question.reserved;
    for (kinds, count) in [(&QuestionKind::SHORT[..], 200), (&QuestionKind::LONG[..], 60)] {
        let records = world::records(kinds, count, 3);
        let keys: BTreeSet<(&str, &str)> =
            records.iter().map(|r| (r.story.as_str(), r.question.text.as_str())).collect();
        assert_eq!(keys.len(), count);
        assert_eq!(records.iter().filter(|record| joined(record)).count(), count / 2);
        for kind in kinds {
            let of_kind = records.iter().filter(|record| record.question.kind == *kind).count();
            assert_eq!(of_kind, count / kinds.len());
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for round in 0..2000 {
        let split = [Split::Train, Split::Calibration][round % 2];
        let story = Story::draw(&mut rng, split, StoryLevel::Full, round % 3 == 0);
        assert!(!story.has_reserved_pair(), "{}", story.text());
    }
}

#[test]
fn choices_are_words_of_the_story_and_one_of_them_is_right() {
    let records = world::choice_records(80, 5);
    let mut places = BTreeMap::new();
    for record in &records {
        let choices = &record.choices;
        assert!((3..=4).contains(&choices.len()), "{record:?}");
        assert_eq!(choices.iter().collect::<HashSet<_>>().len(), choices.len(), "{record:?}");
        assert_eq!(choices[record.right], record.question.answer);
        for choice in choices {
            let word = choice.split(' ').next_back().unwrap();
            assert!(record.story.contains(word), "{word}: {record:?}");
        }
        *places.entry(record.right).or_insert(0) += 1;
        assert_eq!(Split::of(&record.story), Split::HeldOut);
    }
    // The right one stands anywhere.
    assert!((0..3).all(|place| places[&place] > 10), "{places:?}");
}

#[test]
fn facts_cannot_be_guessed() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut answers: BTreeMap<QuestionKind, BTreeMap<String, usize>> = BTreeMap::new();
    for _ in 0..1500 {
        let story = Story::draw(&mut rng, Split::HeldOut, StoryLevel::Full, false);
        for kind in QuestionKind::SHORT {
            if let Some(question) = Question::ask(&mut rng, &story, kind) {
                *answers.entry(kind).or_default().entry(question.answer).or_default() += 1;
            }
        }
    }
    for (kind, answers) in answers {
        let total: usize = answers.values().sum();
        let commonest = *answers.values().max().unwrap();
        assert!(commonest * 4 < total, "{kind}: one answer is right {commonest} times of {total}");
    }
}

#[test]
fn the_same_seed_writes_the_same() {
    let write = |seed| {
        (
            world::stories(Split::Train, 5, seed),
            world::conversations(Split::Calibration, 5, seed),
            world::records(&QuestionKind::LONG, 6, seed),
        )
    };
    assert_eq!(write(1), write(1));
    assert_ne!(write(1), write(2));
}
