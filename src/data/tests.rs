use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::Compression as ParquetCompression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempfile::TempDir;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Tokenizer, TruncationParams};

use super::*;
use crate::error::{Error, Result};
use crate::study::Sampling;

/// A hub that has one file, and notes what it is asked for.
struct Hub {
    file: PathBuf,
    asked: Vec<(String, String)>,
}

impl Fetch for Hub {
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf> {
        self.asked.push((repo.into(), file.into()));
        Ok(self.file.clone())
    }
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A parquet file of text columns.
fn parquet(columns: &[(&str, &[&str])]) -> Vec<u8> {
    let fields: Vec<String> =
        columns.iter().map(|(name, _)| format!("REQUIRED BYTE_ARRAY {name} (UTF8);")).collect();
    let schema = parse_message_type(&format!("message schema {{ {} }}", fields.concat())).unwrap();
    let properties = WriterProperties::builder().set_compression(ParquetCompression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, values) in columns {
        let values: Vec<ByteArray> = values.iter().map(|v| ByteArray::from(*v)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

fn text(source: &str) -> Content {
    load_text(source, &mut NoFetch).unwrap().content
}

/// The message of a mistake, which must name its file.
fn mistake<T: std::fmt::Debug>(source: &str, result: Result<T>) -> String {
    let message = match result {
        Err(Error::Mistake(message)) => message,
        other => panic!("{source}: not a mistake: {other:?}"),
    };
    let name = source.rsplit('/').next().unwrap();
    assert!(message.contains(name), "`{message}` does not name {name}");
    message
}

fn text_mistake(source: &str) -> String {
    mistake(source, load_text(source, &mut NoFetch))
}

fn task_mistake(source: &str) -> String {
    mistake(source, load_task(source, None, &mut NoFetch))
}

fn documents(texts: &[&str]) -> Content {
    Content::Documents(texts.iter().map(ToString::to_string).collect())
}

/// A tokenizer whose tokens are the numbers `0 … 999`, separated by blanks.
fn numbers() -> Tokenizer {
    let vocabulary = (0..1000_u32).map(|n| (n.to_string(), n)).chain([("?".to_string(), 1000)]).collect();
    let model = WordLevel::builder().vocab(vocabulary).unk_token("?".into()).build().unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
    tokenizer
}

fn counting(range: std::ops::Range<u32>) -> String {
    range.map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
}

fn whole(content: &str) -> Text {
    Text { name: "numbers".into(), content: Content::Whole(content.into()) }
}

fn calibrate(
    text: &Text,
    samples: usize,
    seq_len: usize,
    sampling: Sampling,
    seed: u64,
) -> Result<Vec<Vec<u32>>> {
    calibration_windows(text, &numbers(), samples, seq_len, sampling, seed)
}

#[test]
fn a_text_file_is_taken_as_it_is() {
    let folder = TempDir::new().unwrap();
    let raw = " = Title = \r\n\n  Words. \n";
    let path = write(&folder, "some.book.txt", raw);
    let loaded = load_text(&path, &mut NoFetch).unwrap();
    assert_eq!((loaded.name.as_str(), loaded.content), ("some.book", Content::Whole(raw.into())));
    // Two gzip members behind each other are one file.
    let packed = [gzip(raw.as_bytes()), gzip(b"More.")].concat();
    let path = write(&folder, "packed.TXT.GZ", packed);
    assert_eq!(text(&path), Content::Whole(format!("{raw}More.")));
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
    let Content::Documents(found) = text(&write(&folder, "t.jsonl", lines)) else { panic!("one text") };
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
    let loaded = load_text("wikitext2", &mut hub).unwrap();
    assert_eq!(loaded.name, "wikitext2");
    assert_eq!(loaded.content, Content::Whole("\n\n = A = \n\n\nwords\n".into()));
    let file = "wikitext-2-raw-v1/test-00000-of-00001.parquet";
    assert_eq!(hub.asked, [("Salesforce/wikitext".to_string(), file.to_string())]);

    let shard = write(&folder, "blob", gzip(b"{\"text\":\"web\"}\n"));
    let mut hub = Hub { file: shard.into(), asked: Vec::new() };
    assert_eq!(load_text("c4", &mut hub).unwrap().content, documents(&["web"]));
    assert_eq!(hub.asked[0].0, "allenai/c4");

    let columns: [(&str, &[&str]); 4] =
        [("instruction", &["Say hi."]), ("input", &[""]), ("output", &["hi"]), ("text", &["all of it"])];
    let table = write(&folder, "alpaca.parquet", parquet(&columns));
    let mut hub = Hub { file: table.into(), asked: Vec::new() };
    assert_eq!(load_text("alpaca", &mut hub).unwrap().content, documents(&["all of it"]));
    let task = load_task("alpaca", None, &mut hub).unwrap();
    assert_eq!((task.name.as_str(), task.records[0].references[0].as_str()), ("alpaca", "hi"));
}

#[test]
fn unknown_names_and_refused_downloads_say_what_works() {
    let message = text_mistake("wikitext3");
    for word in ["wikitext2", "c4", "alpaca", ".txt", ".parquet"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(task_mistake("c4").contains("a text, not a task"), "{}", task_mistake("c4"));
    let Err(Error::Mistake(message)) = load_text("wikitext2", &mut NoFetch) else { panic!("downloaded") };
    assert!(message.contains("Salesforce/wikitext") && message.contains("local file"), "{message}");
}

#[test]
fn files_that_cannot_be_a_text_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    assert!(text_mistake("no/such/file.txt").contains("no such file"));
    assert!(text_mistake("no-such-file.txt").contains("no such file"));
    assert!(text_mistake(folder.path().to_str().unwrap()).contains("folder"));
    assert!(text_mistake(&write(&folder, "a.csv", "x")).contains(".jsonl"));
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
        ("null.jsonl", "{\"text\":null}", "lacks `text`"),
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
        ("no_output.jsonl", "{\"instruction\":\"i\",\"references\":[]}", "lacks `output`"),
        ("one_reference.jsonl", "{\"instruction\":\"i\",\"references\":\"r\"}", "a list of strings"),
        ("numbers.jsonl", "{\"instruction\":\"i\",\"references\":[\"r\",1]}", "found a number"),
    ] {
        let message = task_mistake(&write(&folder, name, format!("{good}{bad}\n")));
        assert!(message.contains("line 2") && message.contains(word), "{name}: {message}");
    }
}

#[test]
fn tasks_take_references_or_else_the_output() {
    let folder = TempDir::new().unwrap();
    let lines = "{\"id\":1,\"instruction\":\"Q\",\"input\":\"P\",\"output\":\"x\",\"references\":[\"a\",\"b\"]}\n\
                 {\"instruction\":\"Q2\",\"input\":null,\"output\":\"x\",\"references\":[]}\n\
                 not reached";
    let path = write(&folder, "quiz.jsonl", lines);
    let task = load_task(&path, Some(2), &mut NoFetch).unwrap();
    let record = |instruction: &str, input: &str, references: &[&str]| TaskRecord {
        instruction: instruction.into(),
        input: input.into(),
        references: references.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(task.name, "quiz");
    assert_eq!(task.records, [record("Q", "P", &["a", "b"]), record("Q2", "", &["x"])]);
    assert!(task_mistake(&path).contains("line 3"));
    let array = "[{\"instruction\":\"Q\",\"output\":\"x\"}]";
    let path = write(&folder, "quiz.json.gz", gzip(array.as_bytes()));
    assert_eq!(load_task(&path, Some(9), &mut NoFetch).unwrap().records, [record("Q", "", &["x"])]);
    assert!(task_mistake(&write(&folder, "none.jsonl", "\n\n")).contains("empty"));
    assert!(mistake("quiz.json.gz", load_task(&path, Some(0), &mut NoFetch)).contains("limit of 0"));
}

#[test]
fn evaluation_cuts_the_whole_text_and_drops_the_tail() {
    let windows = |text: &Text, max| evaluation_windows(text, &numbers(), 4, max).unwrap();
    let text = whole(&counting(0..11));
    assert_eq!(windows(&text, None), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    assert_eq!(windows(&text, Some(1)), [[0, 1, 2, 3]]);
    assert_eq!(windows(&text, Some(9)).len(), 2);
    let text = Text { name: "docs".into(), content: documents(&["0 1 2", "3 4", "5 6 7"]) };
    assert_eq!(windows(&text, None), [[0, 1, 2, 3], [4, 5, 6, 7]]);
}

#[test]
fn special_tokens_are_added_and_limits_of_the_tokenizer_are_not() {
    let mut tokenizer = numbers();
    let template = TemplateProcessing::builder()
        .try_single("? $A")
        .unwrap()
        .special_tokens(vec![("?", 1000)])
        .build()
        .unwrap();
    tokenizer.with_post_processor(Some(template));
    tokenizer
        .with_truncation(Some(TruncationParams { max_length: 3, ..TruncationParams::default() }))
        .unwrap();
    let windows = evaluation_windows(&whole(&counting(0..7)), &tokenizer, 4, None).unwrap();
    assert_eq!(windows, [[1000, 0, 1, 2], [3, 4, 5, 6]]);
}

#[test]
fn a_text_too_short_for_a_window_says_both_lengths() {
    let text = whole(&counting(0..7));
    let results = [
        evaluation_windows(&text, &numbers(), 8, None),
        calibrate(&text, 1, 8, Sampling::Head, 0),
        calibrate(&text, 1, 8, Sampling::Random, 0),
        calibrate(
            &Text { name: "numbers".into(), content: documents(&["0 1 2", "3 4 5 6"]) },
            1,
            8,
            Sampling::Random,
            0,
        ),
    ];
    for result in results {
        let message = mistake("numbers", result);
        assert!(message.contains("7 tokens") && message.contains('8'), "{message}");
    }
    for message in [
        calibrate(&text, 0, 4, Sampling::Head, 0).unwrap_err().to_string(),
        calibrate(&text, 1, 0, Sampling::Random, 0).unwrap_err().to_string(),
        evaluation_windows(&text, &numbers(), 0, None).unwrap_err().to_string(),
    ] {
        assert!(message.contains("at least 1"), "{message}");
    }
}

#[test]
fn head_takes_consecutive_windows_and_says_how_many_there_are() {
    let text = whole(&counting(0..11));
    assert_eq!(calibrate(&text, 2, 4, Sampling::Head, 3).unwrap(), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    let message = mistake("numbers", calibrate(&text, 3, 4, Sampling::Head, 0));
    assert!(message.contains("has 2 windows") && message.contains('3'), "{message}");
}

#[test]
fn random_windows_come_from_documents_that_are_longer_than_one() {
    // Short, exactly a window, longer: only the last can be drawn from.
    let content = Content::Documents(vec![counting(0..5), counting(100..120), counting(200..260)]);
    let text = Text { name: "docs".into(), content };
    let windows = calibrate(&text, 40, 20, Sampling::Random, 1).unwrap();
    assert_eq!(windows.len(), 40);
    for window in &windows {
        assert!((200..240).contains(&window[0]), "{window:?}");
        assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1), "{window:?}");
    }
    assert!(windows.iter().any(|window| window != &windows[0]));
}

#[test]
fn random_windows_of_short_documents_come_from_all_of_them_joined() {
    let content = Content::Documents((0..50).map(|d| counting(d * 10..d * 10 + 10)).collect());
    let windows = calibrate(&Text { name: "docs".into(), content }, 30, 25, Sampling::Random, 5).unwrap();
    assert_eq!(windows.len(), 30);
    assert!(windows.iter().all(|window| window.windows(2).all(|pair| pair[1] == pair[0] + 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_windows_are_pieces_of_the_text_and_follow_the_seed(
        length in 1..200_u32, seq_len in 1..60_usize, samples in 1..8_usize, seed: u64,
    ) {
        let text = whole(&counting(0..length));
        let drawn = calibrate(&text, samples, seq_len, Sampling::Random, seed);
        if seq_len > length as usize {
            prop_assert!(drawn.is_err());
        } else {
            let drawn = drawn.unwrap();
            prop_assert_eq!(drawn.len(), samples);
            for window in &drawn {
                prop_assert_eq!(window.len(), seq_len);
                prop_assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1));
            }
            prop_assert_eq!(drawn, calibrate(&text, samples, seq_len, Sampling::Random, seed).unwrap());
        }
    }

    #[test]
    fn evaluation_windows_are_the_text_again(length in 1..200_u32, seq_len in 1..60_usize) {
        let windows = evaluation_windows(&whole(&counting(0..length)), &numbers(), seq_len, None);
        let count = length as usize / seq_len;
        if count == 0 {
            prop_assert!(windows.is_err());
        } else {
            let joined = windows.unwrap().concat();
            prop_assert_eq!(joined, (0..(count * seq_len) as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn text_survives_json_lines(texts in prop::collection::vec("[^\u{0}]{1,20}x", 1..6)) {
        let folder = TempDir::new().unwrap();
        let lines: String =
            texts.iter().map(|t| serde_json::json!({ "text": t }).to_string() + "\n").collect();
        prop_assert_eq!(text(&write(&folder, "t.jsonl", lines)), Content::Documents(texts));
    }
}

/// A text of the built-in study and its tokenizer, which splits words as GPT-2's does.
fn stories() -> (String, Tokenizer) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let text = fs::read_to_string(demo.join("data/stories.txt")).unwrap();
    (text, Tokenizer::from_file(demo.join("model/tokenizer.json")).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_limit_of_windows_changes_none_of_them(
        start in 0..20_000_usize, strange in "\\PC{1,30}", times in 0..400_usize, limit in 1..80_usize,
        in_words in any::<bool>(), special in any::<bool>(),
    ) {
        let (stories, mut tokenizer) = stories();
        // Runs of letters without an end where a beginning is cut, and whatever Unicode has.
        let (first, rest) = stories[start..].split_at(3000);
        let text = whole(&[first, &strange.repeat(times), rest].concat());
        if !in_words {
            // As tokenizers made by SentencePiece: all of a text is one word.
            tokenizer.with_pre_tokenizer(None::<WhitespaceSplit>);
        }
        if special {
            let mut processor = TemplateProcessing::builder();
            processor.try_single("a:0 $A:0 b:0").unwrap().special_tokens(vec![("a", 3), ("b", 4)]);
            tokenizer.with_post_processor(Some(processor.build().unwrap()));
        }
        let all = evaluation_windows(&text, &tokenizer, 32, None).unwrap();
        let some = evaluation_windows(&text, &tokenizer, 32, Some(limit)).unwrap();
        prop_assert_eq!(&all[..limit.min(all.len())], &some);
        let head = calibration_windows(&text, &tokenizer, limit.min(all.len()), 32, Sampling::Head, 0).unwrap();
        prop_assert_eq!(some, head);
    }
}

#[test]
fn the_shared_texts_and_tasks_load_whole() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if !shared.is_dir() {
        eprintln!("SKIPPED: {} is absent", shared.display());
        return;
    }
    let path = |file: &str| shared.join(file).to_str().unwrap().to_string();
    for (file, records) in
        [("squad_short", 437), ("selfinstruct_user_oriented", 252), ("dolly_dev", 1000), ("dolly_valid", 500)]
    {
        let source = path(&format!("data/tasks/{file}.jsonl"));
        assert_eq!(load_task(&source, None, &mut NoFetch).unwrap().records.len(), records);
        assert_eq!(text(&source).joined().matches("### Response:").count(), records);
    }
    let c4 = text(&path("data/text/c4_sample.jsonl"));
    assert!(matches!(&c4, Content::Documents(documents) if documents.len() == 300));
    // The same documents, joined, are the other file.
    let Content::Whole(joined) = text(&path("data/text/c4_sample.txt")) else { panic!("documents") };
    assert_eq!(c4.joined().trim_end(), joined.trim_end());

    let tokenizer = Tokenizer::from_file(path("models/smollm2-135m-instruct/tokenizer.json")).unwrap();
    let wikitext = load_text(&path("data/text/wikitext2_raw_test.txt"), &mut NoFetch).unwrap();
    let windows = evaluation_windows(&wikitext, &tokenizer, 512, Some(32)).unwrap();
    assert_eq!(windows, evaluation_windows(&wikitext, &tokenizer, 512, None).unwrap()[..32]);
    assert_eq!((windows.len(), windows[31].len()), (32, 512));
    let Content::Whole(raw) = &wikitext.content else { panic!("documents") };
    assert!(raw.starts_with(&tokenizer.decode(&windows.concat(), false).unwrap()));
}
