//! Ragged batches: sequences of different lengths, one after the other in the rows of one matrix.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::kernels::attention::Segment;

/// Which rows of a hidden state belong to which sequence, and where in it they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `(tokens already in the cache, new tokens)` of every sequence.
    sequences: Vec<(usize, usize)>,
    positions: Vec<u32>,
}

impl Batch {
    /// A batch of sequences, each `(tokens already in the cache, new tokens)`.
    pub fn new(sequences: Vec<(usize, usize)>) -> Self {
        let positions =
            sequences.iter().flat_map(|&(past, new)| (past..past + new).map(|p| p as u32)).collect();
        Self { sequences, positions }
    }

    /// `count` windows of `length` tokens each.
    pub fn windows(count: usize, length: usize) -> Self {
        Self::new(vec![(0, length); count])
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
        let mut query_row = 0;
        let mut segments = Vec::with_capacity(self.sequences.len());
        for (i, &(past, queries)) in self.sequences.iter().enumerate() {
            let key_row = capacity.map_or(query_row, |c| i * c);
            segments.push(Segment { query_row, queries, key_row, keys: past + queries });
            query_row += queries;
        }
        segments
    }

    /// Sequences with their first row: `(row, past, new)`.
    fn spans(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.sequences.iter().scan(0, |row, &(past, new)| {
            let first = *row;
            *row += new;
            Some((first, past, new))
        })
    }

    /// The last row of every sequence.
    pub fn last_rows(&self) -> Vec<u32> {
        self.spans().map(|(row, _, new)| (row + new - 1) as u32).collect()
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
    pub fn new(sequences: usize, capacity: usize, width: usize, dtype: DType, device: &Device) -> Result<Self> {
        let room = || Tensor::zeros((sequences * capacity, width), dtype, device);
        Ok(Self { keys: room()?, values: room()?, capacity })
    }

    /// Puts the new keys and values of a batch behind those of its sequences.
    pub(super) fn append(&self, batch: &Batch, keys: &Tensor, values: &Tensor) -> Result<()> {
        for (i, (row, past, new)) in batch.spans().enumerate() {
            let at = i * self.capacity + past;
            self.keys.slice_set(&keys.narrow(0, row, new)?.contiguous()?, 0, at)?;
            self.values.slice_set(&values.narrow(0, row, new)?.contiguous()?, 0, at)?;
        }
        Ok(())
    }
}
