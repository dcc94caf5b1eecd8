use proptest::prelude::*;
use tokenizers::Tokenizer;

use super::files::{gzip, parquet};
use super::*;
use crate::skip::shared;

#[test]
fn a_text_file_is_taken_as_it_is() {
    let folder = TempDir::new().unwrap();
    let raw = " = Title = \r\n\n  Words. \n";
    let path = write(&folder, "some.book.txt", raw);
    let loaded = load_text(&path, &FieldNames::default(), &mut NoFetch).unwrap();
    assert_eq!((loaded.name.as_str(), loaded.content), ("some.book", TextContent::Whole(raw.into())));
    // Two gzip members behind each other are one file.
    let packed = [gzip(raw.as_bytes()), gzip(b"More.")].concat();
    let path = write(&folder, "packed.TXT.GZ", packed);
    assert_eq!(text(&path), TextContent::Whole(format!("{raw}More.")));
}

#[test]
fn documents_come_from_json_lines_arrays_and_parquet() {
    let folder = TempDir::new().unwrap();
    let expected = documents(&["one\n", "", "zwei ü"]);
    let lines = "\u{feff}{\"text\": \"one\\n\", \"id\": 1}\n\n{\"text\":\"\"}\r\n  {\"text\":\"zwei ü\"}";
    let array = "\n [{\"text\": \"one\\n\"},\n {\"text\": \"\"}, {\"text\": \"zwei \\u00fc\", \"n\": null}]";
    let table = parquet(&[("id", &["a", "b", "c"]), ("text", &["one\n", "", "zwei ü"])]);
    for (name, bytes) in [
        ("a.jsonl", lines.as_bytes().to_vec()),
        ("a.json", lines.as_bytes().to_vec()),
        ("a.jsonl.gz", gzip(lines.as_bytes())),
        ("b.json", array.as_bytes().to_vec()),
        ("b.json.gz", gzip(array.as_bytes())),
        ("c.parquet", table.clone()),
        ("c.parquet.gz", gzip(&table)),
    ] {
        assert_eq!(text(&write(&folder, name, bytes)), expected, "{name}");
    }
}

#[test]
fn task_records_become_prompts_with_their_answers_as_text() {
    let folder = TempDir::new().unwrap();
    let lines = "{\"instruction\":\"Add.\",\"input\":\"1, 2\",\"output\":\"3\"}\n\
                 {\"instruction\":\"Greet.\",\"references\":[\"Hi\",\"Hello\"]}\n";
    let TextContent::Documents(found) = text(&write(&folder, "t.jsonl", lines)) else { panic!("one text") };
    assert_eq!(found.len(), 2);
    assert!(
        found[0].ends_with("### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n3"),
        "{}",
        found[0]
    );
    assert!(found[1].ends_with("### Instruction:\nGreet.\n\n### Response:\nHi"), "{}", found[1]);
    let columns: [(&str, &[&str]); 3] =
        [("instruction", &["Add."]), ("input", &["1, 2"]), ("output", &["3"])];
    assert_eq!(text(&write(&folder, "t.parquet", parquet(&columns))), documents(&[&found[0]]));
}

#[test]
fn names_stand_for_files_on_the_hub() {
    let folder = TempDir::new().unwrap();
    let rows = write(&folder, "rows.parquet", parquet(&[("text", &["", " = A = \n", "words\n"])]));
    let mut hub = Hub { file: rows.into(), asked: Vec::new() };
    let loaded = load_text("wikitext2", &FieldNames::default(), &mut hub).unwrap();
    assert_eq!(loaded.name, "wikitext2");
    assert_eq!(loaded.content, TextContent::Whole("\n\n = A = \n\n\nwords\n".into()));
    let file = "wikitext-2-raw-v1/test-00000-of-00001.parquet";
    assert_eq!(hub.asked, [("Salesforce/wikitext".to_string(), file.to_string())]);

    let shard = write(&folder, "blob", gzip(b"{\"text\":\"web\"}\n"));
    let mut hub = Hub { file: shard.into(), asked: Vec::new() };
    assert_eq!(load_text("c4", &FieldNames::default(), &mut hub).unwrap().content, documents(&["web"]));
    assert_eq!(hub.asked[0].0, "allenai/c4");

    let columns: [(&str, &[&str]); 4] =
        [("instruction", &["Say hi."]), ("input", &[""]), ("output", &["hi"]), ("text", &["all of it"])];
    let table = write(&folder, "alpaca.parquet", parquet(&columns));
    let mut hub = Hub { file: table.into(), asked: Vec::new() };
    assert_eq!(
        load_text("alpaca", &FieldNames::default(), &mut hub).unwrap().content,
        documents(&["all of it"])
    );
    let task = load_task("alpaca", None, &FieldNames::default(), &mut hub).unwrap();
    assert_eq!((task.name.as_str(), task.questions()[0].references[0].as_str()), ("alpaca", "hi"));
}

#[test]
fn unknown_names_and_refused_downloads_say_what_works() {
    let message = text_mistake("wikitext3");
    for word in ["wikitext2", "c4", "alpaca", ".txt", ".parquet"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(task_mistake("c4").contains("a text, not a task"), "{}", task_mistake("c4"));
    let Err(Error::Mistake(message)) = load_text("wikitext2", &FieldNames::default(), &mut NoFetch) else {
        panic!("downloaded")
    };
    assert!(message.contains("Salesforce/wikitext") && message.contains("local file"), "{message}");
}

#[test]
fn files_that_cannot_be_a_text_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    assert!(text_mistake("no/such/file.txt").contains("no such file"));
    assert!(text_mistake("no-such-file.txt").contains("no such file"));
    assert!(text_mistake(folder.path().to_str().unwrap()).contains("folder"));
    assert!(text_mistake(&write(&folder, "a.docx", "x")).contains(".jsonl"));
    assert!(text_mistake(&write(&folder, "plain", "x")).contains("unknown kind"));
    assert!(task_mistake(&write(&folder, "task.txt", "x")).contains(".jsonl"));
    for (name, bytes) in
        [("e.txt", &b" \n\t"[..]), ("e.jsonl", b""), ("e.json", b"[]"), ("f.jsonl", b"\n{\"text\":\" \"}\n")]
    {
        assert!(text_mistake(&write(&folder, name, bytes)).contains("empty"), "{name}");
    }
    assert!(text_mistake(&write(&folder, "g.txt.gz", "no gzip")).contains("gzip"));
    let cut = gzip(&[b'x'; 100]);
    assert!(text_mistake(&write(&folder, "h.txt.gz", &cut[..cut.len() - 9])).contains("gzip"));
    assert!(text_mistake(&write(&folder, "i.parquet", "PAR1 no PAR1")).contains("parquet"));
    let table = parquet(&[("title", &["a"]), ("body", &["b"])]);
    let message = text_mistake(&write(&folder, "j.parquet", table));
    assert!(message.contains("title, body"), "{message}");
}

#[test]
fn bytes_that_are_not_utf8_are_named_by_offset() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "latin1.txt", b"gr\xfcn");
    assert!(text_mistake(&path).contains("offset 2"), "{}", text_mistake(&path));
    let path = write(&folder, "latin1.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xe9\"}\n");
    assert!(text_mistake(&path).contains("offset 22"), "{}", text_mistake(&path));
    let path = write(&folder, "first.jsonl", b"{\"text\":\"\xe9\"}\n");
    assert!(text_mistake(&path).contains("offset 9"), "{}", text_mistake(&path));
}

#[test]
fn bad_records_are_named_by_line() {
    let folder = TempDir::new().unwrap();
    let good = "{\"text\":\"a\",\"instruction\":\"i\",\"output\":\"o\"}\n";
    for (name, bad, word) in [
        ("syntax.jsonl", "{\"text\": oops}", "not JSON"),
        ("cut.jsonl", "{\"text\": \"oo", "not JSON"),
        ("number.jsonl", "7", "not a JSON object"),
        ("list.jsonl", "[\"text\"]", "not a JSON object"),
        ("field.jsonl", "{\"words\":\"a\"}", "lacks `text`"),
        ("type.jsonl", "{\"text\":3}", "found a number"),
    ] {
        let message = text_mistake(&write(&folder, name, format!("{good}\n{bad}\n{good}")));
        assert!(message.contains("line 3") && message.contains(word), "{name}: {message}");
    }
    let message = text_mistake(&write(&folder, "a.json", "[{\"text\":\"a\"},\n{\"text\":}]"));
    assert!(message.contains("line 2") && message.contains("not JSON"), "{message}");
    let message = text_mistake(&write(&folder, "b.json", "[{\"text\":\"a\"},\n{\"words\":\"a\"}]"));
    assert!(message.contains("element 2"), "{message}");
    for (name, bad, word) in [
        ("no_json.jsonl", "hello", "not JSON"),
        ("no_instruction.jsonl", "{\"output\":\"o\"}", "lacks `instruction`"),
        ("no_output.jsonl", "{\"instruction\":\"i\"}", "lacks `output`"),
        ("truth.jsonl", "{\"instruction\":\"i\",\"output\":true}", "found a boolean"),
        ("lists.jsonl", "{\"instruction\":\"i\",\"references\":[\"r\",[1]]}", "found a list"),
    ] {
        let message = task_mistake(&write(&folder, name, format!("{good}{bad}\n")));
        assert!(message.contains("line 2") && message.contains(word), "{name}: {message}");
    }
}

#[test]
fn a_question_with_an_empty_list_of_answers_is_left_out() {
    let folder = TempDir::new().unwrap();
    let lines = "{\"instruction\":\"i\",\"output\":\"o\"}\n{\"instruction\":\"i\",\"references\":[]}\n";
    let task = load_records(&write(&folder, "t.jsonl", lines)).unwrap();
    assert_eq!(task.questions(), [record("i", "", &["o"])]);
    assert!(task.warnings().concat().ends_with("1 has no accepted answer"), "{:?}", task.warnings());
}

#[test]
fn tasks_take_references_or_else_the_output() {
    let folder = TempDir::new().unwrap();
    let lines = "{\"id\":1,\"instruction\":\"Q\",\"input\":\"P\",\"output\":\"x\",\"references\":[\"a\",\"b\"]}\n\
                 {\"instruction\":\"Q2\",\"input\":null,\"output\":\"x\",\"references\":[]}\n\
                 not reached";
    let path = write(&folder, "quiz.jsonl", lines);
    let task = load_task(&path, Some(2), &FieldNames::default(), &mut NoFetch).unwrap();
    assert_eq!(task.name, "quiz");
    assert_eq!(task.questions(), [record("Q", "P", &["a", "b"]), record("Q2", "", &["x"])]);
    assert!(task_mistake(&path).contains("line 3"));
    let array = "[{\"instruction\":\"Q\",\"output\":\"x\"}]";
    let path = write(&folder, "quiz.json.gz", gzip(array.as_bytes()));
    assert_eq!(
        load_task(&path, Some(9), &FieldNames::default(), &mut NoFetch).unwrap().questions(),
        [record("Q", "", &["x"])]
    );
    assert!(task_mistake(&write(&folder, "none.jsonl", "\n\n")).contains("empty"));
    assert!(
        mistake("quiz.json.gz", load_task(&path, Some(0), &FieldNames::default(), &mut NoFetch))
            .contains("limit of 0")
    );
}

#[test]
fn the_shared_texts_and_tasks_load_whole() {
    let (Some(data), Some(tokenizer)) =
        (shared("data"), shared("models/smollm2-135m-instruct/tokenizer.json"))
    else {
        return;
    };
    let path = |file: &str| data.join(file).to_str().unwrap().to_string();
    for (file, records) in
        [("squad_short", 437), ("selfinstruct_user_oriented", 252), ("dolly_dev", 1000), ("dolly_valid", 500)]
    {
        let source = path(&format!("tasks/{file}.jsonl"));
        assert_eq!(
            load_task(&source, None, &FieldNames::default(), &mut NoFetch).unwrap().questions().len(),
            records
        );
        assert_eq!(text(&source).joined().matches("### Response:").count(), records);
    }
    let c4 = text(&path("text/c4_sample.jsonl"));
    assert!(matches!(&c4, TextContent::Documents(documents) if documents.len() == 300));
    // The same documents, joined, are the other file.
    let TextContent::Whole(joined) = text(&path("text/c4_sample.txt")) else { panic!("documents") };
    assert_eq!(c4.joined().trim_end(), joined.trim_end());

    let tokenizer = Tokenizer::from_file(tokenizer).unwrap();
    let wikitext =
        load_text(&path("text/wikitext2_raw_test.txt"), &FieldNames::default(), &mut NoFetch).unwrap();
    let windows = evaluation_windows(&wikitext, &tokenizer, 512, Some(32)).unwrap();
    assert_eq!(windows, evaluation_windows(&wikitext, &tokenizer, 512, None).unwrap()[..32]);
    assert_eq!((windows.len(), windows[31].len()), (32, 512));
    let TextContent::Whole(raw) = &wikitext.content else { panic!("documents") };
    assert!(raw.starts_with(&tokenizer.decode(&windows.concat(), false).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn text_survives_json_lines(texts in prop::collection::vec("[^\u{0}]{1,20}x", 1..6)) {
        let folder = TempDir::new().unwrap();
        let lines: String =
            texts.iter().map(|t| serde_json::json!({ "text": t }).to_string() + "\n").collect();
        prop_assert_eq!(text(&write(&folder, "t.jsonl", lines)), TextContent::Documents(texts));
    }
}
