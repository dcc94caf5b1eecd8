use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};

use super::files::{Leaf, chats, gzip, parquet, squad, write as parquet_file, zstandard};
use super::*;

#[test]
fn every_format_gives_the_same_documents_packed_or_not() {
    let folder = TempDir::new().unwrap();
    let expected = documents(&["one, \"two\"\n", "zwei ü\tx"]);
    let lines = "{\"id\": 1, \"text\": \"one, \\\"two\\\"\\n\"}\n{\"text\": \"zwei ü\\tx\"}\n";
    let comma = "\u{feff}id,text\r\n1,\"one, \"\"two\"\"\n\"\r\n\r\n2,zwei ü\tx\r\n";
    let tab = "text\tid\n\"one, \"\"two\"\"\n\"\t1\n\"zwei ü\tx\"\t2";
    for (name, bytes) in [
        ("a.ndjson", lines.as_bytes().to_vec()),
        ("a.jsonl", lines.as_bytes().to_vec()),
        ("a.csv", comma.as_bytes().to_vec()),
        ("a.tsv", tab.as_bytes().to_vec()),
        ("a.parquet", parquet(&[("id", &["1", "2"]), ("text", &["one, \"two\"\n", "zwei ü\tx"])])),
    ] {
        assert_eq!(text(&write(&folder, name, &bytes)), expected, "{name}");
        assert_eq!(text(&write(&folder, &format!("{name}.gz"), gzip(&bytes))), expected, "{name}.gz");
        assert_eq!(text(&write(&folder, &format!("{name}.zst"), zstandard(&bytes))), expected, "{name}.zst");
    }
    let plain = write(&folder, "a.txt.zst", [zstandard(b"one "), zstandard(b"two")].concat());
    assert_eq!(text(&plain), TextContent::Whole("one two".into()));
}

#[test]
fn every_codec_of_parquet_is_read() {
    let folder = TempDir::new().unwrap();
    let words: Vec<String> = (0..500).map(|n| format!("word {n} of many words")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let file = parquet_file("REQUIRED BYTE_ARRAY text (UTF8);", vec![Leaf::texts(&words)], codec);
        assert_eq!(text(&write(&folder, "t.parquet", file)), documents(&words), "{codec}");
    }
}

#[test]
fn parquet_columns_that_are_not_text_become_answers_as_people_write_them() {
    let folder = TempDir::new().unwrap();
    let read = |fields: &str, answers: Leaf| {
        let fields = format!("REQUIRED BYTE_ARRAY question; {fields}");
        let file =
            parquet_file(&fields, vec![Leaf::texts(&["a", "b", "c"]), answers], Compression::UNCOMPRESSED);
        load_records(&write(&folder, "t.parquet", file))
    };
    let references =
        |task: &Task| task.questions().iter().flat_map(|r| r.references.clone()).collect::<Vec<_>>();
    let task = read("OPTIONAL INT64 answer;", Leaf::integers(&[Some(-3), None, Some(7)])).unwrap();
    assert_eq!(references(&task), ["-3", "7"]);
    assert_eq!(task.warnings().concat(), "task t: 1 of 3 records is left out: 1 has nothing in `answer`");
    // A column of integers in which one is missing is one of floats to pandas.
    let task =
        read("OPTIONAL DOUBLE answer;", Leaf::floats(&[Some(12.0), Some(f64::NAN), Some(0.25)])).unwrap();
    assert_eq!(references(&task), ["12", "0.25"]);
    let task = read("REQUIRED BYTE_ARRAY answer (UTF8);", Leaf::texts(&["1.0", "", "x"])).unwrap();
    assert_eq!(references(&task), ["1.0", "", "x"]);
    let message =
        mistake("t.parquet", read("OPTIONAL DOUBLE answer;", Leaf::floats(&[Some(f64::INFINITY); 3])));
    assert!(message.contains("row 1") && message.contains("infinite"), "{message}");
}

#[test]
fn nested_parquet_is_read_as_the_hub_has_it() {
    let folder = TempDir::new().unwrap();
    let file = squad(
        &[Some("Who?"), Some("When?"), None],
        &[Some("Ada wrote it."), None, Some("x")],
        &[&["Ada", "Ada L."], &[], &["x"]],
    );
    let task = load_records(&write(&folder, "squad.parquet", file)).unwrap();
    assert_eq!(task.questions(), [record("Who?", "Ada wrote it.", &["Ada", "Ada L."])]);
    assert_eq!(
        task.warnings().concat(),
        "task squad: 2 of 3 records are left out: 1 has nothing in `question`, 1 has no accepted answer"
    );
    let file = chats(&[&["user", "assistant"], &["user"]], &[&["Hi?", "Hi!"], &["Bye?"]]);
    let task = load_records(&write(&folder, "chat.parquet", file)).unwrap();
    assert_eq!(task.questions().len(), 1);
    assert_eq!(
        (task.questions()[0].instruction.as_str(), task.questions()[0].references[0].as_str()),
        ("Hi?", "Hi!")
    );
    assert!(task.warnings().concat().ends_with("1 has no accepted answer"));
}

#[test]
fn a_null_text_is_left_out_and_counted() {
    let folder = TempDir::new().unwrap();
    let rows = vec![Leaf::optional(&[Some("one"), None, Some("two")])];
    let rows = parquet_file("OPTIONAL BYTE_ARRAY text (UTF8);", rows, Compression::UNCOMPRESSED);
    for (name, bytes) in [
        ("web.parquet", rows),
        ("web.jsonl", b"{\"text\":\"one\"}\n{\"text\":null}\n{\"text\":\"two\"}\n".to_vec()),
        // pandas writes a missing value so.
        ("web.ndjson", b"{\"text\":\"one\"}\n{\"text\":NaN}\n{\"text\":\"two\"}\n".to_vec()),
        ("web.json", b"[{\"text\":\"one\"},{\"text\":null},{\"text\":\"two\"}]".to_vec()),
        ("web.csv", b"n,text\n1,one\n2,\n3,two\n".to_vec()),
    ] {
        let loaded = load(&write(&folder, name, bytes)).unwrap();
        assert_eq!(loaded.content, documents(&["one", "two"]), "{name}");
        assert_eq!(
            loaded.warning().as_deref(),
            Some("text web: 1 of 3 records is left out: 1 has nothing in `text`"),
            "{name}"
        );
    }
    let message = text_mistake(&write(&folder, "none.jsonl", "{\"text\":null}\n{\"text\":null}\n"));
    assert!(message.contains("empty") && message.contains("2 of 2 records are left out"), "{message}");
    let full = load(&write(&folder, "full.jsonl", "{\"text\":\"\"}\n{\"text\":\"a\"}\n")).unwrap();
    assert_eq!((full.content.clone(), full.warning()), (documents(&["", "a"]), None));
}

#[test]
fn tables_say_which_line_is_wrong() {
    let folder = TempDir::new().unwrap();
    for (name, table, parts) in [
        ("short.csv", &b"id,text\n1,a\n\n2\n"[..], ["line 4", "1 values where the first line has 2"]),
        ("quote.csv", b"id,text\n1,\"a\nb\"\n2,c,d\n", ["line 4", "quotes"]),
        (
            "windows.csv",
            b"\xef\xbb\xbfid,text\r\n1,\"a\r\n\r\nb\"\r\n\r\n\r\n2,c\r\n3,c,d\r\n",
            ["line 8", "3 values"],
        ),
        ("bytes.csv", b"text,id\na,1\nb\xe9,2\n", ["line 3", "not UTF-8"]),
        ("names.csv", b"words,id\na,1\n", ["lacks `text`", "words, id"]),
        ("comma.tsv", b"text,id\na,1\n", ["lacks `text`", "text,id"]),
        ("empty.csv", b"", ["empty", "no text"]),
        ("head.csv", b"text,id\n", ["empty", "no text"]),
    ] {
        let message = text_mistake(&write(&folder, name, table));
        assert!(parts.iter().all(|part| message.contains(part)), "{name}: {message}");
    }
    let message = task_mistake(&write(&folder, "t.csv", "question,context\na,b\n"));
    assert!(message.contains("lacks `answer") && message.contains("question, context"), "{message}");
}

#[test]
fn lines_of_long_tables_are_counted() {
    let folder = TempDir::new().unwrap();
    let rows: Vec<String> = (0..9000).map(|n| format!("{n},\"two\nlines\"\n\n")).collect();
    let table = format!("id,text\n{}oops\n", rows.concat());
    let message = text_mistake(&write(&folder, "long.csv", table));
    assert!(message.contains("line 27002: 1 values"), "{message}");
}

#[test]
fn tables_of_tasks_may_hold_lists_as_json() {
    let folder = TempDir::new().unwrap();
    let table =
        "question,context,answers\nWho?,,\"{\"\"text\"\": [\"\"Ada\"\", \"\"A.\"\"]}\"\nWhen?,x,1843\n";
    let task = load_records(&write(&folder, "t.csv", table)).unwrap();
    assert_eq!(task.questions(), [record("Who?", "", &["Ada", "A."]), record("When?", "x", &["1843"])]);
    // As pandas writes a column of dicts: not something to take as an answer.
    let table = "question,answers\nWho?,\"{'text': array(['Ada'], dtype=object)}\"\n";
    let message = task_mistake(&write(&folder, "u.csv", table));
    assert!(message.contains("line 2") && message.contains("`answers` is neither"), "{message}");
    let chat = "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"Hi?\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"Hi!\"\"}]\"\n";
    let task = load_records(&write(&folder, "chat.csv", chat)).unwrap();
    assert_eq!(task.questions()[0].references, ["Hi!"]);
}

#[test]
fn what_python_writes_beside_json_is_read_where_it_does_no_harm() {
    let folder = TempDir::new().unwrap();
    let line = r#"{"instruction": "Add.", "input": NaN, "score": -Infinity, "note": "\ud83d", "output": 3}"#;
    for (name, content) in [("t.jsonl", line.to_owned()), ("t.json", format!("[\n{line}\n]"))] {
        let task = load_records(&write(&folder, name, content)).unwrap();
        assert_eq!(task.questions(), [record("Add.", "", &["3"])], "{name}");
    }
    let good = "{\"instruction\": \"a\", \"output\": \"b\"}";
    for (bad, parts) in [
        (r#"{"instruction": "a \ud83d b", "output": "b"}"#, ["`instruction` has `\\ud83d`", "remove it"]),
        (
            r#"{"instruction": "a", "references": ["b", "\ude00"]}"#,
            ["`references` has `\\ude00`", "remove it"],
        ),
        (r#"{"instruction": "a", "output": Infinity}"#, ["`output`", "infinite"]),
        (r#"{"instruction": "a", "output": NaN, }"#, ["not JSON", ""]),
        (r#"{"instruction": nan, "output": 1}"#, ["not JSON", ""]),
        (r#"{"\ud83d": "a", "output": 1}"#, ["name of a field", "remove it"]),
    ] {
        let message = task_mistake(&write(&folder, "t.jsonl", format!("{good}\n\n{bad}\n")));
        assert!(message.contains("line 3"), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{bad}: {message}");
        let message = task_mistake(&write(&folder, "t.json", format!("[{good},\n\n{bad}]")));
        assert!(message.contains("line 3"), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{bad}: {message}");
    }
}

#[test]
fn arrays_that_are_broken_name_the_line() {
    let folder = TempDir::new().unwrap();
    let good = "{\"text\": \"a\"}";
    for (array, parts) in [
        (format!("[{good}\n{good}]"), ["line 2", "comma"]),
        (format!("[{good},\n{good}\n"), ["line 3", "does not end"]),
        (format!("[{good},\n]"), ["line 2", "not JSON"]),
        (format!("[\n{good}] x"), ["line 2", "after the array"]),
        (format!("[{good},\n{{\"text\": \"a]"), ["line 2", "not JSON"]),
        (format!("[{good},\n 7]"), ["element 2 (line 2)", "not a JSON object"]),
        ("{\n \"text\": \"pretty\"\n}\n".to_owned(), ["line 1", "one object a line, or one array"]),
    ] {
        let message = text_mistake(&write(&folder, "a.json", &array));
        assert!(parts.iter().all(|part| message.contains(part)), "{array}: {message}");
    }
}

#[test]
fn reading_ends_where_nobody_waits_for_it() {
    let folder = TempDir::new().unwrap();
    let line = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let array = format!("[{}{line}]", format!("{line},").repeat(20_000));
    let columns = parquet(&[("prompt", &["a"; 9]), ("completion", &["b"; 9])]);
    for (name, bytes) in [
        ("t.jsonl", line.repeat(9).into_bytes()),
        ("t.json", array.into_bytes()),
        ("t.csv", b"prompt,completion\na,b\na,b\na,b\na,b\n".to_vec()),
        ("t.parquet", columns.clone()),
        ("t.parquet.gz", gzip(&columns)),
        ("t.txt", "words ".repeat(100_000).into_bytes()),
    ] {
        let source = write(&folder, name, bytes);
        for left in [1, 3] {
            let result = load_text(&source, &FieldNames::default(), &mut Impatient { left });
            assert!(matches!(result, Err(Error::Cancelled)), "{name}: {result:?}");
        }
    }
}
