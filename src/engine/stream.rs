//! Hidden states on their way through the blocks.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::collector::Collector;
use crate::error::{Error, Result};
use crate::model::head::EmbeddingRows;
use crate::model::{
    ActivationObserver, Batch, Block, ExpertObserver, InputSite, ModelFolder, Onlookers, RopeTables, Tree,
};

/// Hidden states of token sequences of any lengths, or of trees of them, some a batch, in the precision of the device.
///
/// A copy shares the states until either is sent through a block.
#[derive(Debug, Clone)]
pub(super) struct HiddenStates {
    batches: Vec<Tensor>,
    shapes: Vec<Batch>,
    /// Where each sequence, or tree, is.
    places: Vec<SequenceRows>,
    /// Where they are between blocks.
    home: Device,
}

/// Rows of a sequence, or of a tree.
#[derive(Debug, Clone, Copy)]
struct SequenceRows {
    batch: usize,
    row: usize,
    rows: usize,
}

/// How sequences become batches, and where these are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement<'a> {
    /// Most tokens of a batch, which holds at least one sequence.
    pub batch_tokens: usize,
    /// Where batches are between blocks.
    pub home: &'a Device,
}

impl HiddenStates {
    /// Embeds sequences. `check` is asked before each batch.
    ///
    /// # Errors
    /// A tensor operation that fails; what `check` says.
    pub fn embed(
        folder: &ModelFolder,
        sequences: &[Vec<u32>],
        dtype: DType,
        placement: Placement<'_>,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let trees: Vec<_> = sequences.iter().cloned().map(Tree::alone).collect();
        Self::embed_trees(folder, &trees, dtype, placement, check)
    }

    /// The same of trees: the states of one are its trunk's and then those of one branch after the other.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn embed_trees(
        folder: &ModelFolder,
        trees: &[Tree<Vec<u32>>],
        dtype: DType,
        placement: Placement<'_>,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let (mut states, groups) = Self::shaped(&shapes(trees), placement);
        let tokens = trees.iter().flat_map(Tree::tokens);
        let rows = EmbeddingRows::new(folder, tokens, dtype, placement.home)?;
        for group in groups {
            check()?;
            let trees = &trees[group];
            let tokens: Vec<u32> = trees.iter().flat_map(Tree::tokens).collect();
            let batch = Batch::trees(&shapes(trees));
            states.batches.push(rows.embed(&tokens, &batch)?);
        }
        Ok(states)
    }

    /// States that were saved, of such trees.
    ///
    /// # Errors
    /// States of another number of tokens.
    pub fn from_saved(saved: &[Tensor], trees: &[Tree<usize>], placement: Placement<'_>) -> Result<Self> {
        let (mut states, _) = Self::shaped(trees, placement);
        let rows: usize = saved.iter().map(|t| t.dim(0).unwrap_or(0)).sum();
        if rows != states.tokens() {
            return Err(Error::failure(format!(
                "saved states hold {rows} tokens where {} are needed",
                states.tokens()
            )));
        }
        if saved.is_empty() {
            return Ok(states);
        }
        let whole = if saved.len() == 1 { saved[0].clone() } else { Tensor::cat(saved, 0)? };
        let mut row = 0;
        for shape in &states.shapes {
            // Tensor::copy would keep the memory of the whole for every batch.
            let rows = whole.narrow(0, row, shape.rows())?.force_contiguous()?;
            states.batches.push(rows.to_device(placement.home)?);
            row += shape.rows();
        }
        Ok(states)
    }

    /// Without states yet, and which trees go into which batch.
    fn shaped(trees: &[Tree<usize>], placement: Placement<'_>) -> (Self, Vec<Range<usize>>) {
        let groups = Batch::grouped(trees, placement.batch_tokens);
        let shapes = groups.iter().map(|group| Batch::trees(&trees[group.clone()])).collect();
        let mut places = Vec::with_capacity(trees.len());
        for (batch, group) in groups.iter().enumerate() {
            let mut row = 0;
            for tree in &trees[group.clone()] {
                let rows = tree.rows();
                places.push(SequenceRows { batch, row, rows });
                row += rows;
            }
        }
        (Self { batches: Vec::new(), shapes, places, home: placement.home.clone() }, groups)
    }

    /// How many sequences, or trees, there are.
    pub fn sequences(&self) -> usize {
        self.places.len()
    }

    pub fn tokens(&self) -> usize {
        self.shapes.iter().map(Batch::rows).sum()
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
            *x = block.forward(&x.to_device(device)?, shape, ropes, None)?.to_device(&self.home)?;
        }
        Ok(device.synchronize()?)
    }

    /// The same, and shows the residual of every batch before the block and behind it, where they are between blocks, inputs
    /// of modules, `sites` in their order, and what experts make of the rows that are routed to them.
    pub fn forward_seen(
        &mut self,
        block: &Block,
        (ropes, device): (&RopeTables, &Device),
        (sites, inputs, experts): (&[InputSite], &mut dyn ActivationObserver, &mut dyn ExpertObserver),
        check: &mut dyn FnMut() -> Result<()>,
        seen: &mut dyn FnMut(&Tensor, &Tensor, &Batch) -> Result<()>,
    ) -> Result<()> {
        for (x, shape) in self.batches.iter_mut().zip(&self.shapes) {
            check()?;
            let onlookers = Onlookers { inputs: Some((sites, &mut *inputs)), experts: Some(&mut *experts) };
            let y = block.forward_observed(&x.to_device(device)?, shape, ropes, onlookers)?;
            let y = y.to_device(&self.home)?;
            seen(&block.residual(x)?, &block.residual(&y)?, shape)?;
            *x = y;
        }
        Ok(device.synchronize()?)
    }

    /// The first `hidden` features of the states of the last token of every sequence, on the host in `f32`, sequence after
    /// sequence.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn last_states(&self, hidden: usize) -> Result<Vec<f32>> {
        let mut last = Vec::new();
        for place in &self.places {
            let row = self.batches[place.batch].narrow(0, place.row + place.rows - 1, 1)?;
            let row = row.narrow(1, 0, hidden)?;
            last.extend(row.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(last)
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

    /// The states of sequence, or tree, `index`, `[tokens, hidden]`.
    pub fn sequence(&self, index: usize) -> Result<Tensor> {
        let place = self.places[index];
        Ok(self.batches[place.batch].narrow(0, place.row, place.rows)?)
    }

    /// The first sequences alone, none of which is a tree with branches.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn into_first(mut self, sequences: usize) -> Result<Self> {
        self.places.truncate(sequences);
        let Some(last) = self.places.last().copied() else {
            return Ok(Self { batches: Vec::new(), shapes: Vec::new(), ..self });
        };
        self.batches.truncate(last.batch + 1);
        self.shapes.truncate(last.batch + 1);
        let rows = last.row + last.rows;
        if rows < self.shapes[last.batch].rows() {
            // A copy, since a part of a tensor keeps all of it in memory.
            self.batches[last.batch] = self.batches[last.batch].narrow(0, 0, rows)?.force_contiguous()?;
            let of_batch = self.places.iter().filter(|place| place.batch == last.batch);
            self.shapes[last.batch] =
                Batch::of_lengths(&of_batch.map(|place| place.rows).collect::<Vec<_>>());
        }
        Ok(self)
    }

    /// The batches, for saving.
    pub fn batches(&self) -> &[Tensor] {
        &self.batches
    }
}

/// The shapes of trees of tokens.
pub(super) fn shapes(trees: &[Tree<Vec<u32>>]) -> Vec<Tree<usize>> {
    trees.iter().map(Tree::shape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::{Needs, Statistics};
    use crate::model::{ARCHITECTURES, Synthetic};

    fn placement(batch_tokens: usize) -> Placement<'static> {
        Placement { batch_tokens, home: &Device::Cpu }
    }

    fn sequences(lengths: &[usize]) -> Vec<Vec<u32>> {
        let token = |sequence: usize, i: usize| ((i * 37 + sequence * 101 + 5) % 258) as u32;
        lengths.iter().enumerate().map(|(s, &n)| (0..n).map(|i| token(s, i)).collect()).collect()
    }

    /// The states behind all blocks, and the column norms of every input of the last.
    fn through(
        folder: &ModelFolder,
        sequences: &[Vec<u32>],
        batch_tokens: usize,
    ) -> (HiddenStates, Vec<Vec<f64>>) {
        let (dtype, device) = (DType::F32, Device::Cpu);
        let mut states =
            HiddenStates::embed(folder, sequences, dtype, placement(batch_tokens), &mut || Ok(())).unwrap();
        let ropes = folder.config.rope_tables(sequences.iter().map(Vec::len).max().unwrap());
        let mut norms = Vec::new();
        for index in 0..folder.config.blocks {
            let block = Block::load(folder, index, dtype, &device).unwrap();
            let sites: Vec<InputSite> = block.layout().sites().map(|(site, _)| site).collect();
            let mut collector = Collector::new(Needs::ColumnNorms);
            states.observe(&block, &ropes, &device, &sites, &mut collector, &mut || Ok(())).unwrap();
            let found = collector.finish(block.layout(), &sites, &device).unwrap();
            let sums = found.into_iter().map(|(_, inputs)| {
                assert_eq!(inputs.sequences, sequences.len());
                let unseen = inputs.routed.is_some_and(|routed| routed.tokens == 0);
                match inputs.statistics {
                    // What stands for the inputs of an expert that saw no token is no sum.
                    Statistics::ColumnNorms(sums) if unseen => vec![0.0; sums.len()],
                    Statistics::ColumnNorms(sums) => sums,
                    _ => panic!("norms were asked for"),
                }
            });
            norms = sums.collect();
            states.forward(&block, &ropes, &device, &mut || Ok(())).unwrap();
        }
        (states, norms)
    }

    #[test]
    fn a_sequence_among_others_has_the_states_that_it_has_alone() {
        for &architecture in ARCHITECTURES {
            let dir = tempfile::tempdir().unwrap();
            Synthetic::tiny(architecture).write(dir.path()).unwrap();
            let folder = ModelFolder::open(dir.path()).unwrap();
            let lengths = [7, 40, 1, 40, 23, 2, 2, 90];
            let sequences = sequences(&lengths);
            let alone: Vec<_> =
                sequences.iter().map(|s| through(&folder, std::slice::from_ref(s), 1000)).collect();
            for batch_tokens in [1, 42, 64, 1000] {
                let (states, norms) = through(&folder, &sequences, batch_tokens);
                assert_eq!((states.sequences(), states.tokens()), (lengths.len(), lengths.iter().sum()));
                for (index, (one, _)) in alone.iter().enumerate() {
                    let (got, want) = (states.sequence(index).unwrap(), one.sequence(0).unwrap());
                    assert_eq!(got.dims(), [lengths[index], folder.config.hidden_size]);
                    let apart = (got - want).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                    let apart = apart.to_scalar::<f32>().unwrap();
                    assert!(
                        apart < 1e-4,
                        "{architecture:?}, sequence {index} of {batch_tokens} a batch: {apart}"
                    );
                }
                for (site, sums) in norms.iter().enumerate() {
                    for (feature, sum) in sums.iter().enumerate() {
                        let want: f64 = alone.iter().map(|(_, norms)| norms[site][feature]).sum();
                        assert!((sum - want).abs() < 1e-3 * want.max(1.0), "{architecture:?}: {sum} {want}");
                    }
                }
            }
        }
    }

    /// Of every architecture, since each has its own attention.
    #[test]
    fn a_branch_has_the_states_that_its_sequence_has_alone() {
        for &architecture in ARCHITECTURES {
            let dir = tempfile::tempdir().unwrap();
            Synthetic::tiny(architecture).write(dir.path()).unwrap();
            let folder = ModelFolder::open(dir.path()).unwrap();
            let tokens = sequences(&[40, 9, 3, 70]);
            let trees = [
                Tree {
                    trunk: tokens[0].clone(),
                    branches: vec![tokens[1].clone(), Vec::new(), tokens[2].clone()],
                },
                Tree::alone(tokens[3].clone()),
            ];
            let whole: Vec<Vec<u32>> = [&tokens[1], &tokens[2]]
                .iter()
                .map(|branch| [&tokens[0][..], &branch[..]].concat())
                .collect();
            let forward = |mut states: HiddenStates| {
                let ropes = folder.config.rope_tables(100);
                for index in 0..folder.config.blocks {
                    let block = Block::load(&folder, index, DType::F32, &Device::Cpu).unwrap();
                    states.forward(&block, &ropes, &Device::Cpu, &mut || Ok(())).unwrap();
                }
                states
            };
            for most in [1, 1000] {
                let embedded =
                    HiddenStates::embed_trees(&folder, &trees, DType::F32, placement(most), &mut || Ok(()));
                let of_tree = forward(embedded.unwrap()).sequence(0).unwrap();
                let embedded = HiddenStates::embed(&folder, &whole, DType::F32, placement(1), &mut || Ok(()));
                let alone = forward(embedded.unwrap());
                for (sequence, (row, rows)) in [(0, (40, 9)), (1, (49, 3))] {
                    let want = alone.sequence(sequence).unwrap().narrow(0, 40, rows).unwrap();
                    let got = of_tree.narrow(0, row, rows).unwrap();
                    let apart = (got - want).unwrap().abs().unwrap().max_all().unwrap();
                    let apart = apart.to_scalar::<f32>().unwrap();
                    assert!(apart < 1e-4, "{architecture:?}, {most} a batch: {apart}");
                }
            }
        }
    }

    #[test]
    fn embedding_ends_at_the_batch_where_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::default().write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let sequences = sequences(&[8; 10]);
        let mut asked = 0;
        let mut check = || {
            asked += 1;
            if asked == 3 { Err(Error::Cancelled) } else { Ok(()) }
        };
        let result = HiddenStates::embed(&folder, &sequences, DType::F32, placement(8), &mut check);
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!(asked, 3);
    }

    /// Values that a tensor keeps in memory, whether it shows them or not.
    fn kept_values(batch: &Tensor) -> usize {
        let (storage, _) = batch.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(storage) => storage.as_slice::<f32>().unwrap().len(),
            _ => panic!("not on the host"),
        }
    }

    #[test]
    fn the_first_sequences_alone_take_the_memory_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::default().write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let trees: Vec<Tree<Vec<u32>>> = vec![
            Tree::alone(vec![1, 2, 3]),
            Tree::alone(vec![4, 5]),
            Tree { trunk: vec![6, 7], branches: vec![vec![8], vec![9, 1]] },
        ];
        for (most, first) in [(100, 2), (5, 2), (100, 1), (3, 2), (100, 0)] {
            let states =
                HiddenStates::embed_trees(&folder, &trees, DType::F32, placement(most), &mut || Ok(()))
                    .unwrap();
            let values = |states: &HiddenStates, index| {
                states.sequence(index).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let wanted: Vec<Vec<f32>> = (0..first).map(|index| values(&states, index)).collect();
            let kept = states.into_first(first).unwrap();
            assert_eq!((0..first).map(|index| values(&kept, index)).collect::<Vec<_>>(), wanted);
            assert_eq!(kept.sequences(), first);
            assert_eq!(kept.tokens(), trees[..first].iter().map(|tree| tree.trunk.len()).sum::<usize>());
            assert!(kept.batches().iter().all(|batch| kept_values(batch) == batch.elem_count()));
        }
    }

    #[test]
    fn saved_states_come_back_in_other_batches() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::default().write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let lengths = [3, 9, 1, 4];
        let sequences = sequences(&lengths);
        let embed = |most| {
            HiddenStates::embed(&folder, &sequences, DType::F32, placement(most), &mut || Ok(())).unwrap()
        };
        let values = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let saved = embed(10);
        assert_eq!(saved.batches().len(), 3, "3 + 9 are too many, 9 + 1 are not");
        for most in [1, 5, 100] {
            let shapes = lengths.map(Tree::alone);
            let again = HiddenStates::from_saved(saved.batches(), &shapes, placement(most)).unwrap();
            for index in 0..lengths.len() {
                let [got, want] = [&again, &saved].map(|s| values(s.sequence(index).unwrap()));
                assert_eq!(got, want);
            }
            assert!(again.batches().iter().all(|batch| kept_values(batch) == batch.elem_count()));
        }
        let others = [3, 9, 1, 5].map(Tree::alone);
        let error = HiddenStates::from_saved(saved.batches(), &others, placement(10)).unwrap_err();
        assert!(error.to_string().contains("17 tokens where 18 are needed"), "{error}");
        let none = HiddenStates::from_saved(&[], &[], placement(10)).unwrap();
        assert_eq!((none.sequences(), none.tokens()), (0, 0));
    }
}
