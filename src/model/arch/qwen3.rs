//! Qwen 3: Llama with a norm on each head's queries and keys, and heads of a width of their own.

use serde_json::{Value, json};

use super::attention::{AttentionSettings, QueryKeyNorms};
use super::common::{Common, Defaults};
use super::llama::LlamaBlock;
use super::qwen2::{DEFAULTS, windows_if_used};
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `Qwen3ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub struct Qwen3;

impl Architecture for Qwen3 {
    fn name(&self) -> &'static str {
        "Qwen3ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "qwen3"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let mut common = Common::read(json, Defaults { head_dim: Some(128), ..DEFAULTS })?;
        let windows = windows_if_used(&mut common)?;
        let bias = json.bool_or("attention_bias", false)?;
        common.model(self.name(), |block, layout| {
            let attention = common.attention();
            let norms = QueryKeyNorms::Widths([attention.shape.dim; 2]);
            let attention = AttentionSettings { query_key_norms: Some(norms), ..attention.with_bias(bias) };
            LlamaBlock::new(layout, attention.with_window(windows[block]), common.mlp())
        })
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "head_dim": 32 })
    }
}
