//! Finding the edge through the program itself: as few cells as can be, none twice, also where it is interrupted.
#![cfg(unix)]
#![allow(clippy::float_cmp, reason = "what is printed is what is stored")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use common::{Place, Synthetic};
use secateur::results::{CellResult, CellState};
use secateur::store::Store;
use serde_json::Value;

fn place() -> Place {
    Place::new(&Synthetic { hidden: 64, intermediate: 96, blocks: 2, ..Synthetic::default() })
}

/// A search on the place's model and texts.
fn find(place: &Place, store: &str, more: &[&str]) -> Command {
    let line = "find --model model --calibration calibration.txt --calibration-samples 4 --corpus corpus.txt \
                --max-windows 4 --seq-len 32 --dtype f32 --store";
    let device = common::device_name();
    let mut line: Vec<&str> = line.split_whitespace().collect();
    line.extend([store, "--device", device.as_str()]);
    line.extend(more);
    place.program(&line)
}

/// What a search prints as JSON.
fn found(place: &Place, store: &str, more: &[&str]) -> Value {
    let output = find(place, store, &[more, &["--format", "json"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The cells of the only study of a store.
fn cells(place: &Place, store: &str) -> Vec<CellResult> {
    let store = Store::open_read_only(&place.path(store)).unwrap();
    let studies = store.studies().unwrap();
    assert_eq!(studies.len(), 1);
    store.study(studies[0].id).unwrap().cells
}

fn js(cell: &CellResult) -> f64 {
    cell.metrics.first("js_divergence").unwrap().value
}

/// A bound that the model keeps at some levels and breaks at others: half of what magnitude does at 99%.
fn bound(place: &Place) -> String {
    let line = "run --model model --methods magnitude --sparsity 0.99 --corpus corpus.txt --max-windows 4 \
                --seq-len 32 --dtype f32 --format json --store bound.db";
    let mut line: Vec<&str> = line.split_whitespace().collect();
    let device = common::device_name();
    line.extend(["--device", device.as_str()]);
    assert!(place.program(&line).stdout(Stdio::null()).status().unwrap().success());
    format!("js<={}", js(&cells(place, "bound.db")[0]) / 2.0)
}

#[test]
fn it_ends_at_neighbours_of_which_one_holds_and_one_breaks() {
    let place = place();
    let bound = bound(&place);
    let limit: f64 = bound["js<=".len()..].parse().unwrap();
    let answer = found(&place, "studies.db", &["--recipe", "magnitude", "--until", &bound]);
    let (holds, breaks) = (&answer["holds"], &answer["breaks"]);
    let level = |level: &Value| -> u32 {
        let text = level["level"].as_str().unwrap();
        if text == "base" { 0 } else { text.trim_end_matches('%').parse().unwrap() }
    };
    assert_eq!(level(holds) + 1, level(breaks), "{answer}");
    assert!(holds["value"].as_f64().unwrap() <= limit && breaks["value"].as_f64().unwrap() > limit);
    assert_eq!(answer["complete"], true);
    assert_eq!(answer["bound"], bound);

    // What it says is what the store has, and nothing else was run.
    let cells = cells(&place, "studies.db");
    assert!((1..=7).contains(&cells.len()), "{} cells", cells.len());
    assert_eq!(answer["cells_run"], cells.len());
    for cell in &cells {
        assert_eq!(cell.state, CellState::Done);
        let tried =
            answer["tried"].as_array().unwrap().iter().find(|tried| tried["cell"] == cell.id.as_str());
        let tried = tried.unwrap_or_else(|| panic!("{} was not asked for", cell.id));
        assert_eq!(tried["value"].as_f64().unwrap(), js(cell));
        assert_eq!(tried["holds"], js(cell) <= limit);
    }

    // Another bound goes on from what is known, and the same one needs nothing more.
    let more = ["--recipe", "magnitude", "--until", &bound, "--resume"];
    let again = found(&place, "studies.db", &more);
    assert_eq!(&again["holds"], holds);
    assert_eq!(again["cells_run"], 0);
}

#[test]
fn bits_and_formats_have_edges_too_and_the_sentence_names_them() {
    let place = place();
    let said = |more: &[&str]| {
        let output = find(&place, "studies.db", more).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{err}");
        (String::from_utf8(output.stdout).unwrap(), err)
    };
    let (out, err) = said(&["--recipe", "rtn,group=32", "--until", "js<=1"]);
    assert!(out.starts_with("rtn,group=32 keeps js<=1 at every level, up to 2bit (JS "), "{out}");
    assert!(out.ends_with(" 3 cells were run.\n"), "{out}");
    assert!(
        err.starts_with("looking for the greatest compression by rtn,group=32 with js<=1: 4 levels"),
        "{err}"
    );
    assert!(err.contains("next is 4bit.\n"), "{err}");
    let (out, _) = said(&["--recipe", "kquant", "--until", "size<=1B", "--resume"]);
    assert!(out.starts_with("kquant meets size<=1B at no level: at q2_k, its greatest, size "), "{out}");
    let (out, _) = said(&["--recipe", "wanda", "--until", "perplexity<=1", "--resume"]);
    assert!(out.starts_with("The base itself breaks perplexity<=1: perplexity "), "{out}");
}

#[test]
fn one_worker_computes_level_after_level() {
    let place = place();
    let bound = bound(&place);
    let more = ["--recipe", "magnitude", "--until", &bound, "--workers", "2", "--format", "jsonl"];
    let output = find(&place, "shared.db", &more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let events: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let lists = events.iter().filter_map(|event| event["places"].as_array());
    let workers: BTreeSet<&str> = lists.flatten().filter_map(|place| place["worker"].as_str()).collect();
    assert_eq!(workers.len(), 1, "{workers:?}");
    assert!(cells(&place, "shared.db").len() > 2, "it had more than one level to compute");
    assert_eq!(events.last().unwrap()["edge"]["complete"], true);
}

/// A search whose events are read as they come.
struct Followed {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Followed {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Option<Value> {
        // A line that was torn by the end of the program is none.
        serde_json::from_str(&self.lines.next()?.ok()?).ok()
    }
}

#[test]
fn killed_again_and_again_it_runs_no_level_twice_and_finds_the_same() {
    let place = place();
    let bound = bound(&place);
    let search = ["--recipe", "wanda", "--until", &bound];
    let whole = found(&place, "whole.db", &search);

    let more = [&search[..], &["--format", "jsonl", "--resume"]].concat();
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut kills = 0;
    let answer = loop {
        let mut run = Followed::start(&mut find(&place, "killed.db", &more));
        let (mut last, mut is_killed) = (Value::Null, false);
        // What was said before the end counts, also what is read after it.
        while let Some(event) = run.next() {
            let cell = event["cell"].as_str().unwrap_or_default().to_owned();
            if event["event"] == "cell" && event["state"] == "done" && !cell.is_empty() {
                assert!(done.insert(cell.clone()), "{cell} is done twice");
            }
            // In the middle of a cell, in every second one.
            if event["event"] == "checkpoint" && done.len() % 2 == 1 && kills < 6 && !is_killed {
                run.child.kill().unwrap();
                (is_killed, kills) = (true, kills + 1);
            }
            last = event;
        }
        let status = run.child.wait().unwrap();
        if !is_killed {
            assert!(status.success());
            assert_eq!(last["event"], "edge", "{last}");
            break last["edge"].clone();
        }
    };
    assert!(kills > 0, "nothing was interrupted");
    assert_eq!(answer["holds"], whole["holds"]);
    assert_eq!(answer["breaks"], whole["breaks"]);
    let ids = |store| cells(&place, store).into_iter().map(|cell| cell.id).collect::<BTreeSet<_>>();
    assert_eq!(ids("killed.db"), ids("whole.db"));
    assert!(done.is_subset(&ids("whole.db")), "{done:?}");
}

#[test]
fn interrupted_politely_it_says_how_to_resume_and_that_line_finds_the_same() {
    let place = place();
    let bound = bound(&place);
    let search = ["--recipe", "wanda", "--until", &bound, "--format", "jsonl"];
    let whole = found(&place, "whole.db", &search[..4]);

    let said = place.path("said.txt");
    let mut command = find(&place, "polite.db", &search);
    let mut run = Followed::start(command.stderr(std::fs::File::create(&said).unwrap()));
    while run.next().is_some_and(|event| event["event"] != "checkpoint") {}
    let pid = rustix::process::Pid::from_child(&run.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while run.next().is_some() {}
    assert_eq!(run.child.wait().unwrap().code(), Some(130));
    let said = std::fs::read_to_string(said).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("interrupted; resume with: "));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" find --resume ") && said.trim_end().ends_with(line), "{said}");

    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", line]).current_dir(place.path("")).env_clear().env("HOME", place.path("home"));
    let output = shell.envs(common::gpu_variables()).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["edge"]["holds"], whole["holds"]);
    assert_eq!(cells(&place, "polite.db").len(), cells(&place, "whole.db").len());
}
