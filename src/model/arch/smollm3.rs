//! SmolLM 3: Llama without a rotary embedding in every fourth block.

use serde_json::{Value, json};

use super::common::{Common, Defaults};
use super::llama::LlamaBlock;
use super::parts::{AttentionSettings, MlpSettings};
use super::qwen2::windows_if_used;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `SmolLM3ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub struct SmolLm3;

impl Architecture for SmolLm3 {
    fn name(&self) -> &'static str {
        "SmolLM3ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "smollm3"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults {
            kv_heads: Some(4),
            max_positions: 32_768,
            rope_theta: 2e6,
            tied_head: true,
            ..Defaults::default()
        };
        let common = Common::read(json, defaults)?;
        let (rotated, windows) = (rotated_blocks(&common)?, windows_if_used(&common)?);
        let bias = json.bool_or("attention_bias", false)?;
        let mlp = MlpSettings { bias: json.bool_or("mlp_bias", false)?, ..common.mlp() };
        common.model(self.name(), |block, layout| {
            let mut attention =
                AttentionSettings { input_bias: bias, output_bias: bias, ..common.attention() };
            attention.rope = attention.rope.filter(|_| rotated[block]);
            LlamaBlock::new(layout, attention.with_window(windows[block]), mlp)
        })
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "no_rope_layers": [1, 0, 1] })
    }
}

/// Which blocks have a rotary embedding: those of a 1 in `no_rope_layers`, or without that key all but every fourth.
fn rotated_blocks(common: &Common<'_>) -> Result<Vec<bool>> {
    const KEY: &str = "no_rope_layers";
    let (json, blocks) = (common.json, common.blocks);
    let Some(list) = json.get(KEY) else {
        let every = json.positive_or("no_rope_layer_interval", 4)?;
        return Ok((1..=blocks).map(|number| !number.is_multiple_of(every)).collect());
    };
    let flags = list.as_array().map(|flags| flags.iter().map(Value::as_u64).collect::<Vec<_>>());
    match flags {
        Some(flags) if flags.len() == blocks && flags.iter().all(|f| matches!(f, Some(0 | 1))) => {
            Ok(flags.into_iter().map(|flag| flag == Some(1)).collect())
        }
        _ => Err(json.unexpected(KEY, list, &format!("a list of {blocks} times 0 or 1, one for each block"))),
    }
}
