//! Llama 1 to 3, and everything shaped like it.

use serde_json::{Value, json};

use super::attention::{Attention, AttentionSettings};
use super::common::{Common, Defaults};
use super::mlp::{Mlp, MlpSettings};
use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::json::JsonFile;
use crate::model::layout::{BlockLayout, LayoutBuilder};
use crate::model::ops::Activations;
use crate::model::widths::BlockWidths;

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
        let attention = common.attention().with_bias(bias);
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
    pub(super) attention_norm: Norm,
    pub(super) mlp_norm: Norm,
    pub(super) attention: Attention,
    pub(super) mlp: Mlp,
    /// What attention and MLP are multiplied by before they join the residual.
    pub residual_factor: f64,
}

impl LlamaBlock {
    /// Names of the norms before attention and before the MLP.
    pub const NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];

    pub fn new(layout: &mut LayoutBuilder, attention: AttentionSettings, mlp: MlpSettings) -> Self {
        Self::with_norms(layout, Self::NORMS, attention, mlp)
    }

    /// The same with other names of the two norms.
    pub fn with_norms(
        layout: &mut LayoutBuilder,
        [attention_norm, mlp_norm]: [&str; 2],
        attention: AttentionSettings,
        mlp: MlpSettings,
    ) -> Self {
        let AttentionSettings { hidden, norm, .. } = attention;
        Self {
            attention_norm: Norm::new(layout, attention_norm, hidden, norm),
            mlp_norm: Norm::new(layout, mlp_norm, hidden, norm),
            attention: Attention::new(layout, attention),
            mlp: Mlp::new(layout, mlp),
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
        let inner = self.mlp.activate(&normed, cx)?;
        drop(normed);
        cx.linear_add(x, self.mlp.down, &inner, self.residual_factor)
    }

    fn attention(&self) -> AttentionShape {
        self.attention.shape
    }

    fn widths(&self, layout: &BlockLayout) -> BlockWidths {
        BlockWidths { attention: self.attention.width_part(), mlp: Ok(self.mlp.width_part(layout)) }
    }
}
