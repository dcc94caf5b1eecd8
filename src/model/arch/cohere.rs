//! Cohere (Command R, Aya): attention and MLP read the same normalised residual, and neighbouring features turn together.

use serde_json::{Value, json};

use super::attention::{AttentionSettings, QueryKeyNorms};
use super::common::{Common, Defaults, KeyNames, Turning};
use super::parallel::ParallelBlock;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::json::JsonFile;

/// `CohereForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cohere;

impl Architecture for Cohere {
    fn name(&self) -> &'static str {
        "CohereForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "cohere"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, DEFAULTS)?;
        let normed = json.bool_or("use_qk_norm", false)?;
        let attention = AttentionSettings {
            query_key_norms: normed.then_some(QueryKeyNorms::Heads { own_tensors: false }),
            ..common.attention().with_bias(json.bool_or("attention_bias", false)?)
        };
        let mut config = common
            .model(self.name(), |_, layout| ParallelBlock::with_one_norm(layout, attention, common.mlp()))?;
        config.head.factor = json.number_or("logit_scale", 0.0625, "a number above 0", |v| v > 0.0)?;
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "use_qk_norm": true, "logit_scale": 0.25 })
    }
}

const DEFAULTS: Defaults = Defaults {
    keys: &KeyNames::LAYER_NORM,
    norm: NormKind::Layer { bias: false },
    max_positions: 8192,
    norm_eps: 1e-5,
    rope_theta: 500_000.0,
    turning: Turning::Neighbours(1.0),
    tied_head: true,
    ..Defaults::PLAIN
};
