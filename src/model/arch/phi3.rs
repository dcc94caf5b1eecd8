//! Phi 3 and Phi 4 (also mini): Llama with queries, keys and values in one matrix, and gate and up in another.

use serde_json::{Value, json};

use super::attention::{AttentionNames, AttentionSettings, InputNames};
use super::common::{Common, Defaults, Turning, only, window_if_given};
use super::llama::LlamaBlock;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;
use crate::model::rope::RopeScaling;

/// `Phi3ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phi3;

impl Architecture for Phi3 {
    fn name(&self) -> &'static str {
        "Phi3ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "phi3"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        for key in ["attention_bias", "mlp_bias", "lm_head_bias"] {
            only(json, key, false)?;
        }
        let defaults = Defaults {
            turning: Turning::Part(1.0),
            max_positions: 4096,
            norm_eps: 1e-5,
            ..Defaults::default()
        };
        let common = Common::read(json, defaults)?;
        let is_long = |scaling: &RopeScaling| matches!(scaling, RopeScaling::LongRope { .. });
        if common.ropes.iter().any(|rope| is_long(&rope.rope.scaling)) {
            // The class has a length of its own for this, and not the model's.
            json.positive("original_max_position_embeddings")?;
        }
        let window = window_if_given(json)?;
        let attention = AttentionSettings { names: &NAMES, ..common.attention() }.with_window(window);
        common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, common.mlp().fused()))
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": true, "sliding_window": 16, "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 512,
            "rope_scaling": {
                "type": "longrope", "factor": 4.0, "short_factor": [1.0, 1.02, 1.05, 1.1, 1.15, 1.3],
                "long_factor": [1.0, 1.25, 1.9, 3.1, 5.5, 8.25],
            },
        })
    }
}

const NAMES: AttentionNames =
    AttentionNames { inputs: InputNames::Rows("self_attn.qkv_proj"), ..AttentionNames::USUAL };
