//! Qwen 3 with a mixture of experts in every block.

use serde_json::{Value, json};

use super::attention::{AttentionSettings, QueryKeyNorms};
use super::common::{Common, Defaults, KeyNames, only};
use super::mixture::{MixtureBlock, MixtureDefaults, MixtureSettings, refuse_dense_blocks};
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `Qwen3MoeForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Qwen3Moe;

/// Those of Qwen's mixtures: `intermediate_size` is the width of dense blocks, which they do not have.
pub(super) const KEYS: KeyNames = KeyNames { intermediate: "moe_intermediate_size", ..KeyNames::USUAL };

impl Architecture for Qwen3Moe {
    fn name(&self) -> &'static str {
        "Qwen3MoeForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "qwen3_moe"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults {
            keys: &KEYS,
            intermediate: Some(768),
            kv_heads: Some(4),
            max_positions: 32_768,
            ..Defaults::default()
        };
        let common = Common::read(json, defaults)?;
        refuse_dense_blocks(json)?;
        only(json, "use_sliding_window", false)?;
        let attention = common.attention().with_bias(json.bool_or("attention_bias", false)?);
        let norms = QueryKeyNorms::Widths([attention.shape.dim; 2]);
        let attention = AttentionSettings { query_key_norms: Some(norms), ..attention };
        let mixture = MixtureSettings::read(&common, MixtureDefaults { experts: 128, chosen: 8 })?;
        common.model(self.name(), |_, layout| MixtureBlock::new(layout, attention, mixture))
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false, "head_dim": 32, "moe_intermediate_size": 48, "num_experts": 6,
            "num_experts_per_tok": 2, "norm_topk_prob": true,
        })
    }
}
