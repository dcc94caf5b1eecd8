//! Stores that earlier versions of the program left.

#![allow(clippy::float_cmp, reason = "exact values are meant")]

#[allow(dead_code, reason = "a study and an answer are needed of it")]
mod samples;
#[path = "common/skip.rs"]
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use secateur::results::{CellState, Measurement, Metrics, RankCorrelations, SourceBits};
use secateur::scores::{EXACT_MATCH, F1, JS_DIVERGENCE, PERPLEXITY, ROUGE1};
use secateur::store::Store;
use serde_json::Value;

/// A store as the first version of this program left it: one study with an answer and measurements of every kind.
fn first_version(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(include_str!("../src/store/schema.sql")).unwrap();
    connection.execute_batch("PRAGMA application_id = 0x53636174; PRAGMA user_version = 1").unwrap();
    let mut spec = serde_json::to_value(samples::spec()).unwrap();
    spec["evaluation"].as_object_mut().unwrap().shift_remove("disagreement").unwrap();
    let mut model = serde_json::to_value(samples::model()).unwrap();
    model.as_object_mut().unwrap().shift_remove("source_bits").unwrap();
    connection
        .execute(
            "INSERT INTO studies (id, created_at, spec, model, environment, fingerprint)
             VALUES (1, 1800000000, ?1, ?2, ?3, '{}')",
            [spec.to_string(), model.to_string(), serde_json::to_string(&samples::environment()).unwrap()],
        )
        .unwrap();
    // Rows stand in no order that means anything: what belongs to which data set is said by its position and name.
    connection
        .execute_batch(
            "INSERT INTO base VALUES (1, 'done');
             INSERT INTO cells VALUES (1, 'magnitude-0.3', 0, 'magnitude', '0.3', NULL, 0, 'done', 0.3, 7, '[\"odd\"]');
             INSERT INTO questions VALUES (1, 'squad', 3, 'Who?', '[\"Me\"]');
             INSERT INTO answers VALUES (1, NULL, 'squad', 3, 'You', '[7,8]', 0.0, 0.1, 'nan');
             INSERT INTO timings VALUES (1, NULL, 'load', 0.1), (1, 'magnitude-0.3', 'prune', 0.3);
             INSERT INTO metrics VALUES
             (1, 'magnitude-0.3', 'rouge1', 1, 'b', 0.6, 0.5, 0.7, 20, NULL, NULL),
             (1, 'magnitude-0.3', 'rouge1', 0, 'a', 0.3, 0.2, 0.4, 10, NULL, NULL),
             (1, 'magnitude-0.3', 'f1', 1, 'b', 0.5, 0.4, 0.6, 20, NULL, NULL),
             (1, 'magnitude-0.3', 'f1', 0, 'a', 0.2, 0.1, 0.3, 10, NULL, NULL),
             (1, 'magnitude-0.3', 'exact_match', 0, 'a', 0.1, 0.0, 0.2, 10, NULL, NULL),
             (1, 'magnitude-0.3', 'exact_match', 1, 'b', 0.4, 0.3, 0.5, 20, NULL, NULL),
             (1, 'magnitude-0.3', 'top1_agreement', 0, 'text', 0.9, 0.8, 1.0, NULL, NULL, NULL),
             (1, 'magnitude-0.3', 'kl_divergence', 0, 'text', 9e999, 'nan', 9e999, NULL, 9e999, NULL),
             (1, 'magnitude-0.3', 'js_divergence', 0, 'text', 0.1, 0.0, 0.2, NULL, 0.06931471805599453, NULL),
             (1, 'magnitude-0.3', 'perplexity', 0, 'text', 30.1, 1e-300, 9e999, 16, NULL, 'nan'),
             (1, NULL, 'perplexity', 0, 'text', 20.3, 19.0, 22.0, 16, NULL, 0.30000000000000004);",
        )
        .unwrap();
}

fn version(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// What the store of [`first_version`] says, whatever its version is now.
fn check(store: &Store) {
    let record = store.study(1).unwrap();
    assert_eq!(record.spec, samples::spec());
    let answers = store.answers(1, None).unwrap();
    assert_eq!((answers.len(), answers[0].tokens.as_slice(), &*answers[0].text), (1, &[7, 8][..], "You"));
    assert!(answers[0].pieces.is_empty() && answers[0].disagreement_bits.is_empty());
    let score = |id| answers[0].scores.get(id).unwrap();
    assert!(score("exact_match") == 0.0 && score("f1") == 0.1 && score("rouge1").is_nan());

    let of_base = &record.base.metrics.values;
    assert_eq!((of_base.len(), of_base[0].value, of_base[0].n), (1, 20.3, 16));
    assert_eq!(of_base[0].details.get("standard_error_nats"), Some(0.1 + 0.2), "to the last bit");
    let cell = &record.cells[0];
    assert_eq!((cell.state, cell.warnings.len(), cell.seconds.prune), (CellState::Done, 1, 0.3));
    let told: Vec<String> = cell.metrics.values.iter().map(told).collect();
    let expected = [
        "perplexity text 30.1 [1e-300, inf] 16 standard_error_nats NaN",
        "js_divergence text 0.1 [0.0, 0.2] 16 nats 0.06931471805599453",
        "kl_divergence text inf [NaN, inf] 16 nats inf",
        "top1_agreement text 0.9 [0.8, 1.0] 16",
        "exact_match a 0.1 [0.0, 0.2] 10",
        "f1 a 0.2 [0.1, 0.3] 10",
        "rouge1 a 0.3 [0.2, 0.4] 10",
        "exact_match b 0.4 [0.3, 0.5] 20",
        "f1 b 0.5 [0.4, 0.6] 20",
        "rouge1 b 0.6 [0.5, 0.7] 20",
    ];
    assert_eq!(told, expected);
}

fn told(found: &Measurement) -> String {
    let Measurement { score, data_set, value, ci95, n, details } = found;
    let mut told = vec![format!("{score} {data_set} {value} {ci95:?} {n}")];
    told.extend(details.iter().map(|(name, value)| format!("{name} {value}")));
    told.join(" ")
}

#[test]
fn stores_of_earlier_versions_are_read_as_they_are_and_upgraded_by_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    first_version(&path);
    let before = fs::read(&path).unwrap();
    let reader = Store::open_read_only(&path).unwrap();
    check(&reader);
    check(&reader);
    assert!(fs::read(&path).unwrap() == before, "reading leaves it as it is");
    // Version 2, which had the same measurements.
    Connection::open(&path).unwrap().execute_batch(include_str!("../src/store/schema-2.sql")).unwrap();
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    check(&reader);
    check(&Store::open_read_only(&path).unwrap());

    drop(Store::open(&path).unwrap());
    // Version 3, which had no questions with choices.
    let without = "DROP TABLE likelihoods; DROP TABLE choice_texts; PRAGMA user_version = 3";
    Connection::open(&path).unwrap().execute_batch(without).unwrap();
    check(&reader);
    check(&Store::open_read_only(&path).unwrap());

    let store = Store::open(&path).unwrap();
    assert_eq!(version(&path), 4);
    check(&store);
    check(&reader);
    // What a model's tensors take was not recorded: it is missing until a run that reads the model adds it, once.
    let size = |store: &Store| {
        let result = store.study(1).unwrap().result(RankCorrelations::default());
        result.base.whole_model.map(|whole| whole.size_bytes)
    };
    assert_eq!((size(&store), size(&reader)), (None, None));
    store.put_source_bits(1, SourceBits { all: 1601, untouched: 1 }).unwrap();
    store.put_source_bits(1, SourceBits { all: 8, untouched: 1 }).unwrap();
    assert_eq!((size(&store), size(&reader)), (Some(201), Some(201)));
    check(&store);
    let answer = samples::answer("squad", 3, "Paris");
    store.put_answers(1, None, std::slice::from_ref(&answer)).unwrap();
    for store in [&store, &reader] {
        assert_eq!(store.answers(1, None).unwrap(), std::slice::from_ref(&answer));
    }
    // What belongs to a study still goes with it.
    store.delete_study(1).unwrap();
    let left = Connection::open(&path).unwrap();
    for table in ["metrics", "answers", "timings", "questions", "cells", "base"] {
        let rows: i64 =
            left.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    drop(store);

    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 5").unwrap();
    let message = reader.studies().unwrap_err().to_string();
    assert!(message.contains("version 5") && message.contains("update secateur"), "{message}");
}

#[test]
fn an_upgraded_store_has_the_tables_of_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old.db", "new.db"].map(|name| dir.path().join(name));
    first_version(&old);
    let schema = |path: &Path| {
        drop(Store::open(path).unwrap());
        let connection = Connection::open(path).unwrap();
        let mut query = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<rusqlite::Result<Vec<(String, Option<String>)>>>().unwrap()
    };
    assert_eq!(schema(&old), schema(&new));
}

/// A copy of the store that version 0.1.0 wrote, with its model and data, if it is there.
fn store_of_0_1_0() -> Option<(tempfile::TempDir, Value)> {
    let expected = fs::read_to_string(skip::shared("stores/expected.json")?).unwrap();
    let from = skip::shared("stores")?;
    let dir = tempfile::tempdir().unwrap();
    copy(&from, dir.path());
    Some((dir, serde_json::from_str(&expected).unwrap()))
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry, &target);
        } else {
            // Its content only: what is shared may be read-only.
            fs::write(&target, fs::read(&entry).unwrap()).unwrap();
        }
    }
}

fn secateur(place: &Path, line: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(line)
        .current_dir(place)
        .env("XDG_CONFIG_HOME", place)
        .output()
        .unwrap();
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Checks a model's figures against those that 0.1.0 found.
fn agrees(metrics: &Metrics, expected: &Value, what: &str) {
    let value = |score| metrics.first(score).unwrap().value;
    let found = [value(&PERPLEXITY), value(&JS_DIVERGENCE), value(&F1)];
    let wanted = [&expected["perplexity"], &expected["js_bits"], &expected["f1"][0]];
    for (found, wanted) in found.into_iter().zip(wanted) {
        assert_eq!(Some(found), wanted.as_f64(), "{what}");
    }
    assert!(value(&EXACT_MATCH) <= value(&F1) + 1e-12 && value(&ROUGE1) > 0.0, "{what}");
}

#[test]
fn a_store_of_0_1_0_is_listed_shown_resumed_and_exported() {
    let Some((dir, expected)) = store_of_0_1_0() else { return };
    let (place, db) = (dir.path(), PathBuf::from("store-0.1.0.db"));
    let cells = expected["cells"].as_object().unwrap();
    let done = ["magnitude-0.5", "magnitude-2of4"];
    let read = || Store::open_read_only(&place.join(&db)).unwrap().study(1).unwrap();
    let check_done = || {
        let record = read();
        let base = record.base.metrics.first(&PERPLEXITY).unwrap().value;
        assert_eq!(Some(base), expected["base_perplexity"].as_f64());
        for id in done {
            let cell = record.cells.iter().find(|cell| cell.id == id).unwrap();
            agrees(&cell.metrics, &cells[id], id);
        }
        record
    };
    assert_eq!(check_done().cells.len(), 6);
    let store = ["--store", "store-0.1.0.db"];
    assert!(secateur(place, &[&["list"], &store[..]].concat()).contains("2/6"));
    assert!(secateur(place, &[&["show"], &store[..]].concat()).contains("2.11"));
    let csv = |place: &Path| secateur(place, &[&["show", "--format", "csv"], &store[..]].concat());
    let before = csv(place);
    assert_eq!(version(&place.join(&db)), 2, "nobody has written yet");

    // A writer upgrades it, and what is there stays as it is.
    drop(Store::open(&place.join(&db)).unwrap());
    assert_eq!(version(&place.join(&db)), 4);
    check_done();
    assert_eq!(csv(place), before);

    let line = "run --resume --model model --methods magnitude,wanda,sparsegpt --sparsity 0.5,2:4 --calibration \
                stories.txt --calibration-samples 16 --seq-len 128 --corpus held_out.txt --max-windows 16 --tasks \
                questions.jsonl --max-new-tokens 24 --device cpu --store store-0.1.0.db --format json";
    secateur(place, &line.split_whitespace().collect::<Vec<_>>());
    let record = check_done();
    assert_eq!(record.id, 1);
    let sizes = csv(place);
    let size = |line: &str| line.split(',').nth(8).and_then(|field| field.parse::<u64>().ok());
    assert!(!before.lines().any(|line| size(line).is_some()), "the first version did not record it");
    assert!(sizes.lines().skip(1).all(|line| size(line) == size(sizes.lines().nth(1).unwrap())), "{sizes}");
    assert!(size(sizes.lines().nth(1).unwrap()) > Some(100_000), "{sizes}");
    for cell in &record.cells {
        assert_eq!(cell.state, CellState::Done, "{}", cell.id);
        agrees(&cell.metrics, &cells[&cell.id], &cell.id);
    }
    secateur(place, &["export", "wanda-2of4-stories-s0", "exported", "--store", "store-0.1.0.db"]);
    assert!(place.join("exported/model.safetensors").is_file());
}
