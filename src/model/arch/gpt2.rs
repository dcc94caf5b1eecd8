//! GPT-2: layer norms, learned positions, and matrices that the files have as `[in, out]`.

use serde_json::{Value, json};

use super::attention::{AttentionNames, AttentionSettings, InputNames};
use super::common::{Common, Defaults, EndNames, KeyNames, Turning, only};
use super::llama::LlamaBlock;
use super::mlp::MlpSettings;
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind, PositionsDef};
use crate::model::json::JsonFile;

/// `GPT2LMHeadModel`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gpt2;

impl Architecture for Gpt2 {
    fn name(&self) -> &'static str {
        "GPT2LMHeadModel"
    }

    fn other_names(&self) -> &'static [&'static str] {
        &["GPT2Model"]
    }

    fn model_type(&self) -> &'static str {
        "gpt2"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        only(json, "scale_attn_weights", true)?;
        only(json, "scale_attn_by_inverse_layer_idx", false)?;
        only(json, "add_cross_attention", false)?;
        let common = Common::read(json, DEFAULTS)?;
        let attention =
            AttentionSettings { names: &NAMES, reads_head_dim: false, ..common.attention().with_bias(true) };
        let mlp = MlpSettings { bias: true, ..common.mlp().without_gate("mlp.c_fc", "mlp.c_proj") };
        let mut config = common.model(self.name(), |_, layout| {
            layout.turn();
            LlamaBlock::with_norms(layout, ["ln_1", "ln_2"], attention, mlp)
        })?;
        let rows = common.max_positions;
        let tensor = "transformer.wpe.weight".to_owned();
        config.embedding.positions = Some(PositionsDef { tensor, rows, offset: 0 });
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": true, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512 })
    }
}

const NAMES: AttentionNames = AttentionNames {
    inputs: InputNames::Rows("attn.c_attn"),
    output: "attn.c_proj",
    ..AttentionNames::USUAL
};

const DEFAULTS: Defaults = Defaults {
    keys: &KeyNames {
        hidden: "n_embd",
        intermediate: "n_inner",
        blocks: "n_layer",
        heads: "n_head",
        max_positions: "n_positions",
        norm_eps: "layer_norm_epsilon",
        activation: "activation_function",
        ..KeyNames::LAYER_NORM
    },
    names: &EndNames {
        embedding: "transformer.wte",
        blocks: "transformer.h",
        norm: "transformer.ln_f",
        head: "lm_head",
    },
    norm: NormKind::Layer { bias: true },
    activations: &[
        ("gelu_new", ActivationFunction::GeluTanh),
        ("gelu_pytorch_tanh", ActivationFunction::GeluTanh),
        ("gelu", ActivationFunction::Gelu),
        ("relu", ActivationFunction::Relu),
    ],
    grouped: false,
    intermediate_times: Some(4),
    max_positions: 1024,
    norm_eps: 1e-5,
    turning: Turning::Nothing,
    tied_head: true,
    ..Defaults::PLAIN
};
