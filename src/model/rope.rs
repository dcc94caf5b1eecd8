//! Rotary position embeddings: what a configuration asks for, and the tables that come of it.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::kernels::elementwise::Rotation;

/// How the frequencies of the rotary embedding are stretched for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Gemma 4's: frequencies are those of a whole head, of which only the first pairs turn.
    Proportional {
        /// The part of the pairs that turns.
        part: f64,
        /// What every frequency is divided by.
        factor: f64,
    },
    /// Every frequency is divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3's: low frequencies are divided by `factor`, high ones are kept, those between are blended.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before the stretching, in tokens.
        original_max_position_embeddings: usize,
    },
    /// The base grows with the text, once that is longer than the model's context.
    Dynamic {
        /// At least 1.
        factor: f64,
        /// Context length of the model, in tokens.
        max_position_embeddings: usize,
    },
    /// `YaRN`'s: frequencies that turn less than `beta_slow` times in the original context are divided by `factor`, those
    /// that turn more than `beta_fast` times are kept, those between are blended.
    Yarn {
        /// At least 1.
        factor: f64,
        /// Turns from which on a frequency is kept.
        beta_fast: f64,
        /// Turns up to which a frequency is stretched in full.
        beta_slow: f64,
        /// Whether both ends of the blend are rounded to whole pairs.
        truncate: bool,
        /// Context length before the stretching, in tokens.
        original_max_position_embeddings: usize,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
    /// `LongRoPE`'s: every frequency is divided by a number of its own, of one list or the other.
    LongRope {
        /// For texts that fit in the original context, a number for each pair.
        short_factor: Arc<[f64]>,
        /// For longer ones.
        long_factor: Arc<[f64]>,
        /// Context length before the stretching, in tokens.
        original_max_position_embeddings: usize,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
}

/// The rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
}

impl Rope {
    /// What every frequency of a head of `dim` features is divided by, where that is not one number for all.
    pub(crate) fn frequency_factors(&self, dim: usize) -> Option<Vec<f32>> {
        let RopeScaling::Llama3 { .. } = self.scaling else { return None };
        let plain = frequencies(&Self { scaling: RopeScaling::None, ..*self }, dim, 0);
        let stretched = frequencies(self, dim, 0);
        Some(plain.iter().zip(stretched).map(|(plain, stretched)| plain / stretched).collect())
    }

    /// Longest text, in tokens, up to which all texts turn alike; longer ones turn in another way.
    pub(super) fn length_limit(&self) -> Option<usize> {
        match self.scaling {
            RopeScaling::Dynamic { max_position_embeddings, .. } => Some(max_position_embeddings),
            RopeScaling::LongRope { original_max_position_embeddings, .. } => {
                Some(original_max_position_embeddings)
            }
            _ => None,
        }
    }

    fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }
}

/// A rotary embedding as some blocks of a model use it.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryEmbedding {
    pub rope: Rope,
    /// Features of a head that it turns, the first ones; even.
    pub dim: usize,
    /// Neighbours are a pair, `(2i, 2i + 1)`, instead of `(i, i + dim / 2)`.
    pub neighbours: bool,
}

/// Which of a model's rotary embeddings a block uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RopeId(usize);

impl RopeId {
    /// Of the only one that a model has, or the first.
    pub const ONLY: Self = Self(0);
    /// Of the second one: that of blocks with a window, where they have their own.
    pub const SECOND: Self = Self(1);
}

/// Tables of all rotary embeddings of a model.
#[derive(Debug, Clone)]
pub struct RopeTables(Vec<RopeTable>);

impl RopeTables {
    /// Tables for the first `positions` positions.
    pub(super) fn new(embeddings: &[RotaryEmbedding], positions: usize) -> Self {
        Self(embeddings.iter().map(|embedding| RopeTable::new(embedding, positions)).collect())
    }

    pub(super) fn get(&self, id: RopeId) -> &RopeTable {
        &self.0[id.0]
    }
}

/// Cosines and sines of the rotary embedding, `[positions, dim / 2]`.
#[derive(Debug, Clone)]
pub(super) struct RopeTable {
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
    half: usize,
    pub(super) neighbours: bool,
    /// The same on the device that asked last.
    on_device: Arc<Mutex<Option<(Tensor, Tensor)>>>,
}

impl RopeTable {
    /// Tables for the first `positions` positions, of texts of that length; angles computed in `f32` as Hugging Face does.
    fn new(embedding: &RotaryEmbedding, positions: usize) -> Self {
        let half = embedding.dim / 2;
        let frequencies = frequencies(&embedding.rope, embedding.dim, positions);
        let factor = embedding.rope.attention_factor() as f32;
        let (mut cos, mut sin) = (Vec::with_capacity(positions * half), Vec::with_capacity(positions * half));
        for position in 0..positions {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos() * factor);
                sin.push(angle.sin() * factor);
            }
        }
        Self::of(cos, sin, half, embedding.neighbours)
    }

    /// Of cosines and sines, position after position, `half` of each a position.
    pub(super) fn of(cos: Vec<f32>, sin: Vec<f32>, half: usize, neighbours: bool) -> Self {
        Self { cos: cos.into(), sin: sin.into(), half, neighbours, on_device: Arc::default() }
    }

    /// Features of a head that turn.
    pub(super) fn turned(&self) -> usize {
        2 * self.half
    }

    /// The tables on the host.
    pub(super) fn rotation(&self) -> Rotation<'_> {
        Rotation { cos: &self.cos, sin: &self.sin, half: self.half, neighbours: self.neighbours }
    }

    /// Cosines and sines, `[positions, half]`, on a device.
    pub(super) fn on(&self, device: &Device, dtype: DType) -> Result<(Tensor, Tensor)> {
        let mut kept = self.on_device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cos, sin)) = &*kept
            && cos.device().same_device(device)
            && cos.dtype() == dtype
        {
            return Ok((cos.clone(), sin.clone()));
        }
        let put = |values: &[f32]| {
            let rows = values.len() / self.half.max(1);
            // Rounded on the host: a GPU's driver takes more than a second for the first conversion on a machine.
            Tensor::from_slice(values, (rows, self.half), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
        };
        Ok(kept.insert((put(&self.cos)?, put(&self.sin)?)).clone())
    }
}

/// Radians per position of every pair of `dim` features, stretched as the configuration says for a text of `length`
/// tokens.
///
/// In `f32` throughout, as Hugging Face computes them: the last bit of a frequency, five hundred positions on, is a
/// hundred times the rounding of anything else, and enough to turn masks of later blocks.
fn frequencies(rope: &Rope, dim: usize, length: usize) -> Vec<f32> {
    let powers = |theta: f64| {
        (0..dim / 2).map(move |i| (theta as f32).powf((2 * i) as f32 / dim as f32)).collect::<Vec<_>>()
    };
    let plain = |theta: f64| powers(theta).into_iter().map(|power| 1.0 / power);
    match &rope.scaling {
        RopeScaling::None => plain(rope.theta).collect(),
        RopeScaling::Linear { factor } => plain(rope.theta).map(|f| f / *factor as f32).collect(),
        RopeScaling::Proportional { part, factor } => {
            let turning = (part * dim as f64 / 2.0) as usize;
            let of = |(pair, f): (usize, f32)| if pair < turning { f / *factor as f32 } else { 0.0 };
            plain(rope.theta).enumerate().map(of).collect()
        }
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let context = *original_max_position_embeddings as f64;
            let bounds = (*low_freq_factor, *high_freq_factor);
            plain(rope.theta).map(|f| llama3_frequency(f, *factor as f32, bounds, context)).collect()
        }
        RopeScaling::Dynamic { factor, max_position_embeddings } => {
            let most = *max_position_embeddings as f64;
            let longer = factor * (length as f64).max(most) / most - (factor - 1.0);
            let exponent = dim as f64 / (dim as f64 - 2.0);
            plain(rope.theta * if longer > 1.0 { longer.powf(exponent) } else { 1.0 }).collect()
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            truncate,
            original_max_position_embeddings,
            ..
        } => {
            let context = *original_max_position_embeddings as f64;
            let place = |turns: f64| {
                let ratio = context / (turns * std::f64::consts::TAU);
                dim as f64 * ratio.ln() / (2.0 * rope.theta.ln())
            };
            let (low, high) = (place(*beta_fast), place(*beta_slow));
            let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
            let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
            #[allow(clippy::float_cmp, reason = "a blend of no width is meant, which would divide by zero")]
            let high = if low == high { high + 0.001 } else { high };
            let ramp = |i: usize| ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let blend = |(i, power): (usize, f32)| {
                let kept = 1.0 - ramp(i);
                1.0 / (*factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
            };
            powers(rope.theta).into_iter().enumerate().map(blend).collect()
        }
        RopeScaling::LongRope { short_factor, long_factor, original_max_position_embeddings, .. } => {
            let factors = if length > *original_max_position_embeddings { long_factor } else { short_factor };
            factors
                .iter()
                .zip(powers(rope.theta))
                .map(|(factor, power)| 1.0 / (*factor as f32 * power))
                .collect()
        }
    }
}

/// A frequency as Llama 3 stretches it: `bounds` are its `low_freq_factor` and `high_freq_factor`.
fn llama3_frequency(frequency: f32, factor: f32, bounds: (f64, f64), context: f64) -> f32 {
    let (low, high) = bounds;
    let wavelength = 2.0 * std::f32::consts::PI / frequency;
    if f64::from(wavelength) < context / high {
        frequency
    } else if f64::from(wavelength) > context / low {
        frequency / factor
    } else {
        let blend = (context as f32 / wavelength - low as f32) / (high as f32 - low as f32);
        (1.0 - blend) * frequency / factor + blend * frequency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 16;

    fn table(scaling: RopeScaling, positions: usize) -> RopeTable {
        let rope = Rope { theta: 10_000.0, scaling };
        RopeTable::new(&RotaryEmbedding { rope, dim: DIM, neighbours: false }, positions)
    }

    fn plain(pair: usize) -> f64 {
        10_000f64.powf(-((2 * pair) as f64) / DIM as f64)
    }

    /// Compares a table with what cosines and sines are multiplied by, and the radians per position of every pair.
    fn check(table: &RopeTable, positions: usize, factor: f64, frequency: impl Fn(usize) -> f64) {
        let Rotation { cos, sin, half, .. } = table.rotation();
        assert_eq!((half, cos.len()), (DIM / 2, positions * half));
        for (at, (cos, sin)) in cos.iter().zip(sin).enumerate() {
            let angle = (at / half) as f64 * frequency(at % half);
            let apart = |got: f32, want: f64| (f64::from(got) - factor * want).abs();
            assert!(apart(*cos, angle.cos()) < 1e-5 && apart(*sin, angle.sin()) < 1e-5, "{at}");
        }
    }

    #[test]
    fn frequencies_that_turn_often_are_kept_by_yarn_and_others_divided() {
        let yarn = |truncate| RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 8.0,
            beta_slow: 0.5,
            truncate,
            original_max_position_embeddings: 32,
            attention_factor: 1.25,
        };
        // Pairs at which the original context holds so many turns: of 8, below the first one; of a half, between.
        let place =
            |turns: f64| DIM as f64 * (32.0 / (turns * std::f64::consts::TAU)).ln() / (2.0 * 10_000f64.ln());
        assert!(place(8.0) < 0.0 && place(0.5) > 2.0 && place(0.5) < 3.0);
        for (truncate, high) in [(true, 3.0), (false, place(0.5))] {
            check(&table(yarn(truncate), 50), 50, 1.25, |pair| {
                let stretched = (pair as f64 / high).clamp(0.0, 1.0);
                plain(pair) / 4.0 * stretched + plain(pair) * (1.0 - stretched)
            });
        }
    }

    #[test]
    fn one_list_of_longrope_serves_texts_within_the_original_context_and_the_other_longer_ones() {
        let numbers = |first: f64| (0..DIM / 2).map(|pair| first + pair as f64).collect::<Vec<_>>();
        let (short, long) = (numbers(1.0), numbers(2.5));
        let scaling = RopeScaling::LongRope {
            short_factor: short.clone().into(),
            long_factor: long.clone().into(),
            original_max_position_embeddings: 32,
            attention_factor: 1.1,
        };
        check(&table(scaling.clone(), 32), 32, 1.1, |pair| plain(pair) / short[pair]);
        check(&table(scaling, 33), 33, 1.1, |pair| plain(pair) / long[pair]);
    }

    #[test]
    fn the_base_grows_with_texts_that_are_longer_than_the_context() {
        let scaling = RopeScaling::Dynamic { factor: 4.0, max_position_embeddings: 32 };
        check(&table(scaling.clone(), 20), 20, 1.0, plain);
        check(&table(scaling, 48), 48, 1.0, |pair| {
            let base = 10_000.0 * (4.0 * 48.0 / 32.0 - 3.0_f64).powf(16.0 / 14.0);
            base.powf(-((2 * pair) as f64) / DIM as f64)
        });
    }
}
