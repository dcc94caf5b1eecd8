//! Ragged batches: sequences of different lengths, one after the other in the rows of one matrix.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::kernels::attention::Segment;

/// Which rows of a hidden state belong to which sequence, and where in it they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    sequences: Vec<Sequence>,
    positions: Vec<u32>,
}

/// One sequence of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Its place in a cache.
    pub slot: usize,
    /// Tokens of it that the cache holds.
    pub past: usize,
    /// Tokens that are new.
    pub new: usize,
}

impl Batch {
    /// A batch of sequences, in the order of their rows.
    pub fn new(sequences: Vec<Sequence>) -> Self {
        let positions = sequences.iter().flat_map(|s| (s.past..s.past + s.new).map(|p| p as u32)).collect();
        Self { sequences, positions }
    }

    /// `count` windows of `length` tokens each.
    pub fn windows(count: usize, length: usize) -> Self {
        Self::new((0..count).map(|slot| Sequence { slot, past: 0, new: length }).collect())
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Rows of the hidden state: new tokens of all sequences.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// Position in its sequence of every row.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Queries and keys of every sequence; keys lie `capacity` rows apart in a cache, or as the queries do.
    pub(super) fn segments(&self, capacity: Option<usize>) -> Vec<Segment> {
        let segment = |(query_row, s): (usize, &Sequence)| Segment {
            query_row,
            queries: s.new,
            key_row: capacity.map_or(query_row, |c| s.slot * c),
            keys: s.past + s.new,
        };
        self.spans().map(segment).collect()
    }

    /// Sequences, each with its first row.
    fn spans(&self) -> impl Iterator<Item = (usize, &Sequence)> {
        self.sequences.iter().scan(0, |row, sequence| {
            let first = *row;
            *row += sequence.new;
            Some((first, sequence))
        })
    }

    /// The last row of every sequence.
    pub fn last_rows(&self) -> Vec<u32> {
        self.spans().map(|(row, s)| (row + s.new - 1) as u32).collect()
    }
}

/// Keys and values of one block for every sequence of a batch.
#[derive(Debug)]
pub struct BlockCache {
    /// `[sequences · capacity, key heads · dim]`
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
    /// Most tokens of a sequence.
    pub(super) capacity: usize,
}

impl BlockCache {
    /// Room for `sequences` of up to `capacity` tokens; `width` is key heads times their dimension.
    pub fn new(
        sequences: usize,
        capacity: usize,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let room = || Tensor::zeros((sequences * capacity, width), dtype, device);
        Ok(Self { keys: room()?, values: room()?, capacity })
    }

    /// Puts the new keys and values of a batch behind those of its sequences.
    pub(super) fn append(&self, batch: &Batch, keys: &Tensor, values: &Tensor) -> Result<()> {
        for (row, sequence) in batch.spans() {
            let at = sequence.slot * self.capacity + sequence.past;
            self.keys.slice_set(&keys.narrow(0, row, sequence.new)?.contiguous()?, 0, at)?;
            self.values.slice_set(&values.narrow(0, row, sequence.new)?.contiguous()?, 0, at)?;
        }
        Ok(())
    }
}
