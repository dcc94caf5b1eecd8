//! The built-in study, as a user runs it.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Place, Synthetic};
use secateur::demo;
use serde_json::Value;

/// A folder with a home of its own.
fn place() -> Place {
    Place::new(&Synthetic::default())
}

/// What a command prints, which has to succeed.
fn said(place: &Place, line: &[&str]) -> String {
    let output = place.program(line).output().unwrap();
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(place: &Place, line: &[&str]) -> Value {
    serde_json::from_str(&said(place, line)).unwrap()
}

/// What was measured of a score on a data set, or on the first.
fn measurement<'a>(metrics: &'a Value, score: &str, data_set: Option<&str>) -> &'a Value {
    let wanted = |found: &&Value| {
        found["score"] == score && data_set.is_none_or(|data_set| found["data_set"] == data_set)
    };
    metrics.as_array().unwrap().iter().find(wanted).unwrap_or_else(|| panic!("no {score} in {metrics}"))
}

/// All numbers of a result but those that tell of time and memory.
fn figures(result: &Value) -> Vec<Value> {
    let cells = result["cells"].as_array().unwrap().iter();
    let cells = cells.map(|cell| serde_json::json!([cell["id"], cell["metrics"], cell["footprint"]]));
    [result["base"]["metrics"].clone(), result["rank_correlations"].clone()]
        .into_iter()
        .chain(cells)
        .collect()
}

#[test]
fn a_part_of_the_study_runs_with_nothing_but_the_program_and_twice_the_same() {
    let (first, second) = (place(), place());
    let line = ["run", "--demo", "--quick", "--format", "json", "--offline"];
    let result = json(&first, &line);
    let cells = result["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 9);
    assert!(cells.iter().all(|cell| cell["state"] == "done"), "{result}");
    assert_eq!(figures(&result), figures(&json(&second, &line)));
}

#[test]
fn the_program_alone_plans_the_whole_study_and_flags_win_over_its_settings() {
    let place = place();
    let cells = |line: &[&str]| json(&place, line)["cells"].as_array().unwrap().len();
    let plan = ["run", "--demo", "--dry-run", "--format", "json"];
    assert_eq!(cells(&plan), 68);
    assert_eq!(cells(&[&plan[..], &["--quick"]].concat()), 9);
    assert_eq!(cells(&[&plan[..], &["--methods", "wanda", "--sparsity", "0.5"]].concat()), 2);
    let mistake = place.program(&["run", "--quick"]).output().unwrap();
    assert_eq!(mistake.status.code(), Some(2));
}

#[test]
fn the_study_names_files_of_its_own_and_all_of_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let files = |folder: &Path| -> BTreeSet<PathBuf> {
        let all = std::fs::read_dir(folder).unwrap();
        all.map(|entry| entry.unwrap().path().strip_prefix(&root).unwrap().to_path_buf()).collect()
    };
    let mut named = BTreeSet::new();
    for settings in ["study.toml", "quick.toml"] {
        let text = std::fs::read_to_string(root.join(settings)).unwrap();
        let toml: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(toml["study"]["model"].as_str(), Some("model"));
        for list in
            [&toml["calibration"]["sets"], &toml["evaluation"]["corpora"], &toml["evaluation"]["tasks"]]
        {
            for file in list.as_array().unwrap() {
                named.insert(PathBuf::from(file.as_str().unwrap()));
            }
        }
    }
    assert_eq!(named, files(&root.join("data")));

    // What the program unpacks is what lies in the repository.
    let cache = tempfile::tempdir().unwrap();
    let unpacked = demo::unpack(cache.path()).unwrap();
    let settings = ["study.toml", "quick.toml"].map(PathBuf::from);
    for file in named.into_iter().chain(files(&root.join("model"))).chain(settings) {
        let (here, there) = (std::fs::read(root.join(&file)), std::fs::read(unpacked.join(&file)));
        assert!(here.unwrap() == there.unwrap(), "{}", file.display());
    }
}

#[test]
fn the_model_answers_what_it_is_asked() {
    /// Perplexity of a 5-gram model on the same windows, which `train_demo -- baseline` prints.
    const FIVE_GRAMS: f64 = 2.887;
    let line =
        ["run", "--demo", "--methods", "magnitude", "--sparsity", "0.1", "--format", "json", "--offline"];
    let result = json(&place(), &line);
    let metrics = &result["base"]["metrics"];
    let task = |name: &str, records: u64, score: &str| {
        let task = measurement(metrics, score, Some(name));
        assert_eq!(task["n"], records);
        task["value"].as_f64().unwrap()
    };
    let exact = task("questions", 100, "exact_match");
    let accuracy = task("choices", 100, "acc");
    let rouge = task("tellings", 40, "rouge1");
    let perplexity = measurement(metrics, "perplexity", None)["value"].as_f64().unwrap();
    assert!(exact >= 0.85, "exact match {exact}");
    assert!(accuracy >= 0.8, "accuracy {accuracy}");
    assert!(rouge >= 0.85, "ROUGE-1 {rouge}");
    assert!(perplexity < 0.8 * FIVE_GRAMS, "perplexity {perplexity}");
}

#[test]
fn without_a_command_the_study_is_run() {
    let place = place();
    let mut program = place.program(&[]);
    let few = [
        ("METHODS", "magnitude"),
        ("SPARSITY", "0.5"),
        ("MAX_WINDOWS", "4"),
        ("TASK_LIMIT", "3"),
        ("FORMAT", "json"),
    ];
    for (name, value) in few {
        program.env(format!("SECATEUR_{name}"), value);
    }
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["model"]["architecture"], "LlamaForCausalLM");
    assert_eq!(result["cells"][0]["id"], "magnitude-0.5");
    let metrics = result["base"]["metrics"].as_array().unwrap().iter();
    let of = |score: &str| {
        let found = metrics.clone().filter(|found| found["score"] == score);
        found.map(|found| found["data_set"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("f1"), ["questions", "tellings"]);
    assert_eq!(of("acc"), ["choices"]);
}

#[test]
fn methods_that_look_at_data_keep_lower_perplexity_than_magnitude() {
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/data/stories.txt");
    let line = [
        "run",
        "--demo",
        "--sparsity",
        "0.5,0.6,0.7,0.8,2:4,4:8",
        "--calibration",
        stories.to_str().unwrap(),
        "--task-limit",
        "1",
        "--format",
        "json",
        "--offline",
    ];
    let result = json(&place(), &line);
    let cells = result["cells"].as_array().unwrap();
    let perplexity = |method: &str, sparsity: &serde_json::Value| {
        let cell = cells.iter().find(|cell| cell["method"] == method && cell["sparsity"] == *sparsity);
        measurement(&cell.unwrap()["metrics"], "perplexity", None)["value"].as_f64().unwrap()
    };
    for cell in cells.iter().filter(|cell| cell["method"] == "magnitude") {
        let of = |method| perplexity(method, &cell["sparsity"]);
        let (magnitude, wanda, sparsegpt) = (of("magnitude"), of("wanda"), of("sparsegpt"));
        let order = sparsegpt < wanda && wanda < magnitude;
        assert!(order, "{}: {sparsegpt} {wanda} {magnitude}", cell["sparsity"]);
    }
}
