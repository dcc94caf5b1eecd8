//! GLM 4 of 2025: GLM with four norms in a block.

use serde_json::{Value, json};

use super::attention::AttentionSettings;
use super::common::Common;
use super::glm::DEFAULTS;
use super::sandwich::{SandwichBlock, SandwichNames};
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `Glm4ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glm4;

impl Architecture for Glm4 {
    fn name(&self) -> &'static str {
        "Glm4ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "glm4"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, DEFAULTS)?;
        let input_bias = json.bool_or("attention_bias", false)?;
        let attention = AttentionSettings { input_bias, ..common.attention() };
        common.model(self.name(), |_, layout| {
            SandwichBlock::new(layout, NAMES, attention, common.mlp().fused())
        })
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false, "attention_bias": true })
    }
}

const NAMES: SandwichNames = SandwichNames {
    before_attention: "input_layernorm",
    behind_attention: "post_self_attn_layernorm",
    before_mlp: "post_attention_layernorm",
    behind_mlp: "post_mlp_layernorm",
};
