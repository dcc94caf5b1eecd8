//! Gemma 2: Gemma with four norms in a block, caps on scores and logits, and a window in every other block.

use serde_json::{Value, json};

use super::attention::AttentionSettings;
use super::common::{Common, Defaults, KeyNames, only, window_width};
use super::gemma::GEMMA;
use super::sandwich::{SandwichBlock, SandwichNames};
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `Gemma2ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemma2;

impl Architecture for Gemma2 {
    fn name(&self) -> &'static str {
        "Gemma2ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "gemma2"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        only(json, "use_bidirectional_attention", false)?;
        let defaults = Defaults { kv_heads: Some(4), max_positions: 8192, ..SECOND };
        let mut common = Common::read(json, defaults)?;
        let width = window_width(json)?;
        let windows = common.windows(width, |block| block % 2 == 0)?;
        let attention = attention(&common, Some(50.0))?;
        let mut config = common.model(self.name(), |block, layout| {
            SandwichBlock::new(layout, NAMES, attention.with_window(windows[block]), common.mlp())
        })?;
        config.embedding.factor = (common.hidden as f64).sqrt();
        config.head.softcap = softcap(json, "final_logit_softcapping", Some(30.0))?;
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": true, "sliding_window": 16, "attn_logit_softcapping": 8.0,
            "final_logit_softcapping": 6.0, "query_pre_attn_scalar": 24,
        })
    }
}

/// What the second and the third generation have in common.
pub(super) const SECOND: Defaults = Defaults {
    keys: &KeyNames { activation: "hidden_activation", ..KeyNames::USUAL },
    activations: &[("gelu_pytorch_tanh", ActivationFunction::GeluTanh)],
    ..GEMMA
};

/// The norm behind the attention has the name that Llama's norm before the MLP has.
pub(super) const NAMES: SandwichNames = SandwichNames {
    before_attention: "input_layernorm",
    behind_attention: "post_attention_layernorm",
    before_mlp: "pre_feedforward_layernorm",
    behind_mlp: "post_feedforward_layernorm",
};

/// Attention with a scale and a cap of its own; `cap` is the cap where the key is absent.
pub(super) fn attention(common: &Common<'_>, cap: Option<f64>) -> Result<AttentionSettings> {
    let json = common.json;
    let mut attention = common.attention().with_bias(json.bool_or("attention_bias", false)?);
    let scalar = json.number_or("query_pre_attn_scalar", 256.0, "a number above 0", |v| v > 0.0)?;
    attention.shape.scale = Some(1.0 / scalar.sqrt());
    attention.shape.softcap = softcap(json, "attn_logit_softcapping", cap)?;
    Ok(attention)
}

/// A cap; null is none.
pub(super) fn softcap(json: &JsonFile<'_>, key: &str, absent: Option<f64>) -> Result<Option<f64>> {
    match json.get(key) {
        None => Ok(absent.filter(|_| !json.has(key))),
        Some(_) => json.number(key, "a number above 0", |v| v > 0.0).map(Some),
    }
}
