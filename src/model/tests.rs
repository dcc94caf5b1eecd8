//! Blocks of every architecture, compared with themselves: with and without a cache, in other precisions, observed. And
//! the random models that tests use.

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::results::SourceBits;

/// All blocks of a model.
struct Model {
    folder: ModelFolder,
    blocks: Vec<Block>,
    ropes: RopeTables,
    dtype: DType,
}

impl Model {
    fn states(&self, tokens: &[u32], batch: &Batch, caches: Option<&[BlockCache]>) -> Vec<Vec<f32>> {
        let mut x = head::embed(&self.folder, tokens, batch, self.dtype, &Device::Cpu).unwrap();
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, batch, &self.ropes, caches.map(|c| &c[i])).unwrap();
        }
        x.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
    }
}

#[test]
fn a_ragged_batch_with_a_cache_does_what_each_sequence_does_alone_without() {
    const CAPACITY: usize = 45;
    // In f16 a block is put together from a device's operations, also on the host.
    let precisions = [(DType::F32, 1e-5), (DType::F16, 5e-3)];
    for (&architecture, (dtype, tolerance)) in ARCHITECTURES.iter().flat_map(|a| precisions.map(|p| (a, p))) {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(architecture).write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let load = |i| Block::load(&folder, i, dtype, &Device::Cpu).unwrap();
        let blocks: Vec<Block> = (0..folder.config.blocks).map(load).collect();
        let ropes = folder.config.rope_tables(CAPACITY);
        let room = |block: &Block| block.cache(3, CAPACITY, dtype, &Device::Cpu).unwrap();
        let caches: Vec<BlockCache> = blocks.iter().map(room).collect();
        let model = Model { folder, blocks, ropes, dtype };

        // One is longer than Mistral's window of 16 and fills the cache, one ends early.
        let texts =
            [45usize, 5, 24].map(|n| (0..n).map(|i| (i * i * 31 + n) as u32 % 258).collect::<Vec<_>>());
        let alone = texts.each_ref().map(|text| model.states(text, &Batch::windows(1, text.len()), None));
        let mut past = [0; 3];
        let mut distances = Vec::new();
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
                    distances.push((worst, slot, position));
                }
                past[slot] = end;
            }
        }
        let layout = model.folder.config.layout(0);
        if dtype == DType::F16 && layout.modules().any(|(_, module)| module.expert.is_some()) {
            // A token between two experts may go to the other one.
            distances.sort_by(|a, b| a.0.total_cmp(&b.0));
            distances.truncate(distances.len() * 7 / 8);
        }
        for (worst, slot, position) in distances {
            assert!(
                worst < tolerance,
                "{architecture:?} in {dtype:?}: sequence {slot}, position {position}: {worst}"
            );
        }
        assert_eq!(past, [45, 5, 24]);
    }
}

#[test]
fn keys_and_values_that_were_taken_out_serve_another_cache() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::tiny(&arch::llama::Llama).write(dir.path()).unwrap();
    let folder = ModelFolder::open(dir.path()).unwrap();
    let block = Block::load(&folder, 0, DType::F32, &Device::Cpu).unwrap();
    let ropes = folder.config.rope_tables(16);
    let room = |capacity| block.cache(3, capacity, DType::F32, &Device::Cpu).unwrap();
    let run = |ids: &[u32], sequences: Vec<Sequence>, cache: &BlockCache| {
        let batch = Batch::new(sequences);
        let x = head::embed(&folder, ids, &batch, DType::F32, &Device::Cpu).unwrap();
        let y = block.forward(&x, &batch, &ropes, Some(cache)).unwrap();
        y.to_vec2::<f32>().unwrap()
    };
    let sequence = |slot, past, new| Sequence { slot, past, new };
    let first = room(12);
    // The sequence in the middle has no token yet.
    run(&[5, 6, 7, 40, 41, 42, 43, 44], vec![sequence(0, 0, 3), sequence(2, 0, 5)], &first);
    let lengths = [3, 0, 5];
    let taken = first.taken(&lengths).unwrap();
    assert_eq!(taken[0].dims(), [8, 2 * 16], "key heads times their width");
    let second = room(9);
    second.put_back(&lengths, &taken).unwrap();
    let more = || vec![sequence(0, 3, 1), sequence(2, 5, 2)];
    assert_eq!(run(&[8, 45, 46], more(), &first), run(&[8, 45, 46], more(), &second));
    assert!(room(9).put_back(&[3, 1, 5], &taken).is_err());
}

#[test]
fn a_block_in_half_precision_does_nearly_what_it_does_in_f32() {
    for &architecture in ARCHITECTURES {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(architecture).write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let tokens: Vec<u32> = (0..2 * 24).map(|i| (i * 37 + 5) % 258).collect();
        let (batch, ropes) = (Batch::windows(2, 24), folder.config.rope_tables(24));
        let run = |dtype| {
            let x = head::embed(&folder, &tokens, &batch, dtype, &Device::Cpu).unwrap();
            let block = Block::load(&folder, 1, dtype, &Device::Cpu).unwrap();
            block.forward(&x, &batch, &ropes, None).unwrap()
        };
        let exact = run(DType::F32);
        for (dtype, tolerance) in [(DType::F16, 0.003), (DType::BF16, 0.02)] {
            let other = run(dtype);
            assert_eq!(other.dtype(), dtype);
            let squares = |x: &Tensor| x.sqr().unwrap().sum(1).unwrap().to_vec1::<f32>().unwrap();
            let error = (other.to_dtype(DType::F32).unwrap() - &exact).unwrap();
            let mut errors = squares(&error);
            if folder.config.layout(1).modules().any(|(_, module)| module.expert.is_some()) {
                // A token between two experts may go to the other one.
                errors.sort_by(f32::total_cmp);
                errors.truncate(errors.len() * 7 / 8);
            }
            let size = |squares: &[f32]| squares.iter().sum::<f32>().sqrt();
            let share = size(&errors) / size(&squares(&exact));
            assert!(share < tolerance, "{architecture:?} in {dtype:?}: {share}");
        }
    }
}

/// Keeps copies of the inputs that it is shown.
#[derive(Default)]
struct Keeper(Vec<(InputSite, Vec<f32>)>);

impl ActivationObserver for Keeper {
    fn input(&mut self, site: InputSite, x: &Activations) -> crate::Result<()> {
        let Activations::Host { data, .. } = x else { panic!("a test on the host") };
        self.0.push((site, data.to_vec()));
        Ok(())
    }
}

#[test]
fn an_observing_pass_shows_what_is_watched_and_multiplies_nothing_behind_it() {
    for &architecture in ARCHITECTURES {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(architecture).write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let block = Block::load(&folder, 1, DType::F32, &Device::Cpu).unwrap();
        let tokens: Vec<u32> = (0..2 * 24).map(|i| (i * 37 + 5) % 258).collect();
        let (batch, ropes) = (Batch::windows(2, 24), folder.config.rope_tables(24));
        let x = head::embed(&folder, &tokens, &batch, DType::F32, &Device::Cpu).unwrap();
        let sites: Vec<InputSite> = block.layout().sites().map(|(site, _)| site).collect();
        let mut all = Keeper::default();
        block.observe(&x, &batch, &ropes, &sites, &mut all).unwrap();
        assert_eq!(all.0.iter().map(|(site, _)| *site).collect::<Vec<_>>(), sites, "{architecture:?}");
        for (shown, (site, width)) in all.0.iter().zip(block.layout().sites()) {
            let reader = block.layout().modules().find(|(_, module)| module.site == site);
            if reader.is_some_and(|(_, module)| module.expert.is_some()) {
                assert!(shown.1.len().is_multiple_of(width) && shown.1.len() < tokens.len() * width);
            } else {
                assert_eq!(shown.1.len(), tokens.len() * width);
            }
            // Weights that nothing can be multiplied by.
            let mut broken = block.clone();
            for (id, _) in block.layout().modules().filter(|(_, module)| module.site >= site) {
                broken.set_weight(id, Tensor::zeros((1, 1), DType::U8, &Device::Cpu).unwrap());
            }
            let mut alone = Keeper::default();
            broken.observe(&x, &batch, &ropes, &[site], &mut alone).unwrap();
            assert_eq!(&alone.0, std::slice::from_ref(shown), "{architecture:?}");
            assert!(broken.forward(&x, &batch, &ropes, None).is_err());
        }
    }
}

#[test]
fn every_family_dtype_and_layout_opens_as_a_model() {
    for &architecture in ARCHITECTURES {
        for (dtype, sharded) in [(DType::F32, None), (DType::BF16, Some(3)), (DType::F16, Some(1))] {
            let dir = tempfile::tempdir().unwrap();
            Synthetic { dtype, sharded, ..Synthetic::tiny(architecture) }.write(dir.path()).unwrap();
            let folder = ModelFolder::open(dir.path()).unwrap();
            assert_eq!((folder.config.architecture, folder.dtype()), (architecture.name(), dtype));
            assert_eq!(dir.path().join(weights::SINGLE_FILE).exists(), sharded.is_none());
            let modules = folder.config.layouts().flat_map(BlockLayout::modules).map(|(_, module)| module);
            let info = folder.info("tiny", modules);
            let stored: usize =
                folder.weights.names().map(|n| folder.weights.info(n).unwrap().elements()).sum();
            assert_eq!(info.parameters, stored as u64, "everything stored is used, the tied head once");
            assert_eq!(info.dtype, dtype.as_str().to_uppercase());
            let bits = |elements: u64| elements * 8 * dtype.size_in_bytes() as u64;
            let untouched = bits(info.parameters - info.prunable_parameters);
            assert_eq!(info.source_bits, Some(SourceBits { all: bits(info.parameters), untouched }));
        }
    }
}

#[test]
fn weights_are_normal_reproducible_and_differ_by_seed() {
    let read = |seed: u64, sharded: Option<usize>| -> Vec<f32> {
        let dir = tempfile::tempdir().unwrap();
        Synthetic { sharded, seed, ..Synthetic::default() }.write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let name = "model.layers.1.mlp.up_proj.weight";
        let weight = folder.weights.tensor(name, DType::F32, &Device::Cpu).unwrap();
        weight.flatten_all().unwrap().to_vec1().unwrap()
    };
    let values = read(1, None);
    assert_eq!(values, read(1, Some(2)));
    assert_ne!(values, read(2, None));
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
    assert!(mean.abs() < 0.01 && (deviation - 1.5 / 8.0).abs() < 0.01, "{mean} {deviation}");
    let distinct: std::collections::BTreeSet<u32> = values.iter().map(|v| v.to_bits()).collect();
    assert!(distinct.len() * 100 > values.len() * 99, "hardly any ties");
}

#[test]
fn the_tokenizer_gives_texts_back() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::default().write(dir.path()).unwrap();
    let tokenizer = load_tokenizer(&dir.path().join("tokenizer.json")).unwrap();
    let text = "Übung macht\n den Meister… 猫";
    let ids = tokenizer.encode(text, true).unwrap();
    assert_eq!(ids.get_ids().len(), 1 + text.len(), "one token a byte after <s>");
    assert_eq!(ids.get_ids()[0], 0);
    assert!(ids.get_ids().iter().all(|id| (*id as usize) < synthetic::SMALLEST_VOCABULARY));
    assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), text);
    assert_eq!(tokenizer.token_to_id("</s>"), Some(1));
}

#[test]
fn a_vocabulary_without_room_for_the_bytes_is_refused() {
    let error = Synthetic { vocabulary: 100, ..Synthetic::default() }.write("unused".as_ref()).unwrap_err();
    assert!(error.to_string().contains("258"), "{error}");
}

#[test]
fn modules_that_are_read_together_stand_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::tiny(&arch::mixtral::Mixtral).write(dir.path()).unwrap();
    let folder = ModelFolder::open(dir.path()).unwrap();
    let layout = folder.config.layout(0);
    let modules = || layout.modules_in_files().collect();
    let read = |(_, module): (ModuleId, &layout::ModuleDef)| {
        folder.matrix(module, DType::F32, &Device::Cpu)?.to_vec2::<f32>().map_err(Into::into)
    };
    let one_by_one: Vec<_> = layout.modules_in_files().map(|module| read(module).unwrap()).collect();
    assert_eq!(block::read_together(modules(), read, &Device::Cpu).unwrap(), one_by_one);
    let damaged = |(id, module): (ModuleId, &layout::ModuleDef)| {
        if id.index() == 2 { Err(crate::error::Error::failure("damaged")) } else { read((id, module)) }
    };
    let error = block::read_together(modules(), damaged, &Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "damaged");
}

#[test]
fn experts_that_are_read_when_they_are_needed_give_the_same() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::tiny(&arch::mixtral::Mixtral).write(dir.path()).unwrap();
    let folder = ModelFolder::open(dir.path()).unwrap();
    let tokens: Vec<u32> = (0..4 * 64).map(|i| (i * 37 + 5) % 258).collect();
    let (batch, ropes) = (Batch::windows(4, 64), folder.config.rope_tables(64));
    let x = head::embed(&folder, &tokens, &batch, DType::F32, &Device::Cpu).unwrap();
    let load = |experts| Block::load_with(&folder, 0, DType::F32, &Device::Cpu, experts).unwrap();
    let (mut held, mut read) = (load(ExpertWeights::Held), load(ExpertWeights::ReadWhenNeeded));
    let output = |block: &Block| {
        let y = block.forward(&x, &batch, &ropes, None).unwrap();
        y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let dense = output(&held);
    assert_eq!(output(&read), dense);
    // The same with most weights zero, once packed: an expert sees enough rows for that.
    for (id, module) in folder.config.layout(0).modules() {
        assert_eq!(read.reader(id).is_some(), module.expert.is_some());
        assert!(held.reader(id).is_none());
        let weight = held.module(id).unwrap().weight;
        let keep = weight.abs().unwrap().ge(0.3).unwrap().to_dtype(DType::F32).unwrap();
        let pruned = (weight * keep).unwrap();
        if read.reader(id).is_none() {
            read.set_weight(id, pruned.clone());
        } else {
            let pruned = pruned.clone();
            read.set_reader(id, std::sync::Arc::new(move || Ok(pruned.clone())));
        }
        held.set_weight(id, pruned);
    }
    held.pack().unwrap();
    read.pack().unwrap();
    let pruned = output(&held);
    assert_ne!(pruned, dense);
    assert_eq!(output(&read), pruned);
}
