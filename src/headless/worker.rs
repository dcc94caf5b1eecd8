//! A worker without a screen: signals as requests to stop, one line at the end.

use std::io::{self, Write};

use super::signals;
use crate::cli::WorkerArgs;
use crate::engine::{PlaceWorker, WorkerOptions, WorkerOutcome};
use crate::error::{Error, Result};

/// Computes cells of a study that another process runs; returns the exit code.
///
/// # Errors
/// A folder that is none of a study with workers; what goes wrong beside the cells.
pub fn work(args: WorkerArgs) -> Result<u8> {
    let threads = Some(args.threads).filter(|threads| *threads > 0);
    let (folder, device, only_base) = (args.folder, args.device, args.only_base);
    let worker = PlaceWorker::open(WorkerOptions { folder, threads, device, only_base })?;
    let stopper = worker.stopper();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failure(format!("cannot start the event loop: {e}")))?;
    let outcome = runtime.block_on(async {
        let mut interrupts = signals::listen(false)?;
        let mut work = tokio::task::spawn_blocking(move || worker.run());
        let mut asked = 0;
        loop {
            tokio::select! {
                biased;
                Some(()) = interrupts.recv() => {
                    asked += 1;
                    if asked > 2 {
                        return Ok(WorkerOutcome::Stopped);
                    }
                    say(if asked == 1 { "stopping after the current block" } else { "stopping at once" });
                    stopper.stop(asked == 1);
                }
                ended = &mut work => {
                    return ended.unwrap_or_else(|e| Err(Error::failure(format!("a defect in secateur: {e}"))));
                }
            }
        }
    });
    runtime.shutdown_background();
    match outcome? {
        WorkerOutcome::NothingLeft => {
            say("no cell is left to compute");
            Ok(0)
        }
        WorkerOutcome::Stopped => {
            say("stopped; what was computed is kept");
            Ok(130)
        }
    }
}

fn say(text: &str) {
    // Standard error may be gone; then nobody needs to know.
    let _ = writeln!(io::stderr(), "{text}");
}
