//! Greedy answers from a whole model, many prompts at a time, with a cache of keys and values.

use candle_core::{D, DType, Device, Tensor};

use super::batch::Sequence;
use super::{Batch, Block, BlockCache, Head, ModelFolder, RopeTable, head};
use crate::error::Result;

/// A whole model on a device, ready to answer.
#[derive(Debug)]
pub struct Generator<'a> {
    folder: &'a ModelFolder,
    blocks: Vec<Block>,
    head: Head,
    dtype: DType,
    device: Device,
}

impl<'a> Generator<'a> {
    /// A generator of blocks that were loaded (and pruned) already.
    pub fn new(
        folder: &'a ModelFolder,
        blocks: Vec<Block>,
        head: Head,
        dtype: DType,
        device: &Device,
    ) -> Self {
        Self { folder, blocks, head, dtype, device: device.clone() }
    }

    /// Continues every prompt greedily until an end token, which is not part of the answer, or `longest` tokens.
    ///
    /// `go_on` is asked before every step; its error ends the work.
    pub fn answer(
        &self,
        prompts: &[Vec<u32>],
        longest: usize,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Vec<u32>>> {
        let mut answers: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
        // An empty prompt has no row to read a first token from.
        let mut active: Vec<usize> = (0..prompts.len()).filter(|&i| !prompts[i].is_empty()).collect();
        if longest == 0 || active.is_empty() {
            return Ok(answers);
        }
        let capacity = prompts.iter().map(Vec::len).max().unwrap_or(0) + longest;
        let rope = RopeTable::new(&self.folder.config, capacity);
        let width = self.folder.config.kv_heads * self.folder.config.head_dim;
        let caches = self
            .blocks
            .iter()
            .map(|_| BlockCache::new(prompts.len(), capacity, width, self.dtype, &self.device))
            .collect::<Result<Vec<_>>>()?;
        let mut tokens: Vec<u32> = active.iter().flat_map(|&i| prompts[i].iter().copied()).collect();
        let mut sequences: Vec<Sequence> =
            active.iter().map(|&i| Sequence { slot: i, past: 0, new: prompts[i].len() }).collect();
        while !active.is_empty() {
            go_on()?;
            let next = self.step(&tokens, Batch::new(sequences.clone()), &rope, &caches, go_on)?;
            let mut still = Vec::with_capacity(active.len());
            (tokens, sequences) = (Vec::new(), Vec::new());
            for (&slot, token) in active.iter().zip(next) {
                if self.folder.config.eos.contains(&token) {
                    continue;
                }
                answers[slot].push(token);
                if answers[slot].len() < longest {
                    still.push(slot);
                    tokens.push(token);
                    let past = prompts[slot].len() + answers[slot].len() - 1;
                    sequences.push(Sequence { slot, past, new: 1 });
                }
            }
            active = still;
        }
        Ok(answers)
    }

    /// Runs the new tokens of a batch and returns the likeliest next token of every sequence.
    fn step(
        &self,
        tokens: &[u32],
        batch: Batch,
        rope: &RopeTable,
        caches: &[BlockCache],
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<u32>> {
        let mut x = head::embed(self.folder, tokens, self.dtype, &self.device)?;
        for (block, cache) in self.blocks.iter().zip(caches) {
            go_on()?;
            x = block.forward(&x, &batch, rope, Some(cache))?;
        }
        let last = Tensor::from_vec(batch.last_rows(), batch.len(), &self.device)?;
        let logits = self.head.logits(&x.index_select(&last, 0)?.contiguous()?)?;
        Ok(logits.argmax(D::Minus1)?.to_vec1::<u32>()?)
    }
}
