//! Which process on which machine something was written by, and whether it still lives.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

/// A process, as others see it that share a folder with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// Name of the host, for people.
    pub host: String,
    /// What process numbers belong to: one start of one machine, and a name space on it. Empty where that cannot be told.
    pub machine: String,
    pub process: u32,
    /// When the process began, in ticks of its machine: numbers of processes are used again.
    pub began: u64,
    /// The job of a scheduler that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

impl ProcessIdentity {
    /// This process.
    pub fn own() -> Self {
        let process = std::process::id();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let of_array = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
        let job =
            of_array.map(|(array, task)| format!("{array}_{task}")).or_else(|| variable("SLURM_JOB_ID"));
        Self {
            host: host_name(),
            machine: machine(),
            process,
            began: stat(process).ok().map_or(0, |stat| stat.began),
            job,
        }
    }

    /// A name that no other process has had.
    pub fn unique_name(&self) -> String {
        let host: String = self.host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{host}-{}-{:x}", self.process, since.as_millis())
    }

    /// How people tell it from others.
    pub fn describe(&self) -> String {
        match &self.job {
            Some(job) => format!("job {job} on {}", self.host),
            None => format!("process {} on {}", self.process, self.host),
        }
    }

    /// Whether the process has ended; `None` where only its heartbeat tells, since it runs on another machine.
    pub fn has_ended(&self) -> Option<bool> {
        if self.machine.is_empty() || self.machine != machine() {
            return None;
        }
        match stat(self.process) {
            Ok(found) => Some(found.is_over || found.began != self.began),
            Err(ErrorKind::NotFound) => Some(true),
            Err(_) => None,
        }
    }
}

/// What the system says of a process.
struct ProcessStat {
    /// It has ended, and its parent has not asked how.
    is_over: bool,
    began: u64,
}

fn stat(process: u32) -> Result<ProcessStat, ErrorKind> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).map_err(|e| e.kind())?;
    // The name in parentheses may hold anything; the fields behind it are numbers but for the first, the state.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let began = fields.get(19).and_then(|field| field.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    let is_over = fields.first().is_some_and(|state| ["Z", "X"].contains(state));
    Ok(ProcessStat { is_over, began })
}

fn host_name() -> String {
    let known = fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let name = known.ok().or_else(|| std::env::var("HOSTNAME").ok()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "localhost".into())
}

fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let space = fs::read_link("/proc/self/ns/pid");
    match (boot, space) {
        (Ok(boot), Ok(space)) => format!("{} {}", boot.trim(), space.display()),
        _ => String::new(),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_to_live_and_to_have_ended() {
        let own = ProcessIdentity::own();
        assert_eq!(own.has_ended(), Some(false));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let began = stat(child.id()).unwrap().began;
        let other = ProcessIdentity { process: child.id(), began, ..own.clone() };
        assert_eq!(other.has_ended(), Some(false));
        let reused = ProcessIdentity { began: began + 1, ..other.clone() };
        assert_eq!(reused.has_ended(), Some(true), "another process has this number now");
        child.kill().unwrap();
        // It ends a moment after the signal, and stays in the table until it is waited for.
        while other.has_ended() == Some(false) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().unwrap();
        assert_eq!(other.has_ended(), Some(true));
        let elsewhere = ProcessIdentity { machine: "another".into(), ..other };
        assert_eq!(elsewhere.has_ended(), None, "numbers of another machine say nothing here");
    }
}
