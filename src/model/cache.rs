//! What a block keeps of the tokens that it has seen, for the tokens that follow.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use super::batch::{Batch, Sequence};
use super::ops::{self, Activations, DeltaMemory, with_elements};
use crate::error::{Error, Result};
use crate::kernels::attention::AttentionShape;
use crate::kernels::delta::DeltaShape;

/// Keys and values of one block for every sequence of a batch, or what else it keeps of these.
#[derive(Debug)]
pub struct BlockCache {
    store: CacheStore,
    /// Most tokens of a sequence.
    capacity: usize,
    /// Key heads times their dimension.
    width: usize,
}

/// Keys and values are `[sequences · capacity, key heads · dim]` each.
#[derive(Debug)]
enum CacheStore {
    Host {
        keys: RefCell<Vec<f32>>,
        values: RefCell<Vec<f32>>,
    },
    Device {
        keys: Tensor,
        values: Tensor,
    },
    /// Matrices of the gated delta rule, one entry a sequence.
    Delta {
        shape: DeltaShape,
        memories: RefCell<Vec<Option<DeltaMemory>>>,
        device: Device,
    },
}

impl BlockCache {
    /// Room for `sequences` of up to `capacity` tokens; `width` is key heads times their dimension.
    ///
    /// # Errors
    /// A device that has no room.
    pub fn new(
        sequences: usize,
        capacity: usize,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let rows = sequences * capacity;
        let store = if device.is_cpu() && dtype == DType::F32 {
            let room = || RefCell::new(vec![0f32; rows * width]);
            CacheStore::Host { keys: room(), values: room() }
        } else {
            let room = || Tensor::zeros((rows, width), dtype, device);
            CacheStore::Device { keys: room()?, values: room()? }
        };
        Ok(Self { store, capacity, width })
    }

    /// For a block that follows the gated delta rule.
    pub(super) fn of_delta_net(sequences: usize, shape: DeltaShape, device: &Device) -> Self {
        let memories = RefCell::new(vec![None; sequences]);
        let store = CacheStore::Delta { shape, memories, device: device.clone() };
        Self { store, capacity: 0, width: 0 }
    }

    /// Lends out what sequences have left in a block that follows the gated delta rule.
    pub(super) fn with_memories<R>(
        &self,
        f: impl FnOnce(&mut [Option<DeltaMemory>]) -> Result<R>,
    ) -> Result<R> {
        match &self.store {
            CacheStore::Delta { memories, .. } => f(&mut memories.borrow_mut()),
            _ => Err(Error::failure("a cache of keys and values has no matrices")),
        }
    }

    /// Keys and values of the first `lengths[i]` tokens of every sequence `i`: two matrices `[Σ lengths, width]` on the
    /// host, sequence after sequence. Of a block that follows the gated delta rule they are what it keeps of the sequences
    /// that have tokens, which have to be as many as it has read.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn taken(&self, lengths: &[usize]) -> Result<[Tensor; 2]> {
        let take_host = |cache: &[f32]| {
            let mut rows = Vec::with_capacity(lengths.iter().sum::<usize>() * self.width);
            for (slot, length) in lengths.iter().enumerate() {
                rows.extend_from_slice(&cache[slot * self.capacity * self.width..][..length * self.width]);
            }
            Tensor::from_vec(rows, ((), self.width), &Device::Cpu)
        };
        let take_device = |cache: &Tensor| {
            let parts = lengths.iter().enumerate().filter(|(_, length)| **length > 0);
            let parts = parts.map(|(slot, length)| cache.narrow(0, slot * self.capacity, *length));
            Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?.to_device(&Device::Cpu)
        };
        Ok(match &self.store {
            CacheStore::Host { keys, values } => [take_host(&keys.borrow())?, take_host(&values.borrow())?],
            CacheStore::Device { keys, values } => [take_device(keys)?, take_device(values)?],
            CacheStore::Delta { memories, .. } => taken_memories(&memories.borrow(), lengths)?,
        })
    }

    /// Puts back what [`Self::taken`] took of sequences of these lengths.
    ///
    /// # Errors
    /// A tensor operation that fails, on matrices of other shapes too.
    pub fn put_back(&self, lengths: &[usize], [keys, values]: &[Tensor; 2]) -> Result<()> {
        if let CacheStore::Delta { shape, memories, device } = &self.store {
            return put_memories_back(&mut memories.borrow_mut(), lengths, *shape, [keys, values], device);
        }
        let sequences = lengths.iter().enumerate().map(|(slot, &new)| Sequence { slot, past: 0, new });
        let batch = Batch::new(sequences.filter(|s| s.new > 0).collect());
        let expected = (batch.rows(), self.width);
        if keys.dims2()? != expected || values.dims2()? != expected {
            return Err(Error::failure("keys and values of other prompts"));
        }
        match &self.store {
            CacheStore::Host { keys: own_keys, values: own_values } => {
                with_elements(keys, |new| self.append_host(&batch, &mut own_keys.borrow_mut(), new))?;
                with_elements(values, |new| self.append_host(&batch, &mut own_values.borrow_mut(), new))
            }
            CacheStore::Device { keys: own_keys, values: own_values } => {
                self.append_device(&batch, own_keys, &keys.to_device(own_keys.device())?)?;
                self.append_device(&batch, own_values, &values.to_device(own_values.device())?)
            }
            CacheStore::Delta { .. } => Ok(()),
        }
    }

    /// Puts the new keys and values of a batch behind those of its sequences, and lets the queries attend to all.
    pub(super) fn attend(
        &self,
        batch: &Batch,
        [q, k, v]: [&Activations; 3],
        heads: AttentionShape,
        sinks: Option<&Tensor>,
    ) -> Result<Activations> {
        let segments = batch.segments(Some(self.capacity));
        match (&self.store, k, v) {
            (
                CacheStore::Host { keys, values },
                Activations::Host { data: new_keys, .. },
                Activations::Host { data: new_values, .. },
            ) => {
                self.append_host(batch, &mut keys.borrow_mut(), new_keys);
                self.append_host(batch, &mut values.borrow_mut(), new_values);
                ops::attend_host(q, (&keys.borrow(), &values.borrow()), &segments, heads, sinks)
            }
            (
                CacheStore::Device { keys, values },
                Activations::Device(new_keys),
                Activations::Device(new_values),
            ) => {
                self.append_device(batch, keys, new_keys)?;
                self.append_device(batch, values, new_values)?;
                ops::attend_device(q, (keys, values), &segments, heads, sinks)
            }
            _ => Err(ops::mixed()),
        }
    }

    fn append_host(&self, batch: &Batch, cache: &mut [f32], new: &[f32]) {
        for (row, sequence) in batch.spans() {
            let at = (sequence.slot * self.capacity + sequence.past) * self.width;
            let rows = &new[row * self.width..(row + sequence.new) * self.width];
            cache[at..at + rows.len()].copy_from_slice(rows);
        }
    }

    fn append_device(&self, batch: &Batch, cache: &Tensor, new: &Tensor) -> Result<()> {
        if batch.rows() == batch.len() {
            // One token each: all at once, or a device would spend its time on starting copies.
            let row = |(_, s): (usize, &Sequence)| (s.slot * self.capacity + s.past) as u32;
            let rows: Vec<u32> = batch.spans().map(row).collect();
            let rows = Tensor::from_vec(rows, (batch.len(), 1), cache.device())?;
            let rows = rows.broadcast_as((batch.len(), self.width))?.contiguous()?;
            return Ok(cache.scatter_set(&rows, &new.contiguous()?, 0)?);
        }
        for (row, sequence) in batch.spans() {
            let at = sequence.slot * self.capacity + sequence.past;
            cache.slice_set(&new.narrow(0, row, sequence.new)?.contiguous()?, 0, at)?;
        }
        Ok(())
    }
}

/// Matrices and rows of the sequences that have tokens, a row for each: `[sequences, 2 · elements]`, those behind the last
/// token and then those before it, and `[sequences, taps · channels]`.
fn taken_memories(memories: &[Option<DeltaMemory>], lengths: &[usize]) -> Result<[Tensor; 2]> {
    let (mut matrices, mut rows) = (Vec::new(), Vec::new());
    for (memory, length) in memories.iter().zip(lengths).filter(|(_, length)| **length > 0) {
        let memory = memory.as_ref().filter(|memory| memory.tokens == *length);
        let memory = memory.ok_or_else(|| Error::failure("what a block keeps is of other prompts"))?;
        matrices.push(Tensor::cat(&[&memory.last, &memory.before], 0)?);
        rows.push(memory.rows.flatten_all()?);
    }
    let stacked =
        |parts: &[Tensor]| -> Result<Tensor> { Ok(Tensor::stack(parts, 0)?.to_device(&Device::Cpu)?) };
    Ok([stacked(&matrices)?, stacked(&rows)?])
}

fn put_memories_back(
    memories: &mut [Option<DeltaMemory>],
    lengths: &[usize],
    shape: DeltaShape,
    [matrices, rows]: [&Tensor; 2],
    device: &Device,
) -> Result<()> {
    let asked = lengths.iter().filter(|length| **length > 0).count();
    if matrices.dims2()? != (asked, 2 * shape.elements())
        || rows.dims2()? != (asked, shape.taps * shape.channels())
    {
        return Err(Error::failure("what a block keeps is of other prompts"));
    }
    let asked = memories.iter_mut().zip(lengths).filter(|(_, length)| **length > 0);
    for (at, (memory, &tokens)) in asked.enumerate() {
        let of = |x: &Tensor| -> Result<Tensor> { Ok(x.narrow(0, at, 1)?.squeeze(0)?.to_device(device)?) };
        let matrices = of(matrices)?;
        let part = |start: usize| matrices.narrow(0, start, shape.elements())?.contiguous();
        *memory = Some(DeltaMemory {
            tokens,
            last: part(0)?,
            before: part(shape.elements())?,
            rows: of(rows)?.reshape((shape.taps, shape.channels()))?,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ARCHITECTURES, Block, ModelFolder, Synthetic};

    #[test]
    fn what_a_block_keeps_of_prompts_serves_another_cache_from_their_last_token_on() {
        let (dtype, device, lengths) = (DType::F32, Device::Cpu, [5, 0, 3]);
        let sequence = |slot, past, new| Sequence { slot, past, new };
        let prompts = Batch::new(vec![sequence(0, 0, 5), sequence(2, 0, 3)]);
        let again = Batch::new(vec![sequence(0, 4, 1), sequence(2, 2, 1)]);
        for class in ["Qwen3ForCausalLM", "Qwen3_5ForCausalLM"] {
            let architecture = ARCHITECTURES.iter().find(|a| a.name() == class).unwrap();
            let dir = tempfile::tempdir().unwrap();
            Synthetic::tiny(*architecture).write(dir.path()).unwrap();
            let folder = ModelFolder::open(dir.path()).unwrap();
            let ropes = folder.config.rope_tables(8);
            let x: Vec<f32> = (0..8 * 64).map(|i| ((i * 37) as f32).sin()).collect();
            let x = Tensor::from_vec(x, (8, 64), &device).unwrap();
            let last = x.index_select(&Tensor::new(&[4u32, 7], &device).unwrap(), 0).unwrap();
            for index in 0..folder.config.blocks {
                let block = Block::load(&folder, index, dtype, &device).unwrap();
                let cache = || block.cache(3, 8, dtype, &device).unwrap();
                let (first, second) = (cache(), cache());
                let y = block.forward(&x, &prompts, &ropes, Some(&first)).unwrap();
                let kept = first.taken(&lengths).unwrap();
                assert!(cache().put_back(&[5, 1, 3], &kept).is_err(), "of other prompts");
                second.put_back(&lengths, &kept).unwrap();
                let got = block.forward(&last, &again, &ropes, Some(&second)).unwrap();
                let want = y.index_select(&Tensor::new(&[4u32, 7], &device).unwrap(), 0).unwrap();
                let apart = (got - want).unwrap().abs().unwrap().max_all().unwrap();
                let apart = apart.to_scalar::<f32>().unwrap();
                assert!(apart < 1e-4, "{class} {index}: {apart}");
            }
        }
    }
}
