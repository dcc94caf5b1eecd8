//! Order statistics without sorting.

use rayon::prelude::*;

/// Values that one task takes.
const TASK: usize = 1 << 18;

/// The value at index `k` of the ascending sort of `|x|`, exactly, without a copy of `x`.
///
/// Absolute values of floats sort as their bits do, so two histograms over halves of the bits find the element: one
/// over the upper sixteen, one over the lower sixteen of those that share the upper half found. NaN sorts last.
///
/// # Panics
/// If `k` is not below the number of values.
pub fn kth_smallest_magnitude(x: &[f32], k: usize) -> f32 {
    assert!(k < x.len(), "rank {k} of {} values", x.len());
    let bits = |v: &f32| v.to_bits() & 0x7fff_ffff;
    let upper = histogram(x, |v| Some(bits(v) >> 16));
    let (high, before) = bucket_of(&upper, k);
    let lower = histogram(x, |v| (bits(v) >> 16 == high).then(|| bits(v) & 0xffff));
    let (low, _) = bucket_of(&lower, k - before);
    f32::from_bits((high << 16) | low)
}

fn histogram(x: &[f32], key: impl Fn(&f32) -> Option<u32> + Sync) -> Vec<usize> {
    let count = |part: &[f32]| {
        let mut counts = vec![0usize; 1 << 16];
        for value in part {
            if let Some(bucket) = key(value) {
                counts[bucket as usize] += 1;
            }
        }
        counts
    };
    let merge = |mut a: Vec<usize>, b: Vec<usize>| {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
        a
    };
    let task = TASK.max(x.len().div_ceil(rayon::current_num_threads()));
    x.par_chunks(task).map(count).reduce_with(merge).unwrap_or_else(|| vec![0; 1 << 16])
}

/// The bucket that holds rank `k`, and how many values lie in the buckets before it.
fn bucket_of(counts: &[usize], k: usize) -> (u32, usize) {
    let mut before = 0;
    for (bucket, &count) in counts.iter().enumerate() {
        if before + count > k {
            return (bucket as u32, before);
        }
        before += count;
    }
    unreachable!("rank {k} lies beyond {before} values")
}

/// Marks the `n` smallest of a few values; of equal ones the earlier. `marks` is as long as `values`.
///
/// For the handful of values of an N:M group a selection by repeated minimum beats any clever sort.
pub fn mark_smallest(values: &[f32], n: usize, marks: &mut [bool]) {
    marks.fill(false);
    for _ in 0..n {
        let mut least: Option<usize> = None;
        for i in 0..values.len() {
            if !marks[i] && least.is_none_or(|l| values[i].total_cmp(&values[l]).is_lt()) {
                least = Some(i);
            }
        }
        if let Some(i) = least {
            marks[i] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranks_are_those_of_a_sort(
            x in prop::collection::vec(prop_oneof![-1f32..1.0, Just(0f32), Just(-0f32), Just(0.25f32), -1e-40f32..1e30], 1..400),
            at in any::<prop::sample::Index>(),
        ) {
            let k = at.index(x.len());
            let mut sorted: Vec<f32> = x.iter().map(|v| v.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            prop_assert_eq!(kth_smallest_magnitude(&x, k).to_bits(), sorted[k].to_bits());
        }

        #[test]
        fn the_smallest_are_marked_and_the_earlier_of_equals(
            values in prop::collection::vec(prop_oneof![0f32..1.0, Just(0.5f32)], 1..12), at in any::<prop::sample::Index>()
        ) {
            let n = at.index(values.len() + 1);
            let mut marks = vec![true; values.len()];
            mark_smallest(&values, n, &mut marks);
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
            let mut expected = vec![false; values.len()];
            for &i in &order[..n] { expected[i] = true; }
            prop_assert_eq!(marks, expected);
        }
    }
}
