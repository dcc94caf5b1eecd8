//! The decoder as a graph that candle can differentiate, in Hugging Face's names.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur::Result;
use secateur::model::ModelConfig;

use super::ops::{self, Attention, Rotation};

/// A Llama whose weights can be trained.
pub struct Network {
    /// Sizes.
    pub config: ModelConfig,
    /// Weights in `f32` by their names.
    pub weights: BTreeMap<String, Var>,
    rotation: Arc<Rotation>,
}

impl Network {
    /// Random weights: normal, as wide as 0.04, and what goes into the residual stream by `√(2 · blocks)` narrower.
    pub fn random(config: ModelConfig, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let count = shape.iter().product();
            let values: Vec<f32> = if shape.len() == 1 {
                vec![1.0; count]
            } else {
                let into_stream = name.contains("o_proj") || name.contains("down_proj");
                let narrower = if into_stream { (2.0 * config.blocks as f32).sqrt() } else { 1.0 };
                (0..count).map(|_| normal(&mut rng) * 0.04 / narrower).collect()
            };
            weights.insert(name, Var::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Self::with(config, weights))
    }

    /// The weights of a file.
    pub fn load(config: ModelConfig, tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let mut weights = BTreeMap::new();
        for (name, _) in config.tensors() {
            let tensor = tensors
                .get(&name)
                .ok_or_else(|| secateur::Error::mistake(format!("the checkpoint lacks `{name}`")))?;
            weights.insert(name, Var::from_tensor(&tensor.to_dtype(DType::F32)?)?);
        }
        Ok(Self::with(config, weights))
    }

    fn with(config: ModelConfig, weights: BTreeMap<String, Var>) -> Self {
        let rope = &config.ropes[0];
        let rotation = Arc::new(Rotation::new(rope.rope.theta as f32, rope.dim, config.max_positions));
        Self { config, weights, rotation }
    }

    /// Weights in all.
    pub fn parameters(&self) -> usize {
        self.weights.values().map(|var| var.elem_count()).sum()
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        let var = self.weights.get(name);
        Ok(var.ok_or_else(|| secateur::Error::failure(format!("no weight `{name}`")))?.as_tensor())
    }

    /// Logits `[tokens, vocabulary]` of sequences of these lengths, one behind the other.
    pub fn logits(&self, tokens: &[u32], lengths: &[usize]) -> Result<Tensor> {
        let config = &self.config;
        // A Llama has one for all its norms.
        let eps = config.head.norm_eps;
        let embedding = self.weight(&config.embedding.tensor)?;
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        let mut x = embedding.index_select(&ids, 0)?;
        let attention = Attention { lengths, heads: config.attention(0).query, rotation: &self.rotation };
        for block in 0..config.blocks {
            let weight = |name: &str| self.weight(&format!("model.layers.{block}.{name}.weight"));
            let normed = ops::rms_norm(&x, weight("input_layernorm")?, eps)?;
            let project = |name: &str, x: &Tensor| -> Result<Tensor> { Ok(ops::linear(x, weight(name)?)?) };
            let q = project("self_attn.q_proj", &normed)?;
            let k = project("self_attn.k_proj", &normed)?;
            let v = project("self_attn.v_proj", &normed)?;
            x = (x + project("self_attn.o_proj", &attention.apply(&q, &k, &v)?)?)?;
            let normed = ops::rms_norm(&x, weight("post_attention_layernorm")?, eps)?;
            let gate = project("mlp.gate_proj", &normed)?;
            let up = project("mlp.up_proj", &normed)?;
            x = (x + project("mlp.down_proj", &ops::silu_mul(&gate, &up)?)?)?;
        }
        let x = ops::rms_norm(&x, self.weight(&config.head.norm)?, eps)?;
        let head = if config.head.tied { &config.embedding.tensor } else { &config.head.tensor };
        Ok(ops::linear(&x, self.weight(head)?)?)
    }

    /// Sum of the negative log-likelihoods of all tokens but the first of each sequence: a scalar.
    pub fn loss(&self, sequences: &[Vec<u32>]) -> Result<Tensor> {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let next = |sequence: &Vec<u32>| {
            let shifted = sequence.iter().skip(1).copied().map(Some);
            shifted.chain([None]).collect::<Vec<_>>()
        };
        let targets = sequences.iter().flat_map(next).collect();
        Ok(ops::cross_entropy(&self.logits(&sequences.concat(), &lengths)?, targets)?)
    }

    /// Writes the weights as `model.safetensors` in bf16.
    pub fn save_bf16(&self, path: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for (name, var) in &self.weights {
            tensors.push((name, var.as_tensor().to_dtype(DType::BF16)?));
        }
        // Hugging Face's loader asks for the framework that a file is for.
        let notes = HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize_to_file(tensors, Some(notes), path)
            .map_err(|e| secateur::Error::failure(format!("cannot write {}: {e}", path.display())))
    }
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f32, f32) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (2.0 * std::f32::consts::PI * v).cos()
}
