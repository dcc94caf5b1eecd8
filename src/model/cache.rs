//! What a block keeps of the tokens that it has seen, for the tokens that follow.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use super::batch::{Batch, Sequence};
use super::ops::{self, Activations, with_elements};
use crate::error::{Error, Result};
use crate::kernels::attention::AttentionShape;

/// Keys and values of one block for every sequence of a batch.
#[derive(Debug)]
pub struct BlockCache {
    /// `[sequences · capacity, key heads · dim]` each.
    store: CacheStore,
    /// Most tokens of a sequence.
    capacity: usize,
    /// Key heads times their dimension.
    width: usize,
}

#[derive(Debug)]
enum CacheStore {
    Host { keys: RefCell<Vec<f32>>, values: RefCell<Vec<f32>> },
    Device { keys: Tensor, values: Tensor },
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

    /// Keys and values of the first `lengths[i]` tokens of every sequence `i`: two matrices `[Σ lengths, width]` on the
    /// host, sequence after sequence.
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
        })
    }

    /// Puts back what [`Self::taken`] took of sequences of these lengths.
    ///
    /// # Errors
    /// A tensor operation that fails, on matrices of other shapes too.
    pub fn put_back(&self, lengths: &[usize], [keys, values]: &[Tensor; 2]) -> Result<()> {
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
        }
    }

    /// Puts the new keys and values of a batch behind those of its sequences, and lets the queries attend to all.
    pub(super) fn attend(
        &self,
        batch: &Batch,
        q: &Activations,
        k: &Activations,
        v: &Activations,
        heads: AttentionShape,
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
                ops::attend_host(q, &keys.borrow(), &values.borrow(), &segments, heads)
            }
            (
                CacheStore::Device { keys, values },
                Activations::Device(new_keys),
                Activations::Device(new_values),
            ) => {
                self.append_device(batch, keys, new_keys)?;
                self.append_device(batch, values, new_values)?;
                ops::attend_device(q, keys, values, &segments, heads)
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
