//! What a run leaves behind: the result on standard output, models, and a store that other commands read.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device};
use common::{Place, Synthetic};
use secateur::model::ModelFolder;
use secateur::results::StudyResult;
use serde_json::Value;

const BLOCKS: usize = 3;

fn place() -> Place {
    let place = Place::new(&Synthetic { dtype: DType::BF16, blocks: BLOCKS, ..Synthetic::default() });
    place.write("second.txt", common::prose(2000, 3));
    place
}

/// Standard output of a command that succeeds.
fn say(place: &Place, line: &[&str]) -> String {
    let output = place.program(line).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard output of a whole study with every method, two texts and a task.
fn run(place: &Place, more: &[&str]) -> String {
    let grid = ["--methods", "magnitude,wanda,sparsegpt", "--sparsity", "0.5,2:4", "--tasks", "tasks.jsonl"];
    run_grid(place, &[&grid, more].concat())
}

/// The same with methods, sparsities and tasks of one's own.
fn run_grid(place: &Place, more: &[&str]) -> String {
    let line = "run --model model --calibration calibration.txt --calibration-samples 6 --seq-len 32 --corpus corpus.txt second.txt --max-windows 6 \
                --task-limit 5 --max-new-tokens 8 --dtype f32 --store studies.db --device";
    let device = common::device_name();
    let line = line.split_whitespace().chain([device.as_str()]).chain(more.iter().copied());
    let line: Vec<&str> = line.collect();
    say(place, &line)
}

fn validate(report: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/report.schema.json");
    let schema = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let errors: Vec<String> = jsonschema::draft202012::new(&schema)
        .unwrap()
        .iter_errors(report)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// What is at a JSON pointer.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"))
}

fn number(value: &Value, pointer: &str) -> f64 {
    at(value, pointer).as_f64().unwrap_or_else(|| panic!("{pointer} is {}", at(value, pointer)))
}

/// The share of zeros counted in a cell.
fn sparsity(cell: &Value) -> f64 {
    number(cell, "/footprint/zeros") / number(cell, "/footprint/weights")
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).as_array().unwrap_or_else(|| panic!("{pointer} is no list"))
}

/// The measurements of a score.
fn of<'a>(metrics: &'a Value, score: &str) -> Vec<&'a Value> {
    list(metrics, "").iter().filter(|found| found["score"] == score).collect()
}

/// An interval that holds its value.
fn interval(value: &Value) {
    let (middle, lo, hi) = (number(value, "/value"), number(value, "/ci95/0"), number(value, "/ci95/1"));
    assert!(lo <= middle + 1e-12 && middle <= hi + 1e-12, "{value}");
}

/// Perplexities, and scores of tasks.
fn check_own_metrics(metrics: &Value) {
    let [first, second] = of(metrics, "perplexity")[..] else { panic!("two texts") };
    assert_eq!((&first["data_set"], &second["data_set"]), (&"corpus".into(), &"second".into()));
    for perplexity in [first, second] {
        assert!(
            number(perplexity, "/value") > 1.0 && number(perplexity, "/details/standard_error_nats") > 0.0
        );
        assert_eq!(perplexity["n"], 6);
        interval(perplexity);
    }
    for score in ["exact_match", "f1", "rouge1"] {
        let [task] = of(metrics, score)[..] else { panic!("one task") };
        assert_eq!((&task["data_set"], &task["n"]), (&"tasks".into(), &5.into()));
        interval(task);
    }
}

fn check_divergences(metrics: &Value) {
    for score in ["js_divergence", "kl_divergence", "top1_agreement"] {
        assert_eq!(of(metrics, score).len(), 2);
    }
    for divergence in of(metrics, "js_divergence").into_iter().chain(of(metrics, "kl_divergence")) {
        let (bits, nats) = (number(divergence, "/value"), number(divergence, "/details/nats"));
        assert!(bits > 0.0 && (nats / bits / std::f64::consts::LN_2 - 1.0).abs() < 1e-9, "{divergence}");
        interval(divergence);
    }
    assert!(of(metrics, "js_divergence").iter().all(|js| number(js, "/value") < 1.0));
    for agreement in of(metrics, "top1_agreement") {
        assert!((0.0..=1.0).contains(&number(agreement, "/value")));
        interval(agreement);
    }
}

#[test]
fn the_json_is_as_the_schema_says_and_has_every_figure() {
    let place = place();
    let report: Value = serde_json::from_str(&run(&place, &["--format", "json"])).unwrap();
    validate(&report);

    assert_eq!(at(&report, "/model/source"), "model");
    assert_eq!(at(&report, "/model/architecture"), "LlamaForCausalLM");
    let prunable = BLOCKS * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128);
    assert_eq!(at(&report, "/model/prunable_parameters"), &Value::from(prunable));
    assert!(number(&report, "/model/parameters") > prunable as f64);
    check_own_metrics(at(&report, "/base/metrics"));
    assert!(of(&report["base"]["metrics"], "js_divergence").is_empty());

    let cells = list(&report, "/cells");
    let given: Vec<String> = cells
        .iter()
        .map(|c| [&c["recipe"], &c["calibration"]].map(|v| v.as_str().unwrap_or("-")).join(" "))
        .collect();
    assert_eq!(
        given,
        [
            "magnitude@50% -",
            "magnitude@2:4 -",
            "wanda@50% calibration.txt",
            "wanda@2:4 calibration.txt",
            "sparsegpt@50% calibration.txt",
            "sparsegpt@2:4 calibration.txt"
        ]
    );
    for cell in cells {
        assert_eq!(cell["state"], "done");
        assert!((sparsity(cell) - 0.5).abs() < 0.01);
        check_own_metrics(&cell["metrics"]);
        check_divergences(&cell["metrics"]);
        let spent = ["prune", "evaluate"].iter().all(|s| number(cell, &format!("/seconds/{s}")) > 0.0);
        assert!(spent && (number(cell, "/seconds/calibrate") > 0.0) == cell["calibration"].is_string());
        assert!(number(cell, "/peak_rss_bytes") > 1e6);
        assert!(list(cell, "/warnings").is_empty());
        let modules = list(cell, "/modules");
        assert_eq!(modules.len(), 7 * BLOCKS);
        assert_eq!(modules[8]["name"], "model.layers.1.self_attn.k_proj");
        for module in modules {
            assert!((sparsity(module) - 0.5).abs() < 0.02);
            let error = number(module, "/reconstruction_error");
            assert!(error > 0.0 && error < 1.0, "{module}");
        }
    }
    for found in list(&report, "/rank_correlations/texts") {
        if found["mean"].is_object() {
            assert!((-1.0..=1.0).contains(&number(found, "/mean/value")), "{found}");
        }
    }
    // Nothing is lost on the way through the program's own types.
    let read: StudyResult = serde_json::from_value(report.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), report);
}

#[test]
fn metrics_are_ranked_by_how_tasks_fall() {
    let place = place();
    // The base's own answers are the right ones, so that tasks fall as the model does.
    let first =
        ["--methods", "magnitude", "--sparsity", "0.1", "--tasks", "tasks.jsonl", "--format", "jsonl"];
    let questions = std::fs::read_to_string(place.path("tasks.jsonl")).unwrap();
    let mut tasks: Vec<Value> = questions.lines().take(5).map(|l| serde_json::from_str(l).unwrap()).collect();
    for event in run_grid(&place, &first).lines().map(|l| serde_json::from_str::<Value>(l).unwrap()) {
        if event["event"] == "answer" && event["cell"].is_null() {
            let record = event["answer"]["record"].as_u64().unwrap() as usize;
            tasks[record]["output"] = event["answer"]["text"].clone();
        }
    }
    place.write("own.jsonl", tasks.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
    let own = [
        "--methods",
        "magnitude",
        "--sparsity",
        "0.001,0.01,0.5,0.9",
        "--tasks",
        "own.jsonl",
        "--format",
        "json",
    ];
    let report: Value = serde_json::from_str(&run_grid(&place, &own)).unwrap();
    validate(&report);
    let score = |metrics: &Value| number(of(metrics, "exact_match")[0], "/value");
    let scores: Vec<f64> = list(&report, "/cells").iter().map(|c| score(&c["metrics"])).collect();
    assert!((score(at(&report, "/base/metrics")) - 1.0).abs() < 1e-12);
    assert!(scores[0] > 0.0 && scores[3] < 0.5, "{scores:?}");
    assert_eq!(at(&report, "/rank_correlations/cells"), 4);
    // Divergence tells how the answers fall; of perplexity a random model makes no such promise.
    let correlation = |score: &str| {
        let found = list(&report, "/rank_correlations/texts").iter().find(|found| found["score"] == score);
        number(found.unwrap(), "/mean/value")
    };
    assert!(correlation("js_divergence") > 0.5);
    assert!((-1.0..=1.0).contains(&correlation("perplexity")));
}

#[test]
fn jsonl_has_one_event_a_line_and_ends_with_the_result() {
    let place = place();
    let text = run(&place, &["--format", "jsonl"]);
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        *kinds.entry(event["event"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!((kinds["plan"], kinds["finished"]), (1, 1));
    assert_eq!((kinds["module"], kinds["checkpoint"]), (6 * 7 * BLOCKS, 6 * BLOCKS));
    assert_eq!((kinds["answer"], kinds["cell_done"]), (7 * 5, 7));
    let last = &events.last().unwrap();
    assert_eq!(last["event"], "finished");
    validate(&last["result"]);
    let answer = events.iter().find(|e| e["event"] == "answer").unwrap();
    for field in ["task", "record", "prompt", "references", "text", "tokens", "scores"] {
        assert!(!answer["answer"][field].is_null(), "{field} in {answer}");
    }
}

#[test]
fn a_warning_that_many_modules_share_is_one_line() {
    let place = place();
    let line = "run --model model --recipe magnitude@95%+rtn@4bit,group=32 --corpus corpus.txt --seq-len 32 --max-windows 2 \
                --store studies.db --device cpu --format json";
    let output = place.program(&line.split_whitespace().collect::<Vec<_>>()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let modules = list(&report, "/cells/0/modules");
    let empty = |module: &&Value| module["details"]["empty_groups"].as_f64();
    let counts: Vec<f64> = modules.iter().filter_map(|module| empty(&module)).collect();
    assert!(counts.len() > BLOCKS, "{report}");
    let first = modules.iter().find(|module| empty(module).is_some()).unwrap()["name"].as_str().unwrap();
    let (modules, groups) = (counts.len(), counts.iter().sum::<f64>());
    let warning = format!("{modules} modules, such as {first}: in {groups} groups all weights are zero");
    assert_eq!(list(&report, "/cells/0/warnings"), [Value::from(warning.as_str())]);
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    assert!(said.contains(&warning), "{said}");
}

#[test]
fn a_table_is_printed_when_nothing_else_is_asked_for() {
    let place = place();
    let table = run(&place, &[]);
    assert!(!table.contains('\u{1b}') && !table.contains("warning"), "{table}");
    let report: Value =
        serde_json::from_str(&say(&place, &["show", "--store", "studies.db", "--format", "json"])).unwrap();
    for label in
        ["base", "magnitude", "wanda", "sparsegpt", "0.5", "2:4", "50.00%", "corpus", "second", "tasks"]
    {
        assert!(table.contains(label), "no `{label}` in:\n{table}");
    }
    for cell in list(&report, "/cells") {
        let bits = format!("{:.4}", number(of(&cell["metrics"], "js_divergence")[0], "/value"));
        assert!(table.contains(&bits), "no {bits} in:\n{table}");
    }
}

/// Files of a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |e: std::io::Result<std::fs::DirEntry>| {
        let path = e.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(entry).collect()
}

/// A tensor of a model as it is stored.
fn stored(folder: &ModelFolder, name: &str) -> Vec<f32> {
    let tensor = folder.weights.tensor(name, DType::F32, &Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn saved_models_open_and_hold_the_zeroes_that_are_reported() {
    let place = place();
    let report: Value =
        serde_json::from_str(&run(&place, &["--format", "json", "--save-models", "saved"])).unwrap();
    let source = ModelFolder::open(&place.path("model")).unwrap();
    let mut names: Vec<String> = Vec::new();
    for cell in list(&report, "/cells") {
        let id = cell["id"].as_str().unwrap();
        names.push(id.into());
        let path = place.path("saved").join(id);
        let model = ModelFolder::open(&path).unwrap();
        assert_eq!(model.dtype(), DType::BF16);
        let (mut zeros, mut weights) = (0, 0);
        for module in list(cell, "/modules") {
            let tensor = format!("{}.weight", module["name"].as_str().unwrap());
            let (before, after) = (stored(&source, &tensor), stored(&model, &tensor));
            let count = after.iter().filter(|w| **w == 0.0).count();
            assert_eq!(module["footprint"]["zeros"], count, "{id} {tensor}");
            if cell["recipe"].as_str().unwrap().ends_with("@2:4") {
                assert!(
                    after.chunks(4).all(|group| group.iter().filter(|w| **w == 0.0).count() >= 2),
                    "{id} {tensor}"
                );
            }
            if !cell["recipe"].as_str().unwrap().starts_with("sparsegpt") {
                assert!(
                    before.iter().zip(&after).all(|(b, a)| a.to_bits() == b.to_bits() || *a == 0.0),
                    "{id} {tensor}"
                );
            }
            (zeros, weights) = (zeros + count, weights + after.len());
        }
        assert!((sparsity(cell) - zeros as f64 / weights as f64).abs() < 1e-12);
        let sparsity: Value =
            serde_json::from_slice(&std::fs::read(path.join("sparsity.json")).unwrap()).unwrap();
        assert_eq!((&sparsity["zeros"], &sparsity["weights"]), (&zeros.into(), &weights.into()));
        for name in
            ["model.embed_tokens.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight"]
        {
            assert_eq!(stored(&model, name), stored(&source, name), "{id} {name}");
        }
    }
    assert_eq!(names.len(), 6);
    let mut found: Vec<String> = std::fs::read_dir(place.path("saved"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    names.sort();
    assert_eq!(found, names);

    // What is saved is what was measured: as a base it has the perplexity that it had as a cell.
    let cell = &list(&report, "/cells")[4];
    let saved = format!("saved/{}", cell["id"].as_str().unwrap());
    let more = ["--format", "json", "--model", saved.as_str(), "--methods", "magnitude", "--sparsity", "0.5"];
    let device = common::device_name();
    let line = "run --seq-len 32 --corpus corpus.txt --max-windows 6 --dtype f32 --store other.db --device";
    let line: Vec<&str> = line.split_whitespace().chain([device.as_str()]).chain(more).collect();
    let again: Value = serde_json::from_str(&say(&place, &line)).unwrap();
    let perplexity = |of: &Value| {
        list(of, "/metrics").iter().find(|m| m["score"] == "perplexity").cloned().expect("a perplexity")
    };
    assert_eq!(perplexity(at(&again, "/base")), perplexity(cell));
    assert!(
        stored(&source, "model.layers.0.self_attn.q_proj.weight").iter().all(|w| *w != 0.0),
        "the source is left alone"
    );
}

#[test]
fn list_show_and_export_work_on_the_store() {
    let place = place();
    let report: Value =
        serde_json::from_str(&run(&place, &["--format", "json", "--save-models", "saved"])).unwrap();
    run_grid(&place, &["--methods", "magnitude", "--sparsity", "0.1"]);

    let listed = say(&place, &["list", "--store", "studies.db", "--format", "json"]);
    let studies: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!((&studies[0]["study"], &studies[0]["state"]), (&Value::from(1), &Value::from("done")));
    assert_eq!(studies[0]["cells_done"], studies[0]["cells"]);
    let listed = say(&place, &["list", "--store", "studies.db"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    for (line, parts) in
        [(lines[1], ["1 ", "6/6", "done", "model"]), (lines[2], ["2 ", "1/1", "done", "model"])]
    {
        assert!(line.starts_with(parts[0]) && parts[1..].iter().all(|p| line.contains(p)), "{listed}");
    }

    let show = |more: &[&str]| say(&place, &[&["show", "--store", "studies.db"], more].concat());
    let shown: Value = serde_json::from_str(&show(&["1", "--format", "json"])).unwrap();
    assert_eq!(shown, report, "what was printed is what is kept");
    assert!(show(&[]).contains("  10% "), "the newest unless another is asked for");
    assert!(show(&["1"]).contains("sparsegpt  2:4"));
    let csv = show(&["1", "--format", "csv"]);
    assert_eq!(csv.lines().count(), 8, "{csv}");
    let markdown = show(&["1", "--format", "markdown"]);
    assert!(
        markdown.contains("| ---") || markdown.contains("|---") || markdown.contains("|:--"),
        "{markdown}"
    );

    for cell in list(&report, "/cells") {
        let id = cell["id"].as_str().unwrap();
        let out = format!("exported/{id}");
        let said = say(&place, &["export", id, &out, "--store", "studies.db"]);
        assert!(said.contains(id) && said.contains(&out), "{said}");
        assert!(files(&place.path(&out)) == files(&place.path("saved").join(id)), "{id}");
    }
}

#[test]
fn a_model_that_has_changed_since_its_study_is_not_exported() {
    let place = place();
    run_grid(&place, &["--methods", "magnitude", "--sparsity", "0.5"]);
    let path = place.path("model/model.safetensors");
    let mut weights = std::fs::read(&path).unwrap();
    weights.last_mut().into_iter().for_each(|byte| *byte ^= 1);
    std::fs::write(path, weights).unwrap();
    for cell in ["magnitude-0.5", "base"] {
        let output = place.program(&["export", cell, "out", "--store", "studies.db"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("is not what it was when study 1 began") && !place.path("out").exists(),
            "{said}"
        );
    }
}

#[test]
fn what_a_run_would_refuse_a_dry_run_refuses_or_says() {
    let place = place();
    let dry = |more: &[&str]| {
        let line = "run --model model --methods magnitude --sparsity 0.5 --corpus corpus.txt --seq-len 32 --dtype f32 \
                    --device cpu --dry-run";
        let line: Vec<&str> = line.split_whitespace().chain(more.iter().copied()).collect();
        let output = place.program(&line).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = dry(&["--save-models", "out", "--save-as", "compressed-tensors"]);
    assert!(code == Some(2) && said.contains("cannot be exported as compressed-tensors"), "{said}");
    let (code, said) = dry(&["--save-models", "out", "--save-quantized", "q8_0"]);
    let why = "--quantize q8_0 (--save-quantized for a study) asks for another";
    assert!(code == Some(2) && said.contains(why), "{said}");
    for flag in [["--save-as", "gguf"], ["--save-quantized", "q8_0"]] {
        let (code, said) = dry(&flag);
        let parts = [&flag.join(" "), "--save-models is missing"];
        assert!(code == Some(2) && parts.iter().all(|part| said.contains(*part)), "{said}");
    }
    std::fs::write(place.path("saved.toml"), "[output]\nsave_as = \"gguf\"\n").unwrap();
    assert_eq!(dry(&["--config", "saved.toml"]).0, Some(0));
    let (code, said) = dry(&["--save-models", "corpus.txt"]);
    assert!(code == Some(2) && said.contains("corpus.txt"), "{said}");
}

#[test]
fn a_dry_run_of_what_would_be_resumed_says_what_is_done() {
    let place = place();
    run_grid(&place, &["--methods", "magnitude", "--sparsity", "0.5"]);
    let dry = |sparsities: &str| {
        run_grid(&place, &["--methods", "magnitude", "--sparsity", sparsities, "--resume", "--dry-run"])
    };
    let said = dry("0.5,0.6");
    let state = |name: &str| said.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert!(state("base  ").ends_with("done by an earlier run"), "{said}");
    assert!(state("magnitude 50%").ends_with("done by an earlier run"), "{said}");
    assert!(state("magnitude 60%").ends_with("to do"), "{said}");

    std::fs::remove_dir_all(place.path("studies.d/study-1/magnitude-0.5")).unwrap();
    let line = ["export", "magnitude-0.5", "out", "--store", "studies.db"];
    let output = place.program(&line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("magnitude-0.5 are gone"), "{said}");
}

#[test]
fn an_importance_matrix_is_of_the_base_and_a_calibration_set() {
    let place = place();
    run_grid(&place, &["--methods", "wanda", "--sparsity", "0.5"]);
    let write = |name: &str, more: &[&str]| {
        let line = ["export", "base", name, "--as", "imatrix", "--store", "studies.db"];
        let said = say(&place, &[&line, more].concat());
        assert!(said.contains("6 windows of 32 tokens") && said.contains(name), "{said}");
        let mut file = std::fs::File::open(place.path(name)).unwrap();
        let content = Content::read(&mut file).unwrap();
        let read = |tensor: &str| -> Vec<f32> {
            let mut file = std::fs::File::open(place.path(name)).unwrap();
            let tensor = content.tensor(&mut file, tensor, &Device::Cpu).unwrap();
            tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap()
        };
        let set = content.metadata["imatrix.datasets"].to_vec().unwrap()[0].to_string().unwrap().clone();
        assert_eq!(read("blk.2.ffn_down.weight.counts"), [6.0 * 32.0]);
        assert_eq!(read("blk.0.attn_q.weight.in_sum2"), read("blk.0.attn_v.weight.in_sum2"));
        (set, read("blk.2.ffn_down.weight.in_sum2"))
    };
    let (set, own) = write("own.gguf", &[]);
    assert!(set.ends_with("calibration.txt") && own.iter().all(|sum| *sum > 0.0), "{set}");
    let (set, other) = write("other.gguf", &["--calibration", "second.txt"]);
    assert!(set.ends_with("second.txt") && other != own, "{set}");
}

#[test]
fn what_was_not_saved_by_a_killed_run_is_saved_by_the_next() {
    let place = place();
    let line = ["--methods", "magnitude", "--sparsity", "0.5,2:4", "--format", "json"];
    let first = run_grid(&place, &line);
    let again = run_grid(&place, &[&line[..], &["--resume", "--save-models", "saved"]].concat());
    assert_eq!(first, again, "nothing is measured again");
    for cell in ["magnitude-0.5", "magnitude-2of4"] {
        ModelFolder::open(&place.path("saved").join(cell)).unwrap();
    }
    // And once more, with everything in its place.
    assert_eq!(run_grid(&place, &[&line[..], &["--resume", "--save-models", "saved"]].concat()), first);
}

#[test]
fn a_dry_run_prints_the_plan_and_leaves_nothing_behind() {
    let place = place();
    let before = everything(&place);
    let dry = |format| run(&place, &["--dry-run", "--save-models", "out", "--format", format]);
    let table = dry("table");
    for part in [
        "LlamaForCausalLM",
        "base",
        "magnitude 50%",
        "wanda 50% calibration",
        "of memory",
        "of disk",
        "about",
        "nothing was run",
    ] {
        assert!(table.contains(part), "no `{part}` in:\n{table}");
    }
    let plan: Value = serde_json::from_str(&dry("json")).unwrap();
    assert_eq!(plan["cells"].as_array().unwrap().len(), 6);
    for figure in ["host_bytes", "host_available", "disk_bytes", "disk_available", "seconds"] {
        assert!(plan["estimate"][figure].as_f64().unwrap() > 0.0, "{figure} in {plan}");
    }
    let lines: Vec<Value> = dry("jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.iter().filter(|e| e["event"] == "plan").count(), 1);
    assert_eq!(everything(&place), before);
}

/// Everything below a place.
fn everything(place: &Place) -> Vec<std::path::PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![place.path("")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
