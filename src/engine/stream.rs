//! Hidden states on their way through the blocks.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::model::{Batch, Block, ModelFolder, RopeTable, Site, head};
use crate::prune::Collector;

/// Hidden states of token windows, a few windows a batch, on the host in the precision of the device.
#[derive(Debug)]
pub(super) struct Stream {
    batches: Vec<Tensor>,
    shapes: Vec<Batch>,
    /// Tokens of a window.
    pub seq_len: usize,
}

impl Stream {
    /// Embeds windows; batches hold up to `batch_tokens` tokens, and at least one window.
    pub fn embed(
        folder: &ModelFolder,
        windows: &[Vec<u32>],
        seq_len: usize,
        batch_tokens: usize,
        dtype: DType,
    ) -> Result<Self> {
        let mut stream = Self::shaped(windows.len(), seq_len, batch_tokens);
        let each = (batch_tokens / seq_len).max(1);
        for windows in windows.chunks(each) {
            let ids = windows.concat();
            stream.batches.push(head::embed(folder, &ids, dtype, &Device::Cpu)?);
        }
        Ok(stream)
    }

    /// Takes up states that were saved.
    ///
    /// # Errors
    /// States that do not belong to so many windows.
    pub fn from_saved(saved: &[Tensor], windows: usize, seq_len: usize, batch_tokens: usize) -> Result<Self> {
        let rows: usize = saved.iter().map(|t| t.dim(0).unwrap_or(0)).sum();
        if rows != windows * seq_len {
            return Err(Error::failure(format!(
                "saved states hold {rows} tokens where {} are needed",
                windows * seq_len
            )));
        }
        let mut stream = Self::shaped(windows, seq_len, batch_tokens);
        let whole = if saved.len() == 1 { saved[0].clone() } else { Tensor::cat(saved, 0)? };
        let mut row = 0;
        for shape in &stream.shapes {
            stream.batches.push(whole.narrow(0, row, shape.rows())?.copy()?);
            row += shape.rows();
        }
        Ok(stream)
    }

    fn shaped(windows: usize, seq_len: usize, batch_tokens: usize) -> Self {
        let each = (batch_tokens / seq_len).max(1);
        let mut shapes = Vec::new();
        let mut left = windows;
        while left > 0 {
            let count = each.min(left);
            shapes.push(Batch::windows(count, seq_len));
            left -= count;
        }
        Self { batches: Vec::new(), shapes, seq_len }
    }

    /// Windows in all.
    pub fn windows(&self) -> usize {
        self.shapes.iter().map(Batch::len).sum()
    }

    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.windows() * self.seq_len
    }

    /// Sends every batch through a block. `check` is asked before each.
    pub fn forward(
        &mut self,
        block: &Block,
        rope: &RopeTable,
        device: &Device,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for (x, shape) in self.batches.iter_mut().zip(&self.shapes) {
            check()?;
            let y = block.forward(&x.to_device(device)?, shape, rope, None)?;
            *x = y.to_device(&Device::Cpu)?;
        }
        Ok(())
    }

    /// Shows a collector the module inputs of a block, as far as `last`.
    pub fn observe(
        &self,
        block: &Block,
        rope: &RopeTable,
        device: &Device,
        last: Site,
        collector: &mut Collector,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for (x, shape) in self.batches.iter().zip(&self.shapes) {
            check()?;
            block.observe(&x.to_device(device)?, shape, rope, last, collector)?;
            collector.count(shape.len());
        }
        Ok(())
    }

    /// The states of window `index`, `[seq_len, hidden]`.
    pub fn window(&self, index: usize) -> Result<Tensor> {
        let each = self.shapes.first().map_or(1, Batch::len);
        let batch = &self.batches[index / each];
        Ok(batch.narrow(0, index % each * self.seq_len, self.seq_len)?)
    }

    /// The batches, for saving.
    pub fn batches(&self) -> &[Tensor] {
        &self.batches
    }
}
