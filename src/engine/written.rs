//! Compressed blocks on their way to the disk, while the next block is computed.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::store::checkpoint;
use crate::store::stored::Stored;

/// Writes the blocks of a cell, one at a time and in their order.
#[derive(Debug)]
pub(super) struct BlockWriter {
    dir: PathBuf,
    /// The block that is being written.
    writing: Option<(usize, JoinHandle<Result<()>>)>,
    /// Hears when it is on the disk, until somebody else does.
    written: Option<BlockWritten>,
}

/// Hears once when a block is on the disk, or that it never will be.
#[derive(Debug)]
pub(super) struct BlockWritten(Receiver<()>);

impl BlockWritten {
    /// Waits for it; whether it is on the disk.
    pub fn wait(self) -> bool {
        self.0.recv().is_ok()
    }
}

impl BlockWriter {
    /// Of a cell with this folder.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), writing: None, written: None }
    }

    /// Begins to write a block once the last one is on the disk; returns the number of that one.
    ///
    /// # Errors
    /// What went wrong with the last one.
    pub fn begin(&mut self, block: usize, modules: Vec<(String, Stored)>) -> Result<Option<usize>> {
        let last = self.wait()?;
        let dir = self.dir.clone();
        let (on_disk, written) = mpsc::channel();
        let write = move || {
            checkpoint::write_block(&dir, block, &modules)?;
            // Nobody has to listen.
            let _ = on_disk.send(());
            Ok(())
        };
        let writing = thread::Builder::new().name("block".into()).spawn(write);
        let writing = writing.map_err(|e| Error::io("cannot start a thread for", &self.dir, e))?;
        self.writing = Some((block, writing));
        self.written = Some(BlockWritten(written));
        Ok(last)
    }

    /// Lets somebody else hear when the block that was begun is on the disk; `None` where all are.
    pub fn when_written(&mut self) -> Option<BlockWritten> {
        self.written.take()
    }

    /// Waits until the block that was begun is on the disk; returns its number.
    ///
    /// # Errors
    /// What went wrong with it.
    pub fn wait(&mut self) -> Result<Option<usize>> {
        let Some((block, writing)) = self.writing.take() else { return Ok(None) };
        self.written = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_hear_when_a_block_is_on_the_disk_or_never_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BlockWriter::new(dir.path());
        assert!(writer.when_written().is_none());
        assert_eq!(writer.begin(0, Vec::new()).unwrap(), None);
        assert!(writer.when_written().unwrap().wait());
        assert!(checkpoint::block_path(dir.path(), 0).is_file());
        assert_eq!(writer.wait().unwrap(), Some(0));
        assert!(writer.when_written().is_none());

        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut writer = BlockWriter::new(&file.join("cell"));
        writer.begin(0, Vec::new()).unwrap();
        assert!(!writer.when_written().unwrap().wait());
        assert!(writer.wait().is_err());
    }
}
