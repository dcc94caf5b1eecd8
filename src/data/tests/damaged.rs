//! Files that are cut off or damaged, and records of any kind: an error, never a panic.

use parquet::basic::{Compression, ZstdLevel};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::files::{gzip, squad, write as parquet_file, zstandard};
use super::*;

/// Packed and column-wise files with tasks in them.
fn whole_files() -> Vec<(&'static str, Vec<u8>)> {
    let line = |n: usize| format!("{{\"question\": \"What is {n} and {n}?\", \"answer\": {}}}\n", 2 * n);
    let lines: String = (0..40).map(line).collect();
    let rows: Vec<String> = (0..40).map(|n| format!("What is {n}?,{n}\n")).collect();
    let table = format!("question,answer\n{}", rows.concat());
    let (questions, contexts) = (vec![Some("Who?"); 12], vec![Some("Ada, or was it Charles?"); 12]);
    let answers: Vec<&[&str]> =
        (0..12).map(|n| if n % 3 == 0 { &[][..] } else { &["Ada", "Charles"][..] }).collect();
    let nested = squad(&questions, &contexts, &answers);
    let words: Vec<String> = (0..300).map(|n| format!("question {n}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let fields = "REQUIRED BYTE_ARRAY prompt (UTF8); REQUIRED BYTE_ARRAY completion (UTF8);";
    let leaves = || vec![files::Leaf::texts(&words), files::Leaf::texts(&words)];
    vec![
        ("t.jsonl.gz", gzip(lines.as_bytes())),
        ("t.jsonl.zst", zstandard(lines.as_bytes())),
        ("t.json.zst", zstandard(format!("[{}]", lines.trim().replace('\n', ",")).as_bytes())),
        ("t.csv.gz", gzip(table.as_bytes())),
        ("t.tsv.zst", zstandard(table.replace(',', "\t").as_bytes())),
        ("t.parquet.gz", gzip(&nested)),
        ("t.parquet.zst", zstandard(&nested)),
        ("snappy.parquet", parquet_file(fields, leaves(), Compression::SNAPPY)),
        ("zstd.parquet", parquet_file(fields, leaves(), Compression::ZSTD(ZstdLevel::default()))),
        ("nested.parquet", nested),
    ]
}

#[test]
fn files_that_are_cut_off_are_mistakes() {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in whole_files() {
        assert!(load_records(&write(&folder, name, &bytes)).is_ok(), "{name}");
        let step = bytes.len() / 60 + 1;
        for length in (0..bytes.len()).step_by(step).chain(bytes.len().saturating_sub(12)..bytes.len()) {
            let source = write(&folder, name, &bytes[..length]);
            task_mistake(&source);
            text_mistake(&source);
        }
    }
}

#[test]
fn columns_of_a_kind_that_nobody_knows_are_mistakes() {
    let folder = TempDir::new().unwrap();
    let fields = "REQUIRED BYTE_ARRAY question (UTF8); REQUIRED FIXED_LEN_BYTE_ARRAY(12) answer (INTERVAL);";
    let leaves = vec![files::Leaf::texts(&["How long?"]), files::Leaf::fixed(&[b"twelve bytes"])];
    let message =
        task_mistake(&write(&folder, "t.parquet", parquet_file(fields, leaves, Compression::SNAPPY)));
    assert!(message.contains("row 1 cannot be read as parquet") && message.contains("INTERVAL"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_files_end_in_no_panic(
        which in 0..10_usize, at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let folder = TempDir::new().unwrap();
        let (name, mut bytes) = whole_files().swap_remove(which);
        for (index, byte) in at {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Err(error) = load_records(&write(&folder, name, &bytes)) {
            prop_assert!(matches!(error, Error::Mistake(_)), "{error:?}");
            prop_assert!(error.to_string().contains(name), "{error}");
        }
    }
}

/// Names that some shape asks for, and others.
fn any_name() -> impl Strategy<Value = String> {
    const KNOWN: &str = "text instruction input output references question context answers answer prompt completion \
                         messages conversations role content from value answer_start";
    let known: Vec<String> = KNOWN.split_whitespace().map(str::to_owned).collect();
    prop_oneof![4 => prop::sample::select(known), 1 => ".{0,8}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just("user".to_owned()), Just("assistant".to_owned()), ".{0,12}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_name(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What is wrong with line 2 of a file whose first line is right; `None` where it is read or left out.
fn wrong_line(line: &[u8]) -> Option<String> {
    let folder = TempDir::new().unwrap();
    let first = "{\"text\": \"a\", \"question\": \"b\", \"answer\": \"c\"}\n";
    let source = write(&folder, "t.jsonl", [first.as_bytes(), line, b"\n"].concat());
    let errors = [load(&source).err(), load_records(&source).err()];
    errors.into_iter().flatten().last().map(|error| {
        let Error::Mistake(message) = error else { panic!("not a mistake: {error:?}") };
        assert!(message.contains('`'), "{message}");
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_record_is_read_or_named_by_line_and_field(fields in prop::collection::vec((any_name(), any_json()), 0..6)) {
        let record: Map<String, Value> = fields.into_iter().collect();
        let names: Vec<String> = record.keys().cloned().collect();
        if let Some(message) = wrong_line(Value::Object(record).to_string().as_bytes()) {
            prop_assert!(message.contains(", line 2"), "{message}");
            let named = names.iter().any(|name| message.contains(&format!("line 2: `{name}` ")));
            prop_assert!(named || message.contains("line 2 lacks `"), "{message}");
        }
    }

    #[test]
    fn any_line_is_read_or_named(line in prop_oneof![".{0,40}", "[\\[{}\\]\",:0-9a-zNaI\\\\u]{0,30}"]) {
        if let Some(message) = wrong_line(line.as_bytes()) {
            prop_assert!(message.contains("line 2"), "{message}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_named(line in prop::collection::vec(any::<u8>(), 0..40)) {
        // What is no text is named by its place in the file, since it may hold no lines.
        if let Some(message) = wrong_line(&line) {
            prop_assert!(message.contains("line ") || message.contains("at offset"), "{message}");
        }
    }

    #[test]
    fn any_table_is_read_or_named(table in "[a,\"\n\tü ]{0,60}", comma in any::<bool>()) {
        let folder = TempDir::new().unwrap();
        let (name, head) = if comma { ("t.csv", "question,answer\n") } else { ("t.tsv", "question\tanswer\n") };
        if let Err(error) = load_records(&write(&folder, name, format!("{head}{table}"))) {
            prop_assert!(matches!(error, Error::Mistake(_)), "{error:?}");
        }
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for field in ["text", "output", "references", "messages"] {
        let line = format!("{{\"instruction\": \"a\", \"{field}\": {}}}", deep(200_000));
        assert!(wrong_line(line.as_bytes()).unwrap().contains("line 2"));
    }
    let unread =
        format!("{{\"question\": \"a\", \"answer\": 1, \"text\": \"b\", \"trace\": {}}}", deep(200_000));
    assert_eq!(wrong_line(unread.as_bytes()), None);
}
