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
pub(crate) fn kth_smallest_magnitude(x: &[f32], k: usize) -> f32 {
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

/// Values of a group that are selected from without an allocation.
const SMALL: usize = 32;

/// Marks the `n` smallest of a few values; `marks` is as long as `values`.
///
/// Which of equal values are marked is not left open: those that the methods' authors' code takes. It asks
/// `torch.topk`, which on a CPU is C++'s `std::nth_element` as libstdc++ has it, and that moves equal elements about in a
/// way of its own. Weights that were once rounded to a few bits are full of ties: on one such model the choice moves the
/// perplexity of magnitude 2:4 by an eighth.
pub(crate) fn mark_smallest(values: &[f32], n: usize, marks: &mut [bool]) {
    marks.fill(false);
    if n == 0 {
        return;
    }
    let pair = |i: usize| (values[i], i);
    let mut mark = |pairs: &mut [(f32, usize)]| {
        nth_element(pairs, n.min(pairs.len()) - 1);
        for &(_, i) in &pairs[..n.min(pairs.len())] {
            marks[i] = true;
        }
    };
    if values.len() <= SMALL {
        let mut pairs = [(0f32, 0usize); SMALL];
        for (i, slot) in pairs[..values.len()].iter_mut().enumerate() {
            *slot = pair(i);
        }
        mark(&mut pairs[..values.len()]);
    } else {
        mark(&mut (0..values.len()).map(pair).collect::<Vec<_>>());
    }
}

/// Puts the element of rank `nth` in its place, smaller ones before it, with libstdc++'s steps: quickselect with the
/// median of the second, the middle and the last element as pivot, and an insertion sort of three or fewer. (libstdc++
/// gives up quickselect after twice the logarithm of steps, which groups of N:M never come to.)
fn nth_element(x: &mut [(f32, usize)], nth: usize) {
    // NaN counts as the greatest, so that every scan below meets an end.
    let less = |a: (f32, usize), b: (f32, usize)| a.0 < b.0 || (!a.0.is_nan() && b.0.is_nan());
    let (mut first, mut last) = (0, x.len());
    while last - first > 3 {
        let (a, b, c) = (first + 1, first + (last - first) / 2, last - 1);
        let median = if less(x[a], x[b]) {
            if less(x[b], x[c]) {
                b
            } else if less(x[a], x[c]) {
                c
            } else {
                a
            }
        } else if less(x[a], x[c]) {
            a
        } else if less(x[b], x[c]) {
            c
        } else {
            b
        };
        x.swap(first, median);
        let pivot = x[first];
        let (mut low, mut high) = (first + 1, last);
        let cut = loop {
            while less(x[low], pivot) {
                low += 1;
            }
            high -= 1;
            while less(pivot, x[high]) {
                high -= 1;
            }
            if low >= high {
                break low;
            }
            x.swap(low, high);
            low += 1;
        };
        if cut <= nth {
            first = cut;
        } else {
            last = cut;
        }
    }
    // A stable sort of what is left, as an insertion sort is.
    x[first..last].sort_by(|&a, &b| less(b, a).cmp(&less(a, b)));
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
        fn the_smallest_are_marked(
            values in prop::collection::vec(prop_oneof![0f32..1.0, Just(0.5f32), Just(f32::NAN)], 1..70),
            at in any::<prop::sample::Index>(),
        ) {
            let n = at.index(values.len() + 1);
            let mut marks = vec![true; values.len()];
            mark_smallest(&values, n, &mut marks);
            prop_assert_eq!(marks.iter().filter(|m| **m).count(), n);
            let of = |wanted| values.iter().zip(&marks).filter(move |(_, m)| **m == wanted).map(|(v, _)| *v);
            let greatest_gone = of(true).max_by(f32::total_cmp);
            let least_kept = of(false).min_by(f32::total_cmp);
            if let (Some(gone), Some(kept)) = (greatest_gone, least_kept) {
                prop_assert!(gone.total_cmp(&kept).is_le());
            }
        }
    }

    #[test]
    fn of_equal_values_those_are_marked_that_torch_topk_takes() {
        // Computed with torch.topk(…, largest=False) of PyTorch 2.15 on a CPU.
        let cases: [(&[f32], usize, &[usize]); 5] = [
            (&[1.0, 1.0, 1.0, 1.0], 2, &[2, 3]),
            (&[0.5, 0.25, 0.25, 0.25], 2, &[2, 3]),
            (&[2.0, 1.0, 1.0, 2.0, 1.0, 3.0, 1.0, 1.0], 4, &[1, 4, 6, 7]),
            (&[1.0, 1.0, 1.0], 1, &[0]),
            (&[3.0, 3.0, 1.0, 3.0, 3.0, 3.0], 2, &[2, 4]),
        ];
        for (values, n, taken) in cases {
            let mut marks = vec![false; values.len()];
            mark_smallest(values, n, &mut marks);
            let got: Vec<usize> = (0..values.len()).filter(|&i| marks[i]).collect();
            assert_eq!(got, taken, "{values:?}");
        }
    }
}
