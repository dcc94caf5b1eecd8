//! A study whose cells other processes compute, and what has to be the same whoever computed it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use secateur::results::{Answer, CellResult, CellState, Metrics, Seconds};
use secateur::store::Store;

use super::{Place, Synthetic};

pub const BLOCKS: usize = 4;

/// Nothing here takes nearly as long.
pub const PATIENCE: Duration = Duration::from_mins(5);

pub fn place() -> Place {
    Place::new(&Synthetic { hidden: 128, intermediate: 256, blocks: BLOCKS, ..Synthetic::default() })
}

/// The study of these tests, with methods that look at data and one that removes blocks, and with tasks.
pub fn study(place: &Place, store: &str, more: &[&str]) -> Command {
    study_of(place, store, ["12", "12"], more)
}

/// The same with so many windows, and tokens of an answer.
pub fn study_of(place: &Place, store: &str, [windows, tokens]: [&str; 2], more: &[&str]) -> Command {
    let mut line = "run --model model --methods magnitude,wanda --sparsity 0.5,2:4 --recipe sparsegpt@50% \
                    --recipe depth@1block+wanda@50% --calibration calibration.txt --seq-len 32 --corpus corpus.txt \
                    --tasks tasks.jsonl --batch-tokens 128 --batch-prompts 2 --dtype f32 --threads 2 --format jsonl"
        .split_whitespace()
        .collect::<Vec<_>>();
    let device = super::device_name();
    line.extend(["--calibration-samples", windows, "--max-windows", windows, "--max-new-tokens", tokens]);
    line.extend(["--store", store, "--device", device.as_str()]);
    line.extend(more);
    place.program(&line)
}

/// Everything that must not depend on who computed it. Times and memory do.
#[derive(Debug, PartialEq)]
pub struct Found {
    base: Metrics,
    cells: Vec<CellResult>,
    answers: Vec<Vec<Answer>>,
}

pub fn found(store: &Path) -> Found {
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
pub fn files(store: &Path) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<PathBuf>) {
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
pub fn assert_same(place: &Place, store: &str, reference: &str) {
    let ((got, got_others), (want, want_others)) = (files(&place.path(store)), files(&place.path(reference)));
    assert_eq!(want.len(), 6 * BLOCKS);
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (path, bytes) in want {
        assert!(got[&path] == bytes, "{} differs", path.display());
    }
    let (got, want) = (found(&place.path(store)), found(&place.path(reference)));
    assert!(want.cells.iter().all(|c| c.state == CellState::Done && c.modules.len() == 7 * BLOCKS));
    assert!(want.answers.iter().all(|a| a.len() == 8));
    if got != want {
        // All of it is longer than anybody reads.
        let (got, want) = (format!("{got:#?}"), format!("{want:#?}"));
        let lines: Vec<_> = got.lines().zip(want.lines()).enumerate().collect();
        let (at, _) = lines.iter().find(|(_, (got, want))| got != want).unwrap();
        panic!("line {at} differs:\n{:#?}", &lines[at.saturating_sub(8)..(at + 8).min(lines.len())]);
    }
    let left: Vec<_> = got_others.iter().filter(|path| !want_others.contains(path)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert_eq!(got_others.len(), want_others.len());
}

pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits for something.
pub fn until(what: &str, is_so: &mut dyn FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: it never was so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The workers that say that they compute a cell: process and cell.
pub fn computing(place: &Place, store: &str) -> Vec<(i32, String)> {
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

pub fn kill(process: i32) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(process).unwrap(), Signal::KILL);
}

pub fn whole(place: &Place, size: [&str; 2]) {
    succeed(&mut study_of(place, "whole.db", size, &[]));
}

pub fn is_alive(process: i32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

pub fn interrupt(child: &Child) {
    // One that has ended by itself needs no signal.
    let sent = kill_process(Pid::from_child(child), Signal::TERM);
    assert!(matches!(sent, Ok(()) | Err(rustix::io::Errno::SRCH)), "{sent:?}");
}
