//! Qwen 1.5 and 2 with a mixture of experts in every block, and an expert that every token goes through.

use serde_json::{Value, json};

use super::attention::AttentionSettings;
use super::common::{Common, Defaults, only};
use super::mixture::{MixtureBlock, MixtureDefaults, MixtureSettings, refuse_dense_blocks, shared_expert};
use super::qwen3_moe::KEYS;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `Qwen2MoeForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Qwen2Moe;

impl Architecture for Qwen2Moe {
    fn name(&self) -> &'static str {
        "Qwen2MoeForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "qwen2_moe"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults {
            keys: &KEYS,
            intermediate: Some(1_408),
            kv_heads: Some(16),
            max_positions: 32_768,
            ..Defaults::default()
        };
        let mut common = Common::read(json, defaults)?;
        refuse_dense_blocks(json)?;
        only(json, "use_sliding_window", false)?;
        // Without that key no block has a window; a list that names some is told.
        common.windows(None, |_| false)?;
        let bias = json.bool_or("qkv_bias", true)?;
        let attention = AttentionSettings { input_bias: bias, ..common.attention() };
        let shared = json.positive_or("shared_expert_intermediate_size", 5632)?;
        let mixture = MixtureSettings {
            shared: Some(shared_expert(common.mlp(), shared)),
            ..MixtureSettings::read(&common, MixtureDefaults { experts: 60, chosen: 4 })?
        };
        common.model(self.name(), |_, layout| MixtureBlock::new(layout, attention, mixture))
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 96,
            "num_experts": 6, "num_experts_per_tok": 2, "norm_topk_prob": false,
        })
    }
}
