//! Parts that blocks of several families are made of.

use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::model::forward::{Flow, Forward, RmsNorm};
use crate::model::layout::{LayoutBuilder, ModuleId};
use crate::model::ops::{self, Activations};
use crate::model::rope::RopeId;

impl RmsNorm {
    /// Declares a norm whose weight is `NAME.weight`.
    pub fn new(layout: &mut LayoutBuilder, name: &str, width: usize, eps: f64) -> Self {
        Self { weight: layout.tensor(&format!("{name}.weight"), &[width]), eps }
    }
}

/// What attention has in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionSettings {
    pub hidden: usize,
    pub shape: AttentionShape,
    pub eps: f64,
    /// Of queries, keys and values.
    pub input_bias: bool,
    pub output_bias: bool,
    /// Widths of the norms of queries and keys before they are rotated: a head's norms each head by itself.
    pub query_key_norms: Option<[usize; 2]>,
    /// `None` does not rotate.
    pub rope: Option<RopeId>,
}

impl AttentionSettings {
    /// The same with a window.
    pub fn with_window(mut self, window: Option<usize>) -> Self {
        self.shape.window = window;
        self
    }
}

/// Attention with grouped heads.
#[derive(Debug)]
pub(super) struct Attention {
    inputs: [ModuleId; 3],
    pub output: ModuleId,
    norms: Option<[RmsNorm; 2]>,
    pub shape: AttentionShape,
    rope: Option<RopeId>,
}

impl Attention {
    /// Declares `self_attn.{q,k,v,o}_proj`, and `q_norm` and `k_norm` where there are norms.
    pub fn new(layout: &mut LayoutBuilder, settings: AttentionSettings) -> Self {
        let AttentionSettings { hidden, shape, eps, input_bias, output_bias, query_key_norms, rope } =
            settings;
        let (queries, keys) = (shape.query * shape.dim, shape.key * shape.dim);
        let norms = query_key_norms.map(|[query, key]| {
            let query = RmsNorm::new(layout, "self_attn.q_norm", query, eps);
            [query, RmsNorm::new(layout, "self_attn.k_norm", key, eps)]
        });
        let inputs = layout.linears(
            hidden,
            [
                ("self_attn.q_proj", queries, input_bias),
                ("self_attn.k_proj", keys, input_bias),
                ("self_attn.v_proj", keys, input_bias),
            ],
        );
        let output = layout.linear(queries, ("self_attn.o_proj", hidden, output_bias));
        Self { inputs, output, norms, shape, rope }
    }

    /// Queries, keys and values of `x`, normalised and rotated.
    pub fn project(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<[Activations; 3]> {
        let [mut q, mut k, v] = cx.linear(self.inputs, x)?;
        if let Some([query, key]) = self.norms {
            q = cx.norm(query, &q)?;
            k = cx.norm(key, &k)?;
        }
        if let Some(rope) = self.rope {
            let table = cx.ropes.get(rope);
            q = ops::rope(&q, table, cx.batch, self.shape.query)?;
            k = ops::rope(&k, table, cx.batch, self.shape.key)?;
        }
        Ok([q, k, v])
    }

    /// What the heads make of them: the input of the output projection.
    pub fn attend(&self, [q, k, v]: &[Activations; 3], cx: &Forward<'_>) -> Result<Activations> {
        cx.attend(q, k, v, self.shape)
    }
}

/// What a gated MLP has in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct MlpSettings {
    pub hidden: usize,
    pub intermediate: usize,
    pub bias: bool,
}

/// `down(silu(gate) · up)`
#[derive(Debug)]
pub(super) struct GatedMlp {
    inputs: [ModuleId; 2],
    pub down: ModuleId,
}

impl GatedMlp {
    /// Declares `mlp.{gate,up,down}_proj`.
    pub fn new(layout: &mut LayoutBuilder, settings: MlpSettings) -> Self {
        let MlpSettings { hidden, intermediate, bias } = settings;
        let inputs = layout
            .linears(hidden, [("mlp.gate_proj", intermediate, bias), ("mlp.up_proj", intermediate, bias)]);
        Self { inputs, down: layout.linear(intermediate, ("mlp.down_proj", hidden, bias)) }
    }

    /// The gated activations of `x`: the input of the last projection.
    pub fn gate(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let [gate, up] = cx.linear(self.inputs, x)?;
        Ok(ops::silu_mul(&gate, &up)?)
    }
}
