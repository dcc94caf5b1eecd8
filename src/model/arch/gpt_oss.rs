//! GPT-OSS: a mixture of experts in every block, whose gates are clamped, and heads that may look at nothing.

use serde_json::{Value, json};

use super::attention::AttentionSettings;
use super::common::{Common, Defaults, window_or};
use super::mixture::{ExpertLayers, MixtureBlock, MixtureDefaults, MixtureNames, MixtureSettings};
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `GptOssForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct GptOss;

const NAMES: MixtureNames = MixtureNames {
    router: "mlp.router.weight",
    router_bias: Some("mlp.router.bias"),
    experts: "mlp.experts",
    layers: ExpertLayers::Alternating { gate_up: "gate_up_proj", down: "down_proj" },
};

impl Architecture for GptOss {
    fn name(&self) -> &'static str {
        "GptOssForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "gpt_oss"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        if ["rope_scaling", "rope_parameters"].iter().all(|key| json.get(key).is_none()) {
            return Err(
                json.wrong("`rope_scaling` is missing: accepted are the settings of the rotary embedding")
            );
        }
        let defaults = Defaults {
            kv_heads: Some(8),
            head_dim: Some(64),
            max_positions: 131_072,
            norm_eps: 1e-5,
            rope_theta: 150_000.0,
            ..Defaults::default()
        };
        let mut common = Common::read(json, defaults)?;
        let windows = common.windows(window_or(json, 128)?, |block| block.is_multiple_of(2))?;
        let limit = json.number_or("swiglu_limit", 7.0, "a number above 0", |v| v > 0.0)?;
        let attention = AttentionSettings {
            sinks: Some("self_attn.sinks"),
            ..common.attention().with_bias(json.bool_or("attention_bias", true)?)
        };
        let mixture = MixtureSettings {
            names: &NAMES,
            // A softmax over the chosen alone is one over all, divided by the sum of those.
            renormalise: true,
            bias: true,
            clamp: Some(limit),
            ..MixtureSettings::read(&common, MixtureDefaults { experts: 128, chosen: 4 })?
        };
        common.model(self.name(), |block, layout| {
            MixtureBlock::new(layout, attention.with_window(windows[block]), mixture)
        })
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16,
            "swiglu_limit": 2.0, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_scaling": { "rope_type": "yarn", "factor": 4.0, "truncate": false,
                "original_max_position_embeddings": 128 },
        })
    }
}
