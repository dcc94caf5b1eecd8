//! Qwen 2 and 2.5: Llama with biases on queries, keys and values, and a window in the last blocks if one is asked for.

use serde_json::{Value, json};

use super::common::{Common, Defaults, window_width};
use super::llama::LlamaBlock;
use super::parts::AttentionSettings;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `Qwen2ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub struct Qwen2;

impl Architecture for Qwen2 {
    fn name(&self) -> &'static str {
        "Qwen2ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "qwen2"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, Defaults::default())?;
        let windows = windows_if_used(&common)?;
        common.model(self.name(), |block, layout| {
            let attention = AttentionSettings { input_bias: true, ..common.attention() };
            LlamaBlock::new(layout, attention.with_window(windows[block]), common.mlp())
        })
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "rope_theta": 1e6 })
    }
}

/// The windows of a family that has them only with `use_sliding_window`, from block `max_window_layers` on.
pub(super) fn windows_if_used(common: &Common<'_>) -> Result<Vec<Option<usize>>> {
    if !common.json.bool_or("use_sliding_window", false)? {
        return common.windows(None, |_| false);
    }
    let first = common.json.count_or("max_window_layers", 28)?;
    common.windows(window_width(common.json)?, |block| block >= first)
}
