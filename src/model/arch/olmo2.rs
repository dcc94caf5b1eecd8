//! OLMo 2: norms on what attention and MLP give instead of what they get, and on whole queries and keys.

use serde_json::{Value, json};

use super::attention::{Attention, AttentionSettings, QueryKeyNorms};
use super::common::{Common, Defaults};
use super::mlp::{Mlp, MlpSettings};
use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::json::JsonFile;
use crate::model::layout::{BlockLayout, LayoutBuilder};
use crate::model::ops::{self, Activations};
use crate::model::widths::BlockWidths;

/// `Olmo2ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Olmo2;

impl Architecture for Olmo2 {
    fn name(&self) -> &'static str {
        "Olmo2ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "olmo2"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, Defaults { norm_eps: 1e-5, ..Defaults::default() })?;
        let attention = attention(&common)?;
        common.model(self.name(), |_, layout| PostNormBlock::new(layout, attention, common.mlp()))
    }

    fn example(&self) -> Value {
        json!({ "tie_word_embeddings": false })
    }
}

/// Attention with norms of whole queries and keys.
pub(super) fn attention(common: &Common<'_>) -> Result<AttentionSettings> {
    let bias = common.json.bool_or("attention_bias", false)?;
    let attention = common.attention().with_bias(bias);
    let AttentionShape { query, key, dim, .. } = attention.shape;
    let norms = QueryKeyNorms::Widths([query * dim, key * dim]);
    Ok(AttentionSettings { query_key_norms: Some(norms), ..attention })
}

/// A norm behind the attention, one behind the MLP, both before the sum with the residual.
#[derive(Debug)]
pub(super) struct PostNormBlock {
    attention_norm: Norm,
    mlp_norm: Norm,
    attention: Attention,
    mlp: Mlp,
}

impl PostNormBlock {
    pub fn new(layout: &mut LayoutBuilder, attention: AttentionSettings, mlp: MlpSettings) -> Self {
        let AttentionSettings { hidden, norm, .. } = attention;
        Self {
            attention_norm: Norm::new(layout, "post_attention_layernorm", hidden, norm),
            mlp_norm: Norm::new(layout, "post_feedforward_layernorm", hidden, norm),
            attention: Attention::new(layout, attention),
            mlp: Mlp::new(layout, mlp),
        }
    }
}

impl DecoderBlock for PostNormBlock {
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let projected = self.attention.project(&x, cx)?;
        let context = self.attention.attend(&projected, cx)?;
        drop(projected);
        let [y] = cx.linear([self.attention.output], &context)?;
        let x = ops::add(x, &cx.norm(self.attention_norm, &y)?, 1.0)?;
        let inner = self.mlp.activate(&x, cx)?;
        let [y] = cx.linear([self.mlp.down], &inner)?;
        Ok(ops::add(x, &cx.norm(self.mlp_norm, &y)?, 1.0)?)
    }

    fn attention(&self) -> AttentionShape {
        self.attention.shape
    }

    fn widths(&self, layout: &BlockLayout) -> BlockWidths {
        BlockWidths { attention: self.attention.width_part(), mlp: Ok(self.mlp.width_part(layout)) }
    }
}
