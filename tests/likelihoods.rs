//! Questions with choices through the program: scored, kept, resumed, compared.

mod common;

use std::fmt::Write as _;

use common::{Place, Synthetic};
use secateur::engine::RunOptions;
use secateur::results::{Answer, Measurement, Metrics};
use secateur::scores::Score;
use secateur::scores::choice::{ACCURACY, LAST_WORD_PERPLEXITY, NORMALISED_ACCURACY, most_likely};
use secateur::scores::flips::FLIPS;
use secateur::store::Store;
use secateur::study::StudySpec;
use serde_json::{Value, json};

const ITEMS: usize = 24;

fn place() -> Place {
    let place = Place::new(&Synthetic { hidden: 64, intermediate: 96, blocks: 2, ..Synthetic::default() });
    let (mut choices, mut words) = (String::new(), String::new());
    for item in 0..ITEMS {
        let text = common::prose(60, item as u64 + 1);
        let choice = |n: usize| common::prose(12, (item * 10 + n) as u64 + 99).trim().to_owned();
        let line =
            json!({ "query": text.trim(), "choices": [choice(0), choice(1), choice(2)], "gold": item % 3 });
        writeln!(choices, "{line}").unwrap();
        writeln!(words, "{}", json!({ "context": text.trim(), "continuation": choice(0) })).unwrap();
    }
    place.write("choices.jsonl", choices);
    place.write("words.jsonl", words);
    place
}

fn spec(place: &Place) -> StudySpec {
    let mut spec = place.spec(vec![place.cell("magnitude", "0.7")]);
    spec.evaluation.tasks =
        ["choices.jsonl", "words.jsonl"].map(|file| place.path(file).display().to_string()).into();
    spec
}

fn of<'a>(metrics: &'a Metrics, score: &Score, task: &str) -> &'a Measurement {
    metrics.of(score).find(|value| value.data_set == task).unwrap()
}

#[test]
fn choices_are_scored_by_what_is_kept_of_them() {
    let place = place();
    let path = place.path("s.db");
    let (result, _) = common::run(&path, spec(&place), RunOptions::default());
    let store = Store::open_read_only(&path).unwrap();
    let cell = &result.cells[0];
    let mut right = Vec::new();
    for (id, metrics) in [(None, &result.base.metrics), (Some(cell.id.as_str()), &cell.metrics)] {
        let answers = store.answers(result.study, id).unwrap();
        let (choices, words): (Vec<&Answer>, Vec<&Answer>) =
            answers.iter().partition(|a| a.task == "choices");
        assert_eq!((choices.len(), words.len()), (ITEMS, ITEMS));
        let best = |answer: &Answer, by_length: bool| {
            most_likely(answer.choices.iter().map(|choice| {
                let length = if by_length { choice.text.chars().count() as f64 } else { 1.0 };
                choice.log_likelihood / length
            }))
        };
        for (score, by_length) in [(&ACCURACY, false), (&NORMALISED_ACCURACY, true)] {
            let count = choices.iter().filter(|answer| best(answer, by_length) == answer.record % 3).count();
            assert!((of(metrics, score, "choices").value - count as f64 / ITEMS as f64).abs() < 1e-12);
        }
        assert!(choices.iter().all(|answer| answer.text == answer.choices[best(answer, false)].text));
        let mean = words.iter().map(|answer| answer.choices[0].log_likelihood).sum::<f64>() / ITEMS as f64;
        assert!((of(metrics, &LAST_WORD_PERPLEXITY, "words").value / (-mean).exp() - 1.0).abs() < 1e-9);
        right.push(choices.iter().map(|answer| best(answer, false) == answer.record % 3).collect::<Vec<_>>());
    }
    let flipped = right[0].iter().zip(&right[1]).filter(|(base, cell)| base != cell).count();
    let flips = of(&cell.metrics, &FLIPS, "choices");
    assert!(flipped > 0 && (flips.value - flipped as f64 / ITEMS as f64).abs() < 1e-12);
    assert!(result.base.metrics.first(&FLIPS).is_none());
}

/// The base's likelihoods do not depend on what else is measured, on batches, or on whether a run was taken up again.
#[test]
fn likelihoods_are_the_same_alone_in_other_batches_and_after_a_resume() {
    let place = place();
    let answers = |store: &str, spec: StudySpec, resume: bool| {
        let path = place.path(store);
        let options = RunOptions { resume, ..RunOptions::default() };
        let (result, _) = common::run(&path, spec, options);
        Store::open_read_only(&path).unwrap().answers(result.study, None).unwrap()
    };
    let near = |one: &[Answer], other: &[Answer]| {
        for (one, other) in one.iter().zip(other) {
            assert_eq!((&one.task, one.record), (&other.task, other.record));
            for (one, other) in one.choices.iter().zip(&other.choices) {
                assert!((one.log_likelihood - other.log_likelihood).abs() < 1e-3, "{one:?} {other:?}");
            }
        }
    };
    let first = answers("s.db", spec(&place), false);
    assert_eq!(first, answers("s.db", spec(&place), true), "nothing is left to do");
    let mut alone = spec(&place);
    alone.evaluation.corpora = Vec::new();
    alone.cells = Vec::new();
    alone.compute.batch_tokens = 50;
    near(&first, &answers("alone.db", alone, false));
}

#[test]
fn two_models_are_compared_record_by_record() {
    let place = place();
    let (result, _) = common::run(&place.path("s.db"), spec(&place), RunOptions::default());
    let cell = &result.cells[0];
    let run = |more: &[&str]| {
        let line = [&["compare", "base", cell.id.as_str(), "--store", "s.db"], more].concat();
        place.program(&line).output().unwrap()
    };
    let found: Value = serde_json::from_slice(&run(&["--format", "json"]).stdout).unwrap();
    let row = |score: &str, data_set: &str| {
        let rows = found["scores"].as_array().unwrap();
        rows.iter().find(|row| row["score"] == score && row["data_set"] == data_set).unwrap().clone()
    };
    let perplexity = row("perplexity", "corpus");
    let ratio = perplexity["b"].as_f64().unwrap() / perplexity["a"].as_f64().unwrap();
    assert!((perplexity["difference"]["value"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-4, "{perplexity}");
    let accuracy = row("acc", "choices");
    let difference = accuracy["b"].as_f64().unwrap() - accuracy["a"].as_f64().unwrap();
    assert!((accuracy["difference"]["value"].as_f64().unwrap() - difference).abs() < 1e-12);
    let flips = found["flips"].as_array().unwrap().iter().find(|row| row["score"] == "acc").unwrap();
    assert_eq!(flips["records"], ITEMS);
    assert_eq!(found["records"].as_array().unwrap().len(), 10);
    let text = String::from_utf8(run(&[]).stdout).unwrap();
    assert!(text.starts_with("A is base, B is magnitude-0.7"), "{text}");
    assert!(text.contains("McNemar p") && text.contains("furthest apart"), "{text}");

    let wrong = place.program(&["compare", "base", "nonsense", "--store", "s.db"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no cell `nonsense`"));
}

#[test]
fn examples_make_another_study_and_are_of_the_file_that_is_named() {
    let place = place();
    let other = json!({ "query": "Nothing", "choices": ["like", "this"], "gold": 1 });
    place.write("train.jsonl", format!("{other}\n"));
    let path = place.path("s.db");
    let answers = |shots: usize, from: Option<&str>| {
        let mut spec = spec(&place);
        spec.cells = Vec::new();
        spec.evaluation.corpora = Vec::new();
        spec.evaluation.shots.count = shots;
        let sources = from.map(|file| ("choices".to_owned(), place.path(file).display().to_string()));
        spec.evaluation.shots.sources.extend(sources);
        let options = RunOptions { resume: true, ..RunOptions::default() };
        let (result, _) = common::run(&path, spec, options);
        (result.study, Store::open_read_only(&path).unwrap().answers(result.study, None).unwrap())
    };
    let runs = [answers(0, None), answers(1, None), answers(1, Some("train.jsonl"))];
    let first = |run: usize| &runs[run].1[0];
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        assert_ne!(runs[one].0, runs[other].0, "each is a study of its own");
        assert_eq!(first(one).prompt, first(other).prompt, "the question is what people read");
        assert_ne!(first(one).choices, first(other).choices, "examples change what is likely");
    }
    assert_eq!(answers(1, None), runs[1], "resumed, with nothing left to do");
    // Last words have theirs from their own file, whatever the choices have.
    let words = |run: usize| runs[run].1.iter().filter(|a| a.task == "words").collect::<Vec<_>>();
    for (one, other) in words(1).into_iter().zip(words(2)) {
        assert!((one.choices[0].log_likelihood - other.choices[0].log_likelihood).abs() < 1e-3);
    }
}

#[test]
fn mistakes_in_examples_are_told_before_anything_is_computed() {
    let place = place();
    place.write("one.jsonl", format!("{}\n", json!({ "query": "Q", "choices": ["a", "b"], "gold": 0 })));
    let said = |more: &[&str]| {
        let line = "run --model model --methods magnitude --sparsity 0.5 --tasks choices.jsonl --seq-len 32 \
                    --device cpu --dtype f32 --store m.db --dry-run --corpus=";
        let words: Vec<&str> = line.split_whitespace().chain(more.iter().copied()).collect();
        let output = place.program(&words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (more, parts) in [
        (&["--shots-from", "choices=one.jsonl"][..], &["choices=one.jsonl", "--shots N"][..]),
        (&["--shots", "1", "--shots-from", "other=one.jsonl"], &["no task `other`", "choices"]),
        (&["--shots", "1", "--shots-from", "one.jsonl"], &["--shots-from", "`one.jsonl`", "TASK=FILE"]),
        (&["--shots", "1", "--shots-from", "choices=two.jsonl"], &["two.jsonl", "no such file"]),
        (&["--shots", "2", "--shots-from", "choices=one.jsonl"], &["1 of 2", "task choices"]),
        (&["--shots", "24"], &["23 of 24", "choices.jsonl"]),
    ] {
        let (code, message) = said(more);
        assert_eq!(code, Some(2), "{more:?}: {message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{more:?}: {message}");
    }
    // In words: asked without examples, and that is said.
    let (code, message) = said(&["--tasks", "tasks.jsonl", "--shots", "2"]);
    assert_eq!(code, Some(0), "{message}");
    assert!(message.contains("warning: task tasks: its questions are answered in words"), "{message}");
}
