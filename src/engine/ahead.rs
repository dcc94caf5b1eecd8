//! Blocks that are read while the one before them is computed.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use candle_core::Device;

use super::study::Study;
use crate::error::{Error, Result};
use crate::model::{Block, ModelFolder};

/// The blocks of a pass in their order. On a GPU, which would wait for the files, the next one is read beside the
/// computing; on the host, nobody would gain by that.
pub(super) struct BlocksAhead<'a> {
    study: &'a Study,
    model: Arc<ModelFolder>,
    device: Device,
    /// The block that is being read.
    reading: Option<(usize, JoinHandle<Result<Block>>)>,
}

impl<'a> BlocksAhead<'a> {
    /// Of a model of a study, onto a device.
    pub fn new(study: &'a Study, model: &ModelFolder, device: &Device) -> Self {
        Self { study, model: Arc::new(model.clone()), device: device.clone(), reading: None }
    }

    /// A block, as it was read ahead or is read now; begins to read the one that comes after it.
    ///
    /// # Errors
    /// As [`Study::load_block_of`].
    pub fn take(&mut self, index: usize, next: Option<usize>) -> Result<Block> {
        let block = match self.reading.take() {
            Some((read, reading)) if read == index => joined(reading)?,
            _ => self.study.load_block_of(&self.model, index, &self.device)?,
        };
        self.expect(next)?;
        Ok(block)
    }

    /// Begins to read a block where that is done ahead; it is the next that is taken.
    ///
    /// # Errors
    /// A block that the model is without.
    pub fn expect(&mut self, index: Option<usize>) -> Result<()> {
        let Some(index) = index.filter(|_| !self.device.is_cpu()) else { return Ok(()) };
        let load = self.study.block_loader(&self.model, index)?;
        let (model, device) = (self.model.clone(), self.device.clone());
        let read = move || {
            let block = load.load(&model, &device)?;
            // Every thread has a stream of its own on a GPU: what it has begun there is done when others see the block.
            device.synchronize()?;
            Ok(block)
        };
        let reading = thread::Builder::new().name("next block".into()).spawn(read);
        let reading =
            reading.map_err(|e| Error::io("cannot start a thread for", self.model.weights.root(), e))?;
        self.reading = Some((index, reading));
        Ok(())
    }
}

impl Drop for BlocksAhead<'_> {
    /// A block that nobody asks for any more leaves the device before something else needs the room.
    fn drop(&mut self) {
        if let Some((_, reading)) = self.reading.take() {
            // The pass has an error of its own to report.
            let _ = joined(reading);
        }
    }
}

fn joined(reading: JoinHandle<Result<Block>>) -> Result<Block> {
    reading.join().map_err(|_| Error::failure("the thread that reads the next block has stopped"))?
}
