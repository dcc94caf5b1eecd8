//! Compressed blocks on their way to the disk, while the next block is computed.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::store::checkpoint;
use crate::store::stored::Stored;

/// Writes the blocks of a cell, one at a time and in their order.
#[derive(Debug)]
pub(super) struct BlockWriter {
    dir: PathBuf,
    /// The block that is being written.
    writing: Option<(usize, JoinHandle<Result<u64>>)>,
}

impl BlockWriter {
    /// Of a cell with this folder.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), writing: None }
    }

    /// Begins to write a block once the last one is on the disk; returns the number of that one.
    ///
    /// # Errors
    /// What went wrong with the last one.
    pub fn begin(&mut self, block: usize, modules: Vec<(String, Stored)>) -> Result<Option<usize>> {
        let last = self.wait()?;
        let dir = self.dir.clone();
        let write = move || checkpoint::write_block(&dir, block, &modules);
        let writing = thread::Builder::new().name("block".into()).spawn(write);
        let writing = writing.map_err(|e| Error::io("cannot start a thread for", &self.dir, e))?;
        self.writing = Some((block, writing));
        Ok(last)
    }

    /// Waits until the block that was begun is on the disk; returns its number.
    ///
    /// # Errors
    /// What went wrong with it.
    pub fn wait(&mut self) -> Result<Option<usize>> {
        let Some((block, writing)) = self.writing.take() else { return Ok(None) };
        let stopped = || Error::failure("the thread that writes blocks has stopped");
        writing.join().map_err(|_| stopped())??;
        Ok(Some(block))
    }
}

impl Drop for BlockWriter {
    /// A file has one writer at a time: the next pass may begin with the same folder.
    fn drop(&mut self) {
        // The pass has an error of its own to report.
        let _ = self.wait();
    }
}
