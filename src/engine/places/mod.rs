//! Cells that other processes compute: workers claim them in the study's folder and write down what they find out; the
//! ledger reads that, and alone writes the store. See "Workers" in ARCHITECTURE.md.

mod claims;
mod folder;
mod follow;
mod heartbeat;
mod identity;
mod liveness;
mod processes;
mod record;
mod serve;
mod settle;
mod watching;

pub(crate) use follow::compute_elsewhere;
pub use serve::{PlaceWorker, WorkerOptions, WorkerOutcome, WorkerStopper};
pub(crate) use settle::settle;
