use std::fs;

use candle_core::DType;
use half::{bf16, f16};
use proptest::prelude::*;

use super::super::stored::{apply_mask, mask_of, unpack_mask};
use super::*;
use crate::kernels::codes::{Codes, Grid};
use crate::kernels::ggml::{BlockMatrix, GgmlType, quantise};

/// One bit a weight, packed one by one.
fn pack_mask(kept: impl IntoIterator<Item = bool>) -> Vec<u8> {
    let mut bits = Vec::new();
    for (i, keep) in kept.into_iter().enumerate() {
        if i % 8 == 0 {
            bits.push(0);
        }
        *bits.last_mut().unwrap() |= u8::from(keep) << (7 - i % 8);
    }
    bits
}

#[test]
fn the_first_weight_is_the_most_significant_bit() {
    assert_eq!(pack_mask([true, false, false, false, false, false, false, true, true]), [0x81, 0x80]);
    assert_eq!(pack_mask([]), Vec::<u8>::new());
}

proptest! {
    #[test]
    fn masks_come_back_as_they_were(kept in prop::collection::vec(any::<bool>(), 0..200)) {
        let bits = pack_mask(kept.iter().copied());
        prop_assert_eq!(bits.len(), kept.len().div_ceil(8));
        let ones: u32 = bits.iter().map(|b| b.count_ones()).sum();
        prop_assert_eq!(ones as usize, kept.iter().filter(|k| **k).count());
        prop_assert_eq!(unpack_mask(&bits, kept.len()).collect::<Vec<_>>(), kept);
    }

    #[test]
    fn masks_of_weights_put_back_their_zeroes(
        kept in prop::collection::vec(any::<bool>(), 1..300), repeats in prop_oneof![Just(1usize), 1usize..1000],
    ) {
        let kept = kept.repeat(repeats);
        let weights: Vec<f32> = kept.iter().map(|k| if *k { -0.5 } else { 0.0 }).collect();
        let bits = mask_of(&weights);
        prop_assert_eq!(&bits, &pack_mask(kept));
        let mut again = vec![-0.5; weights.len()];
        apply_mask(&mut again, &bits);
        prop_assert_eq!(again, weights);
    }

    #[test]
    fn values_come_back_bit_for_bit(bits in prop::collection::vec(any::<u32>(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let shape = (1, bits.len());
        let single: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
        let half: Vec<f16> = bits.iter().map(|b| f16::from_bits(*b as u16)).collect();
        let brain: Vec<bf16> = bits.iter().map(|b| bf16::from_bits(*b as u16)).collect();
        let modules = [
            ("self_attn.q_proj", Stored::Values(Tensor::from_vec(single.clone(), shape, &Device::Cpu).unwrap())),
            ("mlp.up_proj", Stored::Values(Tensor::from_vec(half.clone(), shape, &Device::Cpu).unwrap())),
            ("self_attn.o_proj", Stored::Values(Tensor::from_vec(brain.clone(), shape, &Device::Cpu).unwrap())),
        ];
        write_block(dir.path(), 3, &modules).unwrap();
        let read = read_block(dir.path(), 3, &Device::Cpu).unwrap();
        let values: Vec<&Tensor> = read
            .iter()
            .map(|(_, weight)| match weight {
                Stored::Values(tensor) => tensor,
                _ => panic!("values became something else"),
            })
            .collect();
        prop_assert_eq!(values[0].dims(), [1, bits.len()]);
        let single_read: Vec<u32> = flat(values[0]).into_iter().map(f32::to_bits).collect();
        prop_assert_eq!(single_read, bits);
        let half_read: Vec<u16> = flat(values[1]).into_iter().map(f16::to_bits).collect();
        prop_assert_eq!(half_read, half.into_iter().map(f16::to_bits).collect::<Vec<_>>());
        let brain_read: Vec<u16> = flat(values[2]).into_iter().map(bf16::to_bits).collect();
        prop_assert_eq!(brain_read, brain.into_iter().map(bf16::to_bits).collect::<Vec<_>>());
    }
}

#[test]
fn codes_and_blocks_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut weights: Vec<f32> = (0..4 * 64).map(|i| (i as f32 * 0.7).sin()).collect();
    let blocks =
        BlockMatrix::new(GgmlType::Q5_0, [4, 64], quantise(GgmlType::Q5_0, &weights, 64).unwrap()).unwrap();
    let grid = Grid { bits: 3, group: 32, symmetric: false, scale_dtype: DType::BF16 };
    let codes = Codes::nearest(&mut weights, 64, grid);
    let modules = [
        ("mlp.up_proj", Stored::Codes(codes.clone())),
        ("mlp.down_proj", Stored::Blocks(blocks.clone())),
        ("mlp.gate_proj", mask([4, 64])),
    ];
    write_block(dir.path(), 0, &modules).unwrap();
    let read = read_block(dir.path(), 0, &Device::Cpu).unwrap();
    let of = |name: &str| read.iter().find(|(module, _)| module == name).map(|(_, stored)| stored).unwrap();
    assert!(matches!(of("mlp.up_proj"), Stored::Codes(read) if *read == codes));
    assert!(matches!(of("mlp.down_proj"), Stored::Blocks(read) if *read == blocks));
    assert!(of("mlp.down_proj").fits(&[4, 64], "BF16") && !of("mlp.down_proj").fits(&[64, 4], "BF16"));
    assert!(matches!(of("mlp.gate_proj"), Stored::Mask { .. }));
}

fn flat<T: candle_core::WithDType>(tensor: &Tensor) -> Vec<T> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn mask(shape: [usize; 2]) -> Stored {
    Stored::Mask { shape, bits: pack_mask((0..shape[0] * shape[1]).map(|i| i % 3 == 0)) }
}

fn ramp(rows: usize, columns: usize) -> Tensor {
    let ramp = Tensor::arange(0f32, (rows * columns) as f32, &Device::Cpu).unwrap();
    ramp.reshape((rows, columns)).unwrap()
}

#[test]
fn a_block_comes_back_in_its_order_under_the_models_names() {
    let dir = tempfile::tempdir().unwrap();
    let cell = dir.path().join("study-1/wanda-0.5");
    // A transposed view: what lies in memory is not what is to be stored.
    let values = ramp(700, 900).t().unwrap();
    let modules = [("mlp.down_proj", mask([3, 5])), ("self_attn.q_proj", Stored::Values(values.clone()))];
    let length = write_block(&cell, 7, &modules).unwrap();
    let path = cell.join("block-0007.safetensors");
    assert_eq!(length, fs::metadata(&path).unwrap().len());

    // Any reader of safetensors opens it.
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(tensors["self_attn.q_proj.weight"].dims(), [900, 700]);
    assert_eq!(tensors["mlp.down_proj.mask"].dtype(), DType::U8);

    let read = read_block(&cell, 7, &Device::Cpu).unwrap();
    assert_eq!([read[0].0.as_str(), read[1].0.as_str()], ["mlp.down_proj", "self_attn.q_proj"]);
    match &read[..] {
        [(_, Stored::Mask { shape, bits }), (_, Stored::Values(q))] => {
            assert_eq!(*shape, [3, 5]);
            let kept: Vec<_> = unpack_mask(bits, 15).collect();
            assert_eq!(kept, (0..15).map(|i| i % 3 == 0).collect::<Vec<_>>());
            assert_eq!(flat::<f32>(q), flat::<f32>(&values));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_torn_or_changed_anywhere_counts_as_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(blocks_done(dir).unwrap(), 0);
    let modules = [("self_attn.q_proj", mask([4, 4])), ("self_attn.k_proj", Stored::Values(ramp(2, 3)))];
    for block in 0..3 {
        write_block(dir, block, &modules).unwrap();
    }
    assert_eq!(blocks_done(dir).unwrap(), 3);

    let path = block_path(dir, 1);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(blocks_done(dir).unwrap(), 1, "cut to {length} bytes");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        assert_eq!(blocks_done(dir).unwrap(), 1, "byte {at} changed");
    }
    let error = read_block(dir, 1, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("block-0001.safetensors is damaged"), "{error}");
    fs::write(&path, [whole.clone(), vec![0]].concat()).unwrap();
    assert_eq!(blocks_done(dir).unwrap(), 1, "something behind the end");

    write_block(dir, 1, &modules).unwrap();
    assert_eq!(blocks_done(dir).unwrap(), 3);
    fs::remove_file(block_path(dir, 0)).unwrap();
    assert_eq!(blocks_done(dir).unwrap(), 0);
    let error = read_block(dir, 0, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("block-0000.safetensors is missing"), "{error}");
    // A file that was given another block's name.
    fs::copy(block_path(dir, 2), block_path(dir, 0)).unwrap();
    assert!(read_block(dir, 0, &Device::Cpu).unwrap_err().to_string().contains("another block"));
}

#[test]
fn weights_that_make_no_sense_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let short = Stored::Mask { shape: [4, 4], bits: vec![0] };
    let whole = Stored::Values(Tensor::zeros((2, 2), DType::I64, &Device::Cpu).unwrap());
    for modules in [
        vec![("self_attn.q_proj", short)],
        vec![("self_attn.q_proj", whole)],
        vec![("self_attn.q_proj", mask([4, 4])), ("self_attn.q_proj", mask([4, 4]))],
    ] {
        let error = write_block(dir.path(), 0, &modules).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_block_that_is_gone_is_known_by_its_checkpoint_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(dropped_blocks(dir, 4).unwrap(), [0usize; 0]);
    let gone = || [("self_attn.q_proj", Stored::Dropped([4, 6])), ("mlp.up_proj", Stored::Dropped([8, 4]))];
    write_block(dir, 1, &gone()).unwrap();
    write_block(dir, 3, &gone()).unwrap();
    write_block(dir, 0, &[("self_attn.q_proj", mask([4, 6]))]).unwrap();
    assert_eq!(dropped_blocks(dir, 4).unwrap(), [1, 3]);
    assert_eq!(blocks_done(dir).unwrap(), 2, "block 2 is still to be done");
    let mut read = read_block(dir, 1, &Device::Cpu).unwrap();
    read.sort_by(|a, b| a.0.cmp(&b.0));
    let [(first, Stored::Dropped([8, 4])), (_, Stored::Dropped([4, 6]))] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(first, "mlp.up_proj");
    assert_eq!(read[0].1.footprint(&[], 16), crate::results::Footprint::default());
    assert!(read[0].1.weights(|| Ok(vec![0.0; 24])).is_err());
    let path = block_path(dir, 3);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(dropped_blocks(dir, 4).unwrap(), [1], "a torn file says nothing");
}

#[test]
fn hidden_states_are_those_of_the_last_block_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(read_states(&states_path(dir), &Device::Cpu).unwrap().is_none());
    remove_states(dir).unwrap();
    // More values than are written at once.
    let long = ramp(600, 1000).reshape((2, 300, 1000)).unwrap().to_dtype(DType::BF16).unwrap();
    let path = states_path(dir);
    write_states(&path, 4, &[("calibration".into(), ramp(1, 2))], &|| true).unwrap();
    write_states(
        &path,
        5,
        &[("calibration".into(), ramp(3, 2)), ("wikitext2".into(), long.clone())],
        &|| true,
    )
    .unwrap();
    let (block, states) = read_states(&path, &Device::Cpu).unwrap().unwrap();
    assert_eq!(block, 5);
    assert_eq!(
        states.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["calibration", "wikitext2"]
    );
    assert_eq!(states[1].1.dims(), [2, 300, 1000]);
    assert_eq!(flat::<bf16>(&states[1].1), flat::<bf16>(&long));

    let path = dir.join("states.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(read_states(&states_path(dir), &Device::Cpu).unwrap().is_none());
    remove_states(dir).unwrap();
    assert!(!path.exists());
}
