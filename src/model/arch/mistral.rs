//! Mistral: Llama with a window that attention sees.

use serde_json::{Value, json};

use super::common::{Common, Defaults, window_width};
use super::llama::LlamaBlock;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `MistralForCausalLM`
#[derive(Debug, Clone, Copy)]
pub struct Mistral;

impl Architecture for Mistral {
    fn name(&self) -> &'static str {
        "MistralForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "mistral"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults { kv_heads: Some(8), max_positions: 131_072, ..Defaults::default() };
        let mut common = Common::read(json, defaults)?;
        let window = window_width(json)?;
        if common.sliding_types()?.is_some_and(|types| types.iter().any(|slides| *slides != window.is_some()))
        {
            common.warnings.push(json.note(
                "`layer_types` and `sliding_window` contradict each other: what the second says holds for all blocks of a \
                 Mistral, as with transformers",
            ));
        }
        let attention = common.attention().with_window(window);
        common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, common.mlp()))
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false, "sliding_window": 16 })
    }
}
