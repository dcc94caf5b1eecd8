//! A study whose cells jobs of a Slurm cluster compute: a real one, of two nodes on this machine.
#![cfg(unix)]

mod common;
mod pty;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::Place;
use common::places::{assert_same, computing, kill, place, study, study_of, succeed, text, until, whole};
use portable_pty::CommandBuilder;
use pty::Terminal;
use secateur::results::CellState;
use secateur::store::Store;
use tempfile::TempDir;

/// A Slurm of this machine, which ends with the test.
struct Cluster {
    script: PathBuf,
    folder: TempDir,
}

impl Cluster {
    /// `None`, and the test skipped, where Slurm can't be had.
    fn start() -> Option<Self> {
        let script = common::skip::shared("tools/slurm-local.sh")?;
        let cluster = Self { script, folder: tempfile::tempdir().unwrap() };
        let started = cluster.control("start");
        if started.status.code() == Some(3) {
            let said = String::from_utf8_lossy(&started.stderr).into_owned();
            common::skip::skip(format_args!("Slurm cannot be installed here: {}", said.trim()));
            return None;
        }
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        Some(cluster)
    }

    fn control(&self, what: &str) -> std::process::Output {
        Command::new(&self.script).arg(what).arg(self.folder.path()).output().unwrap()
    }

    /// What its commands are found and led by.
    fn variables(&self) -> [(&'static str, String); 2] {
        let configuration = self.folder.path().join("slurm.conf").display().to_string();
        [("SLURM_CONF", configuration), ("PATH", std::env::var("PATH").unwrap())]
    }

    /// Lets a command find it.
    fn known_to(&self, mut command: Command) -> Command {
        command.envs(self.variables());
        command
    }

    fn ask(&self, line: &[&str]) -> String {
        let mut command = self.known_to(Command::new(line[0]));
        let output = command.args(&line[1..]).output().unwrap();
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The jobs that wait or run.
    fn jobs(&self) -> Vec<String> {
        self.ask(&["squeue", "-h", "-r", "-o", "%i"]).lines().map(str::to_owned).collect()
    }

    fn assert_nothing_is_left(&self) {
        until("no job is left", &mut || self.jobs().is_empty());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.control("stop");
    }
}

const SLURM: [&str; 6] = ["--places", "slurm", "--jobs", "2", "--slurm", "-c1 --mem=500"];

fn run(cluster: &Cluster, place: &Place, store: &str, size: [&str; 2], more: &[&str]) -> Command {
    cluster.known_to(study_of(place, store, size, &[&SLURM[..], more].concat()))
}

/// The job that computes a cell, by the worker's own word.
fn job_of(place: &Place, store: &str, process: i32) -> Option<String> {
    let folder = place.path(store).with_extension("d").join("study-1/places/workers");
    let statuses = fs::read_dir(folder).ok()?.flatten().map(|entry| text(&entry.path()));
    let statuses = statuses.filter_map(|status| serde_json::from_str::<serde_json::Value>(&status).ok());
    let mut own = statuses.filter(|status| status["identity"]["process"] == process);
    own.find_map(|status| Some(status["identity"]["job"].as_str()?.to_owned()))
}

#[test]
fn jobs_find_out_what_one_process_does_and_their_scripts_are_kept() {
    let Some(cluster) = Cluster::start() else { return };
    let place = place();
    let size = ["12", "12"];
    let dry = succeed(&mut run(&cluster, &place, "jobs.db", size, &["--dry-run"]));
    let dry: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    let shown = ["/scripts/0", "/scripts/1"].map(|at| dry.pointer(at).unwrap().as_str().unwrap().to_owned());
    assert!(shown[0].contains("#SBATCH -c1 --mem=500") && shown[0].contains("--only-base"), "{shown:?}");
    assert!(cluster.jobs().is_empty(), "nothing was submitted");
    whole(&place, size);
    succeed(&mut run(&cluster, &place, "jobs.db", size, &[]));
    let scripts = place.path("jobs.d/study-1/slurm");
    // Only the study's number was not known before.
    let last = |script: &str| script.lines().last().unwrap().replace("study-1", "study-N");
    let submitted = ["base.sh", "cells.sh"].map(|name| text(&scripts.join(name)));
    assert_eq!(submitted.map(|script| last(&script)), shown.map(|script| last(&script)));
    let logs = fs::read_dir(&scripts).unwrap().flatten().map(|entry| text(&entry.path()));
    assert!(logs.filter(|log| log.contains("no cell is left to compute")).count() >= 2);
    cluster.assert_nothing_is_left();
    fs::remove_dir_all(scripts).unwrap();
    assert_same(&place, "jobs.db", "whole.db");
}

#[test]
fn a_search_stands_in_the_queue_once() {
    let Some(cluster) = Cluster::start() else { return };
    let place = place();
    let line = "find --model model --recipe magnitude --until js<=0.02 --corpus corpus.txt --max-windows 4 --seq-len 32 \
                --dtype f32 --store found.db --places slurm --jobs 2 --slurm=-c1";
    let line: Vec<&str> = line.split_whitespace().collect();
    let output = succeed(&mut cluster.known_to(place.program(&line)));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cells were run"), "{output:?}");
    let logs = fs::read_dir(place.path("found.d/study-1/slurm")).unwrap().flatten();
    let names = logs.map(|entry| entry.file_name().into_string().unwrap());
    let of_cells: Vec<_> = names.filter(|name| name.starts_with("cells") && name != "cells.sh").collect();
    assert_eq!(of_cells.len(), 1, "{of_cells:?}");
    cluster.assert_nothing_is_left();
}

#[test]
fn killed_workers_requeued_jobs_and_a_killed_ledger_lose_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let place = place();
    let size = ["60", "24"];
    whole(&place, size);
    let store = "killed.db";
    let said = place.path("said.txt");
    let mut command = run(&cluster, &place, store, size, &[]);
    let mut ledger = command.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
    let mut seen = Vec::new();
    let mut another_worker = || {
        let mut found = None;
        until("a job computes a cell", &mut || {
            let new = |(process, cell): &(i32, String)| cell != "base" && !seen.contains(process);
            found = computing(&place, store).into_iter().find(new);
            found.is_some() || ledger.try_wait().unwrap().is_some()
        });
        let process = found.map(|(process, _)| process)?;
        seen.push(process);
        Some((process, job_of(&place, store, process)))
    };
    if let Some((process, _)) = another_worker() {
        kill(process);
    }
    // A job may have ended before the command that is meant for it comes.
    let try_to =
        |line: &[&str]| drop(cluster.known_to(Command::new(line[0])).args(&line[1..]).output().unwrap());
    if let Some((_, Some(job))) = another_worker() {
        // Its time is nearly up, as `--signal` of its script tells it.
        try_to(&["scancel", "-b", "-s", "TERM", &job]);
    }
    if let Some((_, Some(job))) = another_worker() {
        // It has to make room for another one, and begins again later.
        try_to(&["scontrol", "requeue", &job]);
        try_to(&["scontrol", "update", &format!("JobId={job}"), "StartTime=now"]);
    }
    let _ = ledger.kill();
    ledger.wait().unwrap();
    let left = cluster.jobs();
    let output = run(&cluster, &place, store, size, &["--resume"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}\nbefore: {}\njobs: {left:?}", text(&said));
    cluster.assert_nothing_is_left();
    fs::remove_dir_all(place.path("killed.d/study-1/slurm")).unwrap();
    assert_same(&place, store, "whole.db");
}

#[test]
fn jobs_that_somebody_cancels_in_slurm_are_not_submitted_again() {
    let Some(cluster) = Cluster::start() else { return };
    let place = place();
    let size = ["60", "24"];
    whole(&place, size);
    let said = place.path("said.txt");
    let mut command = run(&cluster, &place, "cancelled.db", size, &[]);
    let mut child = command.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
    let is_of_a_cell = |(_, cell): &(i32, String)| cell != "base";
    until("jobs compute", &mut || {
        computing(&place, "cancelled.db").iter().any(is_of_a_cell) || child.try_wait().unwrap().is_some()
    });
    for job in cluster.jobs() {
        let _ = cluster.known_to(Command::new("scancel")).arg(job).output().unwrap();
    }
    // The study may have been done before.
    if !child.wait().unwrap().success() {
        assert!(text(&said).contains("all jobs were cancelled in Slurm"), "{}", text(&said));
        cluster.assert_nothing_is_left();
    }
    succeed(&mut run(&cluster, &place, "cancelled.db", size, &["--resume"]));
    fs::remove_dir_all(place.path("cancelled.d/study-1/slurm")).unwrap();
    assert_same(&place, "cancelled.db", "whole.db");
}

#[test]
fn what_slurm_says_when_it_refuses_is_told_as_it_is() {
    let Some(cluster) = Cluster::start() else { return };
    let place = place();
    let more = ["--places", "slurm", "--slurm", "--partition=nowhere"];
    let output = cluster.known_to(study(&place, "refused.db", &more)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("Slurm refuses the job: sbatch: error: invalid partition specified: nowhere"),
        "{said}"
    );
    let mut without = study(&place, "without.db", &["--places", "slurm"]);
    let output = without.env("PATH", place.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("sbatch cannot be run"), "{said}");
}

#[test]
fn the_dashboard_shows_jobs_and_cancels_a_cell_and_what_is_not_needed_any_more() {
    let Some(cluster) = Cluster::start() else { return };
    // All of it is one node's, so that a second job has to wait.
    cluster.ask(&["scontrol", "update", "NodeName=node2", "State=DRAIN", "Reason=test"]);
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_secateur"));
    command.args(["--places", "slurm", "--jobs", "2", "--slurm", "-c2 --mem=900"]);
    // So many cells that some are left when the first heartbeat is read, however fast the machine is.
    let levels: Vec<String> = (1..=24).map(|step| format!("{}%", 3 * step)).collect();
    command.args(["--methods", "magnitude", "--sparsity", &levels.join(","), "--offline"]);
    for (name, value) in cluster.variables() {
        command.env(name, value);
    }
    let mut terminal = Terminal::with(tempfile::tempdir().unwrap(), command, 160, 48);
    terminal.wait_for(&["can run"]);
    terminal.press("r");
    terminal.wait_for(&["[2 Run]", "job ", "waits ("]);
    terminal.wait("a job computes a cell", |screen| {
        screen.lines().any(|line| line.contains("job ") && line.contains("tokens/s"))
    });
    // The cell under the cursor is the last of the queue.
    terminal.press("Gx");
    terminal.wait_for(&["cancelled"]);
    terminal.wait("the rest is done", |screen| screen.contains("complete"));
    let store = Store::open_read_only(&terminal.store()).unwrap();
    let states: Vec<CellState> = store.study(1).unwrap().cells.iter().map(|cell| cell.state).collect();
    let mut expected = [CellState::Done; 24];
    expected[23] = CellState::Cancelled;
    assert_eq!(states, expected);
    cluster.assert_nothing_is_left();
    terminal.press("q");
    assert_eq!(terminal.end(), 130, "a cell is left to be computed");
}
