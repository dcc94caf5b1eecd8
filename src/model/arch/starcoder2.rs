//! Starcoder 2: Llama with layer norms and biases, an MLP without a gate, and a window.

use serde_json::{Value, json};

use super::common::{Common, Defaults, KeyNames, window_if_given};
use super::llama::LlamaBlock;
use super::mlp::MlpSettings;
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::json::JsonFile;

/// `Starcoder2ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starcoder2;

impl Architecture for Starcoder2 {
    fn name(&self) -> &'static str {
        "Starcoder2ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "starcoder2"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        for (key, accepted) in [("mlp_type", "default"), ("norm_type", "layer_norm")] {
            if let Some(other) = json.get(key).filter(|value| *value != accepted) {
                return Err(json.unexpected(key, other, &format!("only {accepted}")));
            }
        }
        let common = Common::read(json, DEFAULTS)?;
        let bias = json.bool_or("use_bias", true)?;
        let window = window_if_given(json)?;
        let attention = common.attention().with_bias(bias).with_window(window);
        let mlp = MlpSettings { bias, ..common.mlp().without_gate("mlp.c_fc", "mlp.c_proj") };
        common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, mlp))
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "hidden_act": "gelu_pytorch_tanh", "sliding_window": 16 })
    }
}

const DEFAULTS: Defaults = Defaults {
    keys: &KeyNames { norm_eps: "norm_epsilon", ..KeyNames::LAYER_NORM },
    norm: NormKind::Layer { bias: true },
    activations: &[
        ("gelu_pytorch_tanh", ActivationFunction::GeluTanh),
        ("gelu_new", ActivationFunction::GeluTanh),
        ("gelu", ActivationFunction::Gelu),
    ],
    kv_heads: Some(2),
    max_positions: 4096,
    norm_eps: 1e-5,
    tied_head: true,
    ..Defaults::PLAIN
};
