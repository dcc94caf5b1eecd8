//! Slurm's own commands: what they are given, and how their answers are read.

use std::path::Path;
use std::process::{Command, Output};

use crate::error::{Error, Result};

/// A job, or one task of an array, as `squeue` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueuedJob {
    /// `12`, or `12_3` for a task of an array.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Slurm's letters: `PD`, `R`, `CG`, `F`.
    pub state: String,
    /// The node that it runs on; empty before.
    pub node: String,
    /// Why it waits, or how it ended, in Slurm's word.
    pub reason: String,
}

impl QueuedJob {
    /// Whether it waits for its turn.
    pub fn waits(&self) -> bool {
        self.state == "PD"
    }

    /// Whether it waits, runs, or is ending.
    pub fn lives(&self) -> bool {
        !["CD", "F", "CA", "TO", "NF", "OOM", "DL", "BF", "PR", "RV"].contains(&self.state.as_str())
    }

    /// What Slurm says of it, for people.
    pub fn describe(&self) -> String {
        let state = match self.state.as_str() {
            "PD" => "waits",
            "CF" => "starts",
            "R" => "runs",
            "CG" => "ends",
            "S" => "suspended",
            "CD" => "completed",
            "F" => "failed",
            "CA" => "cancelled",
            "TO" => "out of time",
            "NF" => "its node failed",
            "OOM" => "out of memory",
            "PR" => "preempted",
            other => other,
        };
        match self.reason.as_str() {
            "" | "None" => state.to_owned(),
            reason => format!("{state} ({reason})"),
        }
    }
}

/// Checks that there is a Slurm.
///
/// # Errors
/// [`Error::Mistake`] where its commands are missing.
pub(crate) fn check() -> Result<()> {
    run(Command::new("sbatch").arg("--version")).map(drop)
}

/// Submits a script; returns the id of the job, or of the array.
///
/// # Errors
/// [`Error::Mistake`] with what Slurm says where it refuses.
pub(crate) fn submit(script: &Path, more: &[String]) -> Result<String> {
    let output = run(Command::new("sbatch").arg("--parsable").args(more).arg(script))?;
    if !output.status.success() {
        return Err(Error::mistake(format!("Slurm refuses the job: {}", said(&output))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // Several clusters add their name behind a semicolon.
    let id = text.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::failure(format!("sbatch answered `{}`, which is no job id", text.trim())));
    }
    Ok(id.to_owned())
}

/// The jobs of these names that Slurm still knows, also those that have ended.
///
/// # Errors
/// What Slurm says where it does not answer.
pub(crate) fn jobs_of(names: &[String]) -> Result<Vec<QueuedJob>> {
    let mut command = Command::new("squeue");
    // Without a limit for lists of tasks, waiting ones are cut short.
    command.env("SLURM_BITSTR_LEN", "0");
    command.args(["-h", "-r", "-t", "all", "-o", "%i|%j|%t|%N|%r", "-n", &names.join(",")]);
    let output = run(&mut command)?;
    if !output.status.success() {
        return Err(Error::failure(said(&output)));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Cancels jobs. One that has ended already is none of Slurm's errors.
///
/// # Errors
/// What Slurm says where it does not answer.
pub(crate) fn cancel(ids: &[String]) -> Result<()> {
    let output = run(Command::new("scancel").args(ids))?;
    if output.status.success() { Ok(()) } else { Err(Error::failure(said(&output))) }
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().map_err(|e| {
        let name = command.get_program().to_string_lossy().into_owned();
        Error::mistake(format!(
            "{name} cannot be run ({e}): --places slurm needs Slurm's commands (sbatch, squeue, scancel) on this machine"
        ))
    })
}

/// What a command said, as it is.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    if text.is_empty() { format!("nothing but {}", output.status) } else { text.replace('\n', "; ") }
}

fn parse(text: &str) -> Vec<QueuedJob> {
    let job = |line: &str| {
        // A reason may hold anything.
        let mut fields = line.splitn(5, '|').map(|field| field.trim().to_owned());
        Some(QueuedJob {
            id: fields.next()?,
            name: fields.next()?,
            state: fields.next()?,
            node: fields.next()?,
            reason: fields.next()?,
        })
    };
    text.lines().filter_map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_are_read_whatever_a_reason_holds() {
        let jobs = parse(
            "12|s-base|R|node1|None\n13_0|s-cells|PD||Dependency\n13_1|s-cells|F|n2|ReqNodeNotAvail, a|b\nbroken\n",
        );
        assert_eq!(jobs.len(), 3);
        assert!(jobs[0].lives() && !jobs[0].waits() && jobs[1].waits());
        assert_eq!(jobs[1].describe(), "waits (Dependency)");
        assert!(!jobs[2].lives());
        assert_eq!(jobs[2].reason, "ReqNodeNotAvail, a|b");
        assert_eq!(jobs[0].describe(), "runs");
    }
}
