//! `AdamW` (Loshchilov & Hutter, arXiv 1711.05101). candle's own keeps its moments to itself, so that a run could not go on
//! from a checkpoint as if it had never stopped.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor, Var};
use secateur::{Error, Result};

use super::ops::read;

/// How fast the first and second moments forget, and what keeps a division finite.
const BETAS: (f32, f32) = (0.9, 0.98);
const EPS: f32 = 1e-8;

/// Gradients by the names of their weights.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// The optimiser's state.
pub struct AdamW {
    decay: f32,
    moments: BTreeMap<String, (Vec<f32>, Vec<f32>)>,
    /// Steps taken.
    pub steps: u64,
}

impl AdamW {
    /// At its beginning; `decay` pulls matrices to zero, norms are left alone.
    pub fn new(decay: f32) -> Self {
        Self { decay, moments: BTreeMap::new(), steps: 0 }
    }

    /// Moves those of the weights that `takes` says. `gradients` are multiplied by `scale` first.
    pub fn step(
        &mut self,
        weights: &BTreeMap<String, Var>,
        gradients: &Gradients,
        takes: impl Fn(&str, &Var) -> bool,
        rate: f32,
        scale: f32,
    ) -> Result<()> {
        self.steps += 1;
        let steps = self.steps as i32;
        let (first, second) = (1.0 - BETAS.0.powi(steps), 1.0 - BETAS.1.powi(steps));
        for (name, var) in weights.iter().filter(|(name, var)| takes(name, var)) {
            let gradient =
                gradients.get(name).ok_or_else(|| Error::failure(format!("no gradient of `{name}`")))?;
            let (m, v) = self
                .moments
                .entry(name.clone())
                .or_insert_with(|| (vec![0.0; gradient.len()], vec![0.0; gradient.len()]));
            let decay = if var.dims().len() == 1 { 0.0 } else { self.decay };
            let mut values = read(var.as_tensor(), <[f32]>::to_vec)?;
            for (((w, &g), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
                let g = g * scale;
                *m += (g - *m) * (1.0 - BETAS.0);
                *v += (g * g - *v) * (1.0 - BETAS.1);
                *w -= rate * (*m / first / ((*v / second).sqrt() + EPS) + decay * *w);
            }
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// The moments as tensors, for a checkpoint.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        let mut tensors = HashMap::new();
        for (name, (m, v)) in &self.moments {
            tensors.insert(format!("first.{name}"), Tensor::from_slice(m, m.len(), &Device::Cpu)?);
            tensors.insert(format!("second.{name}"), Tensor::from_slice(v, v.len(), &Device::Cpu)?);
        }
        Ok(tensors)
    }

    /// The state of a checkpoint, for the weights of these names.
    pub fn restore<'a>(
        decay: f32,
        steps: u64,
        names: impl Iterator<Item = &'a String>,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self> {
        let get = |name: String| -> Result<Vec<f32>> {
            let tensor =
                tensors.get(&name).ok_or_else(|| Error::mistake(format!("the checkpoint lacks `{name}`")))?;
            Ok(read(tensor, <[f32]>::to_vec)?)
        };
        let mut moments = BTreeMap::new();
        for name in names {
            moments.insert(name.clone(), (get(format!("first.{name}"))?, get(format!("second.{name}"))?));
        }
        Ok(Self { decay, moments, steps })
    }
}
