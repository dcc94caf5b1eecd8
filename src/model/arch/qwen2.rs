//! Qwen 2 and 2.5: Llama with biases on queries, keys and values, and a window in the last blocks if one is asked for.

use serde_json::{Value, json};

use super::attention::AttentionSettings;
use super::common::{Common, Defaults, window_width};
use super::llama::LlamaBlock;
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
        let mut common = Common::read(json, DEFAULTS)?;
        let windows = windows_if_used(&mut common)?;
        common.model(self.name(), |block, layout| {
            let attention = AttentionSettings { input_bias: true, ..common.attention() };
            LlamaBlock::new(layout, attention.with_window(windows[block]), common.mlp())
        })
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "rope_theta": 1e6 })
    }
}

/// What absent keys mean.
pub(super) const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(32), max_positions: 32_768, ..Defaults::PLAIN };

/// The windows of a family that has them only with `use_sliding_window`, in the blocks that `layer_types` calls sliding,
/// or without that key from block `max_window_layers` on.
pub(super) fn windows_if_used(common: &mut Common<'_>) -> Result<Vec<Option<usize>>> {
    let json = common.json;
    if !json.bool_or("use_sliding_window", false)? {
        return common.windows(None, |_| false);
    }
    let first = json.count_or("max_window_layers", 28)?;
    let width = window_width(json)?;
    let windows = common.windows(width, |block| block >= first)?;
    let by_number = (0..common.blocks).map(|block| width.filter(|_| block >= first));
    if json.get("max_window_layers").is_some() && !by_number.eq(windows.iter().copied()) {
        common.warnings.push(json.note(&format!(
            "`layer_types` and `max_window_layers`, {first}, contradict each other: the first is used, as transformers does"
        )));
    }
    Ok(windows)
}
