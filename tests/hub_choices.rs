//! Sets with choices by their names, from a hub on the loopback interface that has them as they are published.

mod common;
#[path = "../src/data/tests/files.rs"]
#[allow(dead_code, reason = "only what these sets need")]
mod files;
#[path = "common/loopback.rs"]
mod loopback;

use std::collections::BTreeMap;
use std::process::Output;

use common::{Place, Synthetic};
use files::{Leaf, write as parquet_file};
use loopback::Server;
use parquet::basic::Compression;
use secateur::results::Answer;
use secateur::store::Store;

/// A file of ARC: the choices are a struct of two lists. Each question with its choices, their labels and the right one.
fn arc(questions: &[(&str, &[&str], &[&str], &str)]) -> Vec<u8> {
    let list = |name: &str| {
        format!(
            "OPTIONAL group {name} (LIST) {{ REPEATED group list {{ OPTIONAL BYTE_ARRAY element (UTF8); }} }}"
        )
    };
    let fields = format!(
        "OPTIONAL BYTE_ARRAY id (UTF8); OPTIONAL BYTE_ARRAY question (UTF8); OPTIONAL group choices {{ {} {} }} \
         OPTIONAL BYTE_ARRAY answerKey (UTF8);",
        list("text"),
        list("label")
    );
    let texts: Vec<&[&str]> = questions.iter().map(|question| question.1).collect();
    let labels: Vec<&[&str]> = questions.iter().map(|question| question.2).collect();
    let leaves = vec![
        Leaf::optional(&vec![Some("Mercury_1"); questions.len()]),
        Leaf::optional(&questions.iter().map(|question| Some(question.0)).collect::<Vec<_>>()),
        Leaf::lists(&texts, 4),
        Leaf::lists(&labels, 4),
        Leaf::optional(&questions.iter().map(|question| Some(question.3)).collect::<Vec<_>>()),
    ];
    parquet_file(&fields, leaves, Compression::SNAPPY)
}

/// A file of `WinoGrande`: four columns of text. Each sentence with its options and the number of the right one.
fn winogrande(sentences: &[[&str; 4]]) -> Vec<u8> {
    let fields: Vec<String> = ["sentence", "option1", "option2", "answer"]
        .iter()
        .map(|name| format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"))
        .collect();
    let column =
        |n: usize| Leaf::optional(&sentences.iter().map(|sentence| Some(sentence[n])).collect::<Vec<_>>());
    parquet_file(&fields.concat(), (0..4).map(column).collect(), Compression::SNAPPY)
}

fn server() -> Server {
    let of_arc = BTreeMap::from([
        (
            "ARC-Easy/test-00000-of-00001.parquet".to_owned(),
            arc(&[
                ("What melts?", &["Ice", "Air"], &["A", "B"], "A"),
                ("What flies?", &["A stone", "A bird", "Ice"], &["1", "2", "3"], "2"),
            ]),
        ),
        (
            "ARC-Easy/train-00000-of-00001.parquet".to_owned(),
            arc(&[
                ("What burns?", &["Wood", "Water"], &["A", "B"], "A"),
                ("What is wet?", &["Sand", "Rain"], &["A", "B"], "B"),
            ]),
        ),
    ]);
    let of_winogrande = BTreeMap::from([
        (
            "winogrande_xl/validation-00000-of-00001.parquet".to_owned(),
            winogrande(&[["Ann thanked Bob as _ had helped. ", "Ann", "Bob", "2"]]),
        ),
        (
            "winogrande_xl/train-00000-of-00001.parquet".to_owned(),
            winogrande(&[
                ["The cup beat the jug since _ was new.", "the cup", "the jug", "1"],
                ["Eve helped Joe so _ smiled.", "Eve", "Joe", "2"],
            ]),
        ),
    ]);
    Server::start(&[("datasets/allenai/ai2_arc", of_arc), ("datasets/allenai/winogrande", of_winogrande)])
}

/// Runs a study of both sets in a store of its own.
fn run(place: &Place, endpoint: &str, store: &str, more: &[&str]) -> Output {
    let line = "run --model model --methods magnitude --sparsity 0.5 --tasks arc_easy,winogrande --seq-len 32 \
                --device cpu --dtype f32 --format json";
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.extend(["--corpus=", "--store", store]);
    words.extend(more);
    place.program(&words).env("HF_ENDPOINT", endpoint).output().unwrap()
}

/// The base's answers of a run that succeeds.
fn answers(place: &Place, endpoint: &str, store: &str, more: &[&str]) -> Vec<Answer> {
    let output = run(place, endpoint, store, more);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let store = Store::open_read_only(&place.path(store)).unwrap();
    let studies = store.studies().unwrap();
    store.answers(studies[0].id, None).unwrap()
}

#[test]
fn sets_of_the_hub_are_scored_by_name_with_examples_of_their_training_part() {
    let place = Place::new(&Synthetic { intermediate: 96, blocks: 1, ..Synthetic::default() });
    let server = server();
    let endpoint = server.endpoint();
    let fetched = || -> Vec<String> {
        let path = |request: loopback::Request| {
            request.path.split_once(loopback::COMMIT).unwrap().1.trim_start_matches('/').to_owned()
        };
        let mut files: Vec<String> = server.downloads().into_iter().map(path).collect();
        files.sort();
        files
    };
    let without = answers(&place, &endpoint, "without.db", &[]);
    let asked = ["ARC-Easy/test-00000-of-00001.parquet", "winogrande_xl/validation-00000-of-00001.parquet"];
    assert_eq!(fetched(), asked, "no examples, no training parts");
    let found: Vec<(&str, &str, &str)> =
        without.iter().map(|a| (a.task.as_str(), a.prompt.as_str(), a.references[0].as_str())).collect();
    let expected = [
        ("arc_easy", "Question: What melts?\nAnswer:", "Ice"),
        ("arc_easy", "Question: What flies?\nAnswer:", "A bird"),
        ("winogrande", "Ann thanked Bob as ", "Bob had helped."),
    ];
    assert_eq!(found, expected);
    assert_eq!(without.iter().map(|answer| answer.choices.len()).collect::<Vec<_>>(), [2, 3, 2]);

    let with = answers(&place, &endpoint, "with.db", &["--shots", "2"]);
    let shown = ["ARC-Easy/train-00000-of-00001.parquet", "winogrande_xl/train-00000-of-00001.parquet"];
    assert_eq!(fetched(), [asked[0], shown[0], shown[1], asked[1]], "nothing is fetched twice");
    for (with, without) in with.iter().zip(&without) {
        assert_eq!((&with.task, &with.prompt), (&without.task, &without.prompt));
        let differ = with.choices.iter().zip(&without.choices).all(|(one, other)| {
            one.text == other.text && (one.log_likelihood - other.log_likelihood).abs() > 1e-6
        });
        assert!(differ, "examples change what is likely: {with:?} {without:?}");
    }

    let output = run(&place, &endpoint, "more.db", &["--shots", "3"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("2 of 3") && said.contains("task arc_easy"), "{said}");

    drop(server);
    let offline = answers(&place, &endpoint, "offline.db", &["--shots", "2", "--offline"]);
    assert_eq!(offline.len(), with.len());
    for (one, other) in offline.iter().zip(&with) {
        let difference = one.choices[0].log_likelihood - other.choices[0].log_likelihood;
        assert!(one.prompt == other.prompt && difference.abs() < 1e-3, "{one:?} {other:?}");
    }
}
