//! Rotary position embeddings: what a configuration asks for, and the tables that come of it.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::json::JsonFile;
use crate::error::Result;

/// How the frequencies of the rotary embedding are stretched for long contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
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
}

/// The rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
}

/// The keys that settings of the rotary embedding are found under, the one that counts first. Since version 5
/// `transformers` writes the second, and still takes the first where it is there and not empty.
const SPELLINGS: [&str; 2] = ["rope_scaling", "rope_parameters"];

const ABOVE_ZERO: &str = "a number above 0";

impl Rope {
    /// What every frequency of a head of `dim` features is divided by, where that is not one number for all.
    pub(crate) fn frequency_factors(&self, dim: usize) -> Option<Vec<f32>> {
        let RopeScaling::Llama3 { .. } = self.scaling else { return None };
        let plain = frequencies(&Self { scaling: RopeScaling::None, ..*self }, dim);
        Some(plain.iter().zip(frequencies(self, dim)).map(|(plain, stretched)| plain / stretched).collect())
    }

    /// Reads the settings of a `config.json`: `theta` and `context` are the base and the length of the original context
    /// where none is said. What contradicts itself is settled as `transformers` does, and told in `warnings`.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming the key that makes no sense.
    pub(super) fn read(
        json: &JsonFile<'_>,
        theta: f64,
        context: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let [old, new] = SPELLINGS.map(|key| json.object(key));
        let (old, new) = (old?, new?);
        let (found, other) = if old.is_some() { (old, new) } else { (new, None) };
        let Some(found) = found else {
            let theta = json.number_or("rope_theta", theta, ABOVE_ZERO, |v| v > 0.0)?;
            return Ok(Self { theta, scaling: RopeScaling::None });
        };
        let rope = Self::of(json, &found, theta, context, warnings)?;
        if let Some(other) = other {
            // What is not used may be anything, also something unknown.
            if Self::of(json, &other, theta, context, &mut Vec::new()).ok() != Some(rope) {
                let [used, unused] = SPELLINGS;
                warnings.push(json.note(&format!(
                    "`{used}` and `{unused}` contradict each other: `{used}` is used, as transformers does"
                )));
            }
        }
        Ok(rope)
    }

    /// The settings of one object.
    fn of(
        json: &JsonFile<'_>,
        settings: &JsonFile<'_>,
        theta: f64,
        context: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        const ACCEPTED: &str = "default, linear or llama3";
        let outer = json.number_or("rope_theta", theta, ABOVE_ZERO, |v| v > 0.0)?;
        let theta = settings.number_or("rope_theta", outer, ABOVE_ZERO, |v| v > 0.0)?;
        #[allow(clippy::float_cmp, reason = "what is said twice is the same number")]
        if json.get("rope_theta").is_some() && outer != theta {
            warnings.push(json.note(&format!(
                "`rope_theta` is {outer} and `{}rope_theta` is {theta}: the second is used, as transformers does",
                settings.prefix
            )));
        }
        if settings.map.values().any(Value::is_object) {
            return Err(settings.wrong(&format!(
                "`{}` has settings for each kind of block: accepted is one for all",
                settings.prefix.trim_end_matches('.')
            )));
        }
        let default = Value::from("default");
        let kinds = ["rope_type", "type"].map(|key| settings.get(key).map(|kind| (key, kind)));
        if let [Some((_, kind)), Some((_, other))] = kinds
            && kind != other
        {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            warnings.push(json.note(&format!(
                "`{0}rope_type` is {1} and `{0}type` is {2}: the first is used, as transformers does",
                settings.prefix,
                text(kind),
                text(other)
            )));
        }
        let (key, kind) = kinds.into_iter().flatten().next().unwrap_or(("rope_type", &default));
        let scaling = match kind.as_str() {
            Some("default") => {
                if settings.get("factor").is_some_and(|factor| factor.as_f64() != Some(1.0)) {
                    warnings.push(json.note(&format!(
                        "`{0}factor` is given and `{0}{key}` is not, or is default: nothing is stretched, as with \
                         transformers",
                        settings.prefix
                    )));
                }
                RopeScaling::None
            }
            Some("linear") => RopeScaling::Linear { factor: factor(settings)? },
            Some("llama3") => Self::llama3(json, settings, context, warnings)?,
            _ => return Err(settings.unexpected(key, kind, ACCEPTED)),
        };
        settings.number_or("partial_rotary_factor", 1.0, "only 1", |v| (v - 1.0).abs() < 1e-9)?;
        Ok(Self { theta, scaling })
    }

    fn llama3(
        json: &JsonFile<'_>,
        settings: &JsonFile<'_>,
        context: usize,
        warnings: &mut Vec<String>,
    ) -> Result<RopeScaling> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        let low_freq_factor = settings.number("low_freq_factor", ABOVE_ZERO, |v| v > 0.0)?;
        let above = format!("a number above `low_freq_factor`, {low_freq_factor}");
        let inner = settings.positive_or(ORIGINAL, context)?;
        let original = json.positive_or(ORIGINAL, inner)?;
        if settings.get(ORIGINAL).is_some() && original != inner {
            warnings.push(json.note(&format!(
                "`{ORIGINAL}` is {original} and `{}{ORIGINAL}` is {inner}: the first is used, as transformers does",
                settings.prefix
            )));
        }
        Ok(RopeScaling::Llama3 {
            factor: factor(settings)?,
            low_freq_factor,
            high_freq_factor: settings.number("high_freq_factor", &above, |v| v > low_freq_factor)?,
            original_max_position_embeddings: original,
        })
    }
}

fn factor(settings: &JsonFile<'_>) -> Result<f64> {
    settings.number("factor", "a number of at least 1", |v: f64| v >= 1.0 && v.is_finite())
}

/// A rotary embedding as some blocks of a model use it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotaryEmbedding {
    pub rope: Rope,
    /// Width of the heads that it turns; even.
    pub dim: usize,
}

/// Which of a model's rotary embeddings a block uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RopeId(usize);

impl RopeId {
    /// Of the only one that a model has.
    pub const ONLY: Self = Self(0);
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

/// Cosines and sines of the rotary embedding, `[positions, head_dim / 2]`.
#[derive(Debug, Clone)]
pub(super) struct RopeTable {
    pub(super) cos: Arc<Vec<f32>>,
    pub(super) sin: Arc<Vec<f32>>,
    half: usize,
    /// The same on the device that asked last.
    on_device: Arc<Mutex<Option<(Tensor, Tensor)>>>,
}

impl RopeTable {
    /// Tables for the first `positions` positions, angles computed in `f32` as Hugging Face does.
    fn new(embedding: &RotaryEmbedding, positions: usize) -> Self {
        let half = embedding.dim / 2;
        let frequencies = frequencies(&embedding.rope, embedding.dim);
        let (mut cos, mut sin) = (Vec::with_capacity(positions * half), Vec::with_capacity(positions * half));
        for position in 0..positions {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos());
                sin.push(angle.sin());
            }
        }
        Self::of(cos, sin, half)
    }

    /// Of cosines and sines, position after position, `half` of each a position.
    pub(super) fn of(cos: Vec<f32>, sin: Vec<f32>, half: usize) -> Self {
        Self { cos: cos.into(), sin: sin.into(), half, on_device: Arc::default() }
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
            Tensor::from_slice(values, (rows, self.half), device)?.to_dtype(dtype)
        };
        Ok(kept.insert((put(&self.cos)?, put(&self.sin)?)).clone())
    }
}

/// Radians per position of every pair of a head, stretched as the configuration says.
///
/// In `f32` throughout, as Hugging Face computes them: the last bit of a frequency, five hundred positions on, is a
/// hundred times the rounding of anything else, and enough to turn masks of later blocks.
fn frequencies(rope: &Rope, head_dim: usize) -> Vec<f32> {
    let plain = (0..head_dim / 2).map(|i| 1.0 / (rope.theta as f32).powf((2 * i) as f32 / head_dim as f32));
    let stretched = plain.map(|frequency| match rope.scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor as f32,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let context = original_max_position_embeddings as f64;
            let (factor, low, high) = (factor as f32, low_freq_factor as f32, high_freq_factor as f32);
            let wavelength = 2.0 * std::f32::consts::PI / frequency;
            if f64::from(wavelength) < context / high_freq_factor {
                frequency
            } else if f64::from(wavelength) > context / low_freq_factor {
                frequency / factor
            } else {
                let blend = (context as f32 / wavelength - low) / (high - low);
                (1.0 - blend) * frequency / factor + blend * frequency
            }
        }
    });
    stretched.collect()
}
