//! A study whose cells several processes compute ends with the same weights, metrics and answers as one of one process,
//! whoever is killed on the way.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Synthetic};
use rustix::process::{Pid, Signal, kill_process};
use secateur::results::{Answer, CellResult, CellState, Metrics, Seconds};
use secateur::store::Store;

const BLOCKS: usize = 4;

/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_mins(5);

fn place() -> Place {
    Place::new(&Synthetic { hidden: 128, intermediate: 256, blocks: BLOCKS, ..Synthetic::default() })
}

/// The study of these tests, with methods that look at data and one that removes blocks, and with tasks.
fn study(place: &Place, store: &str, more: &[&str]) -> Command {
    study_of(place, store, ["12", "12"], more)
}

/// The same with so many windows, and tokens of an answer.
fn study_of(place: &Place, store: &str, [windows, tokens]: [&str; 2], more: &[&str]) -> Command {
    let mut line = "run --model model --methods magnitude,wanda --sparsity 0.5,2:4 --recipe sparsegpt@50% \
                    --recipe depth@1block+wanda@50% --calibration calibration.txt --seq-len 32 --corpus corpus.txt \
                    --tasks tasks.jsonl --batch-tokens 128 --batch-prompts 2 --dtype f32 --threads 2 --format jsonl"
        .split_whitespace()
        .collect::<Vec<_>>();
    let device = common::device_name();
    line.extend(["--calibration-samples", windows, "--max-windows", windows, "--max-new-tokens", tokens]);
    line.extend(["--store", store, "--device", device.as_str()]);
    line.extend(more);
    place.program(&line)
}

/// Everything that must not depend on who computed it. Times and memory do.
#[derive(Debug, PartialEq)]
struct Found {
    base: Metrics,
    cells: Vec<CellResult>,
    answers: Vec<Vec<Answer>>,
}

fn found(store: &Path) -> Found {
    let store = Store::open_read_only(store).unwrap();
    let studies = store.studies().unwrap();
    assert_eq!(studies.len(), 1, "there is one study, however often it was resumed");
    let study = studies[0].id;
    let mut record = store.study(study).unwrap();
    let mut answers = vec![store.answers(study, None).unwrap()];
    for cell in &mut record.cells {
        assert!(cell.seconds.prune > 0.0 && cell.seconds.evaluate > 0.0, "{}: time is counted", cell.id);
        answers.push(store.answers(study, Some(&cell.id)).unwrap());
        (cell.seconds, cell.peak_rss_bytes) = (Seconds::default(), 0);
        cell.modules.iter_mut().for_each(|m| m.seconds = 0.0);
    }
    Found { base: record.base.metrics, cells: record.cells, answers }
}

/// The pruned blocks below a store, byte for byte, and the names of all other files.
fn files(store: &Path) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<PathBuf>) {
    let root = store.with_extension("d");
    let (mut blocks, mut others) = (BTreeMap::new(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let below: PathBuf = path.strip_prefix(&root).unwrap().components().skip(1).collect();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap().to_string_lossy().starts_with("block-") {
                blocks.insert(below, fs::read(&path).unwrap());
            } else {
                others.push(below);
            }
        }
    }
    others.sort();
    (blocks, others)
}

/// The same figures, the same weights, and nothing left behind that one process would not leave.
fn assert_same(place: &Place, store: &str, reference: &str) {
    let ((got, got_others), (want, want_others)) = (files(&place.path(store)), files(&place.path(reference)));
    assert_eq!(want.len(), 6 * BLOCKS);
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (path, bytes) in want {
        assert!(got[&path] == bytes, "{} differs", path.display());
    }
    let (got, want) = (found(&place.path(store)), found(&place.path(reference)));
    assert!(want.cells.iter().all(|c| c.state == CellState::Done && c.modules.len() == 7 * BLOCKS));
    assert!(want.answers.iter().all(|a| a.len() == 8));
    assert_eq!(got, want);
    let left: Vec<_> = got_others.iter().filter(|path| !want_others.contains(path)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert_eq!(got_others.len(), want_others.len());
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits for something.
fn until(what: &str, is_so: &mut dyn FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: it never was so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The workers that say that they compute a cell: process and cell.
fn computing(place: &Place, store: &str) -> Vec<(i32, String)> {
    let folder = place.path(store).with_extension("d").join("study-1/places/workers");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let status: Option<serde_json::Value> = serde_json::from_str(&text(&path)).ok();
        let Some(status) = status else { continue };
        if let (Some(process), Some(cell)) = (status["identity"]["process"].as_i64(), status["cell"].as_str())
        {
            found.push((i32::try_from(process).unwrap(), cell.to_owned()));
        }
    }
    found
}

fn kill(process: i32) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(process).unwrap(), Signal::KILL);
}

fn whole(place: &Place, size: [&str; 2]) {
    succeed(&mut study_of(place, "whole.db", size, &[]));
}

#[test]
fn two_workers_find_out_what_one_process_does() {
    let place = place();
    whole(&place, ["12", "12"]);
    let output = succeed(&mut study(&place, "shared.db", &["--workers", "2"]));
    assert_same(&place, "shared.db", "whole.db");
    // Everything that a client is told of one process, it is told of workers.
    let kinds = |output: &[u8]| -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for line in String::from_utf8_lossy(output).lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            *kinds.entry(event["event"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        for changing in ["resources", "phase", "places", "warning"] {
            kinds.remove(changing);
        }
        kinds
    };
    let again = succeed(&mut study(&place, "again.db", &[]));
    assert_eq!(kinds(&output.stdout), kinds(&again.stdout));
}

#[test]
fn a_worker_that_is_killed_loses_nothing() {
    let place = place();
    let size = ["60", "24"];
    whole(&place, size);
    let said = place.path("said.txt");
    let mut run = study_of(&place, "killed.db", size, &["--workers", "2"]);
    let mut child = run.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
    for _ in 0..3 {
        let mut victim = None;
        until("a worker computes", &mut || {
            victim = computing(&place, "killed.db").pop();
            victim.is_some() || child.try_wait().unwrap().is_some()
        });
        if let Some((process, _)) = victim {
            kill(process);
        }
        std::thread::sleep(Duration::from_millis(700));
    }
    assert!(child.wait().unwrap().success(), "{}", text(&said));
    assert_same(&place, "killed.db", "whole.db");
    assert!(text(&said).contains("signal: 9"), "{}", text(&said));
}

#[test]
fn a_ledger_that_is_killed_is_followed_by_another_one_with_workers_or_without() {
    let place = place();
    let size = ["60", "24"];
    whole(&place, size);
    for (store, more) in [("with.db", &["--resume", "--workers", "2"][..]), ("without.db", &["--resume"])] {
        let mut run = study_of(&place, store, size, &["--workers", "2"]);
        let mut ledger = run.stdout(Stdio::null()).spawn().unwrap();
        until("two workers compute", &mut || {
            computing(&place, store).len() == 2 || ledger.try_wait().unwrap().is_some()
        });
        ledger.kill().unwrap();
        ledger.wait().unwrap();
        let orphans = computing(&place, store);
        // They continue without it.
        std::thread::sleep(Duration::from_millis(500));
        succeed(&mut study_of(&place, store, size, more));
        assert_same(&place, store, "whole.db");
        until("nobody is left", &mut || orphans.iter().all(|(process, _)| !is_alive(*process)));
    }
}

#[test]
fn a_worker_that_has_lost_its_claim_leaves_the_cell_to_others() {
    let place = place();
    let size = ["60", "24"];
    whole(&place, size);
    let mut run = study_of(&place, "lost.db", size, &["--workers", "2"]);
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut found = None;
    until("a cell is computed", &mut || {
        found = computing(&place, "lost.db").pop();
        found.is_some() || child.try_wait().unwrap().is_some()
    });
    if let Some((_, cell)) = found {
        let work = place.path("lost.d/study-1").join(cell).join("work");
        // Somebody believed that worker to be dead, took the cell, and died.
        let first = text(&work.join("claim-0001.json"));
        let mut claim: serde_json::Value = serde_json::from_str(&first).unwrap();
        claim["worker"] = "dead".into();
        claim["identity"]["began"] = 1.into();
        let other = work.join("other");
        fs::write(&other, claim.to_string()).unwrap();
        fs::rename(&other, work.join("claim-0002.json")).unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert_same(&place, "lost.db", "whole.db");
}

fn is_alive(process: i32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

fn interrupt(child: &Child) {
    // One that has ended by itself needs no signal.
    let sent = kill_process(Pid::from_child(child), Signal::TERM);
    assert!(matches!(sent, Ok(()) | Err(rustix::io::Errno::SRCH)), "{sent:?}");
}

#[test]
fn a_run_that_is_interrupted_stops_its_workers_and_is_resumed() {
    let place = place();
    let size = ["60", "24"];
    whole(&place, size);
    let mut run = study_of(&place, "stopped.db", size, &["--workers", "2"]);
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("two workers compute", &mut || {
        computing(&place, "stopped.db").len() == 2 || child.try_wait().unwrap().is_some()
    });
    let workers = computing(&place, "stopped.db");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(workers.iter().all(|(process, _)| !is_alive(*process)), "workers ended before their ledger did");
    succeed(&mut study_of(&place, "stopped.db", size, &["--resume", "--workers", "3"]));
    assert_same(&place, "stopped.db", "whole.db");
}

#[test]
fn a_worker_joins_by_hand_and_a_folder_without_a_study_is_refused() {
    let place = place();
    let size = ["60", "24"];
    whole(&place, size);
    let refused = place.program(&["worker", "."]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is not the folder of a study that workers can join"), "{said}");

    let mut run = study_of(&place, "joined.db", size, &["--workers", "2"]);
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("two workers compute", &mut || computing(&place, "joined.db").len() == 2);
    let folder = place.path("joined.d/study-1");
    let mut joined = place
        .program(&["worker", folder.to_str().unwrap(), "--threads", "1"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = i32::try_from(joined.id()).unwrap();
    until("it computes too, or came too late", &mut || {
        computing(&place, "joined.db").iter().any(|(other, _)| *other == process)
            || joined.try_wait().unwrap().is_some()
    });
    interrupt(&joined);
    let code = joined.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
    assert!(child.wait().unwrap().success());
    assert_same(&place, "joined.db", "whole.db");
}
