//! The gated delta rule over the sequences of a ragged batch: the short convolution, the heads, and what a sequence leaves
//! for the tokens behind it.

use std::borrow::Cow;

use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

use super::{Activations, mixed, with_elements};
use crate::error::{Error, Result};
use crate::kernels::delta::{self, DeltaInputs, DeltaShape, DeltaState, LENGTH_EPSILON};
use crate::kernels::scratch::Buffer;
use crate::model::batch::SequenceRun;

/// What a sequence leaves for the tokens behind it, in `f32` where it is computed.
#[derive(Debug, Clone)]
pub(in crate::model) struct DeltaMemory {
    /// Tokens that it is of.
    pub tokens: usize,
    /// The matrices of all heads, `[elements]`.
    pub last: Tensor,
    /// The same without the last token: a text may be continued from there, too.
    pub before: Tensor,
    /// What went into the convolution for the last tokens, `[taps, channels]`.
    pub rows: Tensor,
}

impl DeltaMemory {
    /// The matrices that tokens behind `past` begin with, and the rows before them, `[taps − 1, channels]`.
    fn at(&self, past: usize) -> Result<(&Tensor, Tensor)> {
        let taps = self.rows.dim(0)?;
        if past == self.tokens {
            Ok((&self.last, self.rows.narrow(0, 1, taps - 1)?))
        } else if past + 1 == self.tokens {
            Ok((&self.before, self.rows.narrow(0, 0, taps - 1)?))
        } else {
            Err(Error::failure(format!("a recurrent state of {} tokens was asked for {past}", self.tokens)))
        }
    }
}

/// The tensors of a layer that are no linear ones.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct DeltaWeights<'a> {
    /// `[channels · taps]`
    pub kernel: &'a Tensor,
    /// A number for each head.
    pub rate: &'a Tensor,
    /// The same.
    pub bias: &'a Tensor,
}

/// What the heads say, `[rows, value heads · value dim]`, of what they get: `[rows, channels]`, and twice `[rows, value
/// heads]`, from which come the strength and the decay. With `memories`, one for each slot, sequences begin where these
/// have them, and leave theirs.
///
/// # Errors
/// A tensor operation that fails; memories of other tokens.
pub(in crate::model) fn delta_net(
    [channels, strength, decay]: [&Activations; 3],
    weights: DeltaWeights<'_>,
    shape: DeltaShape,
    runs: &[SequenceRun],
    memories: Option<&mut [Option<DeltaMemory>]>,
) -> Result<Activations> {
    match (channels, strength, decay) {
        (
            Activations::Host { data, .. },
            Activations::Host { data: strength, .. },
            Activations::Host { data: decay, .. },
        ) => on_host([data, strength, decay], weights, shape, runs, memories),
        (Activations::Device(x), Activations::Device(strength), Activations::Device(decay)) => {
            on_device([x, strength, decay], weights, shape, runs, memories)
        }
        _ => Err(mixed()),
    }
}

/// Where a sequence begins: the matrices, and the rows before its first.
struct SequenceStart {
    state: Vec<f32>,
    history: Vec<f32>,
}

fn on_host(
    [x, strength, decay]: [&[f32]; 3],
    weights: DeltaWeights<'_>,
    shape: DeltaShape,
    runs: &[SequenceRun],
    memories: Option<&mut [Option<DeltaMemory>]>,
) -> Result<Activations> {
    let (channels, heads) = (shape.channels(), shape.value_heads);
    let kernel = with_elements(weights.kernel, <[f32]>::to_vec)?;
    let rate = with_elements(weights.rate, <[f32]>::to_vec)?;
    let decay = with_elements(weights.bias, |bias| delta::decay(decay, &rate, bias))?;
    let strength: Vec<f32> = strength.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
    let rows_of = |run: &SequenceRun| &x[run.row * channels..(run.row + run.rows) * channels];
    let known = memories.as_deref();
    let start = |run: &SequenceRun| -> Result<SequenceStart> {
        let nothing = vec![0.0; (shape.taps - 1) * channels];
        if let Some(trunk) = run.trunk {
            // Its matrices are put in when they are there.
            return Ok(SequenceStart {
                state: Vec::new(),
                history: last_rows(&nothing, rows_of(&runs[trunk]), nothing.len()),
            });
        }
        match known.and_then(|memories| memories[run.slot].as_ref()).filter(|_| run.past > 0) {
            None => Ok(SequenceStart { state: vec![0.0; shape.elements()], history: nothing }),
            Some(memory) => {
                let (state, rows) = memory.at(run.past)?;
                let values = |x: &Tensor| with_elements(x, <[f32]>::to_vec);
                Ok(SequenceStart { state: values(state)?, history: values(&rows)? })
            }
        }
    };
    let starts = runs.iter().map(start).collect::<Result<Vec<_>>>()?;
    let go = |(run, start): (&SequenceRun, &SequenceStart), state: &[f32]| -> (Vec<f32>, DeltaState) {
        let mut convolved = vec![0.0; run.rows * channels];
        delta::convolve(&mut convolved, rows_of(run), &start.history, &kernel, shape.taps);
        let of_heads = run.row * heads..(run.row + run.rows) * heads;
        let inputs =
            DeltaInputs { mixed: &convolved, decay: &decay[of_heads.clone()], strength: &strength[of_heads] };
        delta::run(inputs, state, shape)
    };
    let all = runs.par_iter().zip(&starts);
    // Branches begin where their trunks end.
    let trunks: Vec<Option<(Vec<f32>, DeltaState)>> =
        all.clone().map(|(run, start)| run.trunk.is_none().then(|| go((run, start), &start.state))).collect();
    let branches: Vec<Option<(Vec<f32>, DeltaState)>> = all
        .map(|(run, start)| {
            let (_, state) = trunks[run.trunk?].as_ref()?;
            Some(go((run, start), &state.last))
        })
        .collect();
    let mut out = Buffer::take(x.len() / channels * heads * shape.value_dim);
    let width = heads * shape.value_dim;
    let mut states = Vec::with_capacity(runs.len());
    for (run, (trunk, branch)) in runs.iter().zip(trunks.into_iter().zip(branches)) {
        let (said, state) = trunk.or(branch).ok_or_else(|| Error::failure("a branch without a trunk"))?;
        out[run.row * width..][..said.len()].copy_from_slice(&said);
        states.push(state);
    }
    if let Some(memories) = memories {
        for ((run, start), state) in runs.iter().zip(&starts).zip(states) {
            let rows = last_rows(&start.history, rows_of(run), shape.taps * channels);
            let tensor = |values: Vec<f32>| Tensor::from_vec(values, shape.elements(), &Device::Cpu);
            memories[run.slot] = Some(DeltaMemory {
                tokens: run.past + run.rows,
                last: tensor(state.last)?,
                before: tensor(state.before)?,
                rows: Tensor::from_vec(rows, (shape.taps, channels), &Device::Cpu)?,
            });
        }
    }
    Ok(Activations::Host { data: out, width })
}

/// The last `count` elements of two slices, one behind the other.
fn last_rows(first: &[f32], second: &[f32], count: usize) -> Vec<f32> {
    let of_first = count.saturating_sub(second.len()).min(first.len());
    let mut rows = first[first.len() - of_first..].to_vec();
    rows.extend_from_slice(&second[second.len() - count.min(second.len())..]);
    rows
}

fn on_device(
    [x, strength, decay]: [&Tensor; 3],
    weights: DeltaWeights<'_>,
    shape: DeltaShape,
    runs: &[SequenceRun],
    memories: Option<&mut [Option<DeltaMemory>]>,
) -> Result<Activations> {
    let (dtype, device) = (x.dtype(), x.device());
    let (channels, heads) = (shape.channels(), shape.value_heads);
    let wide = |x: &Tensor| x.to_dtype(DType::F32);
    let x = wide(x)?;
    let strength = candle_nn::ops::sigmoid(&wide(strength)?)?;
    let decay = wide(decay)?.broadcast_add(&wide(weights.bias)?)?;
    // softplus, without an overflow
    let decay = (decay.relu()? + (decay.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    let decay = decay.broadcast_mul(&wide(weights.rate)?.exp()?.neg()?)?.exp()?;
    let kernel = wide(weights.kernel)?.reshape((channels, shape.taps))?.t()?.contiguous()?;
    let rows_of = |x: &Tensor, run: &SequenceRun| x.narrow(0, run.row, run.rows);
    let mut done: Vec<Option<(Tensor, Tensor, Tensor)>> = vec![None; runs.len()];
    let mut padded_rows = Vec::with_capacity(runs.len());
    let mut starts: Vec<Option<Tensor>> = Vec::with_capacity(runs.len());
    for run in runs {
        let nothing = Tensor::zeros((shape.taps - 1, channels), DType::F32, device)?;
        let known = memories.as_deref().and_then(|memories| memories[run.slot].as_ref());
        let (start, history) = match (run.trunk, known.filter(|_| run.past > 0)) {
            (Some(trunk), _) => {
                let before = with_rows(&nothing, &x, &runs[trunk])?;
                (None, before.narrow(0, before.dim(0)? + 1 - shape.taps, shape.taps - 1)?)
            }
            (None, Some(memory)) => {
                let (state, rows) = memory.at(run.past)?;
                (Some(state.clone()), rows)
            }
            (None, None) => (Some(Tensor::zeros(shape.elements(), DType::F32, device)?), nothing),
        };
        padded_rows.push(with_rows(&history, &x, run)?);
        starts.push(start);
    }
    // Sequences of equal length go side by side; branches behind their trunks.
    for branches in [false, true] {
        let numbers: Vec<usize> = (0..runs.len()).filter(|i| runs[*i].trunk.is_some() == branches).collect();
        for group in numbers.chunk_by(|a, b| runs[*a].rows == runs[*b].rows) {
            let rows = runs[group[0]].rows;
            if rows == 0 {
                for &i in group {
                    let state = Tensor::zeros(shape.elements(), DType::F32, device)?;
                    let said = Tensor::zeros((0, heads * shape.value_dim), DType::F32, device)?;
                    done[i] = Some((said, state.clone(), state));
                }
                continue;
            }
            let stack = |of: &dyn Fn(usize) -> Result<Tensor>| -> Result<Tensor> {
                Ok(Tensor::stack(&group.iter().map(|i| of(*i)).collect::<Result<Vec<_>>>()?, 1)?)
            };
            let inputs = stack(&|i| convolved(&padded_rows[i], &kernel, rows))?;
            let of_heads = |x: &Tensor| stack(&|i| Ok(rows_of(x, &runs[i])?));
            let start = |i: &usize| -> Result<Tensor> {
                let of_trunk = runs[*i].trunk.and_then(|trunk| done[trunk].as_ref());
                let state = of_trunk.map(|(_, last, _)| last).or(starts[*i].as_ref());
                Ok(state.ok_or_else(|| Error::failure("a branch without a trunk"))?.clone())
            };
            let start = Tensor::stack(&group.iter().map(start).collect::<Result<Vec<_>>>()?, 0)?;
            let (said, last, before) =
                side_by_side(&inputs, [&of_heads(&decay)?, &of_heads(&strength)?], &start, shape)?;
            for (place, &i) in group.iter().enumerate() {
                let part = |state: &Tensor| state.narrow(0, place, 1)?.reshape(shape.elements());
                done[i] = Some((said.narrow(1, place, 1)?.squeeze(1)?, part(&last)?, part(&before)?));
            }
        }
    }
    let (mut out, mut left) = (Vec::with_capacity(runs.len()), Vec::with_capacity(runs.len()));
    for ((run, padded), done) in runs.iter().zip(&padded_rows).zip(done) {
        let (said, last, before) = done.ok_or_else(|| Error::failure("a sequence was left out"))?;
        out.extend((run.rows > 0).then_some(said));
        left.push((run, padded, last, before));
    }
    if let Some(memories) = memories {
        for (run, padded, last, before) in left {
            let rows = padded.narrow(0, padded.dim(0)? - shape.taps, shape.taps)?.contiguous()?;
            memories[run.slot] = Some(DeltaMemory { tokens: run.past + run.rows, last, before, rows });
        }
    }
    Ok(Activations::Device(Tensor::cat(&out, 0)?.to_dtype(dtype)?))
}

/// Rows with those of a sequence behind them.
fn with_rows(before: &Tensor, x: &Tensor, run: &SequenceRun) -> Result<Tensor> {
    if run.rows == 0 {
        return Ok(before.clone());
    }
    Ok(Tensor::cat(&[before, &x.narrow(0, run.row, run.rows)?], 0)?)
}

/// The convolution of `rows` rows behind `taps − 1` others, and `silu`; `kernel` is `[taps, channels]`.
fn convolved(padded: &Tensor, kernel: &Tensor, rows: usize) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for tap in 0..kernel.dim(0)? {
        let part = padded.narrow(0, tap, rows)?.broadcast_mul(&kernel.narrow(0, tap, 1)?)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    let sum = sum.ok_or_else(|| Error::failure("a convolution without taps"))?;
    Ok(candle_nn::ops::silu(&sum)?)
}

/// The heads of sequences of equal length: `inputs` is `[rows, sequences, channels]`, decay and strength are `[rows,
/// sequences, heads]`, `start` is `[sequences, elements]`. Returns `[rows, sequences, heads · value dim]`, and the matrices
/// behind the last token and before it.
fn side_by_side(
    inputs: &Tensor,
    [decay, strength]: [&Tensor; 2],
    start: &Tensor,
    shape: DeltaShape,
) -> Result<(Tensor, Tensor, Tensor)> {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = shape;
    let (rows, sequences, _) = inputs.dims3()?;
    let (keys, all) = (key_heads * key_dim, sequences * value_heads);
    let each = value_heads / key_heads;
    let by_head = |start: usize, factor: f64| -> Result<Tensor> {
        let x = inputs.narrow(2, start, keys)?.reshape((rows, sequences * key_heads, 1, key_dim))?;
        let length = (x.sqr()?.sum_keepdim(D::Minus1)? + f64::from(LENGTH_EPSILON))?.sqrt()?;
        let unit = (x.broadcast_div(&length)? * factor)?;
        let repeated = unit.broadcast_as((rows, sequences * key_heads, each, key_dim))?.contiguous()?;
        Ok(repeated.reshape((rows, all, 1, key_dim))?)
    };
    let (q, k) = (by_head(0, 1.0 / (key_dim as f64).sqrt())?, by_head(keys, 1.0)?);
    let v = inputs.narrow(2, 2 * keys, value_heads * value_dim)?;
    let v = v.contiguous()?.reshape((rows, all, 1, value_dim))?;
    let (decay, strength) = (decay.reshape((rows, all, 1, 1))?, strength.reshape((rows, all, 1, 1))?);
    let mut state = start.reshape((all, key_dim, value_dim))?;
    let mut before = Cow::Borrowed(start);
    let mut said = Vec::with_capacity(rows);
    for row in 0..rows {
        if row + 1 == rows {
            before = Cow::Owned(state.reshape((sequences, ()))?);
        }
        let at = |x: &Tensor| x.narrow(0, row, 1)?.squeeze(0)?.contiguous();
        let (q, k, v) = (at(&q)?, at(&k)?, at(&v)?);
        let faded = state.broadcast_mul(&at(&decay)?)?;
        let change = (v - k.matmul(&faded)?)?.broadcast_mul(&at(&strength)?)?;
        state = (faded + k.transpose(1, 2)?.contiguous()?.matmul(&change)?)?;
        said.push(q.matmul(&state)?.reshape((1, sequences, value_heads * value_dim))?);
    }
    Ok((Tensor::cat(&said, 0)?, state.reshape((sequences, ()))?, before.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::{Batch, Sequence, Tree};

    const SHAPE: DeltaShape = DeltaShape { key_heads: 2, value_heads: 4, key_dim: 3, value_dim: 5, taps: 4 };

    struct DeltaTensors {
        kernel: Tensor,
        rate: Tensor,
        bias: Tensor,
    }

    fn random(shape: impl Into<candle_core::Shape>, seed: u64) -> Tensor {
        use rand::{Rng, SeedableRng};
        let shape = shape.into();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| rng.random_range(-1.5f32..1.5)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn layer() -> DeltaTensors {
        DeltaTensors {
            kernel: random(SHAPE.channels() * SHAPE.taps, 1),
            rate: random(4, 2),
            bias: random(4, 3),
        }
    }

    /// Inputs of so many rows: what goes through the convolution, and what strength and decay come from.
    fn inputs(rows: usize) -> [Tensor; 3] {
        [random((rows, SHAPE.channels()), 4), random((rows, 4), 5), random((rows, 4), 6)]
    }

    fn said(
        inputs: &[Tensor; 3],
        batch: &Batch,
        on_host: bool,
        memories: Option<&mut [Option<DeltaMemory>]>,
    ) -> Vec<Vec<f32>> {
        let DeltaTensors { kernel, rate, bias } = layer();
        let weights = DeltaWeights { kernel: &kernel, rate: &rate, bias: &bias };
        let as_rows =
            |x: &Tensor| if on_host { Activations::of(x).unwrap() } else { Activations::Device(x.clone()) };
        let [a, b, c] = [0, 1, 2].map(|i| as_rows(&inputs[i]));
        let y = delta_net([&a, &b, &c], weights, SHAPE, &batch.runs(), memories).unwrap();
        y.into_tensor().unwrap().to_vec2().unwrap()
    }

    fn assert_close(got: &[Vec<f32>], want: &[Vec<f32>]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }

    fn part(inputs: &[Tensor; 3], rows: std::ops::Range<usize>) -> [Tensor; 3] {
        [0, 1, 2].map(|i| inputs[i].narrow(0, rows.start, rows.len()).unwrap())
    }

    #[test]
    fn sequences_side_by_side_are_what_each_is_alone() {
        let all = inputs(20);
        let alone: Vec<_> = [0..6, 6..12, 12..13, 13..20]
            .into_iter()
            .flat_map(|rows| said(&part(&all, rows.clone()), &Batch::windows(1, rows.len()), true, None))
            .collect();
        for on_host in [true, false] {
            assert_close(&said(&all, &Batch::of_lengths(&[6, 6, 1, 7]), on_host, None), &alone);
        }
    }

    #[test]
    fn branches_go_on_where_their_trunk_ends() {
        for trunk in [0usize, 2, 5] {
            let all = inputs(trunk + 4 + 3);
            let tree = Tree { trunk, branches: vec![4, 3] };
            let rows = |branch: std::ops::Range<usize>| {
                let parts = |i: usize| {
                    let first = all[i].narrow(0, 0, trunk).unwrap();
                    Tensor::cat(&[&first, &all[i].narrow(0, branch.start, branch.len()).unwrap()], 0).unwrap()
                };
                let whole = said(
                    &[parts(0), parts(1), parts(2)],
                    &Batch::windows(1, trunk + branch.len()),
                    true,
                    None,
                );
                whole[trunk..].to_vec()
            };
            let want = [rows(trunk..trunk + 4), rows(trunk + 4..trunk + 7)].concat();
            for on_host in [true, false] {
                let got = said(&all, &Batch::trees(std::slice::from_ref(&tree)), on_host, None);
                assert_close(&got[trunk..], &want);
            }
        }
    }

    #[test]
    fn memories_carry_on_in_pieces_and_from_one_token_before_their_end() {
        let all = inputs(9);
        let whole = said(&all, &Batch::windows(1, 9), true, None);
        for on_host in [true, false] {
            let mut memories = vec![None; 3];
            let mut got = Vec::new();
            for (past, new) in [(0, 1), (1, 4), (5, 3), (7, 2)] {
                let batch = Batch::new(vec![Sequence { slot: 2, past, new }]);
                got.truncate(past);
                got.extend(said(&part(&all, past..past + new), &batch, on_host, Some(&mut memories)));
            }
            assert_close(&got, &whole);
            assert_eq!(memories[2].as_ref().unwrap().tokens, 9);
            assert!(memories[2].as_ref().unwrap().at(4).is_err());
        }
    }
}
