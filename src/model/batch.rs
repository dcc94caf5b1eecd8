//! Ragged batches: sequences of different lengths, one after the other in the rows of one matrix.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use super::ops::{self, Rows, with_elements};
use crate::error::{Error, Result};
use crate::kernels::attention::{Heads, Segment};

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

    /// The same sequences in batches of at most `most` rows, in their order; one that is longer is cut.
    pub fn pieces(&self, most: usize) -> Vec<Self> {
        let most = most.max(1);
        let (mut pieces, mut piece, mut room) = (Vec::new(), Vec::new(), most);
        for sequence in &self.sequences {
            let mut left = *sequence;
            if left.new > room && !piece.is_empty() {
                pieces.push(Self::new(std::mem::take(&mut piece)));
                room = most;
            }
            while left.new > room {
                pieces.push(Self::new(vec![Sequence { new: room, ..left }]));
                left = Sequence { past: left.past + room, new: left.new - room, ..left };
            }
            room -= left.new;
            piece.push(left);
        }
        if !piece.is_empty() {
            pieces.push(Self::new(piece));
        }
        pieces
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
    pub(super) fn attend(&self, batch: &Batch, q: &Rows, k: &Rows, v: &Rows, heads: Heads) -> Result<Rows> {
        let segments = batch.segments(Some(self.capacity));
        match (&self.store, k, v) {
            (
                CacheStore::Host { keys, values },
                Rows::Host { data: new_keys, .. },
                Rows::Host { data: new_values, .. },
            ) => {
                self.append_host(batch, &mut keys.borrow_mut(), new_keys);
                self.append_host(batch, &mut values.borrow_mut(), new_values);
                ops::attend_host(q, &keys.borrow(), &values.borrow(), &segments, heads)
            }
            (CacheStore::Device { keys, values }, Rows::Device(new_keys), Rows::Device(new_values)) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Block, ModelFolder, RopeTable, Synthetic, head};

    #[test]
    fn rows_know_their_sequence_and_position() {
        let batch = Batch::new(vec![
            Sequence { slot: 2, past: 3, new: 2 },
            Sequence { slot: 0, past: 0, new: 3 },
            Sequence { slot: 1, past: 9, new: 1 },
        ]);
        assert_eq!((batch.len(), batch.rows()), (3, 6));
        assert_eq!(batch.positions(), [3, 4, 0, 1, 2, 9]);
        assert_eq!(batch.last_rows(), [1, 4, 5]);
        let segment = |query_row, queries, key_row, keys| Segment { query_row, queries, key_row, keys };
        let cached = [segment(0, 2, 40, 5), segment(2, 3, 0, 3), segment(5, 1, 20, 10)];
        assert_eq!(batch.segments(Some(20)), cached);
        let windows = Batch::windows(2, 3);
        assert_eq!(windows.positions(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(windows.segments(None), [segment(0, 3, 0, 3), segment(3, 3, 3, 3)]);
        assert!(Batch::windows(0, 5).is_empty());
    }

    #[test]
    fn pieces_are_whole_sequences_where_they_fit() {
        let sequence = |slot, past, new| Sequence { slot, past, new };
        let batch =
            Batch::new(vec![sequence(2, 3, 2), sequence(0, 0, 7), sequence(1, 9, 1), sequence(3, 0, 3)]);
        let pieces = |most| batch.pieces(most).into_iter().map(|piece| piece.sequences).collect::<Vec<_>>();
        assert_eq!(pieces(100), std::slice::from_ref(&batch.sequences));
        let in_threes = [
            vec![sequence(2, 3, 2)],
            vec![sequence(0, 0, 3)],
            vec![sequence(0, 3, 3)],
            vec![sequence(0, 6, 1), sequence(1, 9, 1)],
            vec![sequence(3, 0, 3)],
        ];
        assert_eq!(pieces(3), in_threes);
        assert_eq!(pieces(1).len(), 13);
        assert_eq!(pieces(0), pieces(1));
        assert!(Batch::new(Vec::new()).pieces(5).is_empty());
    }

    /// All blocks of a model.
    struct Model {
        folder: ModelFolder,
        blocks: Vec<Block>,
        rope: RopeTable,
        dtype: DType,
    }

    impl Model {
        fn states(&self, tokens: &[u32], batch: &Batch, caches: Option<&[BlockCache]>) -> Vec<Vec<f32>> {
            let mut x = head::embed(&self.folder, tokens, self.dtype, &Device::Cpu).unwrap();
            for (i, block) in self.blocks.iter().enumerate() {
                x = block.forward(&x, batch, &self.rope, caches.map(|c| &c[i])).unwrap();
            }
            x.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
        }
    }

    #[test]
    fn a_ragged_batch_with_a_cache_does_what_each_sequence_does_alone_without() {
        const CAPACITY: usize = 45;
        // In f16 a block is put together from a device's operations, also on the host.
        let precisions = [(DType::F32, 1e-5), (DType::F16, 5e-3)];
        for (architecture, (dtype, tolerance)) in
            Architecture::ALL.into_iter().flat_map(|a| precisions.map(|p| (a, p)))
        {
            let dir = tempfile::tempdir().unwrap();
            Synthetic::tiny(architecture).write(dir.path()).unwrap();
            let folder = ModelFolder::open(dir.path()).unwrap();
            let load = |i| Block::load(&folder, i, dtype, &Device::Cpu).unwrap();
            let blocks: Vec<Block> = (0..folder.config.blocks).map(load).collect();
            let rope = RopeTable::new(&folder.config, CAPACITY);
            let width = folder.config.kv_heads * folder.config.head_dim;
            let room = |_: &Block| BlockCache::new(3, CAPACITY, width, dtype, &Device::Cpu).unwrap();
            let caches: Vec<BlockCache> = blocks.iter().map(room).collect();
            let model = Model { folder, blocks, rope, dtype };

            // One is longer than Mistral's window of 16 and fills the cache, one ends early.
            let texts =
                [45usize, 5, 24].map(|n| (0..n).map(|i| (i * i * 31 + n) as u32 % 258).collect::<Vec<_>>());
            let alone = texts.each_ref().map(|text| model.states(text, &Batch::windows(1, text.len()), None));
            let mut past = [0; 3];
            // A prompt in two pieces, the second with one sequence missing and the others in another order; then step
            // by step, until the longest has ended.
            let mut pieces = vec![vec![(0, 20), (1, 1), (2, 7)], vec![(2, 13), (0, 10)]];
            pieces.extend((0..15).map(|step| {
                let left = [45 - 30, 5 - 1, 24 - 20];
                (0..3).filter(|&slot| step < left[slot]).map(|slot| (slot, 1)).collect()
            }));
            for piece in pieces {
                let sequence = |&(slot, new): &(usize, usize)| Sequence { slot, past: past[slot], new };
                let batch = Batch::new(piece.iter().map(sequence).collect());
                let tokens: Vec<u32> =
                    piece.iter().flat_map(|&(slot, new)| texts[slot][past[slot]..][..new].to_vec()).collect();
                let mut rows = model.states(&tokens, &batch, Some(&caches)).into_iter();
                for (slot, new) in piece {
                    let end = past[slot] + new;
                    for (position, want) in (past[slot]..end).zip(&alone[slot][past[slot]..end]) {
                        let row = rows.next().unwrap();
                        let apart = |(a, b): (&f32, &f32)| (a - b).abs();
                        let largest = want.iter().map(|v| v.abs()).fold(1.0, f32::max);
                        let worst = row.iter().zip(want).map(apart).fold(0.0, f32::max) / largest;
                        assert!(
                            worst < tolerance,
                            "{architecture} in {dtype:?}: sequence {slot}, position {position}: {worst}"
                        );
                    }
                    past[slot] = end;
                }
            }
            assert_eq!(past, [45, 5, 24]);
        }
    }

    #[test]
    fn keys_and_values_that_were_taken_out_serve_another_cache() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(Architecture::Llama).write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let block = Block::load(&folder, 0, DType::F32, &Device::Cpu).unwrap();
        let rope = RopeTable::new(&folder.config, 16);
        let width = folder.config.kv_heads * folder.config.head_dim;
        let room = |capacity| BlockCache::new(3, capacity, width, DType::F32, &Device::Cpu).unwrap();
        let run = |ids: &[u32], sequences: Vec<Sequence>, cache: &BlockCache| {
            let x = head::embed(&folder, ids, DType::F32, &Device::Cpu).unwrap();
            let y = block.forward(&x, &Batch::new(sequences), &rope, Some(cache)).unwrap();
            y.to_vec2::<f32>().unwrap()
        };
        let sequence = |slot, past, new| Sequence { slot, past, new };
        let first = room(12);
        // The sequence in the middle has no token yet.
        run(&[5, 6, 7, 40, 41, 42, 43, 44], vec![sequence(0, 0, 3), sequence(2, 0, 5)], &first);
        let lengths = [3, 0, 5];
        let taken = first.taken(&lengths).unwrap();
        assert_eq!(taken[0].dims(), [8, width]);
        let second = room(9);
        second.put_back(&lengths, &taken).unwrap();
        let more = || vec![sequence(0, 3, 1), sequence(2, 5, 2)];
        assert_eq!(run(&[8, 45, 46], more(), &first), run(&[8, 45, 46], more(), &second));
        assert!(room(9).put_back(&[3, 1, 5], &taken).is_err());
    }
}
