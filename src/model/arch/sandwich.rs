//! A block with a norm before and a norm behind attention and MLP.

use super::attention::{Attention, AttentionSettings};
use super::mlp::{Mlp, MlpSettings};
use crate::kernels::attention::AttentionShape;
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::layout::{BlockLayout, LayoutBuilder};
use crate::model::ops::{self, Activations};
use crate::model::widths::BlockWidths;

/// Names of the four norms, in the order in which a pass reaches them.
#[derive(Debug, Clone, Copy)]
pub(super) struct SandwichNames {
    pub before_attention: &'static str,
    pub behind_attention: &'static str,
    pub before_mlp: &'static str,
    pub behind_mlp: &'static str,
}

/// `x += N(attention(N(x)))`, then `x += N(mlp(N(x)))`
#[derive(Debug)]
pub(super) struct SandwichBlock {
    before_attention: Norm,
    behind_attention: Norm,
    before_mlp: Norm,
    behind_mlp: Norm,
    attention: Attention,
    mlp: Mlp,
}

impl SandwichBlock {
    pub fn new(
        layout: &mut LayoutBuilder,
        names: SandwichNames,
        attention: AttentionSettings,
        mlp: MlpSettings,
    ) -> Self {
        let AttentionSettings { hidden, norm, .. } = attention;
        Self {
            before_attention: Norm::new(layout, names.before_attention, hidden, norm),
            behind_attention: Norm::new(layout, names.behind_attention, hidden, norm),
            before_mlp: Norm::new(layout, names.before_mlp, hidden, norm),
            behind_mlp: Norm::new(layout, names.behind_mlp, hidden, norm),
            attention: Attention::new(layout, attention),
            mlp: Mlp::new(layout, mlp),
        }
    }
}

impl DecoderBlock for SandwichBlock {
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let normed = cx.norm(self.before_attention, &x)?;
        let projected = self.attention.project(&normed, cx)?;
        drop(normed);
        let context = self.attention.attend(&projected, cx)?;
        drop(projected);
        let [y] = cx.linear([self.attention.output], &context)?;
        drop(context);
        let x = ops::add(x, &cx.norm(self.behind_attention, &y)?, 1.0)?;
        drop(y);
        let normed = cx.norm(self.before_mlp, &x)?;
        let inner = self.mlp.activate(&normed, cx)?;
        drop(normed);
        let [y] = cx.linear([self.mlp.down], &inner)?;
        Ok(ops::add(x, &cx.norm(self.behind_mlp, &y)?, 1.0)?)
    }

    fn attention(&self) -> AttentionShape {
        self.attention.shape
    }

    fn widths(&self, layout: &BlockLayout) -> BlockWidths {
        BlockWidths { attention: self.attention.width_part(), mlp: Ok(self.mlp.width_part(layout)) }
    }
}
