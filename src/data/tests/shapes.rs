use std::collections::BTreeMap;

use super::super::chat::ChatTurn;
use super::super::shapes::SHAPES;
use super::*;
use crate::alpaca;

/// A record of each shape but the first, with the task that it is.
fn samples() -> Vec<(&'static str, TaskRecord)> {
    let chat = || TaskRecord { conversation: turns(&[("user", "Hi?")]), ..record("Hi?", "", &["Hi!"]) };
    vec![
        (
            r#"{"instruction": "Add.", "input": 12, "output": "3", "references": ["3", 3.0, "three"]}"#,
            record("Add.", "12", &["3", "3.0", "three"]),
        ),
        (
            r#"{"question": "Who?", "context": "Ada.", "answers": {"text": ["Ada"], "answer_start": [0]}}"#,
            record("Who?", "Ada.", &["Ada"]),
        ),
        (r#"{"question": "2+2?", "answer": "4"}"#, record("2+2?", "", &["4"])),
        (r#"{"prompt": "Once", "completion": " upon"}"#, record("Once", "", &[" upon"])),
        (
            r#"{"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hi!"}]}"#,
            chat(),
        ),
        (
            r#"{"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hi!"}]}"#,
            chat(),
        ),
    ]
}

fn turns(said: &[(&str, &str)]) -> Vec<ChatTurn> {
    said.iter().map(|(role, content)| ChatTurn { role: (*role).into(), content: (*content).into() }).collect()
}

fn named(words: &[&str]) -> FieldNames {
    let names: BTreeMap<String, String> = FieldNames::parse(words.iter().copied()).unwrap();
    FieldNames::new(&names).unwrap()
}

#[test]
fn every_shape_is_read_as_a_task_and_as_a_text() {
    let folder = TempDir::new().unwrap();
    let samples = samples();
    assert_eq!(1 + samples.len(), SHAPES.len(), "a sample of each");
    for (line, expected) in samples {
        let source = write(&folder, "t.jsonl", line);
        assert_eq!(load_records(&source).unwrap().questions(), std::slice::from_ref(&expected), "{line}");
        let document = alpaca::document(&expected.instruction, &expected.input, &expected.references[0]);
        assert_eq!(text(&source), documents(&[&document]), "{line}");
    }
    let source = write(&folder, "t.jsonl", r#"{"text": "Hello."}"#);
    assert_eq!(text(&source), documents(&["Hello."]));
    assert!(task_mistake(&source).contains("lacks `instruction`; it has text; a task record has one of"));
}

#[test]
fn answers_come_in_every_form_that_people_have() {
    let folder = TempDir::new().unwrap();
    for (answers, expected) in [
        (r#""references": "one""#, vec!["one"]),
        (r#""references": 12345678901234567890123"#, vec!["12345678901234567890123"]),
        (r#""output": -0.50"#, vec!["-0.50"]),
        (r#""output": ["a", 2]"#, vec!["a", "2"]),
        (r#""references": [], "output": 7"#, vec!["7"]),
        (r#""references": null, "output": "x""#, vec!["x"]),
        (r#""references": [{"text": "a", "answer_start": 3}, {"text": "b"}]"#, vec!["a", "b"]),
        (r#""output": """#, vec![""]),
    ] {
        let line = format!("{{\"instruction\": \"Q\", {answers}}}");
        let task = load_records(&write(&folder, "t.jsonl", line)).unwrap();
        assert_eq!(task.questions()[0].references, expected, "{answers}");
    }
}

#[test]
fn texts_that_begin_with_a_bracket_are_texts() {
    let folder = TempDir::new().unwrap();
    let texts = ["[3, 5]", "{'a': 1}", "[unfinished", "{\"text\": \"x\"}", "[{\"role\": \"user\"}]"];
    let line =
        |n: usize| serde_json::json!({ "prompt": texts[n], "completion": texts[n] }).to_string() + "\n";
    let lines: String = (0..texts.len()).map(line).collect();
    let row = |n: usize| {
        let quoted = texts[n].replace('"', "\"\"");
        format!("\"{quoted}\",\"{quoted}\"\n")
    };
    let rows: Vec<String> = (0..texts.len()).map(row).collect();
    for (name, content) in [("t.jsonl", lines), ("t.csv", format!("prompt,completion\n{}", rows.concat()))] {
        let task = load_records(&write(&folder, name, content)).unwrap();
        let expected: Vec<TaskRecord> = texts.iter().map(|text| record(text, "", &[text])).collect();
        assert_eq!(task.questions(), expected, "{name}");
    }
    let line = serde_json::json!({ "question": "{1, 2}?", "answers": "{1, 2}" }).to_string();
    let task = load_records(&write(&folder, "q.jsonl", line)).unwrap();
    assert_eq!(task.questions(), [record("{1, 2}?", "", &["{1, 2}"])]);
}

#[test]
fn prompts_may_be_conversations() {
    let folder = TempDir::new().unwrap();
    let line = r#"{"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi?"}]}], "completion": [{"role": "assistant", "content": "Hi!"}]}"#;
    let task = load_records(&write(&folder, "t.jsonl", line)).unwrap();
    assert_eq!(task.questions()[0].conversation, turns(&[("system", "Be brief."), ("user", "Hi?")]));
    assert_eq!(task.questions()[0].instruction, "Be brief.\n\nHi?");
    assert_eq!(task.questions()[0].references, ["Hi!"]);
}

#[test]
fn chats_that_cannot_be_asked_are_left_out() {
    let folder = TempDir::new().unwrap();
    let message = |role: &str, content: &str| format!(r#"{{"role": "{role}", "content": {content}}}"#);
    let chat = |messages: &[String]| format!("{{\"messages\": [{}]}}\n", messages.join(", "));
    let lines = [
        chat(&[message("user", "\"A?\""), message("assistant", "\"a\""), message("user", "\"B?\"")]),
        chat(&[message("user", "\"A?\"")]),
        chat(&[message("assistant", "\"a\"")]),
        chat(&[message("user", "\"A?\""), message("assistant", "null"), message("assistant", "\"a\"")]),
        chat(&[message("user", r#"[{"type": "image_url"}]"#), message("assistant", "\"a\"")]),
        "{\"messages\": null}\n".to_owned(),
        chat(&[]),
    ];
    let task = load_records(&write(&folder, "chat.jsonl", lines.concat())).unwrap();
    assert_eq!(task.questions().len(), 1);
    assert_eq!(task.questions()[0].conversation, turns(&[("user", "A?")]));
    assert_eq!(
        task.warnings().concat(),
        "task chat: 6 of 7 records are left out: 1 has nothing in `messages`, 3 have no accepted answer, \
         2 have a message without text"
    );
    for (bad, parts) in [
        ("{\"messages\": \"hi\"}", ["`messages`", "a list of messages"]),
        ("{\"messages\": [\"hi\"]}", ["message 1", "{role, content}"]),
        ("{\"messages\": [{\"content\": \"hi\"}]}", ["message 1", "no role"]),
        ("{\"messages\": [{\"role\": \"user\", \"content\": true}]}", ["message 1", "a boolean"]),
    ] {
        let message = task_mistake(&write(&folder, "bad.jsonl", format!("{}{bad}", lines[0])));
        assert!(message.contains("line 2"), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn a_record_that_fits_none_says_what_it_has_and_what_is_accepted() {
    let folder = TempDir::new().unwrap();
    let message = task_mistake(&write(&folder, "t.jsonl", "{\"question\": \"a\", \"response\": \"b\"}"));
    assert_eq!(
        message.split_once("line 1").unwrap().1,
        " lacks `answers`; it has question, response; a task record has one of these: \
         instruction, input (optional), references or output; question, context (optional), answers; \
         question, context (optional), answer; prompt, completion; messages; conversations; \
         query, choices, gold; context_options, continuation, gold; context, continuation; \
         the fields of ARC, OpenBookQA, MMLU, HellaSwag, PIQA, WinoGrande, BoolQ, COPA as they are published; \
         --fields says what they are called here: --fields instruction=q,output=a"
    );
    let many: Vec<String> = (0..30).map(|n| format!("\"f{n}\": {n}")).collect();
    let message = text_mistake(&write(&folder, "u.jsonl", format!("{{{}}}", many.join(","))));
    assert!(message.contains("lacks `text`") && message.contains("and 10 more"), "{message}");
    assert!(text_mistake(&write(&folder, "v.jsonl", "{}")).contains("it has no field"));
}

#[test]
fn fields_may_have_names_of_ones_own() {
    let folder = TempDir::new().unwrap();
    let source =
        write(&folder, "t.jsonl", r#"{"q": "Who?", "p": "Ada.", "a": {"short": ["Ada"]}, "output": "no"}"#);
    let names = named(&["instruction=q", "input=p", "output=a.short"]);
    let task = load_task(&source, None, &names, &mut NoFetch).unwrap();
    assert_eq!(task.questions(), [record("Who?", "Ada.", &["Ada"])]);
    assert!(task.names_used);
    let document = load_text(&source, &names, &mut NoFetch).unwrap();
    assert_eq!(document.content, documents(&[&alpaca::document("Who?", "Ada.", "Ada")]));

    let source = write(&folder, "t.csv", "body,text\nx,y\n");
    let loaded = load_text(&source, &named(&["text=body"]), &mut NoFetch).unwrap();
    assert_eq!((loaded.content, loaded.names_used), (documents(&["x"]), true));
    // Files that have the usual names need no others.
    let loaded = load_text(&source, &named(&["text=article"]), &mut NoFetch).unwrap();
    assert_eq!((loaded.content, loaded.names_used), (documents(&["y"]), false));

    let message =
        mistake("t.jsonl", load_task(&write(&folder, "t.jsonl", "{\"q\": 1}"), None, &names, &mut NoFetch));
    assert!(message.contains("lacks `a.short`; it has q; "), "{message}");
    assert!(message.contains("one of these: q, p (optional), a.short; instruction"), "{message}");
}

#[test]
fn a_limit_counts_the_records_that_are_taken() {
    let folder = TempDir::new().unwrap();
    let line = |answer: &str| format!("{{\"question\": \"Q\", \"answer\": {answer}}}\n");
    let source = write(&folder, "t.jsonl", [line("null"), line("1"), line("2"), "oops".into()].concat());
    let task = load_task(&source, Some(2), &FieldNames::default(), &mut NoFetch).unwrap();
    assert_eq!(task.questions().len(), 2);
    assert_eq!(task.warnings().concat(), "task t: 1 of 3 records is left out: 1 has nothing in `answer`");
}

#[test]
fn every_shape_and_every_format_is_in_the_documents() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/data.md")).unwrap();
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    for shape in SHAPES.iter().filter(|shape| shape.is_task()) {
        let fields: Vec<String> = shape.fields().into_iter().map(|field| format!("`{field}`")).collect();
        let has_all = |row: &&&str| {
            let cell = row.split('|').nth(1).unwrap_or_default();
            cell.matches('`').count() == 2 * fields.len() && fields.iter().all(|field| cell.contains(field))
        };
        assert_eq!(rows.iter().filter(has_all).count(), 1, "{fields:?}");
    }
    assert!(document.contains("the field `text`"));
    for extension in super::super::format::extensions(true).split([' ', ',', '(', ')']) {
        assert!(!extension.starts_with('.') || document.contains(&format!("`{extension}`")), "{extension}");
    }
}
