//! Every mistake that people make, through the program itself: exit code 2 and one line that says what was found,
//! where, and what is accepted.

mod common;

use std::process::Output;

use common::{Place, Synthetic};
use secateur::model::ARCHITECTURES;
use serde_json::{Value, json};

/// Settings of a study that works; every case spoils one thing.
const CONFIG: &str = r#"
[study]
model = "model"
methods = ["wanda"]
sparsity = [0.5]
seq_len = 32

[calibration]
sets = ["calibration.txt"]
samples = 4

[evaluation]
corpora = ["corpus.txt"]
max_windows = 4
max_new_tokens = 4

[compute]
device = "cpu"

[output]
store = "studies.db"
"#;

const MODEL: &str = "model/model.safetensors";

fn place() -> Place {
    let place = Place::new(&Synthetic { intermediate: 96, blocks: 2, ..Synthetic::default() });
    place.write("config.toml", CONFIG);
    place
}

fn run(place: &Place, line: &[&str]) -> Output {
    place.program(&[&["run"], line].concat()).output().unwrap()
}

/// Asserts that a run ended as a mistake does, and returns the message.
fn mistake(name: &str, output: &Output, parts: &[&str]) -> String {
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{name}: {err}");
    assert!(output.stdout.is_empty(), "{name}");
    let (last, before) =
        err.lines().collect::<Vec<_>>().split_last().map(|(l, b)| ((*l).to_owned(), b.len())).unwrap();
    assert!(last.starts_with("error: "), "{name}: {err}");
    // At most what is being done is said before it.
    assert!(
        err.lines().take(before).all(|line| line.starts_with("base: ")
            || line.starts_with("calibration ")
            || line.starts_with("warning: ")
            || line.starts_with("study ")
            || line.starts_with("needs ")
            || line.starts_with("looking for ")),
        "{name}: {err}"
    );
    assert!(!err.contains(|c: char| c.is_control() && c != '\n'), "{name}: it steers the terminal: {err:?}");
    for word in ["panicked", "BACKTRACE", "backtrace", "Os {", "Location:"] {
        assert!(!err.contains(word), "{name}: {err}");
    }
    for part in parts {
        assert!(last.contains(part), "{name}: no `{part}` in: {last}");
    }
    println!("{name}\n    {last}");
    last
}

/// A case: what is spoilt, what is typed, what must be said.
struct Case {
    name: &'static str,
    spoil: Box<dyn Fn(&Place)>,
    line: Vec<&'static str>,
    parts: Vec<&'static str>,
}

fn case(
    name: &'static str,
    spoil: impl Fn(&Place) + 'static,
    line: &'static str,
    parts: &[&'static str],
) -> Case {
    Case { name, spoil: Box::new(spoil), line: line.split_whitespace().collect(), parts: parts.to_vec() }
}

fn check(cases: Vec<Case>) {
    for Case { name, spoil, line, parts } in cases {
        let place = place();
        spoil(&place);
        let had_store = place.path("studies.db").exists();
        let output = run(&place, &line);
        mistake(name, &output, &parts);
        let begun = String::from_utf8_lossy(&output.stderr).lines().any(|line| line.starts_with("study "));
        assert_eq!(place.path("studies.db").exists(), had_store || begun, "{name}: an empty store");
    }
}

fn nothing(_: &Place) {}

fn remove(file: &'static str) -> impl Fn(&Place) {
    move |place| std::fs::remove_file(place.path(file)).unwrap()
}

fn write(file: &'static str, content: &'static [u8]) -> impl Fn(&Place) {
    move |place| drop(place.write(file, content))
}

/// Changes a key of the model's `config.json`.
fn config(key: &'static str, value: Value) -> impl Fn(&Place) {
    move |place| {
        let path = place.path("model/config.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json[key] = value.clone();
        std::fs::write(path, json.to_string()).unwrap();
    }
}

/// The header's length and text, and the data of the model's weights.
fn weights(place: &Place) -> (Value, Vec<u8>) {
    let bytes = std::fs::read(place.path(MODEL)).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..end]).unwrap(), bytes[end..].to_vec())
}

/// Writes weights with a header that was changed.
fn header(change: impl Fn(&mut Value) + 'static) -> impl Fn(&Place) {
    move |place| {
        let (mut header, data) = weights(place);
        change(&mut header);
        let header = header.to_string().into_bytes();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        place.write(MODEL, bytes);
    }
}

const UP: &str = "model.layers.1.mlp.up_proj.weight";

fn rename(header: &mut Value) {
    let tensors = header.as_object_mut().unwrap();
    let up = tensors.remove(UP).unwrap();
    tensors.insert("model.layers.1.mlp.upper.weight".into(), up);
}

fn nan(place: &Place) {
    let (header, mut data) = weights(place);
    let at = header[UP]["data_offsets"][0].as_u64().unwrap() as usize;
    data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let header = header.to_string().into_bytes();
    place.write(MODEL, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat());
}

#[test]
fn what_works_works() {
    let output = run(&place(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn models_that_are_not_there_or_not_whole() {
    check(vec![
        case("no such folder", nothing, "--model ./models/none", &["./models/none"]),
        case("a file", nothing, "--model ./corpus.txt", &["./corpus.txt", "folder"]),
        case("no config.json", remove("model/config.json"), "", &["model", "config.json"]),
        case("no weights", remove(MODEL), "", &["model", "safetensors"]),
        case("no tokenizer", remove("model/tokenizer.json"), "", &["tokenizer.json"]),
        case("a tokenizer that is none", write("model/tokenizer.json", b"{}"), "", &["tokenizer.json"]),
        case("a config that is no JSON", write("model/config.json", b"{"), "", &["config.json"]),
        case(
            "a shard is missing",
            |place| {
                std::fs::remove_dir_all(place.path("model")).unwrap();
                Synthetic { sharded: Some(3), ..Synthetic::default() }.write(&place.path("model")).unwrap();
                std::fs::remove_file(place.path("model/model-00002-of-00003.safetensors")).unwrap();
            },
            "",
            &["model-00002-of-00003.safetensors"],
        ),
    ]);
}

#[test]
fn weights_that_lie() {
    check(vec![
        case(
            "truncated",
            |place| {
                let file = std::fs::File::options().write(true).open(place.path(MODEL)).unwrap();
                file.set_len(file.metadata().unwrap().len() - 1000).unwrap();
            },
            "",
            &["model.safetensors"],
        ),
        case("an empty file", write(MODEL, b""), "", &["model.safetensors"]),
        case(
            "the header's length lies",
            |place| {
                let mut bytes = std::fs::read(place.path(MODEL)).unwrap();
                bytes[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
                place.write(MODEL, bytes);
            },
            "",
            &["model.safetensors", "header"],
        ),
        case(
            "offsets out of range",
            header(|h| h[UP]["data_offsets"] = json!([0, 1u64 << 40])),
            "",
            &["model.safetensors", UP],
        ),
        case("a tensor is missing", header(rename), "", &["model", UP]),
        case(
            "a dtype that nothing computes",
            header(|h| h[UP]["dtype"] = json!("I32")),
            "",
            &[UP, "I32", "F32"],
        ),
        case("a number that is none", nan, "", &[UP, "NaN"]),
        case(
            "a shape that contradicts the config",
            config("intermediate_size", json!(80)),
            "",
            &["mlp.gate_proj.weight", "[96, 64]", "[80, 64]"],
        ),
        case(
            "an unknown architecture",
            config("architectures", json!(["MambaForCausalLM"])),
            "",
            &["config.json", "MambaForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM"],
        ),
        case(
            "an architecture that steers the terminal",
            config("architectures", json!(["Evil\u{1b}]0;owned\u{7}"])),
            "",
            &["config.json", "Evil\\x1b]0;owned\\x07"],
        ),
    ]);
}

#[test]
fn sparsities_and_other_settings() {
    check(vec![
        case(
            "more windows than there is memory for",
            nothing,
            "--calibration-samples 1000000000 --seq-len 64",
            &["--calibration-samples", "1000000000 windows of 64 tokens", "are free"],
        ),
        case(
            "more than is counted",
            nothing,
            "--batch-prompts 2305843009213693952",
            &["--batch-prompts", "1000000000"],
        ),
        case("sparsity 1.0", nothing, "--sparsity 1.0", &["--sparsity", "`1.0`", "2:4"]),
        case("sparsity below 0", nothing, "--sparsity -0.1", &["--sparsity", "`-0.1`", "2:4"]),
        case("4:2", nothing, "--sparsity 4:2", &["--sparsity", "`4:2`", "2:4"]),
        case("3:7", nothing, "--sparsity 3:7", &["3:7", "64 columns", "q_proj"]),
        case("an unknown method", nothing, "--methods obs", &["--methods", "`obs`", "sparsegpt"]),
        case("an unknown dtype", nothing, "--dtype f64", &["--dtype", "`f64`", "bf16"]),
        case("an unknown device", nothing, "--device tpu", &["--device", "`tpu`", "cuda"]),
        case(
            "an unknown key",
            write("config.toml", b"[study]\nmodel = \"model\"\nsparsities = [0.5]\n"),
            "",
            &["config.toml:3", "`sparsities`", "`sparsity`"],
        ),
        case("a config file that is not there", nothing, "--config mine.toml", &["mine.toml"]),
        case("windows longer than the context", nothing, "--seq-len 4096", &["4096", "512"]),
        case("blocks that are not there", nothing, "--blocks 1..9", &["1..9", "0..2"]),
        case("a range that is none", nothing, "--blocks 2..1", &["--blocks", "`2..1`", "a..b"]),
        case("a module that is not there", nothing, "--modules lm_head", &["modules: `lm_head`", "q_proj"]),
        case("a profile that is not there", nothing, "--profile none.txt", &["none.txt"]),
        case(
            "a profile of another model",
            write("p.txt", b"1 1 1"),
            "--profile p.txt",
            &["p.txt", "3", "2 blocks"],
        ),
        case(
            "a prompt without a place",
            nothing,
            "--prompt hello",
            &["--prompt", "`hello`", "{instruction}"],
        ),
        case("nothing to measure", nothing, "--corpus= --tasks=", &["--corpus", "--tasks"]),
        case("nothing to calibrate with", nothing, "--calibration=", &["--calibration", "wanda"]),
    ]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn searches_that_cannot_find_anything() {
    let place = place();
    let search = |line: &[&str]| place.program(&[&["find"], line].concat()).output().unwrap();
    for (name, recipe, until, more, parts) in [
        (
            "an unknown score",
            "wanda",
            "speed<=3",
            &[][..],
            &["--until", "`speed<=3`", "`speed`", "perplexity, js, kl"][..],
        ),
        (
            "the wrong sign",
            "wanda",
            "js<0.05",
            &[],
            &["--until", "`js<0.05`", "found `<`", "accepted are `<=` and `>=`"],
        ),
        (
            "the wrong side",
            "wanda",
            "js>=0.05",
            &[],
            &["found `>=`", "less of js is better, accepted is `<=`"],
        ),
        ("no number", "wanda", "js<=small", &[], &["found `small`", "accepted for js is a number (0.05)"]),
        ("out of range", "wanda", "js<=2", &[], &["found `2`", "js lies between 0 and 1"]),
        (
            "a score of tasks",
            "wanda",
            "f1>=95%",
            &[],
            &["--until", "f1 is measured on tasks", "--tasks is empty"],
        ),
        (
            "a size of zeros",
            "wanda",
            "size<=40%",
            &[],
            &["--until", "an export stores a zero like any other weight"],
        ),
        (
            "a recipe that is none",
            "wandb",
            "js<=0.05",
            &[],
            &["--recipe", "`wandb`", "accepted are magnitude, wanda"],
        ),
        (
            "no level open",
            "wanda@2:4+rtn@4bit",
            "js<=0.05",
            &[],
            &["--recipe", "found none", "accepted is one"],
        ),
        ("a step of bits", "rtn", "js<=0.05", &["--step", "1%"], &["--step: `1%`", "rtn has no sparsities"]),
        (
            "several sets",
            "wanda",
            "js<=0.05",
            &["--calibration", "calibration.txt,corpus.txt"],
            &["--calibration", "corpus.txt", "accepted is one set"],
        ),
    ] {
        let output = search(&[&["--recipe", recipe, "--until", until], more].concat());
        mistake(name, &output, parts);
        assert!(!place.path("studies.db").exists(), "{name}: an empty store");
    }
    // What can only be known when the base is measured.
    let output = search(&["--recipe", "wanda", "--until", "acc>=90%", "--tasks", "tasks.jsonl"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{err}");
    let last = err.lines().last().unwrap();
    assert!(last.starts_with("error: bound `acc>=90% of the base`: this study measures no acc"), "{err}");
}

#[test]
fn a_gpu_in_a_build_without_one() {
    check(vec![
        case("cuda", nothing, "--device cuda", &["`cuda`", "--features cuda"]),
        case("cuda:1", nothing, "--device cuda:1", &["`cuda:1`", "--features cuda"]),
        case("bf16 on the cpu", nothing, "--dtype bf16", &["--dtype", "`bf16`", "f32"]),
    ]);
}

#[test]
fn texts_and_tasks() {
    check(vec![
        case("no such text", nothing, "--corpus none.txt", &["none.txt"]),
        case("no such name", nothing, "--corpus wikitext3", &["`wikitext3`", "wikitext2"]),
        case("an empty text", write("empty.txt", b" \n"), "--corpus empty.txt", &["empty.txt", "empty"]),
        case(
            "not UTF-8",
            write("latin.txt", b"caf\xe9 au lait"),
            "--corpus latin.txt",
            &["latin.txt", "UTF-8", "offset 3"],
        ),
        case(
            "too short",
            write("short.txt", b"ten tokens"),
            "--corpus short.txt",
            &["short", "11 tokens", "32"],
        ),
        case(
            "too short to calibrate",
            write("s.txt", b"ten tokens"),
            "--calibration s.txt",
            &["`s`", "11 tokens", "32"],
        ),
        case(
            "too few windows at the head",
            nothing,
            "--sampling head --calibration-samples 5000",
            &["calibration", "5000", "32 tokens"],
        ),
        case("an unknown kind of text", write("a.docx", b"x"), "--corpus a.docx", &["a.docx", ".parquet"]),
        case("a text that is no parquet", write("a.parquet", b"x"), "--corpus a.parquet", &["a.parquet"]),
        case("a text that is no gzip", write("a.txt.gz", b"x"), "--corpus a.txt.gz", &["a.txt.gz", "gzip"]),
        case(
            "a task line that is no JSON",
            write("t.jsonl", b"{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": oops}\n"),
            "--tasks t.jsonl",
            &["t.jsonl", "line 2", "not JSON"],
        ),
        case(
            "a task without an answer",
            write("t.jsonl", b"{\"instruction\": \"a\"}\n"),
            "--tasks t.jsonl",
            &["t.jsonl", "line 1", "`output`", "references"],
        ),
        case("an empty task", write("t.jsonl", b""), "--tasks t.jsonl", &["t.jsonl", "empty"]),
        case("no such task", nothing, "--tasks squad", &["`squad`", "alpaca"]),
        case(
            "two texts of one name",
            write("b/corpus.txt", b"x"),
            "--corpus corpus.txt b/corpus.txt",
            &["corpus.txt", "b/corpus.txt"],
        ),
    ]);
}

#[test]
fn stores_that_are_none() {
    fn sqlite(place: &Place, sql: &str) {
        rusqlite::Connection::open(place.path("studies.db")).unwrap().execute_batch(sql).unwrap();
    }
    check(vec![
        case(
            "a text",
            write("studies.db", b"Dear diary, today I wrote no database."),
            "",
            &["studies.db", "not a store", "--store"],
        ),
        case(
            "another program's",
            |p| sqlite(p, "CREATE TABLE t (x)"),
            "",
            &["studies.db", "another program", "--store"],
        ),
        case(
            "a newer version's",
            |p| {
                assert!(run(p, &[]).status.success());
                sqlite(p, "PRAGMA user_version = 99");
            },
            "",
            &["studies.db", "version 99", "newer", "--store"],
        ),
        case(
            "a folder",
            |p| std::fs::create_dir(p.path("studies.db")).unwrap(),
            "",
            &["studies.db", "folder", "--store"],
        ),
        case("below a file", nothing, "--store corpus.txt/s.db", &["corpus.txt/s.db", "--store"]),
    ]);
    #[cfg(target_os = "linux")]
    check(vec![case(
        "where nothing can be written",
        nothing,
        "--store /proc/s.db",
        &["/proc/s.db", "--store"],
    )]);
}

#[test]
fn folders_that_cannot_be_written() {
    check(vec![
        case("below a file", nothing, "--save-models corpus.txt/out", &["corpus.txt/out"]),
        case(
            "in use",
            write("out/wanda-0.5-calibration-s0/config.json", b"{}"),
            "--save-models out",
            &["out/wanda-0.5-calibration-s0", "empty"],
        ),
    ]);
    #[cfg(target_os = "linux")]
    check(vec![case("where nothing can be written", nothing, "--save-models /proc/out", &["/proc/out"])]);

    let place = place();
    assert!(run(&place, &[]).status.success());
    let export = |line: &[&str]| {
        let line = [&["export", "--store", "studies.db"], line].concat();
        place.program(&line).output().unwrap()
    };
    mistake(
        "export below a file",
        &export(&["wanda-0.5-calibration-s0", "corpus.txt/out"]),
        &["corpus.txt/out"],
    );
    mistake("export into the model", &export(&["wanda-0.5-calibration-s0", "model"]), &["model", "empty"]);
    mistake(
        "export of nothing",
        &export(&["wanda-0.9", "out"]),
        &["`wanda-0.9`", "wanda-0.5-calibration-s0"],
    );
    mistake(
        "importance of a cell",
        &export(&["wanda-0.5-calibration-s0", "out", "--as", "imatrix"]),
        &["`base`", "`wanda-0.5-calibration-s0`"],
    );
    mistake(
        "importance from nothing",
        &export(&["base", "out", "--as", "imatrix", "--calibration", "gone.txt"]),
        &["gone.txt"],
    );
    mistake(
        "a calibration set for a model",
        &export(&["base", "out", "--calibration", "corpus.txt"]),
        &["--calibration", "--as imatrix"],
    );
    mistake(
        "export of no study",
        &export(&["wanda-0.5-calibration-s0", "out", "--study", "7"]),
        &["study 7"],
    );
    assert!(!place.path("out").exists());
}

#[test]
fn a_store_in_use_is_told_and_left_alone() {
    let place = place();
    // Answers that last until everything has been looked at.
    config("max_position_embeddings", json!(8192))(&place);
    let mut holder =
        place.program(&["run", "--tasks", "tasks.jsonl", "--max-new-tokens", "6000", "--format", "jsonl"]);
    let mut holder = holder.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(holder.stdout.take().unwrap());
    while !line.contains("\"plan\"") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut lines, &mut line).unwrap() > 0);
    }
    let process = format!("process {}", holder.id());
    mistake("in use", &run(&place, &[]), &["studies.db", &process, "--store"]);
    let list = place.program(&["list", "--store", "studies.db"]).output().unwrap();
    assert!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("running"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(run(&place, &["--resume"]).status.success(), "nothing was damaged");
}

#[test]
fn more_memory_than_there_is_is_refused_unless_forced() {
    let place = place();
    config("max_position_embeddings", json!(2_000_000_000))(&place);
    // The keys and values of such answers would fill any machine.
    let line = ["--tasks", "tasks.jsonl", "--max-new-tokens", "1000000000"];
    let said = mistake(
        "memory",
        &run(&place, &line),
        &["not enough memory", "MiB", "--max-windows", "--max-new-tokens", "--force"],
    );
    assert!(!said.contains("study 1"));
    assert!(!place.path("studies.db").exists(), "a study that cannot start leaves no store");

    let forced = [&["run", "--force", "--format", "jsonl"], &line[..]].concat();
    let mut child = place.program(&forced).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"state\":\"running\"") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut lines, &mut line).unwrap() > 0, "it did not begin");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn no_network_and_nothing_in_the_cache() {
    let place = place();
    let with = |line: &[&str]| {
        let mut program = place.program(&[&["run"], line].concat());
        // Port 9 is discard: nobody listens there.
        program.env("HF_ENDPOINT", "http://127.0.0.1:9").output().unwrap()
    };
    mistake("a model", &with(&["--model", "some-org/some-model"]), &["some-org/some-model"]);
    mistake(
        "a model, offline",
        &with(&["--offline", "--model", "some-org/some-model"]),
        &["some-org/some-model", "offline"],
    );
    mistake("a text", &with(&["--corpus", "wikitext2"]), &["wikitext"]);
    mistake("a text, offline", &with(&["--offline", "--calibration", "c4"]), &["c4", "offline"]);
    mistake("a task", &with(&["--offline", "--tasks", "alpaca"]), &["alpaca"]);
}

#[test]
fn names_cannot_reach_the_terminal() {
    let place = place();
    place.write("\u{1b}[31mred.txt", "x");
    let said = mistake("a control character", &run(&place, &["--corpus", "\u{1b}[31mred.txt"]), &["red"]);
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn every_known_architecture_is_named_to_those_who_bring_another() {
    let place = place();
    config("architectures", json!(["MambaForCausalLM"]))(&place);
    let said = mistake("mamba", &run(&place, &[]), &["MambaForCausalLM"]);
    for known in ARCHITECTURES {
        assert!(said.contains(known.name()), "{said}");
    }
}

#[test]
fn a_dry_run_finds_out_what_is_wrong() {
    let place = place();
    mistake("3:7", &run(&place, &["--dry-run", "--sparsity", "3:7"]), &["3:7"]);
    mistake("no such text", &run(&place, &["--dry-run", "--corpus", "none.txt"]), &["none.txt"]);
    assert!(!place.path("studies.db").exists());
}
