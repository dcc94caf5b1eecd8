//! A study whose cells several processes compute ends with the same weights, metrics and answers as one of one process,
//! whoever is killed on the way.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use common::places::{
    assert_same, computing, interrupt, is_alive, kill, place, study, study_of, succeed, text, until, whole,
};

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
        for changing in ["resources", "phase", "places", "warning", "rank_correlations"] {
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
