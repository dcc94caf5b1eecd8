//! Agreement with lm-evaluation-harness on a real model, as `../shared/golden/eval/README.md` lists it: log-likelihoods
//! of choices and last words, predictions and scores.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use secateur::engine::RunOptions;
use secateur::methods::grid;
use secateur::results::{Answer, Metrics};
use secateur::scores::Score;
use secateur::scores::choice::{ACCURACY, LAST_WORD_PERPLEXITY, NORMALISED_ACCURACY, most_likely};
use secateur::store::Store;
use serde_json::{Value, json};

/// The sets of `choice.json`, each with whether contexts were left out as well.
const SETS: [(&str, bool); 8] = [
    ("arc_easy", true),
    ("arc_challenge", false),
    ("piqa", false),
    ("winogrande", false),
    ("boolq", false),
    ("openbookqa", true),
    ("hellaswag", false),
    ("copa", true),
];
const PRUNED: &str = "magnitude-0.2";
/// Items with several blanks before a digit. The harness ran on transformers 5, which rebuilds this tokenizer without
/// the rule that digits stand alone: its log-likelihoods are of other tokens than its own token counts, which are ours.
const OTHER_TOKENS: [(&str, usize); 2] = [("piqa", 139), ("piqa", 142)];

#[test]
fn choices_and_last_words_agree_with_the_harness() {
    let (Some(model), Some(data), Some(gold)) =
        (common::skip::smollm2(), common::skip::shared("data"), common::skip::shared("golden/eval"))
    else {
        return;
    };
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(gold.join(name)).unwrap()).unwrap()
    };
    let (choices, lambada) = (read("choice.json"), read("lambada.json"));
    // What only the base has golden results of is asked of the base alone.
    let with_cell = |(set, _): &(&str, bool)| !choices["tasks"][*set][PRUNED].is_null();
    let (both, base): (Vec<_>, Vec<_>) = SETS.into_iter().partition(with_cell);
    for (sets, recipes) in [(base, &[][..]), (both, &["magnitude@20%"])] {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for &(set, without_context) in &sets {
            let lines = first_lines(&data, set, &choices["tasks"][set]["n"]);
            files.push(written(folder.path(), set, &lines));
            if without_context {
                files.push(written(
                    folder.path(),
                    &format!("{set}_unconditional"),
                    &without_contexts(&lines),
                ));
            }
        }
        if !recipes.is_empty() {
            let lines = first_lines(&data, "lambada_openai", &lambada["n"]);
            files.push(written(folder.path(), "lambada_openai", &lines));
        }
        let text = data.join("text/c4_sample.txt");
        let recipes: Vec<_> = recipes.iter().map(|recipe| recipe.parse().unwrap()).collect();
        let mut spec = common::study(&model, &text, &text, 512, grid(&recipes, &[], 0));
        spec.evaluation.corpora = Vec::new();
        spec.evaluation.tasks = files.iter().map(|file| file.display().to_string()).collect();
        spec.evaluation.task_limit = None;
        spec.compute.device = "cpu".into();
        let path = folder.path().join("store.db");
        let (result, _) = common::run(&path, spec, RunOptions::default());
        let store = Store::open_read_only(&path).unwrap();
        let of_cell = result.cells.first().map(|cell| (PRUNED, Some(cell.id.as_str()), &cell.metrics));
        for (name, cell, metrics) in [("base", None, &result.base.metrics)].into_iter().chain(of_cell) {
            let answers = store.answers(result.study, cell).unwrap();
            for &(set, without_context) in &sets {
                check_set(set, without_context, &answers, metrics, name, &choices["tasks"][set]);
            }
            if of_cell.is_some() {
                check_last_words(&answers, metrics, &lambada[name]);
            }
        }
    }
}

fn check_set(
    set: &str,
    without_context: bool,
    answers: &[Answer],
    metrics: &Metrics,
    name: &str,
    task: &Value,
) {
    let golden = &task[name];
    let found: Vec<&Answer> = answers.iter().filter(|answer| answer.task == set).collect();
    let mut worst = check_likelihoods(set, &found, &golden["ll"]);
    check_greedy(set, &found, &golden["greedy"]);
    check_predictions(set, &found, golden, task);
    for score in [&ACCURACY, &NORMALISED_ACCURACY] {
        check_score(metrics, set, score, &task["summary"][name][score.id], golden);
    }
    if without_context {
        let set = format!("{set}_unconditional");
        let found: Vec<&Answer> = answers.iter().filter(|answer| answer.task == set).collect();
        worst = worst.max(check_likelihoods(&set, &found, &golden["ll_unconditional"]));
    }
    println!("{set}, {name}: log-likelihoods differ by {worst:.6} at most");
}

fn check_last_words(answers: &[Answer], metrics: &Metrics, golden: &Value) {
    let set = "lambada_openai";
    let found: Vec<&Answer> = answers.iter().filter(|answer| answer.task == set).collect();
    let wrapped: Vec<Value> = golden["ll"].as_array().unwrap().iter().map(|ll| json!([ll])).collect();
    let worst = check_likelihoods(set, &found, &Value::Array(wrapped));
    let value = |score: &Score| task_value(metrics, set, score).unwrap();
    assert!((value(&ACCURACY) - golden["acc"].as_f64().unwrap()).abs() < 1e-12);
    let perplexity = golden["perplexity"].as_f64().unwrap();
    assert!((value(&LAST_WORD_PERPLEXITY) / perplexity - 1.0).abs() < 1e-4);
    println!("{set}: {} and {}; {worst:.6} at most", value(&ACCURACY), value(&LAST_WORD_PERPLEXITY));
}

/// Every log-likelihood to 2e-3, or 1e-5 of it; returns the greatest difference. Nearly all are within 5e-4. One question
/// without its context is off by 1.3e-3 on processors whose vectors add in another order than those of the reference.
fn check_likelihoods(set: &str, found: &[&Answer], golden: &Value) -> f64 {
    let golden = golden.as_array().unwrap();
    assert_eq!(found.len(), golden.len(), "{set}");
    let mut worst = 0f64;
    for (answer, golden) in found.iter().zip(golden) {
        if OTHER_TOKENS.contains(&(set, answer.record)) {
            continue;
        }
        let golden: Vec<f64> = golden.as_array().unwrap().iter().map(|ll| ll.as_f64().unwrap()).collect();
        assert_eq!(answer.choices.len(), golden.len(), "{set} {}", answer.record);
        for (choice, want) in answer.choices.iter().zip(golden) {
            let off = (choice.log_likelihood - want).abs();
            assert!(
                off <= (1e-5 * want.abs()).max(2e-3),
                "{set} {}: {} and {want}",
                answer.record,
                choice.log_likelihood
            );
            worst = worst.max(off);
        }
    }
    worst
}

/// The choices that greedy decoding gives: pairs of item and choice.
fn check_greedy(set: &str, found: &[&Answer], golden: &Value) {
    let of = |answer: &&Answer| -> Vec<[usize; 2]> {
        let greedy = answer.choices.iter().enumerate().filter(|(_, choice)| choice.is_greedy);
        greedy.map(|(choice, _)| [answer.record, choice]).collect()
    };
    let found: Vec<[usize; 2]> = found.iter().flat_map(of).collect();
    let golden: Vec<[usize; 2]> = serde_json::from_value(golden.clone()).unwrap();
    assert_eq!(found, golden, "{set}");
}

/// The choice of every item, but for those that are as good as tied.
fn check_predictions(set: &str, found: &[&Answer], golden: &Value, task: &Value) {
    for (score, lengths) in [("acc", false), ("acc_norm", true)] {
        let Some(predictions) = golden[format!("prediction_{score}")].as_str() else { continue };
        let tied: Vec<usize> = serde_json::from_value(golden["near_ties"][score].clone()).unwrap();
        for (answer, want) in found.iter().zip(predictions.chars()) {
            let value = |choice: &secateur::results::ChoiceLikelihood| {
                let length = if lengths { choice.text.chars().count() as f64 } else { 1.0 };
                choice.log_likelihood / length
            };
            let got = most_likely(answer.choices.iter().map(value));
            let same = Some(got) == want.to_digit(10).map(|digit| digit as usize);
            assert!(
                same || tied.contains(&answer.record),
                "{set} {score} {}: {got} and {want}",
                answer.record
            );
        }
    }
    assert_eq!(found.len() as u64, task["n"].as_u64().unwrap());
}

/// A score and its standard error to 1e-12, but for items that are as good as tied.
fn check_score(metrics: &Metrics, set: &str, score: &Score, golden: &Value, model: &Value) {
    let Some(found) = task_value(metrics, set, score) else {
        assert!(golden.is_null(), "{set} lacks {}", score.id);
        return;
    };
    let Some(want) = golden.get(0).and_then(Value::as_f64) else { return };
    let tied = model["near_ties"][score.id].as_array().map_or(0, Vec::len);
    let n = metrics.of(score).find(|value| value.data_set == set).unwrap();
    println!("{set} {}: {found}, golden {want}", score.id);
    assert!(
        (found - want).abs() <= tied as f64 / n.n as f64 + 1e-12,
        "{set} {}: {found} and {want}",
        score.id
    );
    if tied == 0 {
        let error = n.details.get("standard_error").unwrap();
        assert!((error - golden[1].as_f64().unwrap()).abs() < 1e-12, "{set} {}", score.id);
    }
}

fn task_value(metrics: &Metrics, set: &str, score: &Score) -> Option<f64> {
    metrics.of(score).find(|value| value.data_set == set).map(|value| value.value)
}

fn first_lines(data: &Path, set: &str, n: &Value) -> Vec<Value> {
    let text = std::fs::read_to_string(data.join("choice").join(format!("{set}.jsonl"))).unwrap();
    let n = usize::try_from(n.as_u64().unwrap()).unwrap();
    text.lines().take(n).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn without_contexts(lines: &[Value]) -> Vec<Value> {
    let mut lines = lines.to_vec();
    for line in &mut lines {
        line["query"] = "".into();
    }
    lines
}

fn written(folder: &Path, name: &str, lines: &[Value]) -> PathBuf {
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    let path = folder.join(format!("{name}.jsonl"));
    std::fs::write(&path, text).unwrap();
    path
}
