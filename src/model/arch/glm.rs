//! GLM 4 as it was first published: Llama with gate and up in one matrix, of which neighbouring features of half a head
//! turn.

use serde_json::{Value, json};

use super::attention::AttentionSettings;
use super::common::{Common, Defaults, Turning};
use super::llama::LlamaBlock;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `GlmForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glm;

impl Architecture for Glm {
    fn name(&self) -> &'static str {
        "GlmForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "glm"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, DEFAULTS)?;
        let input_bias = json.bool_or("attention_bias", false)?;
        let attention = AttentionSettings { input_bias, ..common.attention() };
        common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, common.mlp().fused()))
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false, "attention_bias": true })
    }
}

/// What absent keys mean.
pub(super) const DEFAULTS: Defaults = Defaults {
    kv_heads: Some(2),
    head_dim: Some(128),
    max_positions: 131_072,
    norm_eps: 1.562_5e-7,
    turning: Turning::Neighbours(0.5),
    ..Defaults::PLAIN
};
