//! A block of Gemma 4, and what its rows of hidden states have behind the residual.
//!
//! Where blocks borrow keys and values, or have inputs of their own, these travel with the residual, in the same rows:
//! `[residual | keys and values of the block with a window that lends | the same of the full one | inputs of this block and
//! of those behind it]`. So whatever sends states from block to block need not know of them.

use super::attention::{Attention, AttentionSettings};
use super::gemma2::NAMES;
use super::mixture::{Mixture, MixtureSettings};
use super::mlp::{Mlp, MlpSettings};
use crate::kernels::activation::ActivationFunction;
use crate::kernels::attention::AttentionShape;
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::layout::{LayoutBuilder, ModuleId, TensorId};
use crate::model::ops::{self, Activations, ColumnRuns};
use crate::model::rope::RopeId;

/// The kinds of blocks, as numbers of a list of two.
pub(super) const SLIDING: usize = 0;
pub(super) const FULL: usize = 1;

/// What rows have behind the residual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Features of the keys that a block of each kind lends, and of its values; 0 where there are none.
    pub lent: [usize; 2],
    /// Features of the inputs of all blocks that have not read theirs.
    pub inputs: usize,
}

impl Carried {
    fn width(self) -> usize {
        2 * (self.lent[SLIDING] + self.lent[FULL]) + self.inputs
    }
}

/// Where a block has keys and values from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LendingRole {
    /// Its own.
    Own,
    /// Its own, and the blocks behind take them.
    Lends,
    /// Those of the block of its kind that lends.
    Borrows,
}

/// What a block is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockParts {
    pub attention: AttentionSettings,
    pub mlp: MlpSettings,
    /// Beside the MLP.
    pub mixture: Option<MixtureSettings>,
    /// [`SLIDING`] or [`FULL`].
    pub kind: usize,
    pub role: LendingRole,
    /// Features of its own input; 0 is none.
    pub input: usize,
    /// What rows have behind the residual when they come.
    pub before: Carried,
    /// The same when they leave.
    pub after: Carried,
}

/// Attention with keys and values of another block.
#[derive(Debug)]
struct Borrowing {
    queries: ModuleId,
    norm: Norm,
    rope: Option<RopeId>,
    shape: AttentionShape,
    output: ModuleId,
}

impl Borrowing {
    fn new(layout: &mut LayoutBuilder, settings: AttentionSettings) -> Self {
        let AttentionSettings { hidden, shape, norm, names, rope, input_bias, output_bias, .. } = settings;
        let width = shape.query * shape.dim;
        let norm = Norm::new(layout, names.norms[0], shape.dim, norm);
        let queries = layout.linear(hidden, ("self_attn.q_proj", width, input_bias));
        let output = layout.linear(width, (names.output, hidden, output_bias));
        Self { queries, norm, rope, shape, output }
    }

    /// The input of the output projection.
    fn context(&self, x: &Activations, [k, v]: [&Activations; 2], cx: &mut Forward<'_>) -> Flow<Activations> {
        let [q] = cx.linear([self.queries], x)?;
        let q = cx.norm(self.norm, &q)?;
        let q = match self.rope {
            None => q,
            Some(rope) => ops::rope(&q, cx.ropes.get(rope), cx.batch, self.shape.query)?,
        };
        Ok(cx.attend([&q, k, v], self.shape, None)?)
    }
}

#[derive(Debug)]
enum Gemma4Attention {
    Own(Attention),
    Borrowing(Borrowing),
}

/// A mixture of experts beside an MLP, each with norms of its own.
#[derive(Debug)]
struct Beside {
    behind_mlp: Norm,
    before_router: Norm,
    before: Norm,
    behind: Norm,
    mixture: Mixture,
}

/// What a block does with its own input `u`: `x += N(W(f(Gx) · u))`.
#[derive(Debug)]
struct OwnInput {
    gate: ModuleId,
    projection: ModuleId,
    norm: Norm,
    activation: ActivationFunction,
}

/// `x += N(attention(N(x)))`, then `x += N(mlp(N(x)))`, then `x += N(W(gelu(V·x) ∘ u))` where the block has an input `u` of
/// its own, then `x · layer_scalar`. With a mixture beside the MLP, the second step is
/// `x += N(N₁(mlp(N(x))) + N₂(experts(N(x))))`.
#[derive(Debug)]
pub(super) struct Gemma4Block {
    hidden: usize,
    kind: usize,
    lends: bool,
    before: Carried,
    after: Carried,
    input: usize,
    before_attention: Norm,
    behind_attention: Norm,
    before_mlp: Norm,
    behind_mlp: Norm,
    scalar: TensorId,
    attention: Gemma4Attention,
    mlp: Mlp,
    beside: Option<Beside>,
    own_input: Option<OwnInput>,
}

impl Gemma4Block {
    pub fn new(layout: &mut LayoutBuilder, parts: &BlockParts) -> Self {
        let BlockParts { attention, mlp, mixture, kind, role, input, before, after } = *parts;
        let AttentionSettings { hidden, norm, .. } = attention;
        let mut declare = |name: &str| Norm::new(layout, name, hidden, norm);
        let before_attention = declare(NAMES.before_attention);
        let behind_attention = declare(NAMES.behind_attention);
        let (before_mlp, behind_mlp) = (declare(NAMES.before_mlp), declare(NAMES.behind_mlp));
        let norms = mixture.map(|_| {
            ["post_feedforward_layernorm_1", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2"]
                .map(&mut declare)
        });
        let input_norm = (input > 0).then(|| declare("post_per_layer_input_norm"));
        let scalar = layout.tensor("layer_scalar", &[1]);
        let attention = if role == LendingRole::Borrows {
            Gemma4Attention::Borrowing(Borrowing::new(layout, attention))
        } else {
            Gemma4Attention::Own(Attention::new(layout, attention))
        };
        let activation = mlp.activation;
        let mlp = Mlp::new(layout, mlp);
        let beside = mixture.zip(norms).map(|(mixture, [behind_mlp, before, behind])| Beside {
            behind_mlp,
            before_router: Norm {
                weight: layout.tensor("router.scale", &[hidden]),
                eps: norm.1,
                layer: None,
            },
            before,
            behind,
            mixture: Mixture::new(layout, mixture),
        });
        let own_input = input_norm.map(|norm| OwnInput {
            gate: layout.linear(hidden, ("per_layer_input_gate", input, false)),
            projection: layout.linear(input, ("per_layer_projection", hidden, false)),
            norm,
            activation,
        });
        let lends = role == LendingRole::Lends;
        Self {
            hidden,
            kind,
            lends,
            before,
            after,
            input,
            before_attention,
            behind_attention,
            before_mlp,
            behind_mlp,
            scalar,
            attention,
            mlp,
            beside,
            own_input,
        }
    }

    /// Features of rows as they come, from one place on.
    fn columns(&self, x: &Activations, start: usize, length: usize) -> Flow<Activations> {
        let stride = self.hidden + self.before.width();
        Ok(ops::columns(x, ColumnRuns { start, length, stride, count: 1 })?)
    }

    /// The first feature of the keys that a block of a kind lends.
    fn lent_at(&self, kind: usize) -> usize {
        self.hidden + if kind == SLIDING { 0 } else { 2 * self.before.lent[SLIDING] }
    }

    /// The output of attention for `x`, and keys and values where later blocks borrow them. `all` are the rows that the block
    /// got, with what travels behind the residual.
    fn attend(
        &self,
        x: &Activations,
        all: Option<&Activations>,
        cx: &mut Forward<'_>,
    ) -> Flow<(Activations, Option<[Activations; 2]>)> {
        let normed = cx.norm(self.before_attention, x)?;
        let (context, output, lent) = match &self.attention {
            Gemma4Attention::Own(attention) => {
                let projected = attention.project(&normed, cx)?;
                let context = attention.attend(&projected, cx)?;
                let lent = self.lends.then(|| projected.into_keys_and_values());
                (context, attention.output, lent)
            }
            Gemma4Attention::Borrowing(attention) => {
                let (at, width) = (self.lent_at(self.kind), self.before.lent[self.kind]);
                let all = all.unwrap_or(x);
                let (k, v) = (self.columns(all, at, width)?, self.columns(all, at + width, width)?);
                (attention.context(&normed, [&k, &v], cx)?, attention.output, None)
            }
        };
        drop(normed);
        let [y] = cx.linear([output], &context)?;
        Ok((cx.norm(self.behind_attention, &y)?, lent))
    }

    /// What MLP and experts make of `x`, before the norm behind both.
    fn feed_forward(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let inner = self.mlp.activate(&cx.norm(self.before_mlp, x)?, cx)?;
        let [y] = cx.linear([self.mlp.down], &inner)?;
        drop(inner);
        let Some(beside) = &self.beside else { return Ok(y) };
        let y = cx.norm(beside.behind_mlp, &y)?;
        let routing = ops::scale(cx.norm(beside.before_router, x)?, 1.0 / (self.hidden as f64).sqrt())?;
        let experts = beside.mixture.forward_routed(&routing, &cx.norm(beside.before, x)?, cx)?;
        Ok(ops::add(y, &cx.norm(beside.behind, &experts)?, 1.0)?)
    }

    /// Adds `N(W(gelu(V·x) ∘ u))`, where `u` is the block's own input; nothing where it has none.
    fn add_own_input(&self, x: Activations, all: &Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let Some(own) = &self.own_input else { return Ok(x) };
        let at = self.hidden + self.before.width() - self.before.inputs;
        let input = self.columns(all, at, self.input)?;
        let [gate] = cx.linear([own.gate], &x)?;
        let gated = ops::gated(&gate, &input, own.activation)?;
        let [y] = cx.linear([own.projection], &gated)?;
        Ok(ops::add(x, &cx.norm(own.norm, &y)?, 1.0)?)
    }

    /// The residual with what later blocks need behind it.
    fn with_carried(
        &self,
        x: Activations,
        all: &Activations,
        lent: Option<[Activations; 2]>,
    ) -> Flow<Activations> {
        if self.after.width() == 0 {
            return Ok(x);
        }
        let mut parts = vec![x];
        let mut own = lent;
        for kind in [SLIDING, FULL] {
            if let Some(lent) = own.take_if(|_| kind == self.kind) {
                parts.extend(lent);
            } else if self.before.lent[kind] > 0 {
                parts.push(self.columns(all, self.lent_at(kind), 2 * self.before.lent[kind])?);
            }
        }
        if self.after.inputs > 0 {
            let at = self.hidden + self.before.width() - self.after.inputs;
            parts.push(self.columns(all, at, self.after.inputs)?);
        }
        Ok(ops::beside(parts)?)
    }
}

impl DecoderBlock for Gemma4Block {
    fn forward(&self, rows: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let (x, all) = if self.before.width() == 0 {
            (rows, None)
        } else {
            (self.columns(&rows, 0, self.hidden)?, Some(rows))
        };
        let (y, lent) = self.attend(&x, all.as_ref(), cx)?;
        let x = ops::add(x, &y, 1.0)?;
        let y = self.feed_forward(&x, cx)?;
        let x = ops::add(x, &cx.norm(self.behind_mlp, &y)?, 1.0)?;
        let Some(all) = all else {
            let x = cx.scale(self.scalar, x)?;
            let parts = std::iter::once(x).chain(lent.into_iter().flatten()).collect::<Vec<_>>();
            return Ok(ops::beside(parts)?);
        };
        let x = self.add_own_input(x, &all, cx)?;
        self.with_carried(cx.scale(self.scalar, x)?, &all, lent)
    }

    fn attention(&self) -> AttentionShape {
        match &self.attention {
            Gemma4Attention::Own(attention) => attention.shape,
            Gemma4Attention::Borrowing(attention) => attention.shape,
        }
    }

    fn carried(&self) -> usize {
        self.after.width()
    }
}
