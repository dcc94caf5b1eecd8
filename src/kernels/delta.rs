//! The gated delta rule: every head reads a text token by token, and keeps a matrix of what it has read.
//!
//! Of a token with key `k`, value `v`, query `q`, decay `g` and strength `b`, the matrix `S` (`[key dim, value dim]`) becomes
//! `gS + k ⊗ b(v − (gS)ᵀk)`, and the head says `Sᵀq` (Yang et al., "Gated Delta Networks").

use rayon::prelude::*;

use super::{math, simd};

/// Added to sums of squares before keys and queries are divided by their length.
pub(crate) const LENGTH_EPSILON: f32 = 1e-6;

/// Shape of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of queries and keys; each serves `value_heads / key_heads` heads of values, one behind the other.
    pub key_heads: usize,
    /// Heads of values.
    pub value_heads: usize,
    /// Width of a query and of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Tokens that the convolution before the heads sees, the last is the present one.
    pub taps: usize,
}

impl DeltaShape {
    /// Features that go through the convolution: queries, keys and values.
    pub fn channels(self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    /// Elements of the matrices of all heads.
    pub fn elements(self) -> usize {
        self.value_heads * self.key_dim * self.value_dim
    }
}

/// What the heads get of every token of one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeltaInputs<'a> {
    /// `[n, channels]`
    pub mixed: &'a [f32],
    /// `[n, value heads]`
    pub decay: &'a [f32],
    /// `[n, value heads]`
    pub strength: &'a [f32],
}

/// The matrices of all heads, `[value heads, key dim, value dim]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeltaState {
    /// Behind the last token.
    pub last: Vec<f32>,
    /// Behind the one before it.
    pub before: Vec<f32>,
}

/// Convolves every channel of `x` (`[n, channels]`) over tokens and applies `silu`. `history` are the `taps − 1` rows before;
/// `kernel` is `[channels, taps]`.
pub(crate) fn convolve(out: &mut [f32], x: &[f32], history: &[f32], kernel: &[f32], taps: usize) {
    let channels = kernel.len() / taps;
    let by_tap: Vec<f32> = (0..taps).flat_map(|tap| kernel.iter().skip(tap).step_by(taps).copied()).collect();
    let row_at = |row: usize| {
        // Counted from the first row of the history.
        if row + 1 < taps {
            &history[row * channels..][..channels]
        } else {
            &x[(row + 1 - taps) * channels..][..channels]
        }
    };
    out.par_chunks_exact_mut(channels).enumerate().with_min_len(16).for_each(|(row, out)| {
        simd(
            #[inline(always)]
            || {
                out.fill(0.0);
                for (tap, kernel) in by_tap.chunks_exact(channels).enumerate() {
                    for ((o, v), w) in out.iter_mut().zip(row_at(row + tap)).zip(kernel) {
                        *o = v.mul_add(*w, *o);
                    }
                }
                for v in out {
                    *v /= 1.0 + math::exp(-*v);
                }
            },
        );
    });
}

/// What the heads say of the tokens of one sequence, `[n, value heads · value dim]`, and what they keep. `start` is what they
/// have kept of the tokens before.
pub(crate) fn run(inputs: DeltaInputs<'_>, start: &[f32], shape: DeltaShape) -> (Vec<f32>, DeltaState) {
    let DeltaShape { value_heads, value_dim, .. } = shape;
    let matrix = shape.key_dim * value_dim;
    let heads: Vec<(Vec<f32>, Vec<f32>, Vec<f32>)> = (0..value_heads)
        .into_par_iter()
        .map(|head| {
            let mut state = start[head * matrix..][..matrix].to_vec();
            let (out, before) = simd(
                #[inline(always)]
                || run_head(inputs, &mut state, shape, head),
            );
            (out, state, before)
        })
        .collect();
    let rows = inputs.decay.len() / value_heads;
    let mut out = vec![0.0; rows * value_heads * value_dim];
    let mut state = DeltaState { last: Vec::new(), before: Vec::new() };
    for (head, (of_head, last, before)) in heads.into_iter().enumerate() {
        let places = out.chunks_exact_mut(value_heads * value_dim);
        for (out, said) in places.zip(of_head.chunks_exact(value_dim)) {
            out[head * value_dim..][..value_dim].copy_from_slice(said);
        }
        state.last.extend(last);
        state.before.extend(before);
    }
    (out, state)
}

#[inline(always)]
fn run_head(
    inputs: DeltaInputs<'_>,
    state: &mut [f32],
    shape: DeltaShape,
    head: usize,
) -> (Vec<f32>, Vec<f32>) {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = shape;
    let key_at = head * key_heads / value_heads * key_dim;
    let (keys_at, values_at) = (key_heads * key_dim, 2 * key_heads * key_dim + head * value_dim);
    let rows = inputs.decay.len() / value_heads;
    let mut out = vec![0.0; rows * value_dim];
    let (mut before, mut change) = (state.to_vec(), vec![0.0; value_dim]);
    for (row, (mixed, out)) in
        inputs.mixed.chunks_exact(shape.channels()).zip(out.chunks_exact_mut(value_dim)).enumerate()
    {
        let (q, k) = (&mixed[key_at..][..key_dim], &mixed[keys_at + key_at..][..key_dim]);
        let v = &mixed[values_at..][..value_dim];
        let (decay, strength) =
            (inputs.decay[row * value_heads + head], inputs.strength[row * value_heads + head]);
        let (of_query, of_key) = (1.0 / length(q) / (key_dim as f32).sqrt(), 1.0 / length(k));
        if row + 1 == rows {
            before.copy_from_slice(state);
        }
        change.fill(0.0);
        for (line, k) in state.chunks_exact_mut(value_dim).zip(k) {
            let k = k * of_key;
            for (s, sum) in line.iter_mut().zip(&mut change) {
                *s *= decay;
                *sum = s.mul_add(k, *sum);
            }
        }
        for (change, v) in change.iter_mut().zip(v) {
            *change = (v - *change) * strength;
        }
        for ((line, k), q) in state.chunks_exact_mut(value_dim).zip(k).zip(q) {
            let (k, q) = (k * of_key, q * of_query);
            for ((s, change), out) in line.iter_mut().zip(&change).zip(out.iter_mut()) {
                *s = change.mul_add(k, *s);
                *out = s.mul_add(q, *out);
            }
        }
    }
    (out, before)
}

#[inline(always)]
fn length(x: &[f32]) -> f32 {
    (x.iter().map(|v| v * v).sum::<f32>() + LENGTH_EPSILON).sqrt()
}

/// `exp(−exp(rate) · softplus(x + bias))`: how much of a head's matrix stays. `rate` and `bias` are a number for each head.
pub(crate) fn decay(x: &[f32], rate: &[f32], bias: &[f32]) -> Vec<f32> {
    let heads = rate.iter().zip(bias).cycle();
    x.iter().zip(heads).map(|(x, (rate, bias))| (-rate.exp() * softplus(x + bias)).exp()).collect()
}

fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: DeltaShape = DeltaShape { key_heads: 2, value_heads: 4, key_dim: 3, value_dim: 5, taps: 4 };

    fn random(n: usize, seed: u64) -> Vec<f32> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.5f32..1.5)).collect()
    }

    /// The rule as it is written down, in f64.
    fn definition(mixed: &[f32], decay: &[f32], strength: &[f32]) -> Vec<f64> {
        let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = SHAPE;
        let mut said = Vec::new();
        let mut states = vec![vec![vec![0f64; value_dim]; key_dim]; value_heads];
        for (row, mixed) in mixed.chunks(SHAPE.channels()).enumerate() {
            let mixed: Vec<f64> = mixed.iter().map(|v| f64::from(*v)).collect();
            for (head, state) in states.iter_mut().enumerate() {
                let key = head / (value_heads / key_heads);
                let unit = |x: &[f64]| -> Vec<f64> {
                    let length = (x.iter().map(|v| v * v).sum::<f64>() + 1e-6).sqrt();
                    x.iter().map(|v| v / length).collect()
                };
                let q = unit(&mixed[key * key_dim..][..key_dim]);
                let k = unit(&mixed[(key_heads + key) * key_dim..][..key_dim]);
                let v = &mixed[2 * key_heads * key_dim + head * value_dim..][..value_dim];
                let at = row * value_heads + head;
                state.iter_mut().flatten().for_each(|s| *s *= f64::from(decay[at]));
                for (j, v) in v[..value_dim].iter().enumerate() {
                    let known: f64 = state.iter().zip(&k).map(|(line, k)| line[j] * k).sum();
                    for (line, k) in state.iter_mut().zip(&k) {
                        line[j] += k * f64::from(strength[at]) * (v - known);
                    }
                }
                let scale = (key_dim as f64).sqrt();
                said.extend(
                    (0..value_dim).map(|j| (0..key_dim).map(|i| state[i][j] * q[i]).sum::<f64>() / scale),
                );
            }
        }
        said
    }

    proptest! {
        #[test]
        fn heads_follow_the_rule_and_go_on_where_they_stopped(rows in 1usize..12, cut in 0usize..12, seed: u64) {
            let mixed = random(rows * SHAPE.channels(), seed);
            let numbers = random(2 * rows * SHAPE.value_heads, seed ^ 1);
            let shares: Vec<f32> = numbers.iter().map(|v| 1.0 / (1.0 + v.exp())).collect();
            let (decay, strength) = shares.split_at(rows * SHAPE.value_heads);
            let part = |from: usize, to: usize| DeltaInputs {
                mixed: &mixed[from * SHAPE.channels()..to * SHAPE.channels()],
                decay: &decay[from * SHAPE.value_heads..to * SHAPE.value_heads],
                strength: &strength[from * SHAPE.value_heads..to * SHAPE.value_heads],
            };
            let none = vec![0.0; SHAPE.elements()];
            let (out, whole) = run(part(0, rows), &none, SHAPE);
            for (got, want) in out.iter().zip(definition(&mixed, decay, strength)) {
                prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{got} {want}");
            }
            let cut = cut.min(rows);
            let (first, kept) = run(part(0, cut), &none, SHAPE);
            let (second, end) = run(part(cut, rows), &kept.last, SHAPE);
            prop_assert_eq!(&[first, second].concat(), &out);
            prop_assert_eq!(&end.last, &whole.last);
            let (_, shorter) = run(part(0, rows - 1), &none, SHAPE);
            prop_assert_eq!(&whole.before, &shorter.last);
        }
    }

    #[test]
    fn a_convolution_sees_the_rows_before_and_no_row_behind() {
        let (channels, taps) = (2, 3);
        let kernel = [1.0, 10.0, 100.0, 0.0, 0.0, 1.0];
        let (history, x) = ([1.0, 5.0, 2.0, 6.0], [3.0, 7.0, 4.0, 8.0]);
        let mut out = [0.0; 4];
        convolve(&mut out, &x, &history, &kernel, taps);
        let silu = |v: f32| v / (1.0 + (-v).exp());
        let want = [1.0 + 20.0 + 300.0, 7.0, 2.0 + 30.0 + 400.0, 8.0].map(silu);
        assert!(out.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-3), "{out:?} {want:?}");
        assert_eq!(history.len(), (taps - 1) * channels);
    }

    #[test]
    fn decay_is_that_of_the_published_formula() {
        let found = decay(&[0.5, -1.0, 30.0, 0.0], &[0.1, -0.2], &[0.3, 0.0]);
        let want = |x: f64, rate: f64, bias: f64| (-rate.exp() * ((x + bias).exp() + 1.0).ln()).exp();
        let want = [want(0.5, 0.1, 0.3), want(-1.0, -0.2, 0.0), want(30.0, 0.1, 0.3), want(0.0, -0.2, 0.0)];
        assert!(found.iter().zip(want).all(|(got, want)| (f64::from(*got) - want).abs() < 1e-6), "{found:?}");
    }
}
