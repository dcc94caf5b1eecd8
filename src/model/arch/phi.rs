//! Phi 1 and 2: attention and MLP read the same normalised residual, and only a part of a head turns.

use serde_json::{Value, json};

use super::attention::{AttentionNames, AttentionSettings};
use super::common::{Common, Defaults, EndNames, KeyNames, Turning, only};
use super::mlp::MlpSettings;
use super::parallel::ParallelBlock;
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::json::JsonFile;

/// `PhiForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phi;

impl Architecture for Phi {
    fn name(&self) -> &'static str {
        "PhiForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "phi"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        only(json, "qk_layernorm", false)?;
        let common = Common::read(json, DEFAULTS)?;
        let attention = AttentionSettings { names: &NAMES, ..common.attention().with_bias(true) };
        let mlp = MlpSettings { bias: true, ..common.mlp().without_gate("mlp.fc1", "mlp.fc2") };
        let mut config =
            common.model(self.name(), |_, layout| ParallelBlock::with_one_norm(layout, attention, mlp))?;
        config.head.bias = Some("lm_head.bias".to_owned());
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false, "hidden_act": "gelu_new", "partial_rotary_factor": 0.5 })
    }
}

const NAMES: AttentionNames = AttentionNames { output: "self_attn.dense", ..AttentionNames::USUAL };

const DEFAULTS: Defaults = Defaults {
    keys: &KeyNames::LAYER_NORM,
    names: &EndNames { norm: "model.final_layernorm", ..EndNames::USUAL },
    norm: NormKind::Layer { bias: true },
    activations: &[
        ("gelu_new", ActivationFunction::GeluTanh),
        ("gelu_pytorch_tanh", ActivationFunction::GeluTanh),
        ("gelu", ActivationFunction::Gelu),
    ],
    norm_eps: 1e-5,
    turning: Turning::Part(0.5),
    ..Defaults::PLAIN
};
