//! The scripts that are submitted.

use std::path::{Path, PathBuf};

/// How long before the end of its time a job is told to stop, so that it finishes its block. Slurm may be half a minute
/// early.
const SECONDS_BEFORE_END: u32 = 120;

/// What a job is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// Measures the base.
    Base,
    /// Computes cells, until none is left.
    Cells,
}

impl JobKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Cells => "cells",
        }
    }
}

/// What scripts have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobScripts {
    /// What names of the jobs begin with.
    pub name: String,
    pub program: PathBuf,
    /// The study's folder.
    pub study: PathBuf,
    /// The folder that relative paths of the study begin in.
    pub working: PathBuf,
    /// Options of `sbatch`, as typed.
    pub options: String,
    /// Bytes of memory that a worker needs, as far as can be foretold.
    pub memory: u64,
}

impl JobScripts {
    /// How jobs of a kind are called in Slurm's queue.
    pub fn job_name(&self, kind: JobKind) -> String {
        format!("{}-{}", self.name, kind.word())
    }

    /// The folder of scripts and of what jobs say.
    pub fn folder(&self) -> PathBuf {
        self.study.join("slurm")
    }

    /// The file of a job's messages: `%j`, `%A` and `%a` are Slurm's.
    pub fn log(&self, kind: JobKind) -> PathBuf {
        self.folder().join(match kind {
            JobKind::Base => "base-%j.log",
            JobKind::Cells => "cells-%A_%a.log",
        })
    }

    /// The script of a kind of jobs. The user's options come last, and so replace ours.
    pub fn text(&self, kind: JobKind) -> String {
        let mut lines = vec![
            "#!/bin/bash".to_owned(),
            format!("# {} of a study of secateur.", sentence(kind)),
            format!("# A worker needs about {} MiB of memory.", self.memory.div_ceil(1 << 20)),
            format!("#SBATCH --job-name={}", self.job_name(kind)),
            format!("#SBATCH --chdir={}", quoted(&self.working)),
            format!("#SBATCH --output={}", quoted(&self.log(kind))),
            "#SBATCH --open-mode=append".to_owned(),
            "#SBATCH --requeue".to_owned(),
            format!("#SBATCH --signal=B:TERM@{SECONDS_BEFORE_END}"),
        ];
        if !self.options.trim().is_empty() {
            lines.push(format!("#SBATCH {}", self.options.trim()));
        }
        // The program takes the shell's place, so that signals reach it.
        let base = if kind == JobKind::Base { " --only-base" } else { "" };
        lines.push(format!(
            "exec {} worker {} --threads \"${{SLURM_CPUS_PER_TASK:-${{SLURM_CPUS_ON_NODE:-0}}}}\"{base}",
            quoted(&self.program),
            quoted(&self.study)
        ));
        lines.join("\n") + "\n"
    }
}

fn sentence(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Base => "Measures the base",
        JobKind::Cells => "Computes cells",
    }
}

/// A path as the shell, and `sbatch` in its lines, read it back.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+%".contains(c)) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts(options: &str) -> JobScripts {
        JobScripts {
            name: "secateur-study-3-1f".into(),
            program: "/opt/secateur".into(),
            study: "/data/my studies.d/study-3".into(),
            working: "/home/o'neill".into(),
            options: options.into(),
            memory: (600 << 20) + 1,
        }
    }

    #[test]
    fn scripts_hold_what_slurm_and_the_worker_have_to_know() {
        insta::assert_snapshot!(scripts("--partition=gpu --gres=gpu:1 --time=4:00:00").text(JobKind::Cells));
        let base = scripts(" ").text(JobKind::Base);
        assert!(base.ends_with("--only-base\n") && base.contains("study-3-1f-base\n"), "{base}");
        assert!(!base.contains("#SBATCH \n"), "{base}");
    }
}
