//! OLMoE: Llama with a mixture of experts, and norms of whole queries and keys.

use serde_json::{Value, json};

use super::common::{Common, Defaults};
use super::mixture::{MixtureBlock, MixtureDefaults, MixtureSettings};
use super::olmo2;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `OlmoeForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Olmoe;

impl Architecture for Olmoe {
    fn name(&self) -> &'static str {
        "OlmoeForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "olmoe"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults { max_positions: 4096, norm_eps: 1e-5, ..Defaults::default() };
        let common = Common::read(json, defaults)?;
        if let Some(limit) = json.get("clip_qkv") {
            return Err(json.unexpected("clip_qkv", limit, "only null"));
        }
        let attention = olmo2::attention(&common)?;
        let mixture = MixtureSettings::read(&common, MixtureDefaults { experts: 64, chosen: 8 })?;
        common.model(self.name(), |_, layout| MixtureBlock::new(layout, attention, mixture))
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false, "num_experts": 6, "num_experts_per_tok": 3 })
    }
}
