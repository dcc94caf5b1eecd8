//! Features of different scale, as those of large models are, without a change of what the model computes.
//!
//! Where a norm's gain grows and the columns that read the feature shrink by one factor, every product is the same. What
//! Wanda and `SparseGPT` look at, weight times input, does not change by it either; what magnitude looks at does. The
//! factors are powers of two, so that nothing is rounded: the outputs are the same to the bit, in bf16 as in f32.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur::{Error, Result};

/// What a feature's scale is multiplied by, drawn evenly: a spread of 0.49 in the logarithm.
const FACTORS: [f32; 4] = [0.5, 1.0, 1.0, 2.0];

/// The norms of a block, and the matrices that read what they put out.
const READERS: [(&str, &[&str]); 2] = [
    ("input_layernorm", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    ("post_attention_layernorm", &["mlp.gate_proj", "mlp.up_proj"]),
];

/// Gives every feature that a norm of a block puts out another scale.
pub fn scale_features(weights: &BTreeMap<String, Var>, blocks: usize, seed: u64) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for block in 0..blocks {
        for (norm, readers) in READERS {
            let weight = |name: &str| {
                let name = format!("model.layers.{block}.{name}.weight");
                weights.get(&name).ok_or_else(|| Error::failure(format!("no weight `{name}`")))
            };
            let gain = weight(norm)?;
            let factors = draw(&mut rng, gain.elem_count());
            let factors = Tensor::from_vec(factors, gain.elem_count(), &Device::Cpu)?;
            gain.set(&(gain.as_tensor() * &factors)?)?;
            for reader in readers {
                let matrix = weight(reader)?;
                matrix.set(&matrix.as_tensor().broadcast_div(&factors)?)?;
            }
        }
    }
    Ok(())
}

fn draw(rng: &mut impl Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| FACTORS.choose(rng).copied().unwrap_or(1.0)).collect()
}
