//! GPT-NeoX and Pythia: attention and MLP read the same residual, and one matrix has queries, keys and values head by
//! head.

use serde_json::{Value, json};

use super::attention::{AttentionNames, AttentionSettings, InputNames};
use super::common::{Common, Defaults, EndNames, KeyNames, Turning};
use super::llama::LlamaBlock;
use super::mlp::MlpSettings;
use super::parallel::ParallelBlock;
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::json::JsonFile;

/// `GPTNeoXForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct GptNeoX;

impl Architecture for GptNeoX {
    fn name(&self) -> &'static str {
        "GPTNeoXForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "gpt_neox"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, DEFAULTS)?;
        let attention = AttentionSettings {
            names: &NAMES,
            reads_head_dim: false,
            ..common.attention().with_bias(json.bool_or("attention_bias", true)?)
        };
        let mlp = common.mlp().without_gate("mlp.dense_h_to_4h", "mlp.dense_4h_to_h");
        let mlp = MlpSettings { bias: true, ..mlp };
        if json.bool_or("use_parallel_residual", true)? {
            common.model(self.name(), |_, layout| ParallelBlock::with_two_norms(layout, attention, mlp))
        } else {
            common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, mlp))
        }
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false, "hidden_act": "gelu", "rotary_pct": 0.25 })
    }
}

const NAMES: AttentionNames = AttentionNames {
    inputs: InputNames::Heads("attention.query_key_value"),
    output: "attention.dense",
    ..AttentionNames::USUAL
};

const DEFAULTS: Defaults = Defaults {
    keys: &KeyNames { rope_theta: "rotary_emb_base", rotary_part: "rotary_pct", ..KeyNames::LAYER_NORM },
    names: &EndNames {
        embedding: "gpt_neox.embed_in",
        blocks: "gpt_neox.layers",
        norm: "gpt_neox.final_layer_norm",
        head: "embed_out",
    },
    norm: NormKind::Layer { bias: true },
    activations: &[
        ("gelu", ActivationFunction::Gelu),
        ("gelu_new", ActivationFunction::GeluTanh),
        ("gelu_pytorch_tanh", ActivationFunction::GeluTanh),
        ("gelu_fast", ActivationFunction::GeluTanh),
        ("relu", ActivationFunction::Relu),
    ],
    grouped: false,
    norm_eps: 1e-5,
    turning: Turning::Part(0.25),
    ..Defaults::PLAIN
};
