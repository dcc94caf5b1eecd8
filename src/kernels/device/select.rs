//! Which elements of a matrix go, decided where the matrix lies.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

use super::sums;
use crate::error::Result;
use crate::kernels::select::mark_smallest;

/// Bits of the infinite `f32`; those of finite magnitudes lie below.
const INFINITE: u32 = 0x7f80_0000;

/// The value at index `k` of the ascending sort of `|x|`, exactly, as a tensor of one element.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn kth_smallest_magnitude(x: &Tensor, k: usize) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Ok(super::cuda::kth_smallest_magnitude(x, k)?);
    }
    kth_by_bisection(x, k)
}

/// Magnitudes sort as their bits do, so that 31 comparisons with a limit find any of them.
fn kth_by_bisection(x: &Tensor, k: usize) -> Result<Tensor> {
    let magnitudes = x.abs()?;
    let (mut low, mut high) = (0, INFINITE);
    while low < high {
        let middle = low + (high - low) / 2;
        if sums::count(&magnitudes.le(f32::from_bits(middle))?)? > k {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(Tensor::new(f32::from_bits(low), x.device())?)
}

/// Flags of `u8` for the `count` lowest of every row of scores that are not negative; of equal scores, those of lower
/// columns, as a stable sort takes them.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn lowest_of_rows(scores: &Tensor, count: usize) -> Result<Tensor> {
    if count == 0 {
        return Ok(scores.zeros_like()?.to_dtype(DType::U8)?);
    }
    #[cfg(feature = "cuda")]
    if scores.device().is_cuda() {
        return Ok(super::cuda::lowest_of_rows(scores, count)?);
    }
    lowest_by_bisection(scores, count)
}

/// Every row has a bisection of its own: first for the score at the rank, then for the last column of those equal to it
/// that go too.
fn lowest_by_bisection(scores: &Tensor, count: usize) -> Result<Tensor> {
    let (rows, columns) = scores.dims2()?;
    let device = scores.device();
    let per_row = |values: Vec<u32>| Tensor::from_vec(values, (rows, 1), device);
    let limits = |bits: &[u32]| {
        let limits = bits.iter().map(|&b| f32::from_bits(b)).collect();
        Tensor::from_vec(limits, (rows, 1), device)
    };
    let of_row = |flags: Tensor| -> Result<Vec<u32>> { Ok(flags.to_dtype(DType::U32)?.sum(1)?.to_vec1()?) };

    let wanted = vec![count as u32; rows];
    let bits = bisect(&wanted, INFINITE, |bits| of_row(scores.broadcast_le(&limits(bits)?)?))?;
    let limit = limits(&bits)?;
    let (below, equal) = (scores.broadcast_lt(&limit)?, scores.broadcast_eq(&limit)?);

    let position = Tensor::arange(0, columns as u32, device)?.reshape((1, columns))?;
    let up_to =
        |last: Vec<u32>| -> Result<Tensor> { Ok((&equal * position.broadcast_le(&per_row(last)?)?)?) };
    let left: Vec<u32> = of_row(below.clone())?.into_iter().map(|n| count as u32 - n).collect();
    let last = bisect(&left, columns as u32 - 1, |last| of_row(up_to(last.to_vec())?))?;
    Ok((below + up_to(last)?)?)
}

/// The least value of every row, up to `most`, with which `count` reaches what is wanted.
fn bisect(wanted: &[u32], most: u32, count: impl Fn(&[u32]) -> Result<Vec<u32>>) -> Result<Vec<u32>> {
    let (mut low, mut high) = (vec![0u32; wanted.len()], vec![most; wanted.len()]);
    while low.iter().zip(&high).any(|(low, high)| low < high) {
        let middle: Vec<u32> = low.iter().zip(&high).map(|(low, high)| low + (high - low) / 2).collect();
        for (row, found) in count(&middle)?.into_iter().enumerate() {
            if low[row] == high[row] {
                continue;
            }
            if found >= wanted[row] {
                high[row] = middle[row];
            } else {
                low[row] = middle[row] + 1;
            }
        }
    }
    Ok(low)
}

/// Flags of `u8` for the `n` lowest of every `m` neighbours of a row; of equal ones, those that [`mark_smallest`] takes.
///
/// # Errors
/// A tensor operation that fails; more than [`super::limits::MOST_NEIGHBOURS`] on a GPU.
pub(crate) fn lowest_of_groups(scores: &Tensor, n: usize, m: usize) -> Result<Tensor> {
    Ok(scores.contiguous()?.apply_op1_no_bwd(&LowestOfGroups { n, m })?)
}

/// Which of equal scores go follows from the steps of an algorithm that works on one group after the other, which is
/// nothing to compose of operations on whole tensors.
struct LowestOfGroups {
    n: usize,
    m: usize,
}

impl CustomOp1 for LowestOfGroups {
    fn name(&self) -> &'static str {
        "lowest-of-groups"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let scores = &storage.as_slice::<f32>()?[layout.start_offset()..][..layout.shape().elem_count()];
        let mut flags = vec![0u8; scores.len()];
        let mut marks = vec![false; self.m];
        for (flags, scores) in flags.chunks_mut(self.m).zip(scores.chunks(self.m)) {
            mark_smallest(scores, self.n, &mut marks[..scores.len()]);
            for (flag, &mark) in flags.iter_mut().zip(&marks) {
                *flag = u8::from(mark);
            }
        }
        Ok((CpuStorage::U8(flags), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::lowest_of_groups(storage, layout, self.n, self.m)
    }
}

/// `x` with zeroes where a flag is set.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn zero_where(flags: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(flags.where_cond(&x.zeros_like()?, x)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::select as host;

    /// A matrix with many equal values.
    fn matrix() -> impl Strategy<Value = (usize, Vec<f32>)> {
        let value = prop_oneof![3 => -1f32..1.0, 1 => Just(0.25f32), 1 => Just(-0.25f32), 1 => Just(0f32), 1 => -1e-40f32..1e30];
        (1usize..6, 1usize..40).prop_flat_map(move |(rows, columns)| {
            (Just(columns), prop::collection::vec(value.clone(), rows * columns))
        })
    }

    fn tensor(values: &[f32], columns: usize) -> Tensor {
        Tensor::from_slice(values, (values.len() / columns, columns), &Device::Cpu).unwrap()
    }

    fn flags(x: &Tensor) -> Vec<bool> {
        x.flatten_all().unwrap().to_vec1::<u8>().unwrap().into_iter().map(|f| f != 0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn ranks_are_the_hosts((columns, values) in matrix(), at in any::<prop::sample::Index>()) {
            let k = at.index(values.len());
            let found = kth_smallest_magnitude(&tensor(&values, columns), k).unwrap().to_scalar::<f32>().unwrap();
            prop_assert_eq!(found.to_bits(), host::kth_smallest_magnitude(&values, k).to_bits());
        }

        #[test]
        fn a_row_loses_what_a_stable_sort_puts_first((columns, values) in matrix(), at in any::<prop::sample::Index>()) {
            let count = at.index(columns + 1);
            let scores: Vec<f32> = values.iter().map(|v| v.abs()).collect();
            let mut expected = vec![false; scores.len()];
            for (row, expected) in scores.chunks(columns).zip(expected.chunks_mut(columns)) {
                let mut order: Vec<usize> = (0..columns).collect();
                order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
                order[..count].iter().for_each(|&j| expected[j] = true);
            }
            prop_assert_eq!(flags(&lowest_of_rows(&tensor(&scores, columns), count).unwrap()), expected);
        }

        #[test]
        fn groups_lose_what_the_host_takes(values in prop::collection::vec(prop_oneof![0f32..1.0, Just(0.5f32)], 24..25)) {
            for (n, m) in [(2, 4), (4, 8), (1, 3), (0, 2), (3, 12)] {
                let mut expected = vec![false; values.len()];
                for (values, marks) in values.chunks(m).zip(expected.chunks_mut(m)) {
                    host::mark_smallest(values, n, marks);
                }
                prop_assert_eq!(flags(&lowest_of_groups(&tensor(&values, 24), n, m).unwrap()), expected);
            }
        }

        #[test]
        fn zeroes_are_counted_as_on_the_host((columns, values) in matrix()) {
            let x = tensor(&values, columns);
            prop_assert_eq!(sums::count_zeros(&x).unwrap(), values.iter().filter(|v| **v == 0.0).count());
        }
    }
}
