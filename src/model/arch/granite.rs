//! Granite: Llama with four multipliers, of the embedding, the scores, the residual and the logits.

use serde_json::{Value, json};

use super::common::{Common, Defaults};
use super::llama::LlamaBlock;
use super::mlp::MlpSettings;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `GraniteForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granite;

impl Architecture for Granite {
    fn name(&self) -> &'static str {
        "GraniteForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "granite"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, Defaults::default())?;
        let multiplier = |key| json.number_or(key, 1.0, "a number above 0", |v| v > 0.0);
        let bias = json.bool_or("attention_bias", false)?;
        let mut attention = common.attention().with_bias(bias);
        attention.shape.scale = Some(multiplier("attention_multiplier")?);
        let mlp = MlpSettings { bias: json.bool_or("mlp_bias", false)?, ..common.mlp() };
        let residual = multiplier("residual_multiplier")?;
        let mut config = common.model(self.name(), |_, layout| LlamaBlock {
            residual_factor: residual,
            ..LlamaBlock::new(layout, attention, mlp)
        })?;
        config.embedding.factor = multiplier("embedding_multiplier")?;
        config.head.factor = 1.0 / multiplier("logits_scaling")?;
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": true, "attention_multiplier": 0.2, "residual_multiplier": 0.5,
            "embedding_multiplier": 3.0, "logits_scaling": 2.0,
        })
    }
}
