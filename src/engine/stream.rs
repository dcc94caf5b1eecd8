//! Hidden states on their way through the blocks.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::model::{Batch, Block, InputSite, ModelFolder, RopeTables, head};
use crate::prune::Collector;

/// Hidden states of token windows, a few windows a batch, in the precision of the device.
#[derive(Debug)]
pub(super) struct HiddenStates {
    batches: Vec<Tensor>,
    shapes: Vec<Batch>,
    /// Tokens of a window.
    pub seq_len: usize,
    /// Where they are between blocks.
    home: Device,
}

/// How windows become batches, and where these are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement<'a> {
    /// Tokens of a window.
    pub seq_len: usize,
    /// Most tokens of a batch, which holds at least one window.
    pub batch_tokens: usize,
    /// Where batches are between blocks.
    pub home: &'a Device,
}

impl Placement<'_> {
    /// Windows of a batch.
    fn windows(&self) -> usize {
        (self.batch_tokens / self.seq_len).max(1)
    }
}

impl HiddenStates {
    /// Embeds windows.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn embed(
        folder: &ModelFolder,
        windows: &[Vec<u32>],
        dtype: DType,
        layout: Placement<'_>,
    ) -> Result<Self> {
        let mut stream = Self::shaped(windows.len(), layout);
        for windows in windows.chunks(layout.windows()) {
            let ids = windows.concat();
            stream.batches.push(head::embed(folder, &ids, dtype, layout.home)?);
        }
        Ok(stream)
    }

    /// Takes up states that were saved.
    ///
    /// # Errors
    /// States that do not belong to so many windows.
    pub fn from_saved(saved: &[Tensor], windows: usize, layout: Placement<'_>) -> Result<Self> {
        let seq_len = layout.seq_len;
        let rows: usize = saved.iter().map(|t| t.dim(0).unwrap_or(0)).sum();
        if rows != windows * seq_len {
            return Err(Error::failure(format!(
                "saved states hold {rows} tokens where {} are needed",
                windows * seq_len
            )));
        }
        let mut stream = Self::shaped(windows, layout);
        let whole = if saved.len() == 1 { saved[0].clone() } else { Tensor::cat(saved, 0)? };
        let mut row = 0;
        for shape in &stream.shapes {
            stream.batches.push(whole.narrow(0, row, shape.rows())?.copy()?.to_device(layout.home)?);
            row += shape.rows();
        }
        Ok(stream)
    }

    fn shaped(windows: usize, layout: Placement<'_>) -> Self {
        let (each, seq_len) = (layout.windows(), layout.seq_len);
        let mut shapes = Vec::new();
        let mut left = windows;
        while left > 0 {
            let count = each.min(left);
            shapes.push(Batch::windows(count, seq_len));
            left -= count;
        }
        Self { batches: Vec::new(), shapes, seq_len, home: layout.home.clone() }
    }

    /// Windows in all.
    pub fn windows(&self) -> usize {
        self.shapes.iter().map(Batch::len).sum()
    }

    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.windows() * self.seq_len
    }

    /// Sends every batch through a block, and waits for the last. `check` is asked before each.
    pub fn forward(
        &mut self,
        block: &Block,
        ropes: &RopeTables,
        device: &Device,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for (x, shape) in self.batches.iter_mut().zip(&self.shapes) {
            check()?;
            let y = block.forward(&x.to_device(device)?, shape, ropes, None)?;
            *x = y.to_device(&self.home)?;
        }
        Ok(device.synchronize()?)
    }

    /// Shows a collector module inputs of a block, `sites` in their order.
    pub fn observe(
        &self,
        block: &Block,
        ropes: &RopeTables,
        device: &Device,
        sites: &[InputSite],
        collector: &mut Collector,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for (x, shape) in self.batches.iter().zip(&self.shapes) {
            check()?;
            block.observe(&x.to_device(device)?, shape, ropes, sites, collector)?;
            collector.count(shape.len());
        }
        Ok(device.synchronize()?)
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
