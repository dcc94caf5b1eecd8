//! `StableLM`: Llama with layer norms, of which a quarter of a head turns. The one of 12 billion weights is parallel, and
//! normalises every head of queries and keys by a norm of its own.

use serde_json::{Value, json};

use super::attention::{AttentionNames, AttentionSettings, QueryKeyNorms};
use super::common::{Common, Defaults, KeyNames, Turning};
use super::llama::LlamaBlock;
use super::parallel::ParallelBlock;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::json::JsonFile;

/// `StableLmForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct StableLm;

impl Architecture for StableLm {
    fn name(&self) -> &'static str {
        "StableLmForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "stablelm"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, DEFAULTS)?;
        let normed = json.bool_or("qk_layernorm", false)?;
        let attention = AttentionSettings {
            input_bias: json.bool_or("use_qkv_bias", false)?,
            query_key_norms: normed.then_some(QueryKeyNorms::Heads { own_tensors: true }),
            names: &NAMES,
            reads_head_dim: false,
            ..common.attention()
        };
        let mlp = common.mlp();
        if json.bool_or("use_parallel_residual", false)? {
            common.model(self.name(), |_, layout| ParallelBlock::with_one_norm(layout, attention, mlp))
        } else {
            common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, mlp))
        }
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false, "qk_layernorm": true, "use_parallel_residual": true, "use_qkv_bias": true,
        })
    }
}

const NAMES: AttentionNames =
    AttentionNames { norms: ["self_attn.q_layernorm", "self_attn.k_layernorm"], ..AttentionNames::USUAL };

const DEFAULTS: Defaults = Defaults {
    keys: &KeyNames::LAYER_NORM,
    norm: NormKind::Layer { bias: true },
    kv_heads: Some(32),
    max_positions: 4096,
    norm_eps: 1e-5,
    turning: Turning::Part(0.25),
    ..Defaults::PLAIN
};
