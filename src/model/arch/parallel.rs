//! A block whose attention and MLP read the same residual, and whose outputs are added to it together.

use super::attention::{Attention, AttentionSettings};
use super::mlp::{Mlp, MlpInputs, MlpSettings};
use crate::kernels::attention::AttentionShape;
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::layout::{BlockLayout, LayoutBuilder};
use crate::model::ops::Activations;
use crate::model::widths::BlockWidths;

/// `x += attention(N(x)) + mlp(N(x))`
#[derive(Debug)]
pub(super) struct ParallelBlock {
    norm: Norm,
    /// `None` reads what attention reads.
    mlp_norm: Option<Norm>,
    attention: Attention,
    mlp: Mlp,
}

impl ParallelBlock {
    /// With one norm: queries, keys, values and the first layers of the MLP share an input.
    pub fn with_one_norm(layout: &mut LayoutBuilder, attention: AttentionSettings, mlp: MlpSettings) -> Self {
        let norm = Norm::new(layout, "input_layernorm", attention.hidden, attention.norm);
        let (attention, inputs) =
            Attention::around(layout, attention, |layout| MlpInputs::beside(layout, mlp));
        Self { norm, mlp_norm: None, attention, mlp: Mlp::behind(layout, inputs, mlp) }
    }

    /// With a norm for attention and one for the MLP.
    pub fn with_two_norms(
        layout: &mut LayoutBuilder,
        attention: AttentionSettings,
        mlp: MlpSettings,
    ) -> Self {
        let AttentionSettings { hidden, norm, .. } = attention;
        Self {
            norm: Norm::new(layout, "input_layernorm", hidden, norm),
            mlp_norm: Some(Norm::new(layout, "post_attention_layernorm", hidden, norm)),
            attention: Attention::new(layout, attention),
            mlp: Mlp::new(layout, mlp),
        }
    }
}

impl DecoderBlock for ParallelBlock {
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let mut normed = cx.norm(self.norm, &x)?;
        let projected = self.attention.project(&normed, cx)?;
        if let Some(norm) = self.mlp_norm {
            normed = cx.norm(norm, &x)?;
        }
        let context = self.attention.attend(&projected, cx)?;
        drop(projected);
        let x = cx.linear_add(x, self.attention.output, &context, 1.0)?;
        drop(context);
        let inner = self.mlp.activate(&normed, cx)?;
        drop(normed);
        cx.linear_add(x, self.mlp.down, &inner, 1.0)
    }

    fn attention(&self) -> AttentionShape {
        self.attention.shape
    }

    fn widths(&self, layout: &BlockLayout) -> BlockWidths {
        BlockWidths { attention: self.attention.width_part(), mlp: Ok(self.mlp.width_part(layout)) }
    }
}
