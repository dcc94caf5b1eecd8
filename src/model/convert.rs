//! Stored weights to tensors: one pass over the bytes that converts, and refuses what is not finite.

use bytemuck::Pod;
use candle_core::{DType, Device, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Bytes converted by one task: worth a task, and in cache. A multiple of every element's size.
pub(super) const PIECE_BYTES: usize = 1 << 18;

/// Rows can be short; tasks take at least so many pieces that they are worth it.
const MIN_TASK_BYTES: usize = 1 << 16;

/// Makes a tensor of `shape` from the concatenation of `pieces`: whole elements of the dtype `stored`, and of one
/// length, but for a shorter last one. `None` when a value is not finite.
pub(super) fn tensor(
    pieces: &[&[u8]],
    stored: DType,
    shape: Vec<usize>,
    dtype: DType,
    device: &Device,
) -> Result<Option<Tensor>> {
    // On a CPU f32 is what nearly everybody wants: one pass. A device gets the stored form, which is the smaller
    // transfer, and converts by itself.
    let direct = dtype == DType::F32 && device.is_cpu();
    let tensor = match (stored, direct) {
        (DType::F32, _) => on_cpu(gather(pieces, 4, from_f32), shape)?,
        (DType::BF16, true) => on_cpu(gather(pieces, 2, from_bf16), shape)?,
        (DType::BF16, false) => on_cpu(gather(pieces, 2, keep_bf16), shape)?,
        (_, true) => on_cpu(gather(pieces, 2, from_f16), shape)?,
        (_, false) => on_cpu(gather(pieces, 2, keep_f16), shape)?,
    };
    Ok(match tensor {
        Some(tensor) => Some(tensor.to_device(device)?.to_dtype(dtype)?),
        None => None,
    })
}

/// The same of bytes that lie together, for a device that takes them as they are stored: nothing is copied on the host.
pub(super) fn onto_device(
    bytes: &[u8],
    stored: DType,
    shape: Vec<usize>,
    dtype: DType,
    device: &Device,
) -> Result<Option<Tensor>> {
    fn uploaded<T: WithDType + Pod>(
        bytes: &[u8],
        shape: Vec<usize>,
        device: &Device,
        is_finite: impl Fn(&T) -> bool + Sync,
    ) -> Result<Option<Tensor>> {
        // Whoever wrote the file did not have to align its tensors.
        let copied: Vec<T>;
        let values = if let Ok(values) = bytemuck::try_cast_slice(bytes) {
            values
        } else {
            copied = bytemuck::pod_collect_to_vec(bytes);
            &copied
        };
        // All of a piece are looked at, not up to the first: such a loop is vectorised.
        let finite = |piece: &[T]| piece.iter().fold(true, |finite, value| finite & is_finite(value));
        if !values.par_chunks(PIECE_BYTES / size_of::<T>()).all(finite) {
            return Ok(None);
        }
        Ok(Some(Tensor::from_slice(values, shape, device)?))
    }
    let tensor = match stored {
        DType::F32 => uploaded(bytes, shape, device, |value: &f32| value.is_finite()),
        DType::BF16 => uploaded(bytes, shape, device, |value: &bf16| value.is_finite()),
        _ => uploaded(bytes, shape, device, |value: &f16| value.is_finite()),
    }?;
    Ok(tensor.map(|tensor| tensor.to_dtype(dtype)).transpose()?)
}

/// Rounds weights to the precision that they are stored in, and returns them in it too, `[shape]` on the host.
///
/// # Errors
/// A precision that weights are not stored in.
pub(crate) fn round_to(weights: &mut [f32], shape: &[usize], stored: DType) -> Result<Tensor> {
    fn round<T: WithDType>(
        weights: &mut [f32],
        shape: &[usize],
        step: impl Fn(&mut [f32], &mut [T]) + Sync,
    ) -> Result<Tensor> {
        let mut rounded = vec![T::zero(); weights.len()];
        let tasks = weights.par_chunks_mut(PIECE_BYTES / 4).zip(rounded.par_chunks_mut(PIECE_BYTES / 4));
        tasks.for_each(|(weights, rounded)| step(weights, rounded));
        Ok(Tensor::from_vec(rounded, shape, &Device::Cpu)?)
    }
    match stored {
        DType::F32 => Ok(Tensor::from_slice(weights, shape, &Device::Cpu)?),
        DType::BF16 => round(weights, shape, |weights, rounded: &mut [bf16]| {
            rounded.convert_from_f32_slice(weights);
            rounded.convert_to_f32_slice(weights);
        }),
        DType::F16 => round(weights, shape, |weights, rounded: &mut [f16]| {
            rounded.convert_from_f32_slice(weights);
            rounded.convert_to_f32_slice(weights);
        }),
        other => Err(Error::failure(format!("weights are not stored in {other:?}"))),
    }
}

fn on_cpu<T: WithDType>(values: Option<Vec<T>>, shape: Vec<usize>) -> candle_core::Result<Option<Tensor>> {
    values.map(|values| Tensor::from_vec(values, shape, &Device::Cpu)).transpose()
}

/// Converts `pieces` of elements of `size` bytes on all cores; `None` when a value is not finite. `fill` writes as many
/// elements as its bytes hold and says whether all are finite.
fn gather<T: Copy + Default + Send>(
    pieces: &[&[u8]],
    size: usize,
    fill: impl Fn(&[u8], &mut [T]) -> bool + Sync,
) -> Option<Vec<T>> {
    let elements = pieces.iter().map(|piece| piece.len()).sum::<usize>() / size;
    let piece = pieces.first().map_or(0, |piece| piece.len()).max(size);
    let mut values = vec![T::default(); elements];
    let finite = values
        .par_chunks_mut(piece / size)
        .zip(pieces.par_iter())
        .with_min_len((MIN_TASK_BYTES / piece).max(1))
        .all(|(values, bytes)| fill(bytes, values));
    finite.then_some(values)
}

// Looking at the largest magnitude after the loop, not at each value in it, lets these loops be vectorised. A float is
// finite when its bits without the sign are below those of infinity.

fn from_f32(bytes: &[u8], values: &mut [f32]) -> bool {
    let mut largest = 0;
    for (bytes, value) in bytes.as_chunks().0.iter().zip(values) {
        *value = f32::from_le_bytes(*bytes);
        largest = largest.max(value.to_bits() & 0x7fff_ffff);
    }
    largest < f32::INFINITY.to_bits()
}

fn from_bf16(bytes: &[u8], values: &mut [f32]) -> bool {
    let mut largest = 0;
    for (bytes, value) in bytes.as_chunks().0.iter().zip(values) {
        let bits = u16::from_le_bytes(*bytes);
        *value = f32::from_bits(u32::from(bits) << 16);
        largest = largest.max(bits & 0x7fff);
    }
    largest < bf16::INFINITY.to_bits()
}

fn keep_bf16(bytes: &[u8], values: &mut [bf16]) -> bool {
    let mut largest = 0;
    for (bytes, value) in bytes.as_chunks().0.iter().zip(values) {
        *value = bf16::from_le_bytes(*bytes);
        largest = largest.max(value.to_bits() & 0x7fff);
    }
    largest < bf16::INFINITY.to_bits()
}

fn keep_f16(bytes: &[u8], values: &mut [f16]) -> bool {
    let mut largest = 0;
    for (bytes, value) in bytes.as_chunks().0.iter().zip(values) {
        *value = f16::from_le_bytes(*bytes);
        largest = largest.max(value.to_bits() & 0x7fff);
    }
    largest < f16::INFINITY.to_bits()
}

fn from_f16(bytes: &[u8], values: &mut [f32]) -> bool {
    const STEP: usize = 512;
    let mut halves = [f16::ZERO; STEP];
    let mut finite = true;
    for (bytes, values) in bytes.chunks(2 * STEP).zip(values.chunks_mut(STEP)) {
        let halves = &mut halves[..values.len()];
        finite &= keep_f16(bytes, halves);
        halves.convert_to_f32_slice(values);
    }
    finite
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]], stored: DType, dtype: DType) -> Option<Vec<f32>> {
        let size = stored.size_in_bytes();
        let elements = pieces.iter().map(|p| p.len()).sum::<usize>() / size;
        let tensor = tensor(pieces, stored, vec![elements], dtype, &Device::Cpu).unwrap()?;
        assert_eq!(tensor.dtype(), dtype);
        Some(tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap())
    }

    proptest! {
        #[test]
        fn halves_become_the_floats_that_they_are(bits in prop::collection::vec(any::<u16>(), 1..2000), size in 1..700_usize) {
            let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
            let pieces: Vec<&[u8]> = bytes.chunks(2 * size).collect();
            for stored in [DType::BF16, DType::F16] {
                let wanted: Vec<f32> = bits
                    .iter()
                    .map(|b| if stored == DType::BF16 { bf16::from_bits(*b).to_f32() } else { f16::from_bits(*b).to_f32() })
                    .collect();
                let found = read(&pieces, stored, DType::F32);
                prop_assert_eq!(read(&pieces, stored, stored), found.clone());
                prop_assert_eq!(uploaded(&bytes, stored, stored), found.clone());
                prop_assert_eq!(uploaded(&bytes, stored, DType::F32), found.clone());
                match found {
                    Some(found) => prop_assert_eq!(found, wanted),
                    None => prop_assert!(wanted.iter().any(|v| !v.is_finite())),
                }
            }
        }

        #[test]
        fn floats_stay_and_one_that_is_not_finite_is_found_anywhere(
            mut values in prop::collection::vec(-1e30_f32..1e30, 1..2000), size in 1..700_usize, at in any::<prop::sample::Index>(),
        ) {
            let write = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            let bytes = write(&values);
            let pieces: Vec<&[u8]> = bytes.chunks(4 * size).collect();
            prop_assert_eq!(read(&pieces, DType::F32, DType::F32), Some(values.clone()));
            prop_assert_eq!(uploaded(&bytes, DType::F32, DType::F32), Some(values.clone()));
            let at = at.index(values.len());
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[at] = bad;
                let bytes = write(&values);
                let pieces: Vec<&[u8]> = bytes.chunks(4 * size).collect();
                prop_assert_eq!(read(&pieces, DType::F32, DType::F32), None);
                prop_assert_eq!(uploaded(&bytes, DType::F32, DType::F32), None);
            }
        }
    }

    /// What [`onto_device`] finds in the same bytes, wherever they lie in memory.
    fn uploaded(bytes: &[u8], stored: DType, dtype: DType) -> Option<Vec<f32>> {
        let found = [0, 1].map(|offset| {
            let moved: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
            let shape = vec![bytes.len() / stored.size_in_bytes()];
            let tensor = onto_device(&moved[offset..], stored, shape, dtype, &Device::Cpu).unwrap()?;
            assert_eq!(tensor.dtype(), dtype);
            Some(tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap())
        });
        assert_eq!(found[0], found[1]);
        found.into_iter().next().flatten()
    }

    #[test]
    fn weights_are_rounded_as_tensors_are() {
        let weights: Vec<f32> = (0..70_000).map(|i| (i as f32 * 0.37).sin() / 3.0).collect();
        let tensor = Tensor::from_slice(&weights, (700, 100), &Device::Cpu).unwrap();
        let values =
            |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let mut rounded = weights.clone();
            let stored = round_to(&mut rounded, &[700, 100], dtype).unwrap();
            assert_eq!((stored.dtype(), stored.dims()), (dtype, &[700, 100][..]));
            assert_eq!(values(&stored), values(&tensor.to_dtype(dtype).unwrap()));
            assert_eq!(values(&stored), rounded);
        }
        assert!(round_to(&mut [1.0], &[1], DType::U8).is_err());
    }

    #[test]
    fn nothing_becomes_an_empty_tensor() {
        assert_eq!(read(&[], DType::BF16, DType::F32), Some(Vec::new()));
        assert_eq!(uploaded(&[], DType::BF16, DType::F32), Some(Vec::new()));
    }
}
