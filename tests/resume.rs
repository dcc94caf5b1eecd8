//! A study that is stopped or killed, again and again, ends with the same weights, metrics and answers as one that
//! never stopped.
#![cfg(unix)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Synthetic};
use secateur::model::arch::mixtral::Mixtral;
use secateur::results::{Answer, CellResult, CellState, Metrics, Seconds};
use secateur::store::Store;
use serde_json::Value;

const BLOCKS: usize = 4;

fn place() -> Place {
    Place::new(&Synthetic { hidden: 128, intermediate: 256, blocks: BLOCKS, ..Synthetic::default() })
}

/// The study of these tests: methods of every family, at a fraction and in groups, with tasks, in small batches.
fn study(place: &Place, store: &str, resume: bool) -> Command {
    study_of(place, store, resume, ["12", "12", "2"])
}

/// The same with so many windows, tokens of an answer and prompts together.
fn study_of(place: &Place, store: &str, resume: bool, [windows, tokens, prompts]: [&str; 3]) -> Command {
    let mut line = "run --model model --methods magnitude,wanda,sparsegpt --sparsity 0.5,2:4 \
                    --recipe sparsegpt@2:4+gptq@4bit,group=32 --recipe kquant@q5_1,imatrix,head=q8_0 \
                    --recipe depth@1block+wanda@50% --recipe width@20%+wanda@50% \
                    --calibration calibration.txt --seq-len 32 --corpus corpus.txt --tasks tasks.jsonl \
                    --batch-tokens 128 --dtype f32 --format jsonl --store"
        .split_whitespace()
        .collect::<Vec<_>>();
    let device = common::device_name();
    line.extend([
        store,
        "--device",
        device.as_str(),
        "--calibration-samples",
        windows,
        "--max-windows",
        windows,
    ]);
    line.extend(["--max-new-tokens", tokens, "--batch-prompts", prompts]);
    line.extend(resume.then_some("--resume"));
    place.program(&line)
}

/// Everything that must not depend on interruptions. Times and memory do.
#[derive(Debug, PartialEq)]
struct Found {
    base: Metrics,
    cells: Vec<CellResult>,
    answers: Vec<Vec<Answer>>,
}

fn found(store: &Path) -> Found {
    let store = Store::open_read_only(store).unwrap();
    let study = store.studies().unwrap().last().unwrap().id;
    let mut record = store.study(study).unwrap();
    let mut answers = vec![store.answers(study, None).unwrap()];
    for cell in &mut record.cells {
        // Times add up over all runs.
        let pruned: f64 = cell.modules.iter().map(|m| m.seconds).sum();
        assert!(
            pruned > 0.0 && cell.seconds.prune >= pruned,
            "{}: {} s of {pruned}",
            cell.id,
            cell.seconds.prune
        );
        answers.push(store.answers(study, Some(&cell.id)).unwrap());
        (cell.seconds, cell.peak_rss_bytes) = (Seconds::default(), 0);
        cell.modules.iter_mut().for_each(|m| m.seconds = 0.0);
    }
    Found { base: record.base.metrics, cells: record.cells, answers }
}

/// The pruned blocks below a store, byte for byte.
fn weights(store: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = store.with_extension("d");
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.starts_with("block-") || name.starts_with("width.") {
                let below = path.strip_prefix(&root).unwrap().components().skip(1).collect();
                files.insert(below, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn assert_same(place: &Place, store: &str, reference: &str) {
    assert_same_of(place, store, reference, (10, 7));
}

/// The same of a study of so many cells, whose blocks have so many modules.
fn assert_same_of(place: &Place, store: &str, reference: &str, (cells, modules): (usize, usize)) {
    let (got, want) = (weights(&place.path(store)), weights(&place.path(reference)));
    let choices = want.keys().filter(|path| path.ends_with("width.safetensors")).count();
    assert_eq!(want.len() - choices, cells * BLOCKS);
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (path, bytes) in want {
        assert!(got[&path] == bytes, "{} differs", path.display());
    }
    let (got, want) = (found(&place.path(store)), found(&place.path(reference)));
    assert!(want.cells.iter().all(|c| c.state == CellState::Done && c.modules.len() == modules * BLOCKS));
    assert!(want.answers.iter().all(|a| a.len() == 8));
    assert_eq!(got, want);
}

/// A run whose events are looked at as they come.
struct Run {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    /// Blocks that every cell began with.
    begun_with: HashMap<String, u64>,
}

impl Run {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, begun_with: HashMap::new() }
    }

    /// The next event. What an earlier run has finished must not be done again.
    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        let cell = event["cell"].as_str().unwrap_or_default();
        let done = self.begun_with.get(cell).copied().unwrap_or(0);
        match event["event"].as_str().unwrap() {
            "plan" => {
                for cell in event["cells"].as_array().unwrap() {
                    let blocks = if cell["state"] == "done" {
                        u64::MAX
                    } else {
                        cell["blocks_done"].as_u64().unwrap()
                    };
                    self.begun_with.insert(cell["id"].as_str().unwrap().into(), blocks);
                }
            }
            "module" => assert!(event["module"]["block"].as_u64().unwrap() >= done, "{line}"),
            "checkpoint" => assert!(event["block"].as_u64().unwrap() >= done, "{line}"),
            "cell" => assert!(done < u64::MAX, "{line}"),
            _ => {}
        }
        Some(event)
    }

    /// Reads on until an event that is waited for.
    fn wait_for(&mut self, wanted: &mut dyn FnMut(&Value) -> bool) -> Value {
        while let Some(event) = self.next() {
            if wanted(&event) {
                return event;
            }
        }
        panic!("the run ended with {:?} before the event came", self.child.wait());
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Reads to the end.
    fn end(mut self) -> ExitStatus {
        while self.next().is_some() {}
        self.child.wait().unwrap()
    }
}

/// Whether an event is of this kind and of a cell whose id begins so; the base's begins with "base".
fn is(event: &Value, kind: &str, cell: &str) -> bool {
    event["event"] == kind && event["cell"].as_str().unwrap_or("base").starts_with(cell)
}

type Moment = (&'static str, Box<dyn FnMut(&Value) -> bool>);

/// The moments to kill at, in the order in which a study meets them.
fn moments() -> Vec<Moment> {
    fn at(name: &'static str, wanted: impl FnMut(&Value) -> bool + 'static) -> Moment {
        (name, Box::new(wanted))
    }
    /// The n-th answer of a cell.
    fn answer(name: &'static str, cell: &'static str, n: usize) -> Moment {
        let mut seen = 0;
        at(name, move |e| {
            seen += usize::from(is(e, "answer", cell));
            seen == n
        })
    }
    vec![
        at("the base has begun", |e| is(e, "cell", "base") && e["state"] == "running"),
        answer("the base answers", "base", 3),
        at("the first block of wanda is safe", |e| is(e, "checkpoint", "wanda-0.5")),
        at("in the middle of a block of sparsegpt", |e| {
            is(e, "module", "sparsegpt-0.5") && e["module"]["name"] == "model.layers.2.self_attn.o_proj"
        }),
        at("a block of sparsegpt is safe", |e| is(e, "checkpoint", "sparsegpt-0.5") && e["block"] == 2),
        at("sparsegpt is evaluated", |e| is(e, "phase", "sparsegpt-0.5") && e["phase"] == "evaluate"),
        answer("sparsegpt answers", "sparsegpt-0.5", 3),
        at("sparsegpt is done", |e| is(e, "cell_done", "sparsegpt-0.5")),
        at("the last block is safe", |e| {
            is(e, "checkpoint", "sparsegpt-2of4") && e["block"] == BLOCKS as u64 - 1
        }),
        at("the blocks are surveyed", |e| is(e, "phase", "depth") && e["phase"] == "survey"),
        at("blocks are left out and one is safe", |e| is(e, "checkpoint", "depth")),
        at("neurons are chosen and a block is safe", |e| is(e, "checkpoint", "width")),
    ]
}

#[test]
fn killed_at_many_moments_it_ends_as_if_it_never_stopped() {
    let place = place();
    assert!(study(&place, "whole.db", false).stdout(Stdio::null()).status().unwrap().success());

    let mut resume = false;
    for (moment, mut wanted) in moments() {
        println!("killed when: {moment}");
        let mut run = Run::start(&mut study(&place, "killed.db", resume));
        run.wait_for(&mut *wanted);
        run.signal(rustix::process::Signal::KILL);
        assert_eq!(run.child.wait().unwrap().signal(), Some(9), "{moment}: it had ended before");
        let left = Store::open_read_only(&place.path("killed.db")).unwrap();
        assert_ne!(left.studies().unwrap()[0].state, CellState::Running, "nobody runs it");
        let left = left.study(1).unwrap();
        let mut states = left.cells.iter().map(|cell| cell.state).chain([left.base_state]);
        assert!(states.all(|state| state != CellState::Running), "{moment}");
        resume = true;
    }
    assert!(Run::start(&mut study(&place, "killed.db", true)).end().success());
    assert_same(&place, "killed.db", "whole.db");
    assert_eq!(Store::open_read_only(&place.path("killed.db")).unwrap().studies().unwrap().len(), 1);
}

/// A study of a mixture, some experts of which are removed before others are compressed.
fn mixture_study(place: &Place, store: &str, resume: bool) -> Command {
    let device = common::device_name();
    let mut line = "run --model model --recipe experts@25%+sparsegpt@50% --recipe experts@50%+wanda@2:4 \
                    --recipe depth@1block+experts@25%+gptq@4bit,group=32 \
                    --calibration calibration.txt --calibration-samples 12 --seq-len 32 --corpus corpus.txt \
                    --max-windows 12 --tasks tasks.jsonl --max-new-tokens 12 --batch-prompts 2 --batch-tokens 128 \
                    --dtype f32 --format jsonl --store"
        .split_whitespace()
        .collect::<Vec<_>>();
    line.extend([store, "--device", device.as_str()]);
    line.extend(resume.then_some("--resume"));
    place.program(&line)
}

/// When a run is killed: what is told of the moment, and the event that it begins with.
type KillMoment<'a> = (&'a str, &'a dyn Fn(&Value) -> bool);

#[test]
fn a_mixture_that_is_killed_loses_the_same_experts_and_chooses_them_once() {
    let place = Place::new(&Synthetic { blocks: BLOCKS, ..Synthetic::tiny(&Mixtral) });
    assert!(mixture_study(&place, "whole.db", false).stdout(Stdio::null()).status().unwrap().success());
    let is_survey = |e: &Value| e["event"] == "phase" && e["phase"] == "survey";
    let moments: [KillMoment<'_>; 5] = [
        ("the survey has begun", &is_survey),
        ("a block is safe", &|e| is(e, "checkpoint", "experts-0.25")),
        ("in the middle of a block", &|e| {
            is(e, "module", "experts-0.25") && e["module"]["name"].as_str().unwrap().contains("layers.2")
        }),
        ("another cell has chosen", &|e| is(e, "checkpoint", "experts-0.5") && e["block"] == 1),
        ("blocks and experts are gone", &|e| is(e, "checkpoint", "depth") && e["block"] == 1),
    ];
    for (at, (moment, wanted)) in moments.iter().enumerate() {
        let mut run = Run::start(&mut mixture_study(&place, "killed.db", at > 0));
        run.wait_for(&mut |event| {
            assert!(at < 2 || !is_survey(event), "{moment}: the survey was there");
            wanted(event)
        });
        run.signal(rustix::process::Signal::KILL);
        assert_eq!(run.child.wait().unwrap().signal(), Some(9), "{moment}: it had ended before");
    }
    assert!(Run::start(&mut mixture_study(&place, "killed.db", true)).end().success());
    assert_same_of(&place, "killed.db", "whole.db", (3, 4 + 3 * 4));
}

#[test]
fn killed_behind_the_last_block_it_sends_nothing_through_the_blocks_again() {
    let place = place();
    assert!(study(&place, "whole.db", false).stdout(Stdio::null()).status().unwrap().success());

    let mut left = Vec::new();
    for resume in [false, true, true] {
        let mut run = Run::start(&mut study(&place, "killed.db", resume));
        run.wait_for(&mut |e| is(e, "phase", "sparsegpt-0.5") && e["phase"] == "answer");
        run.signal(rustix::process::Signal::KILL);
        run.child.wait().unwrap();
        let states = |cell: &str| place.path("killed.d/study-1").join(cell).join("states.safetensors");
        // Every pass writes the file anew.
        left.push(
            ["base", "sparsegpt-0.5-calibration-s0"]
                .map(|cell| states(cell).metadata().unwrap().modified().unwrap()),
        );
    }
    assert_eq!(left[0], left[1]);
    assert_eq!(left[0], left[2]);
    assert!(Run::start(&mut study(&place, "killed.db", true)).end().success());
    assert_same(&place, "killed.db", "whole.db");
}

#[test]
fn a_base_that_is_done_stays_done_while_its_states_are_brought_back() {
    let place = place();
    assert!(study(&place, "a.db", false).output().unwrap().status.success());
    let states = place.path("a.d/study-1/base/states.safetensors");
    std::fs::remove_file(&states).unwrap();
    std::fs::create_dir(&states).unwrap();
    let output = study(&place, "a.db", true).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("states.safetensors"), "{said}");
    let base = |store: &Store| store.study(1).unwrap().base_state;
    assert_eq!(base(&Store::open_read_only(&place.path("a.db")).unwrap()), CellState::Done);
    std::fs::remove_dir(&states).unwrap();
    // What a killed process did not come to remove goes with the next run.
    let cell = std::fs::read_dir(place.path("a.d/study-1")).unwrap().map(|entry| entry.unwrap().path());
    let cell = cell.into_iter().find(|path| path.to_string_lossy().contains("wanda")).unwrap();
    for left in ["states.safetensors", ".states.safetensors.part"] {
        std::fs::write(cell.join(left), "left").unwrap();
    }
    assert!(study(&place, "a.db", true).output().unwrap().status.success());
    assert!(states.is_file() && !cell.join("states.safetensors").exists());
    assert!(!cell.join(".states.safetensors.part").exists());
}

#[test]
fn killed_at_random_times_it_ends_as_if_it_never_stopped() {
    let place = place();
    let started = Instant::now();
    assert!(study(&place, "whole.db", false).stdout(Stdio::null()).status().unwrap().success());
    let whole = started.elapsed();

    for percent in [13, 31, 7, 23, 37, 19, 29] {
        let mut child = study(&place, "killed.db", true).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * percent / 100);
        child.kill().unwrap();
        println!("after {percent}% of {whole:?}: {}", child.wait().unwrap());
    }
    assert!(Run::start(&mut study(&place, "killed.db", true)).end().success());
    assert_same(&place, "killed.db", "whole.db");
}

#[test]
fn torn_and_damaged_checkpoints_are_made_anew() {
    let place = place();
    assert!(study(&place, "whole.db", false).stdout(Stdio::null()).status().unwrap().success());

    let mut run = Run::start(&mut study(&place, "torn.db", false));
    run.wait_for(&mut |e| is(e, "checkpoint", "sparsegpt-0.5") && e["block"] == 2);
    run.signal(rustix::process::Signal::KILL);
    run.child.wait().unwrap();
    let cells = place.path("torn.d/study-1");
    let cut = |path: PathBuf, keep: u64| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() * keep / 100).unwrap();
    };
    cut(cells.join("sparsegpt-0.5-calibration-s0/block-0002.safetensors"), 60);
    cut(cells.join("base/states.safetensors"), 90);
    std::fs::write(cells.join("sparsegpt-0.5-calibration-s0/.block-0003.safetensors.part"), "rest").unwrap();

    let mut run = Run::start(&mut study(&place, "torn.db", true));
    let plan = run.wait_for(&mut |e| e["event"] == "plan");
    assert_eq!(plan["cells"][4]["id"], "sparsegpt-0.5-calibration-s0");
    assert_eq!(plan["cells"][4]["blocks_done"], 2, "the torn block does not count");
    assert!(run.end().success());
    assert_same(&place, "torn.db", "whole.db");
}

/// One that takes its time: what is to be interrupted must not be over before a busy machine has let the signal through.
fn long_study(place: &Place, store: &str) -> Command {
    study_of(place, store, false, ["180", "120", "1"])
}

/// The signal of Ctrl-C, or the other polite one where the former is ignored, as by what a script starts in the background.
fn polite() -> rustix::process::Signal {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let interrupt = rustix::process::Signal::INT;
    if ignored >> (interrupt.as_raw() - 1) & 1 == 0 { interrupt } else { rustix::process::Signal::TERM }
}

/// Runs until `wanted`, interrupts `times` times, and returns what was said and how it ended.
fn interrupt(
    place: &Place,
    store: &str,
    wanted: &mut dyn FnMut(&Value) -> bool,
    times: usize,
) -> (ExitStatus, String, Vec<Value>) {
    let said = place.path("said.txt");
    let mut run = Run::start(long_study(place, store).stderr(File::create(&said).unwrap()));
    run.wait_for(wanted);
    for _ in 0..times {
        run.signal(polite());
        // Signals that come at once are one.
        std::thread::sleep(Duration::from_millis(30));
    }
    let mut after = Vec::new();
    while let Some(event) = run.next() {
        after.push(event);
    }
    let status = run.child.wait().unwrap();
    (status, std::fs::read_to_string(said).unwrap(), after)
}

/// Runs the line that an interrupted run printed.
fn go_on(place: &Place, said: &str) {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("interrupted; resume with: "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" run --resume ") && said.trim_end().ends_with(line), "{said}");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", line]).current_dir(place.path("")).env_clear().env("HOME", place.path("home"));
    shell.envs(common::gpu_variables());
    assert!(shell.stdout(Stdio::null()).status().unwrap().success(), "{line}");
}

#[test]
fn interrupted_once_it_ends_the_block_in_hand_and_says_how_to_go_on() {
    let place = place();
    assert!(long_study(&place, "whole.db").stdout(Stdio::null()).status().unwrap().success());

    let (status, said, after) =
        interrupt(&place, "polite.db", &mut |e| is(e, "checkpoint", "wanda-0.5") && e["block"] == 0, 1);
    assert_eq!(status.code(), Some(130), "{said}");
    let work = |e: &&Value| ["module", "checkpoint"].contains(&e["event"].as_str().unwrap());
    if let Some(last) = after.iter().rfind(work) {
        assert_eq!(last["event"], "checkpoint", "the current block was not ended");
    }
    assert_eq!(after.last().unwrap()["event"], "stopped");
    go_on(&place, &said);
    assert_same(&place, "polite.db", "whole.db");

    let (status, said, after) = interrupt(&place, "answers.db", &mut |e| is(e, "answer", "magnitude-0.5"), 1);
    assert_eq!(status.code(), Some(130), "{said}");
    let answers = after.iter().filter(|e| e["event"] == "answer").count();
    assert!(answers < 7, "{answers} more answers before it stopped");
    go_on(&place, &said);
    assert_same(&place, "answers.db", "whole.db");
}

#[test]
fn interrupted_twice_it_stops_at_once_and_can_go_on() {
    let place = place();
    assert!(long_study(&place, "whole.db").stdout(Stdio::null()).status().unwrap().success());
    let (status, said, _) = interrupt(&place, "twice.db", &mut |e| is(e, "module", "sparsegpt-0.5"), 2);
    assert_eq!(status.code(), Some(130), "{said}");
    go_on(&place, &said);
    assert_same(&place, "twice.db", "whole.db");
}
