//! Scores of answers, compared with published scripts and reference runs (where their results are at hand).

#[path = "common/skip.rs"]
mod skip;

use std::fs;

use secateur::data::{FieldNames, NoFetch, load_task};
use secateur::number::NamedNumbers;
use secateur::scores::{exact_match, f1, rouge1, score_answer};
use serde_json::Value;
use skip::shared;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[test]
fn all_pairs_score_as_the_published_scripts_do() {
    let Some(path) = shared("data/metrics/text_metrics_golden.jsonl") else { return };
    let lines = fs::read_to_string(path).unwrap();
    let mut pairs = 0;
    for line in lines.lines() {
        let pair: Value = serde_json::from_str(line).unwrap();
        let (prediction, reference) = (text(&pair["prediction"]), text(&pair["reference"]));
        for (name, ours, theirs) in [
            ("exact match", exact_match(prediction, reference), &pair["em_squad"]),
            ("F1", f1(prediction, reference), &pair["f1_squad"]),
            ("ROUGE-1", rouge1(prediction, reference), &pair["rouge1_nostem"][2]),
        ] {
            let theirs = number(theirs);
            assert!((ours - theirs).abs() < 1e-9, "{}: {name} {ours}, theirs {theirs}", pair["id"]);
        }
        pairs += 1;
    }
    assert_eq!(pairs, 532);
}

#[test]
fn given_answers_to_a_task_score_as_in_the_reference_run() {
    let Some(golden) = shared("golden/tasks.json") else { return };
    let Some(task) = shared("data/tasks/squad_short.jsonl") else { return };
    let golden: Value = serde_json::from_str(&fs::read_to_string(golden).unwrap()).unwrap();
    let task = load_task(task.to_str().unwrap(), Some(64), &FieldNames::default(), &mut NoFetch).unwrap();
    for (cell, result) in golden["cells"].as_object().unwrap() {
        let items = result["items"].as_array().unwrap();
        assert_eq!((items.len(), task.questions().len()), (64, 64));
        let mut sums = [0.0; 3];
        for (item, record) in items.iter().zip(task.questions()) {
            let scores =
                score_answer(text(&item["prediction"]), &record.references, &NamedNumbers::default());
            let ours = ["exact_match", "f1", "rouge1"].map(|id| scores.get(id).unwrap());
            for ((ours, key), sum) in ours.into_iter().zip(["em", "f1", "rouge1"]).zip(&mut sums) {
                let theirs = number(&item[key]);
                assert!(
                    (ours - theirs).abs() < 1e-12,
                    "{cell} {}: {key} {ours}, theirs {theirs}",
                    item["id"]
                );
                *sum += ours;
            }
        }
        for (sum, key) in sums.into_iter().zip(["exact_match", "f1", "rouge1"]) {
            assert!((sum / 64.0 - number(&result["summary"][key])).abs() < 1e-12, "{cell}: mean {key}");
        }
    }
}
