//! Gemma 1: Llama with norms that multiply by one more than their weight, and an embedding that is scaled.

use serde_json::{Value, json};

use super::common::{Common, Defaults, only};
use super::llama::LlamaBlock;
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::json::JsonFile;

/// `GemmaForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemma;

impl Architecture for Gemma {
    fn name(&self) -> &'static str {
        "GemmaForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "gemma"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        // Where this key is there it counts, and the other one does not.
        if let Some(other) = json.get("hidden_activation").filter(|value| *value != "gelu_pytorch_tanh") {
            return Err(json.unexpected("hidden_activation", other, "only gelu_pytorch_tanh"));
        }
        only(json, "use_bidirectional_attention", false)?;
        let common = Common::read(json, Defaults { kv_heads: Some(16), max_positions: 8192, ..GEMMA })?;
        let attention = common.attention().with_bias(json.bool_or("attention_bias", false)?);
        let mut config =
            common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, common.mlp()))?;
        config.embedding.factor = (common.hidden as f64).sqrt();
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "hidden_act": "gelu", "head_dim": 32 })
    }
}

/// What all generations have in common. The first one's published files say `gelu` and mean the other form.
pub(super) const GEMMA: Defaults = Defaults {
    norm: NormKind::RmsPlusOne,
    activations: &[
        ("gelu_pytorch_tanh", ActivationFunction::GeluTanh),
        ("gelu", ActivationFunction::GeluTanh),
    ],
    head_dim: Some(256),
    tied_head: true,
    ..Defaults::PLAIN
};
