//! Ministral 3, the text part: Llama with queries that grow with their position.

use serde_json::{Value, json};

use super::attention::{AttentionSettings, QueryGrowth};
use super::common::{Common, Defaults, window_if_given};
use super::llama::LlamaBlock;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `Ministral3ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ministral3;

impl Architecture for Ministral3 {
    fn name(&self) -> &'static str {
        "Ministral3ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "ministral3"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults {
            kv_heads: Some(8),
            head_dim: Some(128),
            max_positions: 262_144,
            norm_eps: 1e-5,
            ..Defaults::default()
        };
        let common = Common::read(json, defaults)?;
        let window = window_if_given(json)?;
        let attention = AttentionSettings { growth: growth(json)?, ..common.attention() };
        let attention = attention.with_window(window);
        common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, common.mlp()))
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false,
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16,
                "llama_4_scaling_beta": 0.3,
            },
        })
    }
}

fn growth(json: &JsonFile<'_>) -> Result<Option<QueryGrowth>> {
    const BETA: &str = "llama_4_scaling_beta";
    for key in ["rope_scaling", "rope_parameters"] {
        if let Some(settings) = json.object(key)?
            && settings.get(BETA).is_some()
        {
            let beta = settings.number(BETA, "a number of at least 0", |v| v >= 0.0)?;
            let original = settings.positive("original_max_position_embeddings")?;
            return Ok(Some(QueryGrowth { beta, original }));
        }
    }
    Ok(None)
}
