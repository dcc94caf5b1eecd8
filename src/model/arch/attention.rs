//! Attention with grouped heads, and what families add to it.

use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::model::config::NormKind;
use crate::model::forward::{Flow, Forward, Norm};
use crate::model::layout::{LayoutBuilder, ModuleId, TensorId};
use crate::model::ops::{self, Activations, ColumnRuns};
use crate::model::rope::RopeId;
use crate::model::widths::{UnitRows, WidthPart};

/// How the tensors of queries, keys and values are called, and which lie in one.
#[derive(Debug, Clone, Copy)]
pub(super) enum InputNames {
    /// One matrix each.
    Separate([&'static str; 3]),
    /// One matrix: all rows of queries, then those of keys, then those of values.
    Rows(&'static str),
    /// One matrix: the rows of a head's query, key and value, head after head.
    Heads(&'static str),
}

/// How the tensors of attention are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionNames {
    pub inputs: InputNames,
    pub output: &'static str,
    /// The norms of queries and keys, where there are some.
    pub norms: [&'static str; 2],
}

impl AttentionNames {
    /// As Llama and most others call them.
    pub const USUAL: Self = Self {
        inputs: InputNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        output: "self_attn.o_proj",
        norms: ["self_attn.q_norm", "self_attn.k_norm"],
    };
}

/// How queries and keys are normalised before they are rotated.
#[derive(Debug, Clone, Copy)]
pub(super) enum QueryKeyNorms {
    /// By norms of the block's kind of these widths: a head's norms each head by itself.
    Widths([usize; 2]),
    /// By layer norms without a bias, each head by one of its own: one tensor `[heads, dim]`, or a tensor for each head.
    Heads { own_tensors: bool },
}

/// How queries grow with their position, where they do: by `1 + beta · ln(1 + ⌊position / original⌋)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryGrowth {
    pub beta: f64,
    /// Tokens of the original context.
    pub original: usize,
}

impl QueryGrowth {
    fn factors(self, positions: &[u32]) -> Vec<f32> {
        let whole = |position: &u32| f64::from(*position / self.original as u32);
        positions.iter().map(|position| (1.0 + self.beta * whole(position).ln_1p()) as f32).collect()
    }
}

/// Where values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueHeads {
    /// A layer of theirs.
    Plain,
    /// The same, and every head's are normalised, without a weight.
    Normed,
    /// The layer of the keys, before these are normalised and rotated; every head's are normalised, without a weight.
    NormedKeys,
}

/// What attention has in a block.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a setting of some families, and none excludes another"
)]
pub(super) struct AttentionSettings {
    pub hidden: usize,
    pub shape: AttentionShape,
    /// The kind of the block's norms, and their epsilon.
    pub norm: (NormKind, f64),
    pub names: &'static AttentionNames,
    /// Of queries, keys and values.
    pub input_bias: bool,
    pub output_bias: bool,
    pub query_key_norms: Option<QueryKeyNorms>,
    /// Whether `transformers` reads the width of a head. Else it is the hidden size over the heads, and none can go.
    pub reads_head_dim: bool,
    /// `None` does not rotate.
    pub rope: Option<RopeId>,
    pub growth: Option<QueryGrowth>,
    /// Name of a tensor with one more score for every query head, which takes part in the softmax and has no value.
    pub sinks: Option<&'static str>,
    /// Whether the first matrix has, for every head, the rows of its query and then those of a gate: the head's output is
    /// multiplied by the sigmoid of that.
    pub output_gate: bool,
    pub values: ValueHeads,
}

impl AttentionSettings {
    /// As Llama calls its tensors, without biases and norms of its own.
    pub fn plain(hidden: usize, shape: AttentionShape, norm: (NormKind, f64)) -> Self {
        Self {
            hidden,
            shape,
            norm,
            names: &AttentionNames::USUAL,
            input_bias: false,
            output_bias: false,
            query_key_norms: None,
            reads_head_dim: true,
            rope: Some(RopeId::ONLY),
            growth: None,
            sinks: None,
            output_gate: false,
            values: ValueHeads::Plain,
        }
    }

    /// The same with a bias at all layers, or none.
    pub fn with_bias(self, bias: bool) -> Self {
        Self { input_bias: bias, output_bias: bias, ..self }
    }

    /// Why heads cannot go, where they cannot.
    fn why_heads_stay(&self) -> Option<&'static str> {
        match self.query_key_norms {
            _ if self.sinks.is_some() => Some("every head has a sink"),
            _ if self.output_gate => Some("every head has a gate"),
            _ if !self.reads_head_dim => {
                Some("in `transformers`, a head is as wide as the hidden size over the number of heads")
            }
            Some(QueryKeyNorms::Heads { .. }) => Some("every head has a norm of its own"),
            Some(QueryKeyNorms::Widths([query, _])) if query != self.shape.dim => {
                Some("all heads are normalised together")
            }
            _ => None,
        }
    }

    /// The same with a window.
    pub fn with_window(mut self, window: Option<usize>) -> Self {
        self.shape.window = window;
        self
    }
}

/// The layers that queries, keys and values come from.
#[derive(Debug, Clone, Copy)]
enum AttentionInputs {
    Separate([ModuleId; 3]),
    /// Values are the keys.
    Pair([ModuleId; 2]),
    Rows(ModuleId),
    Heads(ModuleId),
}

/// Attention with grouped heads.
#[derive(Debug)]
pub(super) struct Attention {
    inputs: AttentionInputs,
    pub output: ModuleId,
    norms: Option<[Norm; 2]>,
    /// Why heads cannot go, where they cannot.
    fixed: Option<&'static str>,
    pub shape: AttentionShape,
    rope: Option<RopeId>,
    growth: Option<QueryGrowth>,
    sinks: Option<TensorId>,
    output_gate: bool,
    /// The epsilon of the values' norm.
    value_norm: Option<f64>,
}

/// Queries, keys and values, normalised and rotated, and the gate of the output where there is one.
#[derive(Debug)]
pub(super) struct Projected {
    heads: [Activations; 3],
    gate: Option<Activations>,
}

impl Projected {
    /// What another block may borrow.
    pub fn into_keys_and_values(self) -> [Activations; 2] {
        let [_, keys, values] = self.heads;
        [keys, values]
    }
}

impl Attention {
    /// Declares the layers and norms of attention.
    pub fn new(layout: &mut LayoutBuilder, settings: AttentionSettings) -> Self {
        Self::around(layout, settings, |_| ()).0
    }

    /// The same, with other layers that read the same input declared by `beside`.
    pub fn around<T>(
        layout: &mut LayoutBuilder,
        settings: AttentionSettings,
        beside: impl FnOnce(&mut LayoutBuilder) -> T,
    ) -> (Self, T) {
        let AttentionSettings { hidden, shape, input_bias, output_bias, rope, growth, output_gate, .. } =
            settings;
        let (context, keys) = (shape.query * shape.dim, shape.key * shape.dim);
        let queries = if output_gate { 2 * context } else { context };
        let fixed = settings.why_heads_stay();
        let norms = settings.query_key_norms.map(|norms| query_key_norms(layout, norms, settings));
        let value_norm = (settings.values != ValueHeads::Plain).then_some(settings.norm.1);
        let sinks = settings.sinks.map(|name| layout.tensor(name, &[shape.query]));
        let inputs =
            match settings.names.inputs {
                InputNames::Separate([q, k, _]) if settings.values == ValueHeads::NormedKeys => {
                    AttentionInputs::Pair(
                        layout.linears(hidden, [(q, queries, input_bias), (k, keys, input_bias)]),
                    )
                }
                InputNames::Separate([q, k, v]) => AttentionInputs::Separate(layout.linears(
                    hidden,
                    [(q, queries, input_bias), (k, keys, input_bias), (v, keys, input_bias)],
                )),
                InputNames::Rows(name) => {
                    AttentionInputs::Rows(layout.linear(hidden, (name, queries + 2 * keys, input_bias)))
                }
                InputNames::Heads(name) => {
                    AttentionInputs::Heads(layout.linear(hidden, (name, queries + 2 * keys, input_bias)))
                }
            };
        let other = beside(layout);
        let output = layout.linear(context, (settings.names.output, hidden, output_bias));
        (Self { inputs, output, norms, fixed, shape, rope, growth, sinks, output_gate, value_norm }, other)
    }

    /// Queries, keys and values of `x`, normalised and rotated.
    pub fn project(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<Projected> {
        let [mut q, mut k, mut v] = self.inputs(x, cx)?;
        let mut gate = None;
        if self.output_gate {
            let AttentionShape { query: count, dim: length, .. } = self.shape;
            let part = |start| ops::columns(&q, ColumnRuns { start, length, stride: 2 * length, count });
            gate = Some(part(length)?);
            q = part(0)?;
        }
        if let Some(eps) = self.value_norm {
            v = ops::unit_norm(&v, self.shape.dim, eps)?;
        }
        if let Some([query, key]) = self.norms {
            q = cx.norm(query, &q)?;
            k = cx.norm(key, &k)?;
        }
        if let Some(rope) = self.rope {
            let table = cx.ropes.get(rope);
            q = ops::rope(&q, table, cx.batch, self.shape.query)?;
            k = ops::rope(&k, table, cx.batch, self.shape.key)?;
        }
        if let Some(growth) = self.growth {
            q = ops::scale_rows(q, &growth.factors(cx.batch.positions()))?;
        }
        Ok(Projected { heads: [q, k, v], gate })
    }

    fn inputs(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<[Activations; 3]> {
        let AttentionShape { query, key, dim, .. } = self.shape;
        match self.inputs {
            AttentionInputs::Separate(modules) => cx.linear(modules, x),
            AttentionInputs::Pair(modules) => {
                let [q, k] = cx.linear(modules, x)?;
                let length = key * dim;
                let v = ops::columns(&k, ColumnRuns { start: 0, length, stride: length, count: 1 })?;
                Ok([q, k, v])
            }
            AttentionInputs::Rows(module) => {
                let [all] = cx.linear([module], x)?;
                let stride = all.width()?;
                let part = |start: usize, heads: usize| {
                    ops::columns(&all, ColumnRuns { start, length: heads * dim, stride, count: 1 })
                };
                let keys = query * dim;
                Ok([part(0, query)?, part(keys, key)?, part(keys + key * dim, key)?])
            }
            AttentionInputs::Heads(module) => {
                let [all] = cx.linear([module], x)?;
                let part = |number: usize| {
                    let runs = ColumnRuns { start: number * dim, length: dim, stride: 3 * dim, count: query };
                    ops::columns(&all, runs)
                };
                Ok([part(0)?, part(1)?, part(2)?])
            }
        }
    }

    /// Key heads, each with the query heads that share it, or why they stay.
    pub fn width_part(&self) -> std::result::Result<WidthPart, &'static str> {
        if let Some(why) = self.fixed {
            return Err(why);
        }
        let AttentionShape { query, key, dim, .. } = self.shape;
        let queries = query / key * dim;
        let rows = |module, start, length| UnitRows { module, start, length, stride: length };
        let rows = match self.inputs {
            AttentionInputs::Separate([q, k, v]) => {
                vec![rows(q, 0, queries), rows(k, 0, dim), rows(v, 0, dim)]
            }
            AttentionInputs::Rows(module) => vec![
                rows(module, 0, queries),
                rows(module, query * dim, dim),
                rows(module, (query + key) * dim, dim),
            ],
            AttentionInputs::Heads(module) => vec![rows(module, 0, 3 * dim)],
            AttentionInputs::Pair(_) => return Err("values are made of the keys"),
        };
        Ok(WidthPart { units: key, features: queries, output: self.output, rows })
    }

    /// What the heads make of them: the input of the output projection.
    pub fn attend(
        &self,
        Projected { heads: [q, k, v], gate }: &Projected,
        cx: &Forward<'_>,
    ) -> Result<Activations> {
        let context = cx.attend([q, k, v], self.shape, self.sinks)?;
        match gate {
            None => Ok(context),
            Some(gate) => ops::times_sigmoid(context, gate),
        }
    }
}

fn query_key_norms(
    layout: &mut LayoutBuilder,
    norms: QueryKeyNorms,
    settings: AttentionSettings,
) -> [Norm; 2] {
    let AttentionSettings { shape, norm, names: AttentionNames { norms: [query, key], .. }, .. } = settings;
    match norms {
        QueryKeyNorms::Widths([query_width, key_width]) => {
            let query = Norm::new(layout, query, query_width, norm);
            [query, Norm::new(layout, key, key_width, norm)]
        }
        QueryKeyNorms::Heads { own_tensors } => {
            let query = Norm::by_head(layout, (query, own_tensors), (shape.query, shape.dim), norm.1);
            [query, Norm::by_head(layout, (key, own_tensors), (shape.key, shape.dim), norm.1)]
        }
    }
}
