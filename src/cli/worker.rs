//! `secateur worker`.

use std::path::PathBuf;

use clap::Args;

pub(super) const AFTER_HELP: &str = "\
A run with --workers or --places slurm starts workers itself. More can join it, also from other machines that see the same files under the \
same paths. A worker ends when no cell is left. SIGINT or SIGTERM stops it after the current block, a second one at once; \
another worker then continues its cell.

Example:
  secateur worker ~/.local/share/secateur/studies.d/study-3 --threads 4";

/// What a worker is started with.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Folder of the study, beside its store: studies.d/study-N
    #[arg(value_name = "STUDY-FOLDER")]
    pub folder: PathBuf,
    /// Threads to compute with; 0 means one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where to compute, in place of the study's device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// End when the base is measured, and compute no cell
    #[arg(long)]
    pub only_base: bool,
}
