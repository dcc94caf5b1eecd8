//! Hidden states on their way to the disk, beside the computing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::written::BlockWritten;
use crate::error::{Error, Result};
use crate::store::checkpoint::{self, States};

/// Writing may take at most this share of the time.
const SHARE: f64 = 0.1;

/// Saves the states of a pass in one file, one snapshot at a time.
#[derive(Debug)]
pub(super) struct Snapshots {
    path: PathBuf,
    /// The snapshot that is being written; its time in seconds comes out of it.
    writing: Option<JoinHandle<Result<f64>>>,
    begun: Instant,
    cost: f64,
    /// Whether nobody needs what is being written any more.
    abandoned: Arc<AtomicBool>,
}

impl Snapshots {
    /// Of a pass whose states go into this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path, writing: None, begun: Instant::now(), cost: 0.0, abandoned: Arc::default() }
    }

    /// Whether states may be saved: the last ones are there, and it would not take too much of the time.
    ///
    /// # Errors
    /// What went wrong with the last ones.
    pub fn is_due(&mut self) -> Result<bool> {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return Ok(false);
        }
        self.wait()?;
        Ok(self.begun.elapsed().as_secs_f64() * SHARE >= self.cost)
    }

    /// Saves the states after `block` blocks; they are on the disk when this returns.
    ///
    /// # Errors
    /// What went wrong, with these or the last ones.
    pub fn save(&mut self, block: usize, states: States) -> Result<()> {
        self.begin(block, states, None)?;
        self.wait()
    }

    /// Begins to save the states after `block` blocks once the last ones are there, and the block itself where that is still
    /// to be `written`: states that are ahead of the checkpoints would be of no use. Tensors are shared with the pass, not
    /// copied: it replaces them, it does not change them.
    ///
    /// # Errors
    /// What went wrong with the last ones.
    pub fn begin(&mut self, block: usize, states: States, written: Option<BlockWritten>) -> Result<()> {
        self.wait()?;
        let (path, abandoned) = (self.path.clone(), self.abandoned.clone());
        let write = move || {
            if written.is_some_and(|written| !written.wait()) {
                return Err(Error::failure(format!("block {} is not on the disk", block - 1)));
            }
            let started = Instant::now();
            checkpoint::write_states(&path, block, &states, &|| !abandoned.load(Ordering::Relaxed))?;
            Ok(started.elapsed().as_secs_f64())
        };
        self.begun = Instant::now();
        let writing = thread::Builder::new().name("snapshot".into()).spawn(write);
        self.writing = Some(writing.map_err(|e| Error::io("cannot start a thread for", &self.path, e))?);
        Ok(())
    }

    /// Waits until what was begun is on the disk.
    ///
    /// # Errors
    /// What went wrong with it.
    pub fn wait(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let stopped = || Error::failure("the thread that saves hidden states has stopped");
        self.cost = writing.join().map_err(|_| stopped())??;
        Ok(())
    }

    /// Lets go of what is being written, since nobody will need it; the thread that writes it may take a moment.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

impl Drop for Snapshots {
    /// A file has one writer at a time: the next pass may begin with the same folder.
    fn drop(&mut self) {
        // The pass has an error of its own to report, or these states are no longer needed.
        let _ = self.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::{Device, Tensor};

    use super::super::written::BlockWriter;
    use super::*;

    fn states(value: f32) -> States {
        vec![("evaluation.00000".into(), Tensor::new(&[[value]], &Device::Cpu).unwrap())]
    }

    fn saved(dir: &Path) -> (usize, f32) {
        let (block, states) =
            checkpoint::read_states(&checkpoint::states_path(dir), &Device::Cpu).unwrap().unwrap();
        (block, states[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0])
    }

    #[test]
    fn what_is_saved_is_there_and_what_comes_later_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::new(checkpoint::states_path(dir.path()));
        assert!(snapshots.is_due().unwrap());
        snapshots.begin(1, states(1.0), None).unwrap();
        snapshots.save(2, states(2.0)).unwrap();
        assert_eq!(saved(dir.path()), (2, 2.0));
        snapshots.cost = 0.0;
        assert!(snapshots.is_due().unwrap());
        snapshots.begin(3, states(3.0), None).unwrap();
        drop(snapshots);
        assert_eq!(saved(dir.path()), (3, 3.0));
    }

    #[test]
    fn nothing_is_due_that_would_take_too_much_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::new(checkpoint::states_path(dir.path()));
        snapshots.save(1, states(1.0)).unwrap();
        snapshots.cost = 3600.0;
        assert!(!snapshots.is_due().unwrap());
    }

    #[test]
    fn what_is_abandoned_leaves_what_was_saved_before_or_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::new(checkpoint::states_path(dir.path()));
        snapshots.save(1, states(1.0)).unwrap();
        snapshots.begin(2, states(2.0), None).unwrap();
        snapshots.abandon();
        drop(snapshots);
        assert!([(1, 1.0), (2, 2.0)].contains(&saved(dir.path())));
        let mut snapshots = Snapshots::new(checkpoint::states_path(dir.path()));
        snapshots.abandoned.store(true, Ordering::Relaxed);
        assert!(snapshots.save(3, states(3.0)).is_err());
        assert!([(1, 1.0), (2, 2.0)].contains(&saved(dir.path())));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn states_are_saved_behind_their_block_and_never_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::new(checkpoint::states_path(dir.path()));
        snapshots.save(1, states(1.0)).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut writer = BlockWriter::new(&file.join("cell"));
        writer.begin(1, Vec::new()).unwrap();
        snapshots.begin(2, states(2.0), writer.when_written()).unwrap();
        assert!(snapshots.wait().is_err());
        assert_eq!(saved(dir.path()), (1, 1.0));
        let mut writer = BlockWriter::new(dir.path());
        writer.begin(1, Vec::new()).unwrap();
        snapshots.begin(2, states(2.0), writer.when_written()).unwrap();
        snapshots.wait().unwrap();
        assert_eq!(saved(dir.path()), (2, 2.0));
        assert!(checkpoint::block_path(dir.path(), 1).is_file());
    }

    #[test]
    fn a_snapshot_that_fails_is_heard_of_at_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut snapshots = Snapshots::new(checkpoint::states_path(&file.join("cell")));
        snapshots.begin(1, states(1.0), None).unwrap();
        assert!(snapshots.save(2, states(2.0)).is_err());
    }
}
