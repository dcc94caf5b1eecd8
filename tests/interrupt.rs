//! What is asked to stop before the first block stops at once, whatever it is reading.
#![cfg(unix)]

mod common;

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Synthetic};
use secateur::engine::{Command, Engine, Event, RunOptions};
use secateur::store::Store;
use secateur::study::StudySpec;

/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_mins(2);

/// A file that can be opened, and that never has a byte nor an end.
fn endless(place: &Place, name: &str) -> PathBuf {
    let path = place.path(name);
    assert!(Process::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Waits until somebody reads a pipe; it stays without a byte as long as the result is kept.
fn is_read(pipe: &Path) -> File {
    OpenOptions::new().write(true).open(pipe).unwrap()
}

/// Stops an engine as Ctrl-C does the first time, and returns the events that it still sends.
fn stop(mut engine: Engine) -> Vec<Event> {
    engine.commands.blocking_send(Command::Shutdown { after_block: true }).unwrap();
    let asked = Instant::now();
    let mut events = Vec::new();
    loop {
        match engine.events.try_recv() {
            Ok(event) => events.push(event),
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => break,
            Err(_) => {
                assert!(asked.elapsed() < PATIENCE, "the engine goes on");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    engine.join();
    events
}

#[test]
fn an_endless_file_is_left_at_the_first_request() {
    type Change = fn(&mut StudySpec, String);
    let changes: [(&str, Change); 3] = [
        ("corpus.jsonl", |spec, file| spec.evaluation.corpora = vec![file]),
        ("tasks.json", |spec, file| spec.evaluation.tasks = vec![file]),
        ("calibration.txt", |spec, file| spec.cells[0].calibration = Some(file)),
    ];
    for (name, change) in changes {
        let place = Place::new(&Synthetic::default());
        let pipe = endless(&place, &format!("endless-{name}"));
        let mut spec = place.spec(vec![place.cell("wanda", "0.5")]);
        change(&mut spec, pipe.display().to_string());
        let engine = common::engine(&place.path("studies.db"));
        engine.commands.blocking_send(Command::Start(Box::new(spec), RunOptions::default())).unwrap();
        let _pipe = is_read(&pipe);
        let events = stop(engine);
        assert!(matches!(events.last(), Some(Event::Stopped { resumable: None })), "{name}: {events:?}");
        assert!(
            !events.iter().any(|e| matches!(e, Event::Failed { .. } | Event::Plan { .. })),
            "{name}: {events:?}"
        );
        assert!(
            Store::open_existing(&place.path("studies.db")).unwrap().is_none(),
            "{name}: there is no store yet"
        );
    }
}

#[test]
fn a_set_that_an_added_cell_reads_is_left_at_the_first_request() {
    let place = Place::new(&Synthetic::default());
    let pipe = endless(&place, "endless.jsonl");
    let mut engine = common::engine(&place.path("studies.db"));
    let spec = place.spec(vec![place.cell("magnitude", "0.5")]);
    engine.commands.blocking_send(Command::Start(Box::new(spec), RunOptions::default())).unwrap();
    while !matches!(engine.events.blocking_recv().unwrap(), Event::Finished { .. }) {}
    let mut cell = place.cell("wanda", "0.5");
    cell.calibration = Some(pipe.display().to_string());
    engine.commands.blocking_send(Command::AddCell(cell.clone())).unwrap();
    let held = is_read(&pipe);
    // Cancelling the cell ends its reading alone: the next cell is computed.
    engine.commands.blocking_send(Command::CancelCell(cell.id())).unwrap();
    engine.commands.blocking_send(Command::AddCell(place.cell("magnitude", "0.6"))).unwrap();
    let mut cancelled = false;
    loop {
        match engine.events.blocking_recv().unwrap() {
            Event::Cell { cell: Some(id), state } if id == cell.id() => {
                cancelled |= state == secateur::results::CellState::Cancelled;
            }
            Event::Finished { .. } => break,
            Event::Failed { message, .. } | Event::CellFailed { message, .. } => panic!("{message}"),
            _ => {}
        }
    }
    assert!(cancelled);
    drop(held);
    stop(engine);
}

#[test]
fn a_signal_ends_a_run_that_reads() {
    let place = Place::new(&Synthetic::default());
    let pipe = endless(&place, "endless.txt");
    let line = "run --model model --methods magnitude --sparsity 0.5 --seq-len 32 --corpus endless.txt --dtype f32 \
                --device cpu --store studies.db";
    let line: Vec<&str> = line.split_whitespace().collect();
    let child = place.program(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _pipe = is_read(&pipe);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_interrupted(child);
}

/// Asserts that a process ends as one that was asked to stop.
fn assert_interrupted(mut child: Child) {
    let asked = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if asked.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it goes on");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
}

#[test]
fn a_signal_ends_an_export_and_leaves_nothing_of_it() {
    let place = Place::new(&Synthetic::default());
    let line = "run --model model --methods magnitude --sparsity 0.5 --seq-len 32 --corpus corpus.txt --dtype f32 \
                --device cpu --store studies.db";
    let line: Vec<&str> = line.split_whitespace().collect();
    assert!(place.program(&line).output().unwrap().status.success());
    std::fs::remove_file(place.path("corpus.txt")).unwrap();
    let pipe = endless(&place, "corpus.txt");
    let line = ["export", "magnitude-0.5", "out/model", "--store", "studies.db"];
    let child = place.program(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _pipe = is_read(&pipe);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_interrupted(child);
    assert!(!place.path("out").exists());
}

#[test]
fn a_chat_template_without_end_is_refused_by_name() {
    let nested = "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}\
                  {% endfor %}{% endfor %}{% endfor %}";
    let place = Place::new(&Synthetic { chat_template: Some(nested.into()), ..Synthetic::default() });
    let line = "run --model model --methods magnitude --sparsity 0.5 --seq-len 32 --corpus corpus.txt --tasks \
                tasks.jsonl --dtype f32 --device cpu --store studies.db";
    let output = place.program(&line.split_whitespace().collect::<Vec<_>>()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("tokenizer_config.json: the chat template was stopped after 1000000 steps"),
        "{said}"
    );
    assert!(!place.path("studies.db").exists());
}
