//! A store that another process writes: followed live, and tidied meanwhile.
#![cfg(unix)]

mod common;
#[allow(dead_code, reason = "only a study that is in the way is needed of it")]
mod samples;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use common::{Place, Synthetic};
use secateur::results::CellState;
use secateur::store::Store;

/// A run of the program whose events are read as they come.
struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Run {
    fn start(place: &Place) -> Self {
        let line = "run --model model --methods magnitude --sparsity 0.5,0.6 --seq-len 32 --corpus corpus.txt \
                    --max-windows 8 --tasks tasks.jsonl --max-new-tokens 300 --batch-prompts 2 --device cpu \
                    --format jsonl --store studies.db";
        let mut command = place.program(&line.split_whitespace().collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until a line that has all of this.
    fn until(&mut self, wanted: &[&str]) {
        let found = self.lines.by_ref().any(|line| {
            let line = line.unwrap();
            wanted.iter().all(|part| line.contains(part))
        });
        assert!(found, "no {wanted:?}");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_store_is_read_and_followed_while_another_process_writes_it() {
    let place = Place::new(&Synthetic { hidden: 128, intermediate: 256, ..Synthetic::default() });
    let path = place.path("studies.db");
    let other = {
        let store = Store::open(&path).unwrap();
        let study = store.create_study(&samples::spec(), &samples::model(), &samples::environment()).unwrap();
        std::fs::write(store.folder(study, None).with_extension("kept"), "x").unwrap();
        study
    };
    let mut run = Run::start(&place);
    run.until(&["\"plan\""]);
    let store = Store::open_read_only(&path).unwrap();
    let running = store.studies().unwrap().last().unwrap().id;
    assert_ne!(running, other);
    let before = store.generation().unwrap();
    assert_eq!(store.generation().unwrap(), before, "looking changes nothing");

    run.until(&["\"event\":\"metrics\"", "\"cell\":null"]);
    let seen = store.generation().unwrap();
    assert_ne!(seen, before);
    let record = store.study(running).unwrap();
    assert_eq!(record.base_state, CellState::Running);
    assert_eq!(record.base.metrics.values.len(), 1, "told and kept before any answer");
    assert!(record.base.seconds.evaluate > 0.0);
    run.until(&["\"event\":\"answer\"", "\"cell\":null"]);
    assert!(!store.answers(running, None).unwrap().is_empty());
    assert_ne!(store.generation().unwrap(), seen);

    // Nobody writes through it, and the writer was not disturbed.
    let refused = store.put_seconds(running, None, &samples::seconds()).unwrap_err();
    assert!(refused.to_string().contains("opened only to be read"), "{refused}");

    // The study that is worked on stays, others may go.
    let refused = Store::delete(&path, running).unwrap_err();
    let process = format!("process {}", run.child.id());
    assert!(refused.exit_code() == 2 && refused.to_string().contains(&process), "{refused}");
    Store::delete(&path, other).unwrap();
    assert!(!place.path(&format!("studies.d/study-{other}")).exists());
    let missing = Store::delete(&path, other).unwrap_err();
    assert!(missing.to_string().contains(&format!("there is no study {other}")), "{missing}");

    run.until(&["\"event\":\"answer\"", "\"magnitude-0.5\""]);
    assert_eq!(store.studies().unwrap().len(), 1);
    drop(run);
    Store::delete(&path, running).unwrap();
    assert!(store.studies().unwrap().is_empty());
    assert!(!place.path(&format!("studies.d/study-{running}")).exists());
    assert_eq!(Store::delete(&place.path("none.db"), 1).unwrap_err().exit_code(), 2);
    assert!(!place.path("none.db").exists() && !place.path("none.db.lock").exists());
}

#[test]
fn the_study_that_this_process_works_on_cannot_be_deleted_beside_it() {
    let place = Place::new(&Synthetic::default());
    let path = place.path("studies.db");
    let spec = place.spec(vec![place.cell("magnitude", "0.5")]);
    let mut engine = common::engine(&path);
    let start = secateur::engine::Command::Start(Box::new(spec), secateur::engine::RunOptions::default());
    engine.commands.blocking_send(start).unwrap();
    while !matches!(engine.events.blocking_recv().unwrap(), secateur::engine::Event::Finished { .. }) {}
    // It is done, but cells may be added to it.
    let refused = Store::delete(&path, 1).unwrap_err().to_string();
    assert!(refused.contains("this process works on it"), "{refused}");
    engine.join();
    Store::delete(&path, 1).unwrap();
}
