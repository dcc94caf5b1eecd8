//! Data as people have it, through the program: what is read, what is said of it, and what is kept.

mod common;

use std::process::Output;

use common::{Place, Synthetic, prose};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

const STUDY: &str = "run --model model --methods wanda --sparsity 0.5 --seq-len 32 --calibration calibration.txt \
                     --calibration-samples 4 --corpus corpus.txt --max-windows 2 --max-new-tokens 4 --device cpu \
                     --dtype f32 --store studies.db --format json";

fn place() -> Place {
    Place::new(&Synthetic { intermediate: 96, blocks: 1, ..Synthetic::default() })
}

/// The study with other flags, which come last and win.
fn run(place: &Place, flags: &str) -> Output {
    let words: Vec<&str> = STUDY.split_whitespace().collect();
    let given: Vec<&str> = flags.split_whitespace().collect();
    let overridden = |word: &str| given.iter().any(|flag| flag.starts_with("--") && *flag == word);
    let mut line = Vec::new();
    let mut skip = false;
    for word in words {
        if word.starts_with("--") {
            skip = overridden(word);
        }
        if !skip {
            line.push(word);
        }
    }
    line.extend(given);
    place.program(&line).output().unwrap()
}

/// The report of a run that succeeds, and what it said on the way.
fn report(place: &Place, flags: &str) -> (Value, String) {
    let output = run(place, flags);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{flags}: {said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

/// The message of a run that ends with the user's mistake, and with nothing else.
fn mistake(place: &Place, flags: &str) -> String {
    let output = run(place, flags);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{flags}: {said}");
    assert!(!said.contains("panicked") && !said.contains("BACKTRACE"), "{said}");
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("error: "), "{said}");
    last
}

fn warnings(report: &Value) -> Vec<&str> {
    report["cells"][0]["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect()
}

/// Rows of one text column, in a codec that not every reader has.
fn parquet_of_texts(texts: &[String], codec: Compression) -> Vec<u8> {
    let schema = parse_message_type("message schema { REQUIRED BYTE_ARRAY text (UTF8); }").unwrap();
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), properties.into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(text.as_str())).collect();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// What a score was on the data sets of a model, the base or a cell.
fn measured<'a>(model: &'a Value, score: &str) -> Vec<&'a Value> {
    model["metrics"].as_array().unwrap().iter().filter(|m| m["score"] == score).collect()
}

#[test]
fn a_thin_calibration_set_is_said_kept_and_shown() {
    let place = place();
    // 500 records of which one is longer than a window.
    let record =
        |n: usize| json!({ "text": prose(if n == 77 { 60 } else { 8 }, n as u64) }).to_string() + "\n";
    place.write("records.jsonl", (0..500).map(record).collect::<Vec<_>>().concat());
    let (report, said) = report(&place, "--calibration records.jsonl --calibration-samples 128");
    assert!(
        said.contains("calibration set records: 128 windows of 32 tokens from 1 of 500 documents: "),
        "{said}"
    );
    let thin = "calibration set records: thin calibration, 128 windows of 32 tokens from 1 of 500 documents";
    assert_eq!(said.matches("warning: ").count(), 1, "once: {said}");
    assert!(said.contains(&format!("warning: {thin}")), "{said}");
    assert!(warnings(&report)[0].starts_with(thin), "{report}");
    for format in ["table", "json", "markdown", "csv"] {
        let shown = place.program(&["show", "--store", "studies.db", "--format", format]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains("thin calibration, 128 windows of 32 tokens from 1 of"), "{format}: {shown}");
    }
    // A dry run says it before anything is computed.
    let dry = run(&place, "--calibration records.jsonl --calibration-samples 128 --dry-run");
    assert!(String::from_utf8(dry.stderr).unwrap().contains(thin));
}

#[test]
fn a_set_that_is_not_thin_is_counted_without_a_warning() {
    let place = place();
    // Other seeds than the corpus has: what is measured must not be calibrated on.
    let texts: Vec<String> = (0..40).map(|n| prose(200, 100 + n)).collect();
    place.write(
        "web.parquet",
        parquet_of_texts(&texts, Compression::BROTLI(parquet::basic::BrotliLevel::default())),
    );
    let (report, said) = report(&place, "--calibration web.parquet --calibration-samples 8");
    assert!(said.contains("calibration set web: 8 windows of 32 tokens from "), "{said}");
    assert!(!said.contains("warning") && warnings(&report).is_empty(), "{said}");
    assert_eq!(report["cells"][0]["id"], "wanda-0.5-web-s0");
}

#[test]
fn a_mixture_is_one_set_that_draws_from_several() {
    let place = place();
    let texts: Vec<String> = (0..40).map(|n| prose(200, n)).collect();
    place.write("web.parquet", parquet_of_texts(&texts, Compression::SNAPPY));
    place.write("page.txt", prose(40, 9));
    let mixed = "--calibration web.parquet*3+page.txt --calibration-samples 8";
    let (mixed_report, said) = report(&place, mixed);
    assert!(
        said.contains("calibration set web*3+page, component web: 6 windows of 32 tokens from "),
        "{said}"
    );
    assert!(
        said.contains("calibration set web*3+page, component page: 2 windows of 32 tokens from one text"),
        "{said}"
    );
    let cell = &mixed_report["cells"][0];
    assert_eq!(
        (&cell["id"], &cell["calibration"]),
        (&json!("wanda-0.5-webx3+page-s0"), &json!("web.parquet*3+page.txt"))
    );
    // It is known again, and is neither of its components.
    let (again, said) = report(&place, &format!("{mixed} --resume"));
    assert_eq!(again["cells"][0]["metrics"], cell["metrics"], "{said}");
    let (web, _) = report(&place, "--calibration web.parquet --calibration-samples 8");
    assert_ne!(web["cells"][0]["metrics"], cell["metrics"]);
    let message = mistake(&place, "--calibration web.parquet+nothing --calibration-samples 8");
    assert!(message.contains("`nothing` is neither a file nor a known text"), "{message}");
    let message = mistake(&place, "--calibration web.parquet+page.txt --calibration-samples 1");
    assert!(message.contains("none would come from `page.txt`"), "{message}");
}

#[test]
fn calibration_text_that_is_measured_too_is_counted_said_and_kept() {
    let place = place();
    let seen = prose(2000, 50);
    place.write("seen.txt", &seen);
    // The first window is calibrated on, the second one is not: the prompt's own words do not count, the record's do.
    place.write("half.txt", format!("{}{}", &seen[..31], prose(200, 51)));
    let question =
        |instruction: &str, output: &str| json!({ "instruction": instruction, "output": output }).to_string();
    let records =
        [question(&seen[40..60], "no"), question("Who?", &seen[50..63]), question("Who?", &seen[50..62])];
    place.write("asked.jsonl", records.join("\n"));
    let choice =
        |query: &str, last: &str| json!({ "query": query, "choices": ["no", last], "gold": 0 }).to_string();
    place.write("chosen.jsonl", [choice("Who?", &seen[70..90]), choice("Who?", "yes")].join("\n"));
    let study = "--calibration seen.txt --sampling head --calibration-samples 4 --corpus half.txt corpus.txt \
                 --tasks asked.jsonl chosen.jsonl";
    let (report, said) = report(&place, study);
    let found = |data_set: &str, measured_as: &str, contaminated: u64, n: u64| {
        json!({ "calibration": "seen", "seed": 0, "data_set": data_set, "measured_as": measured_as,
                "contaminated": contaminated, "n": n })
    };
    let expected = json!([
        found("half", "corpus", 1, 2),
        found("corpus", "corpus", 0, 2),
        found("asked", "task", 2, 3),
        found("chosen", "task", 1, 2),
    ]);
    assert_eq!(report["contamination"], expected, "{said}");
    assert!(
        said.contains("calibration set seen: 13 tokens in a row of it are in 1 of 2 windows of half, 0 of 2 windows of corpus, "),
        "{said}"
    );
    let warning = "contaminated data: 1 of 2 windows of half (50.0%), 2 of 3 records of asked (66.7%) and 1 of 2 records of \
                   chosen (50.0%) hold 13 tokens in a row of calibration set seen; ";
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    // It is kept with the study.
    for format in ["table", "json", "markdown"] {
        let shown = place.program(&["show", "--store", "studies.db", "--format", format]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let beside = if format == "json" {
            "\"contaminated\": 2, \"n\": 3"
        } else {
            "half 50.0%, corpus 0.0%, asked 66.7%, chosen 50.0%."
        };
        assert!(shown.contains(beside), "{format}: {shown}");
        assert!(format == "json" || shown.contains(warning.trim_end()), "{format}: {shown}");
    }
    let dry = run(&place, &format!("{study} --dry-run"));
    assert!(String::from_utf8(dry.stderr).unwrap().contains(warning));
}

#[test]
fn records_that_are_left_out_are_counted_and_said() {
    let place = place();
    let text = |n: u64| json!({ "text": prose(100, n) }).to_string();
    place.write(
        "web.ndjson",
        [&text(1), "{\"text\": null}", &text(2), "{\"text\": NaN}", &text(3)]
            .map(std::borrow::ToOwned::to_owned)
            .join("\n"),
    );
    let squad = |answers: Value| json!({ "question": "Who?", "context": prose(40, 5), "answers": { "text": answers, "answer_start": [] } });
    place.write(
        "squad.jsonl",
        [squad(json!(["Ada", "Ada L."])), squad(json!([]))].map(|r| r.to_string()).join("\n"),
    );
    let (report, said) = report(&place, "--corpus web.ndjson --calibration web.ndjson --tasks squad.jsonl");
    assert!(
        said.contains("warning: text web: 2 of 5 records are left out: 2 have nothing in `text`"),
        "{said}"
    );
    assert!(
        said.contains("warning: task squad: 1 of 2 records is left out: 1 has no accepted answer"),
        "{said}"
    );
    assert_eq!(measured(&report["cells"][0], "exact_match")[0]["n"], 1);
    assert!(warnings(&report)[0].starts_with("text web: 2 of 5 records"), "{report}");
}

#[test]
fn tables_and_packed_files_are_read_by_their_names() {
    let place = place();
    let rows: Vec<String> = (0..30).map(|n| format!("{n},\"{}\"\n", prose(80, n))).collect();
    let table = format!("id,text\n{}", rows.concat());
    place.write("a.csv", &table);
    place.write("b.tsv.zst", zstd::stream::encode_all(table.replace(',', "\t").as_bytes(), 3).unwrap());
    let texts: Vec<String> = (0..30).map(|n| prose(80, n)).collect();
    place.write("c.parquet", parquet_of_texts(&texts, Compression::LZ4_RAW));
    let (report, _) = report(&place, "--corpus a.csv,b.tsv.zst,c.parquet");
    let perplexity = measured(&report["base"], "perplexity");
    let names: Vec<&str> = perplexity.iter().map(|p| p["data_set"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        perplexity.iter().all(|p| p["value"] == perplexity[0]["value"]),
        "the same texts: {perplexity:?}"
    );
}

#[test]
fn chats_are_asked_as_the_chat_template_has_them() {
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>";
    let place = Place::new(&Synthetic {
        chat_template: Some(template.into()),
        intermediate: 96,
        blocks: 1,
        ..Synthetic::default()
    });
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let chat = json!({ "messages": [turn("system", "Be brief."), turn("user", "A?"), turn("assistant", "a"), turn("user", "B?"), turn("assistant", "b")] });
    place.write("chat.jsonl", chat.to_string());
    let (report, _) = report(&place, "--tasks chat.jsonl");
    assert_eq!(measured(&report["base"], "exact_match")[0]["n"], 1);
    let store = secateur::store::Store::open_read_only(&place.path("studies.db")).unwrap();
    let asked = store.answers(1, None).unwrap().remove(0);
    assert_eq!(asked.prompt, "Be brief.\n\nUser: A?\n\nAssistant: a\n\nUser: B?");
    assert_eq!(asked.references, ["b"]);
}

#[test]
fn files_that_are_damaged_are_one_error() {
    let place = place();
    let whole = parquet_of_texts(&[prose(500, 1)], Compression::SNAPPY);
    place.write("cut.parquet", &whole[..whole.len() / 2]);
    place
        .write("cut.jsonl.zst", &zstd::stream::encode_all(&b"{\"text\": \"words\"}\n"[..], 3).unwrap()[..20]);
    place.write("half.jsonl", "{\"text\": \"whole\"}\n{\"text\": \"\\ud83d cut\"}\n");
    place.write("none.jsonl", "{\"words\": \"a\", \"title\": \"b\"}\n");
    for (file, parts) in [
        ("cut.parquet", ["cut.parquet", "parquet"]),
        ("cut.jsonl.zst", ["cut.jsonl.zst", "not a whole zstd file"]),
        ("half.jsonl", ["`half.jsonl`, line 2: `text` has `\\ud83d`", "remove it"]),
        ("none.jsonl", ["`none.jsonl`, line 1 lacks `text`; it has title, words;", "--fields text=body"]),
    ] {
        let message = mistake(&place, &format!("--corpus {file}"));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    assert!(!place.path("studies.db").exists());
}

#[test]
fn a_column_that_the_parquet_library_panics_at_is_one_error() {
    use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType};
    let place = place();
    let fields = "REQUIRED BYTE_ARRAY question (UTF8); REQUIRED FIXED_LEN_BYTE_ARRAY(12) answer (INTERVAL);";
    let schema = parse_message_type(&format!("message schema {{ {fields} }}")).unwrap();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), std::sync::Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[ByteArray::from("How long?")], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let value = FixedLenByteArray::from(ByteArray::from(b"twelve bytes".to_vec()));
    column.typed::<FixedLenByteArrayType>().write_batch(&[value], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    place.write("t.parquet", writer.into_inner().unwrap());
    let message = mistake(&place, "--tasks t.parquet");
    assert!(message.contains("`t.parquet`, row 1 cannot be read as parquet"), "{message}");
}

#[test]
fn home_and_variables_are_filled_in_where_no_shell_does_it() {
    let place = place();
    place.write("home/a,b.txt", prose(3000, 4));
    place.write("home/data/c.txt", prose(3000, 5));
    place.write("home/c.toml", "[evaluation]\nmax_windows = 1\n");
    let words: Vec<&str> = STUDY.split_whitespace().collect();
    let without = |flag: &str| words.iter().position(|word| *word == flag).unwrap();
    let (corpus, store) = (without("--corpus"), without("--store"));
    let line: Vec<&str> = words
        .iter()
        .enumerate()
        .filter(|(n, _)| ![corpus, corpus + 1, store, store + 1].contains(n))
        .map(|(_, w)| *w)
        .collect();
    let mut program = place.program(&line);
    program.env("DATA", place.path("home/data"));
    program.env("SECATEUR_CORPUS", "\"~/a,b.txt\",$DATA/c.txt").env("SECATEUR_STORE", "~/deep/s.db");
    program.env("SECATEUR_CONFIG", "~/c.toml");
    let output = program.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.path("home/deep/s.db").is_file() && !place.path("~").exists());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&Value> =
        measured(&report["base"], "perplexity").into_iter().map(|p| &p["data_set"]).collect();
    assert_eq!(names, ["a_b", "c"]);
    // A flag with an equals sign is left alone by most shells.
    let list = place.program(&["list", "--store=~/deep/s.db"]).output().unwrap();
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));

    let doctor = |variables: &[(&str, &str)]| {
        let mut doctor = place.program(&["doctor", "--format", "json"]);
        doctor.env_remove("HF_HOME").envs(variables.iter().copied());
        let report: Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
        report["hub"]["cache"]["path"].as_str().unwrap().to_owned()
    };
    let home = place.path("home").display().to_string();
    assert_eq!(doctor(&[("HF_HOME", "~/hf")]), format!("{home}/hf/hub"));
    assert_eq!(
        doctor(&[("HF_HOME", "~/hf"), ("HF_HUB_CACHE", "${CACHES}/hub"), ("CACHES", "/mnt")]),
        "/mnt/hub"
    );
    assert_eq!(doctor(&[("HF_HOME", "")]), format!("{home}/.cache/huggingface/hub"));
}

#[test]
fn fields_may_have_names_of_ones_own() {
    let place = place();
    place.write("q.jsonl", json!({ "q": "Add 1 and 2.", "a": { "short": 3 }, "answer": "no" }).to_string());
    place.write("w.csv", format!("body,n\n\"{}\",1\n", prose(400, 1)));
    let fields = "--fields instruction=q,output=a.short,text=body";
    let (_, said) = report(&place, &format!("--tasks q.jsonl --corpus w.csv {fields}"));
    // Of numbers exact match says little, which is told.
    assert_eq!(
        said.matches("warning").count(),
        said.matches("every accepted answer is a number").count(),
        "{said}"
    );
    let store = secateur::store::Store::open_read_only(&place.path("studies.db")).unwrap();
    let answer = store.answers(1, None).unwrap().remove(0);
    assert_eq!((answer.prompt.as_str(), answer.references), ("Add 1 and 2.", vec!["3".to_owned()]));
    // They are part of what the study is.
    assert_eq!(store.study(1).unwrap().spec.fields["instruction"], "q");
    let (_, said) = report(&place, &format!("--tasks q.jsonl --corpus w.csv {fields} --resume"));
    assert!(said.contains("study 1:"), "{said}");
    let (_, said) = report(&place, "--corpus w.csv --fields text=body --resume");
    assert!(said.contains("nothing to resume"), "{said}");
    for (flags, parts) in [
        ("--fields instruction", ["--fields", "`instruction`", "instruction=q"]),
        ("--fields question=q", ["--fields", "`question`", "instruction, input"]),
        ("--fields text=article", ["--fields text=article", "no file", "usual names"]),
        (
            "--tasks q.jsonl --fields instruction=q,output=b",
            ["q.jsonl", "lacks `b`", "one of these: q, input"],
        ),
    ] {
        let message = mistake(&place, flags);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}
