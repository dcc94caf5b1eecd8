use super::*;
use crate::study::ShotsSpec;

/// Two records of every set as it is published, and a question behind them; the contexts of its requests with none of
/// them, with the first and with both before it. lm-evaluation-harness 0.4.13 makes these texts of these records.
const PUBLISHED: [(&str, &[&str], &[&str]); 8] = [
    (
        r#"{"question": "What flies?", "choices": {"text": ["A stone", "A bird"], "label": ["A", "B"]}, "answerKey": "B"}
{"question": "What is wet?", "choices": {"text": ["Rain", "Sand"], "label": ["1", "2"]}, "answerKey": "1"}
{"question": "What melts?", "choices": {"text": ["Ice", "Air"], "label": ["A", "B"]}, "answerKey": "A"}"#,
        &["Question: What flies?\nAnswer: A bird\n\n", "Question: What is wet?\nAnswer: Rain\n\n"],
        &["Question: What melts?\nAnswer:"],
    ),
    (
        r#"{"question_stem": "Fire is", "choices": {"text": ["cold", "hot"], "label": ["A", "B"]}, "answerKey": "B"}
{"question_stem": "Snow is", "choices": {"text": ["white", "red"], "label": ["A", "B"]}, "answerKey": "A"}
{"question_stem": "Ice is", "choices": {"text": ["cold", "hot"], "label": ["A", "B"]}, "answerKey": "A"}"#,
        &["Fire is hot\n\n", "Snow is white\n\n"],
        &["Ice is"],
    ),
    (
        r#"{"activity_label": "Cooking", "ctx_a": "A pot boils.", "ctx_b": "the Lid", "endings": ["falls [title] off", "stays  on"], "label": "0"}
{"activity_label": "Running", "ctx_a": "She [header] runs.", "ctx_b": "she", "endings": ["stops.", "[substeps] sings."], "label": "1"}
{"activity_label": "Baking", "ctx_a": "A man stirs.", "ctx_b": "the Bowl", "endings": ["turns", "stays"], "label": "1"}"#,
        &["Cooking: A pot boils. The lid falls. off\n\n", "Running: She runs. She  sings.\n\n"],
        &["Baking: A man stirs. The bowl"],
    ),
    (
        r#"{"goal": "Dry a cup", "sol1": "Use a towel. ", "sol2": "Use water.", "label": 0}
{"goal": "Cut bread", "sol1": "Use a spoon.", "sol2": "Use a knife.", "label": 1}
{"goal": "Open a jar", "sol1": "Twist the lid.", "sol2": "Wait.", "label": 0}"#,
        &["Question: Dry a cup\nAnswer: Use a towel. \n\n", "Question: Cut bread\nAnswer: Use a knife.\n\n"],
        &["Question: Open a jar\nAnswer:"],
    ),
    (
        r#"{"sentence": "The cup beat the jug since _ was new.", "option1": "the cup", "option2": "the jug", "answer": "1"}
{"sentence": "Eve helped Joe so _ smiled. ", "option1": "Eve", "option2": "Joe", "answer": "2"}
{"sentence": "Ann thanked Bob as _ had helped.", "option1": "Ann", "option2": "Bob", "answer": "2"}"#,
        &["The cup beat the jug since the cup was new.\n\n", "Eve helped Joe so Joe smiled.\n\n"],
        &["Ann thanked Bob as Ann", "Ann thanked Bob as Bob"],
    ),
    (
        r#"{"question": "is fire hot", "passage": "Fire -- Fire is hot.", "label": 1}
{"question": "is snow red", "passage": "Snow -- Snow is white.", "label": 0}
{"question": "is ice cold", "passage": "Ice -- Ice is cold.", "label": 1}"#,
        &[
            "Fire -- Fire is hot.\nQuestion: is fire hot?\nAnswer: yes\n\n",
            "Snow -- Snow is white.\nQuestion: is snow red?\nAnswer: no\n\n",
        ],
        &["Ice -- Ice is cold.\nQuestion: is ice cold?\nAnswer:"],
    ),
    (
        r#"{"premise": "He fell.", "choice1": "The floor was wet.", "choice2": "He sang.", "question": "cause", "label": 0}
{"premise": "She ran. ", "choice1": "She slept.", "choice2": "She was late.", "question": "effect", "label": 1}
{"premise": "It rained.", "choice1": "The road got wet.", "choice2": "He sang.", "question": "effect", "label": 0}"#,
        &["He fell because  the floor was wet.\n\n", "She ran therefore  she was late.\n\n"],
        &["It rained therefore"],
    ),
    // Last words, whose examples have two blanks.
    (
        r#"{"context": "He opened the", "continuation": "door"}
{"context": "She closed the", "continuation": "window"}
{"context": "It came to an", "continuation": "end"}"#,
        &["He opened the  door\n\n", "She closed the  window\n\n"],
        &["It came to an"],
    ),
];

/// MMLU says its description once.
const MMLU: &str = r#"{"question": "2 + 2?", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"], "answer": 3}
{"question": " 1 + 2?", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"], "answer": 2}
{"question": "Who?", "subject": "world_religions", "choices": ["a", "b", "c", "d"], "answer": 0}
{"question": " 1 + 1? ", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"], "answer": 1}"#;

fn records(task: Task) -> Vec<ChoiceRecord> {
    match task.records {
        TaskRecords::Choices(records) => records,
        other @ TaskRecords::Questions(_) => panic!("no choices: {other:?}"),
    }
}

fn contexts(record: &ChoiceRecord) -> Vec<String> {
    let mut contexts: Vec<String> = record.requests().into_iter().map(|(context, _)| context).collect();
    contexts.dedup();
    contexts
}

/// The task of a file with examples from `from`, or from its own records.
fn with_examples(source: &str, from: Option<&str>, count: usize, seed: u64) -> Result<Task> {
    let mut shots = ShotsSpec { count, ..ShotsSpec::default() };
    let task = load_records(source)?;
    shots.sources.extend(from.map(|from| (task.name.clone(), from.to_owned())));
    put_examples(task, source, &shots, seed, &FieldNames::default(), &mut NoFetch)
}

#[test]
fn prompts_with_examples_are_those_of_the_harness() {
    let folder = TempDir::new().unwrap();
    for (lines, examples, questions) in PUBLISHED {
        let all = records(load_records(&write(&folder, "all.jsonl", lines)).unwrap());
        let [first, second, mut asked] = all.try_into().unwrap();
        for shown in 0..=2 {
            asked.set_examples([&first, &second].into_iter().take(shown));
            let before = examples[..shown].concat();
            let expected: Vec<String> = questions.iter().map(|question| before.clone() + question).collect();
            assert_eq!(contexts(&asked), expected);
        }
        // The same through files: of one record, whatever is drawn is known.
        let (example, question) = lines.split_once('\n').unwrap();
        let (train, test) = (write(&folder, "train.jsonl", example), write(&folder, "test.jsonl", question));
        let found = records(with_examples(&test, Some(&train), 1, 0).unwrap());
        let expected: Vec<String> =
            questions.iter().map(|question| examples[0].to_owned() + question).collect();
        assert_eq!(contexts(&found[1]), expected);
    }
}

#[test]
fn questions_of_mmlu_have_the_first_examples_of_their_subject_behind_its_description() {
    let folder = TempDir::new().unwrap();
    let (dev, question) = MMLU.rsplit_once('\n').unwrap();
    let (dev, test) = (write(&folder, "dev.jsonl", dev), write(&folder, "test.jsonl", question));
    let description =
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n";
    let parts = [
        "2 + 2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: D\n\n",
        "1 + 2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: C\n\n",
        "1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
    ];
    for seed in 0..4 {
        let one = records(with_examples(&test, Some(&dev), 1, seed).unwrap());
        assert_eq!(contexts(&one[0]), [format!("{description}{}{}", parts[0], parts[2])]);
        let two = records(with_examples(&test, Some(&dev), 2, seed).unwrap());
        assert_eq!(contexts(&two[0]), [format!("{description}{}", parts.concat())]);
    }
    let none = records(with_examples(&test, Some(&dev), 0, 0).unwrap());
    assert_eq!(contexts(&none[0]), [format!("{description}{}", parts[2])]);
    assert_eq!(none[0].prompt(), format!("{description}{}", parts[2]));
    let message = mistake("dev.jsonl", with_examples(&test, Some(&dev), 3, 0));
    assert!(message.contains("2 of 3") && message.contains("about abstract algebra."), "{message}");
}

/// So many questions, of which each is told from the others.
fn questions(count: usize) -> String {
    let line = |n: usize| {
        format!("{{\"query\": \"Q{n}:\", \"choices\": [\"a{n}\", \"b{n}\"], \"gold\": {}}}\n", n % 2)
    };
    (0..count).map(line).collect()
}

#[test]
fn a_question_is_never_among_its_examples_and_the_seed_decides_on_them() {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "set.jsonl", questions(9));
    let examples = |count: usize, seed: u64| -> Vec<String> {
        let task = with_examples(&file, None, count, seed).unwrap();
        records(task).into_iter().map(|record| record.examples).collect()
    };
    for seed in 0..20 {
        let found = examples(8, seed);
        for (place, examples) in found.iter().enumerate() {
            let mut shown: Vec<&str> = examples.split_terminator("\n\n").collect();
            shown.sort_unstable();
            shown.dedup();
            let letter = |n: usize| if n.is_multiple_of(2) { 'a' } else { 'b' };
            let others = (0..9).filter(|n| *n != place).map(|n| format!("Q{n}: {}{n}", letter(n)));
            assert_eq!(shown, others.collect::<Vec<_>>(), "all others, each once");
        }
        assert_eq!(found, examples(8, seed));
        // Fewer examples are the beginning of more.
        assert!(found.iter().zip(examples(3, seed)).all(|(more, fewer)| more.starts_with(&fewer)));
    }
    assert_ne!(examples(2, 0), examples(2, 1));
    let first = examples(2, 0);
    assert!(first.iter().any(|other| *other != first[0]), "every question has a draw of its own");
}

#[test]
fn examples_are_drawn_from_all_records_whatever_the_limit() {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "set.jsonl", questions(40));
    let shots = ShotsSpec { count: 5, ..ShotsSpec::default() };
    let limited = load_task(&file, Some(2), &FieldNames::default(), &mut NoFetch).unwrap();
    let limited = put_examples(limited, &file, &shots, 3, &FieldNames::default(), &mut NoFetch).unwrap();
    let all = records(with_examples(&file, None, 5, 3).unwrap());
    assert_eq!(records(limited), all[..2]);
    // Every record is as likely as the others: 200 draws of 40, of which none is missed.
    let shown: std::collections::BTreeSet<&str> =
        all.iter().flat_map(|record| record.examples.split_terminator("\n\n")).collect();
    assert!(shown.len() > 36, "{}", shown.len());
}

#[test]
fn too_few_examples_and_examples_of_another_kind_are_mistakes() {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "set.jsonl", questions(3));
    let message = mistake("set.jsonl", with_examples(&file, None, 3, 0));
    for part in ["too few examples", "task set", "2 of 3", "--shots", "--shots-from set=FILE"] {
        assert!(message.contains(part), "{message}");
    }
    let words = write(&folder, "words.jsonl", r#"{"question": "Q", "answer": "a"}"#);
    let message = mistake("words.jsonl", with_examples(&file, Some(&words), 1, 0));
    assert!(message.contains("answered in words") && message.contains("task set"), "{message}");
    // A task in words stays as it is.
    let task = load_records(&words).unwrap();
    assert_eq!(with_examples(&words, None, 5, 0).unwrap(), task);
}

/// A hub of named files.
struct Shelf(Vec<(&'static str, PathBuf)>);

impl Fetch for Shelf {
    fn fetch(&mut self, _: &str, file: &str) -> Result<PathBuf> {
        let found = self.0.iter().find(|(name, _)| *name == file);
        Ok(found.unwrap_or_else(|| panic!("{file} is not published")).1.clone())
    }
}

#[test]
fn sets_known_by_name_have_examples_of_the_part_that_the_harness_takes() {
    let folder = TempDir::new().unwrap();
    let (train, test) = MMLU.rsplit_once('\n').unwrap();
    let columns = |lines: &str, name: &str| {
        let fields = |key: &str| -> Vec<String> {
            let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[key].clone();
            let text = |value: serde_json::Value| value.as_str().map_or(value.to_string(), str::to_owned);
            lines.lines().map(|line| text(value(line))).collect()
        };
        let all = ["question", "subject", "choices", "answer"].map(|key| (key, fields(key)));
        let views: Vec<(&str, Vec<&str>)> = all
            .iter()
            .map(|(key, values)| (*key, values.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        let columns: Vec<(&str, &[&str])> = views.iter().map(|(key, v)| (*key, v.as_slice())).collect();
        PathBuf::from(write(&folder, name, super::files::parquet(&columns)))
    };
    let mut hub = Shelf(vec![
        ("all/test-00000-of-00001.parquet", columns(test, "test.parquet")),
        ("all/dev-00000-of-00001.parquet", columns(train, "dev.parquet")),
    ]);
    let shots = ShotsSpec { count: 2, ..ShotsSpec::default() };
    let fields = FieldNames::default();
    let task = load_task("mmlu", None, &fields, &mut hub).unwrap();
    let task = put_examples(task, "mmlu", &shots, 0, &fields, &mut hub).unwrap();
    assert!(records(task)[0].examples.starts_with("2 + 2?\n"));

    // LAMBADA has one part only: its other texts are the examples.
    let texts = "{\"text\": \"He opened the door\"}\n{\"text\": \"It came to an end\"}";
    let mut hub =
        Shelf(vec![("data/lambada_test.jsonl", PathBuf::from(write(&folder, "lambada.jsonl", texts)))]);
    let shots = ShotsSpec { count: 1, ..ShotsSpec::default() };
    let task = load_task("lambada", None, &fields, &mut hub).unwrap();
    let found = records(put_examples(task, "lambada", &shots, 0, &fields, &mut hub).unwrap());
    let examples: Vec<&str> = found.iter().map(|record| record.examples.as_str()).collect();
    assert_eq!(examples, ["It came to an  end\n\n", "He opened the  door\n\n"]);
}

#[test]
fn records_that_cannot_be_examples_are_counted_aloud() {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "set.jsonl", questions(3));
    let without_answer = "{\"query\": \"Q9:\", \"choices\": [\"a\", \"b\"], \"gold\": null}\n";
    let examples = write(&folder, "examples.jsonl", questions(4) + without_answer);
    let task = with_examples(&file, Some(&examples), 2, 0).unwrap();
    let warnings = task.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("examples of task set: 1 of 5 records is left out:"), "{warnings:?}");
    // A file that has both says it once.
    assert_eq!(with_examples(&examples, None, 2, 0).unwrap().warnings().len(), 1);
}
