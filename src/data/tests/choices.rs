use super::files::{Leaf, write as parquet_file};
use super::*;
use crate::data::choice_record::ChoiceForm;
use parquet::basic::Compression;

fn choices(task: Task) -> Vec<ChoiceRecord> {
    match task.records {
        TaskRecords::Choices(records) => records,
        other @ TaskRecords::Questions(_) => panic!("no choices: {other:?}"),
    }
}

fn continuations(context: &str, choices: &[&str], gold: usize) -> ChoiceRecord {
    let choices = choices.iter().map(ToString::to_string).collect();
    ChoiceRecord::new(ChoiceForm::Continuations { context: context.into(), choices }, gold)
}

fn contexts(contexts: &[&str], continuation: &str, gold: usize) -> ChoiceRecord {
    let contexts = contexts.iter().map(ToString::to_string).collect();
    ChoiceRecord::new(ChoiceForm::Contexts { contexts, continuation: continuation.into() }, gold)
}

/// Each set as it is published, and what the harness asks of it.
#[test]
fn published_sets_become_the_prompts_of_the_harness() {
    let folder = TempDir::new().unwrap();
    let samples = [
        (
            r#"{"id": "x", "question": "What melts?", "choices": {"text": ["Ice", "Air"], "label": ["A", "B"]}, "answerKey": "A"}"#,
            continuations("Question: What melts?\nAnswer:", &["Ice", "Air"], 0),
        ),
        (
            r#"{"question_stem": "Ice is", "choices": {"text": ["cold", "hot"], "label": ["1", "2"]}, "answerKey": "2"}"#,
            continuations("Ice is", &["cold", "hot"], 1),
        ),
        (
            r#"{"question": " 1 + 1? ", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"], "answer": 1}"#,
            ChoiceRecord {
                description:
                    "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
                        .into(),
                ..continuations("1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:", &["A", "B", "C", "D"], 1)
            },
        ),
        (
            r#"{"ind": 1, "activity_label": "Baking", "ctx_a": "A man [header] stirs.", "ctx_b": "the Bowl", "ctx": "", "endings": ["turns [title] over  twice", "[substeps] stays"], "label": "1"}"#,
            continuations("Baking: A man stirs. The bowl", &["turns. over twice", " stays"], 1),
        ),
        (
            r#"{"goal": "Open a jar", "sol1": "Twist the lid. ", "sol2": "Wait.", "label": 0}"#,
            continuations("Question: Open a jar\nAnswer:", &["Twist the lid. ", "Wait."], 0),
        ),
        (
            r#"{"sentence": "Ann thanked Bob as _ had helped. ", "option1": "Ann", "option2": "Bob", "answer": "2"}"#,
            contexts(&["Ann thanked Bob as Ann", "Ann thanked Bob as Bob"], "had helped.", 1),
        ),
        (
            r#"{"question": "is ice cold", "passage": "Ice -- Ice is cold.", "idx": 3, "label": 1}"#,
            continuations("Ice -- Ice is cold.\nQuestion: is ice cold?\nAnswer:", &["no", "yes"], 1),
        ),
        (
            r#"{"premise": "It rained.", "choice1": "The road got wet.", "choice2": "He sang.", "question": "effect", "idx": 0, "label": 0}"#,
            continuations("It rained therefore", &[" the road got wet.", " he sang."], 0),
        ),
        (
            r#"{"query": "Q ", "choices": ["a", "b", "c"], "gold": 2}"#,
            continuations("Q ", &["a", "b", "c"], 2),
        ),
        (
            r#"{"context_options": ["x a", "x b"], "continuation": "c", "gold": 0}"#,
            contexts(&["x a", "x b"], "c", 0),
        ),
    ];
    for (line, expected) in samples {
        let found = choices(load_records(&write(&folder, "set.jsonl", line)).unwrap());
        assert_eq!(found, [expected], "{line}");
    }
    let form = ChoiceForm::LastWord { context: "the very".into(), word: "end".into() };
    let line = r#"{"context": "the very", "continuation": "end"}"#;
    let found = choices(load_records(&write(&folder, "set.jsonl", line)).unwrap());
    assert_eq!(found, [ChoiceRecord::new(form, 0)]);
}

#[test]
fn sets_of_the_hub_are_read_as_they_are_published() {
    let folder = TempDir::new().unwrap();
    let list = |name: &str| {
        format!(
            "OPTIONAL group {name} (LIST) {{ REPEATED group list {{ OPTIONAL BYTE_ARRAY element (UTF8); }} }}"
        )
    };
    let fields = format!(
        "REQUIRED BYTE_ARRAY question (UTF8); REQUIRED group choices {{ {} {} }} REQUIRED BYTE_ARRAY answerKey (UTF8);",
        list("text"),
        list("label")
    );
    let leaves = vec![
        Leaf::texts(&["What melts?", "What flies?"]),
        Leaf::lists(&[&["Ice", "Air"], &["A stone", "A bird", "Ice"]], 3),
        Leaf::lists(&[&["1", "2"], &["A", "B", "C"]], 3),
        Leaf::texts(&["1", "B"]),
    ];
    let file = write(&folder, "test.parquet", parquet_file(&fields, leaves, Compression::SNAPPY));
    let mut hub = Hub { file: file.into(), asked: Vec::new() };
    let task = load_task("arc_easy", None, &FieldNames::default(), &mut hub).unwrap();
    assert_eq!(hub.asked, [("allenai/ai2_arc".into(), "ARC-Easy/test-00000-of-00001.parquet".into())]);
    let expected = [
        continuations("Question: What melts?\nAnswer:", &["Ice", "Air"], 0),
        continuations("Question: What flies?\nAnswer:", &["A stone", "A bird", "Ice"], 1),
    ];
    assert_eq!(choices(task), expected);
}

#[test]
fn a_set_of_last_words_is_read_by_its_name_alone() {
    let folder = TempDir::new().unwrap();
    let text = write(&folder, "lambada_test.jsonl", r#"{"text": "It came to an end"}"#);
    let mut hub = Hub { file: text.clone().into(), asked: Vec::new() };
    let task = load_task("lambada", None, &FieldNames::default(), &mut hub).unwrap();
    let form = ChoiceForm::LastWord { context: "It came to an".into(), word: "end".into() };
    assert_eq!(choices(task), [ChoiceRecord::new(form, 0)]);
    assert_eq!(hub.asked[0].0, "EleutherAI/lambada_openai");
    // A file of texts is no task: nobody may have meant its last words.
    assert!(task_mistake(&text).contains("lacks `instruction`"), "{}", task_mistake(&text));
}

#[test]
fn questions_without_a_published_answer_are_left_out_and_counted() {
    let folder = TempDir::new().unwrap();
    let lines = r#"{"goal": "G", "sol1": "a", "sol2": "b", "label": -1}
{"goal": "H", "sol1": "a", "sol2": "b", "label": 1}
{"goal": "I", "sol1": "a", "sol2": "b", "label": null}
{"goal": "J", "sol1": "a", "sol2": "b", "label": ""}"#;
    let task = load_records(&write(&folder, "piqa.jsonl", lines)).unwrap();
    let warning = task.warnings().concat();
    assert!(warning.contains("3 of 4 records are left out: 3 have no accepted answer"), "{warning}");
    assert_eq!(choices(task), [continuations("Question: H\nAnswer:", &["a", "b"], 1)]);
}

#[test]
fn mistakes_name_the_field_and_the_kinds_that_are_mixed() {
    let folder = TempDir::new().unwrap();
    let wrong = write(&folder, "t.jsonl", r#"{"query": "Q", "choices": "a", "gold": 0}"#);
    assert!(task_mistake(&wrong).contains("`choices` must be a list of strings, found a string"));
    let near = write(&folder, "t.jsonl", r#"{"goal": "G", "sol1": "a", "sol2": "b"}"#);
    assert!(task_mistake(&near).contains("lacks `label`"), "{}", task_mistake(&near));
    let mixed = write(
        &folder,
        "t.jsonl",
        "{\"query\": \"Q\", \"choices\": [\"a\"], \"gold\": 0}\n{\"question\": \"Q\", \"answer\": \"a\"}",
    );
    assert!(task_mistake(&mixed).contains("line 2: questions with choices and questions without"));
    let message = task_mistake(&write(&folder, "t.jsonl", r#"{"x": 1}"#));
    for part in ["query, choices, gold", "ARC, OpenBookQA, MMLU, HellaSwag, PIQA, WinoGrande, BoolQ, COPA"] {
        assert!(message.contains(part), "{message}");
    }
}
