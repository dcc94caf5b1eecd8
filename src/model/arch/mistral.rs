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
        let common = Common::read(json, Defaults::default())?;
        let windows = common.windows(window_width(json)?, |_| true)?;
        common.model(self.name(), |block, layout| {
            let attention = common.attention().with_window(windows[block]);
            LlamaBlock::new(layout, attention, common.mlp())
        })
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false, "sliding_window": 16 })
    }
}
