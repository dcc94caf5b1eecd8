//! Llama 1 to 3, and everything shaped like it.

use serde_json::{Value, json};

use super::common::{Common, Defaults};
use super::parts::{Attention, AttentionSettings, GatedMlp, MlpSettings};
use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::forward::{DecoderBlock, Flow, Forward, RmsNorm};
use crate::model::json::JsonFile;
use crate::model::layout::LayoutBuilder;
use crate::model::ops::Activations;

/// `LlamaForCausalLM`
#[derive(Debug, Clone, Copy)]
pub struct Llama;

impl Architecture for Llama {
    fn name(&self) -> &'static str {
        "LlamaForCausalLM"
    }

    fn other_names(&self) -> &'static [&'static str] {
        // As the first converted checkpoints spell it.
        &["LLaMAForCausalLM"]
    }

    fn model_type(&self) -> &'static str {
        "llama"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, Defaults::default())?;
        let bias = json.bool_or("attention_bias", false)?;
        let attention = AttentionSettings { input_bias: bias, output_bias: bias, ..common.attention() };
        let mlp = MlpSettings { bias: json.bool_or("mlp_bias", false)?, ..common.mlp() };
        common.model(self.name(), |_, layout| LlamaBlock::new(layout, attention, mlp))
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false,
            "rope_theta": 500_000.0,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        })
    }
}

/// A norm before the attention, one before the MLP, and the residual around each.
#[derive(Debug)]
pub(super) struct LlamaBlock {
    pub(super) attention_norm: RmsNorm,
    pub(super) mlp_norm: RmsNorm,
    pub(super) attention: Attention,
    pub(super) mlp: GatedMlp,
    /// What attention and MLP are multiplied by before they join the residual.
    pub residual_factor: f64,
}

impl LlamaBlock {
    pub fn new(layout: &mut LayoutBuilder, attention: AttentionSettings, mlp: MlpSettings) -> Self {
        let AttentionSettings { hidden, eps, .. } = attention;
        Self {
            attention_norm: RmsNorm::new(layout, "input_layernorm", hidden, eps),
            mlp_norm: RmsNorm::new(layout, "post_attention_layernorm", hidden, eps),
            attention: Attention::new(layout, attention),
            mlp: GatedMlp::new(layout, mlp),
            residual_factor: 1.0,
        }
    }
}

impl DecoderBlock for LlamaBlock {
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let normed = cx.norm(self.attention_norm, &x)?;
        let projected = self.attention.project(&normed, cx)?;
        drop(normed);
        let context = self.attention.attend(&projected, cx)?;
        drop(projected);
        let x = cx.linear_add(x, self.attention.output, &context, self.residual_factor)?;
        drop(context);
        let normed = cx.norm(self.mlp_norm, &x)?;
        let gated = self.mlp.gate(&normed, cx)?;
        drop(normed);
        cx.linear_add(x, self.mlp.down, &gated, self.residual_factor)
    }

    fn attention(&self) -> AttentionShape {
        self.attention.shape
    }
}
