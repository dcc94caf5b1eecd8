//! Cells that other processes compute: workers claim them in the study's folder and write down what they find out; the
//! ledger reads that, and alone writes the store. See "Workers" in ARCHITECTURE.md.

mod choice;
mod claims;
mod folder;
mod follow;
mod followed;
mod heartbeat;
mod identity;
mod liveness;
mod offer;
mod processes;
mod record;
mod serve;
mod settle;
mod slurm;
mod starter;
mod watching;

pub use choice::{Places, SlurmChoice};
pub(crate) use folder::BASE;
pub(crate) use follow::{FollowOptions, compute_elsewhere};
pub use serve::{PlaceWorker, WorkerOptions, WorkerOutcome, WorkerStopper};
pub(crate) use settle::settle;

use std::path::Path;

use crate::error::Result;

/// Checks that the places that are to compute can be asked.
///
/// # Errors
/// [`Error::Mistake`](crate::Error::Mistake) where Slurm's commands are missing.
pub(crate) fn check(places: &Places) -> Result<()> {
    if matches!(places, Places::Slurm(_)) { slurm::check() } else { Ok(()) }
}

/// The scripts that a study in `study` would submit, where its places are jobs; `memory` is what a worker needs.
///
/// # Errors
/// A program that cannot tell where it is.
pub(crate) fn scripts(places: &Places, study: &Path, memory: u64) -> Result<Vec<String>> {
    let Places::Slurm(choice) = places else { return Ok(Vec::new()) };
    let scripts = slurm::scripts(study, &choice.options, memory)?;
    Ok([slurm::JobKind::Base, slurm::JobKind::Cells].map(|kind| scripts.text(kind)).to_vec())
}
