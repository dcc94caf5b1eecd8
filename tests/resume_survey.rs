//! What is chosen by a look at the dense model is chosen the same where the program is killed meanwhile: a survey goes on
//! behind the last block whose states were kept, and a loss that is known is not measured again.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Place, Synthetic};
use secateur::results::{CellResult, Seconds};
use secateur::scores::PERPLEXITY;
use secateur::store::Store;
use serde_json::Value;

/// So many that a survey takes long enough to be killed.
const BLOCKS: usize = 12;

fn place() -> Place {
    Place::new(&Synthetic { hidden: 128, intermediate: 256, blocks: BLOCKS, ..Synthetic::default() })
}

fn study(place: &Place, store: &str, recipe: &str, resume: bool) -> std::process::Command {
    let device = common::device_name();
    let mut line = vec!["run", "--model", "model", "--recipe", recipe, "--calibration", "calibration.txt"];
    line.extend([
        "--seq-len",
        "32",
        "--corpus",
        "corpus.txt",
        "--calibration-samples",
        "12",
        "--max-windows",
        "4",
    ]);
    line.extend(["--batch-tokens", "128", "--dtype", "f32", "--device", device.as_str(), "--store", store]);
    line.extend(resume.then_some("--resume"));
    place.program(&line)
}

fn run(place: &Place, store: &str, recipe: &str, resume: bool) {
    let output = study(place, store, recipe, resume).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The files of a study whose names begin with a word, by their paths below its folder.
fn files(place: &Place, store: &str, word: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = place.path(store).with_extension("d");
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name().to_string_lossy().starts_with(word)
                && let Ok(bytes) = fs::read(&path)
            {
                found.insert(path.strip_prefix(&root).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// Runs a study and kills it as soon as `is_time`.
fn kill_when(place: &Place, store: &str, recipe: &str, is_time: impl Fn() -> bool) {
    let mut child =
        study(place, store, recipe, false).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !is_time() {
        assert!(started.elapsed() < Duration::from_mins(2), "{recipe}: the moment never came");
        assert!(child.try_wait().unwrap().is_none(), "{recipe}: it ended before it could be killed");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The cell of a store that has one, without times.
fn found(place: &Place, store: &str) -> CellResult {
    let store = Store::open_read_only(&place.path(store)).unwrap();
    let mut cell = store.study(1).unwrap().cells.remove(0);
    (cell.seconds, cell.peak_rss_bytes) = (Seconds::default(), 0);
    cell.modules.iter_mut().for_each(|module| module.seconds = 0.0);
    assert!(cell.metrics.first(&PERPLEXITY).is_some());
    cell
}

fn assert_same(place: &Place, store: &str) {
    for word in ["block-", "survey-", "width.", "profile."] {
        let (got, want) = (files(place, store, word), files(place, "whole.db", word));
        assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
        assert!(got == want, "files that begin with {word} differ");
    }
    assert_eq!(found(place, store), found(place, "whole.db"));
    assert!(files(place, store, "unfinished-").is_empty(), "files of an unfinished survey are left");
}

/// Changes a file of JSON below a study's folder.
fn change(place: &Place, store: &str, below: &Path, change: impl Fn(&mut Value)) {
    let path = place.path(store).with_extension("d").join(below);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
}

#[test]
fn a_survey_that_is_killed_goes_on_where_it_was_and_ends_with_the_same_numbers() {
    let place = place();
    // The second has a survey of its own, of the blocks that are left.
    for (recipe, folder) in [("wanda@60%,allocation=error", "base"), ("depth@2blocks+width@20%", "depth")] {
        let of_folder = |store: &str, word: &str| -> Vec<PathBuf> {
            let is_there = |path: &PathBuf| path.to_string_lossy().contains(&format!("/{folder}"));
            files(&place, store, word).into_keys().filter(is_there).collect()
        };
        let is_between = |store: &str| {
            of_folder(store, "unfinished-").iter().any(|path| path.extension().unwrap() == "safetensors")
        };
        for store in ["whole.db", "killed.db", "changed.db"] {
            let _ = fs::remove_dir_all(place.path(store).with_extension("d"));
            let _ = fs::remove_file(place.path(store));
        }
        run(&place, "whole.db", recipe, false);
        for store in ["killed.db", "changed.db"] {
            kill_when(&place, store, recipe, || is_between(store));
            assert_eq!(
                of_folder(store, "survey-"),
                [""; 0].map(PathBuf::from),
                "it was killed in the middle"
            );
        }
        run(&place, "killed.db", recipe, true);
        assert_same(&place, "killed.db");

        // What was known of the first block is taken as it was left.
        let figures = of_folder("changed.db", "unfinished-");
        let figures = figures.iter().find(|path| path.extension().unwrap() == "json").unwrap();
        let first = format!("{recipe}: the first block's");
        change(&place, "changed.db", figures, |figures| {
            assert!(figures.as_array().unwrap().len() < BLOCKS, "{first}");
            figures[0]["influence"] = 0.125.into();
            // Of neurons whose inputs never change the first ones go.
            figures[0]["sites"][1]["variance"] = vec![0.0; 256].into();
        });
        run(&place, "changed.db", recipe, true);
        let changed = if folder == "base" { "survey-" } else { "width." };
        assert!(files(&place, "changed.db", changed) != files(&place, "whole.db", changed), "{first}");
    }
}

#[test]
fn losses_that_are_known_when_it_is_killed_are_not_measured_again() {
    let place = place();
    let recipe = "depth@4blocks,by=loss";
    run(&place, "whole.db", recipe, false);
    for store in ["killed.db", "changed.db"] {
        kill_when(&place, store, recipe, || !files(&place, store, "trials-").is_empty());
        assert!(files(&place, store, "block-").is_empty(), "it was killed before it had chosen");
    }
    run(&place, "killed.db", recipe, true);
    assert_same(&place, "killed.db");

    let gone = |store: &str| -> Vec<usize> {
        let modules = found(&place, store).modules;
        let mut blocks: Vec<usize> = modules
            .iter()
            .filter(|module| module.footprint.weights == 0)
            .map(|module| module.block)
            .collect();
        blocks.dedup();
        blocks
    };
    // A block that would stay goes first, if what is known of it says so.
    let stays = (1..BLOCKS - 1).find(|block| !gone("whole.db").contains(block)).unwrap();
    let trials = files(&place, "changed.db", "trials-").into_keys().next().unwrap();
    change(&place, "changed.db", &trials, |trials| {
        let first = trials.as_array_mut().unwrap().iter_mut();
        let mut of_block =
            first.filter(|trial| trial["candidate"] == stays && trial["removed"] == Value::Array(vec![]));
        of_block.next().unwrap()["loss"] = (-1.0).into();
    });
    run(&place, "changed.db", recipe, true);
    assert!(gone("changed.db").contains(&stays));

    // A cell that removes fewer blocks tries nothing again.
    let tried = files(&place, "whole.db", "trials-");
    run(&place, "whole.db", "depth@3blocks,by=loss", true);
    assert!(files(&place, "whole.db", "trials-") == tried);
}
