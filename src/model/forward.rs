//! A pass through one block, in which every call of a linear layer is a hook.
//!
//! An architecture writes its forward pass with [`Forward::linear`], which multiplies and shows the input to whoever
//! watches these modules. A pass that only observes ends after the last input that is watched: nobody would read what
//! comes behind it.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::batch::Batch;
use super::cache::BlockCache;
use super::layout::{BlockLayout, InputSite, ModuleId, TensorId};
use super::ops::{self, Activations, DeltaWeights};
use super::rope::RopeTables;
use super::widths::BlockWidths;
use crate::error::{Error, Result};
use crate::kernels::attention::AttentionShape;
use crate::kernels::delta::DeltaShape;
use crate::kernels::sparse::Packed;

/// Is shown the inputs of modules while a pass runs.
pub trait ActivationObserver {
    /// `x` is `[rows, in]`: the rows of the batch, or those of them that reach these modules.
    fn input(&mut self, site: InputSite, x: &Activations) -> Result<()>;
}

/// Is shown what the experts of a block make of the rows that are routed to them.
pub trait ExpertObserver {
    /// `output` is `[rows, hidden]`, one row for each that reached the expert, and not multiplied by anything yet; `gates`
    /// are what the router has these rows multiplied by. `expert` is its number in the model's files.
    ///
    /// # Errors
    /// A tensor operation that fails.
    fn output(&mut self, expert: usize, output: &Activations, gates: &[f32]) -> Result<()>;
}

/// Who looks on while states go through a block to its end.
#[derive(Default)]
pub struct Onlookers<'a> {
    /// Is shown the inputs of modules, these sites in their order.
    pub inputs: Option<(&'a [InputSite], &'a mut dyn ActivationObserver)>,
    /// Is shown the outputs of experts.
    pub experts: Option<&'a mut dyn ExpertObserver>,
}

impl std::fmt::Debug for Onlookers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sites = self.inputs.as_ref().map(|(sites, _)| sites);
        f.debug_struct("Onlookers").field("inputs", &sites).finish_non_exhaustive()
    }
}

/// Why a pass ends before the block's output is there.
#[derive(Debug)]
pub(super) enum Halt {
    /// Everything that is watched has been shown.
    Observed,
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a step of a pass gives, unless the pass ends there.
pub(super) type Flow<T> = std::result::Result<T, Halt>;

/// The forward pass of one kind of block.
pub(super) trait DecoderBlock: fmt::Debug + Send + Sync {
    /// The block's output for hidden states `x`, `[rows of the batch, hidden]`.
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations>;

    /// Shape of the block's heads.
    fn attention(&self) -> AttentionShape;

    /// Which of its parts can be narrower; `layout` is the block's.
    fn widths(&self, _layout: &BlockLayout) -> BlockWidths {
        BlockWidths::UNKNOWN
    }

    /// What it keeps of the tokens of a text.
    fn memory(&self) -> BlockMemory {
        BlockMemory::of_attention(self.attention())
    }

    /// Features that its output has behind the residual, for later blocks.
    fn carried(&self) -> usize {
        0
    }

    /// What `layer_types` of a configuration calls such a block.
    fn kind(&self) -> &'static str {
        if self.attention().window.is_some() { "sliding_attention" } else { "full_attention" }
    }
}

/// What a block keeps of the tokens of a text, for those behind them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum BlockMemory {
    /// Keys and values of every token.
    KeysAndValues {
        /// Of the keys of a token, and of its values.
        width: usize,
    },
    /// Matrices, however long the text is.
    DeltaNet(DeltaShape),
}

impl BlockMemory {
    pub fn of_attention(shape: AttentionShape) -> Self {
        Self::KeysAndValues { width: shape.key * shape.dim }
    }

    /// Bytes that it takes for so many texts of `tokens` tokens together, where a number takes `element` of them. Matrices
    /// are of `f32`, and those before the last token are kept beside them.
    pub fn bytes(self, texts: usize, tokens: usize, element: usize) -> usize {
        match self {
            Self::KeysAndValues { width } => 2 * width * tokens * element,
            Self::DeltaNet(shape) => {
                texts * (2 * shape.elements() + shape.taps * shape.channels()) * size_of::<f32>()
            }
        }
    }
}

/// Heads that follow the gated delta rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeltaLayer {
    pub shape: DeltaShape,
    /// `[channels, 1, taps]`
    pub kernel: TensorId,
    /// A number for each head.
    pub rate: TensorId,
    /// The same.
    pub bias: TensorId,
}

/// Rows from which on packed weights are used: fewer would leave most of a tile of theirs empty.
const PACKED_ROWS: usize = 64;

/// A linear layer with its weights.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
    /// The weight once more, without its zeroes.
    pub(super) packed: Option<Arc<Packed>>,
}

impl Linear {
    /// `x · weightᵀ + bias`, and the residual where there is one.
    fn forward(&self, residual: Option<Activations>, x: &Activations) -> Result<Activations> {
        let bias = self.bias.as_ref();
        match (&self.packed, residual) {
            (Some(packed), residual) if x.len()? >= PACKED_ROWS => {
                ops::linear_packed(residual, x, packed, bias)
            }
            (_, Some(residual)) => ops::linear_add(residual, x, &self.weight, bias),
            (_, None) => ops::linear(x, &self.weight, bias),
        }
    }
}

/// Reads the weight of a linear layer, `[out, in]`, as it is computed with.
pub(crate) type WeightReader = Arc<dyn Fn() -> Result<Tensor> + Send + Sync>;

/// A linear layer of a block, in memory or not.
#[derive(Clone)]
pub(super) enum ModuleWeights {
    Held(Linear),
    /// Read in every call, and let go of behind it.
    ReadWhenNeeded {
        reader: WeightReader,
        bias: Option<Tensor>,
        /// Whether weights with enough zeroes are packed then.
        packs: bool,
    },
}

impl fmt::Debug for ModuleWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(linear) => linear.fmt(f),
            Self::ReadWhenNeeded { .. } => f.write_str("ReadWhenNeeded"),
        }
    }
}

impl ModuleWeights {
    /// The layer in memory.
    pub fn linear(&self) -> Result<Linear> {
        match self {
            Self::Held(linear) => Ok(linear.clone()),
            Self::ReadWhenNeeded { reader, bias, .. } => {
                Ok(Linear { weight: reader()?, bias: bias.clone(), packed: None })
            }
        }
    }

    fn forward(&self, residual: Option<Activations>, x: &Activations) -> Result<Activations> {
        match self {
            Self::Held(linear) => linear.forward(residual, x),
            Self::ReadWhenNeeded { packs, .. } => {
                let mut linear = self.linear()?;
                if *packs && x.len()? >= PACKED_ROWS {
                    linear.packed = ops::pack(&linear.weight)?.map(Arc::new);
                }
                linear.forward(residual, x)
            }
        }
    }
}

/// A norm of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    pub weight: TensorId,
    pub eps: f64,
    /// `None` is an RMS norm.
    pub layer: Option<LayerNormParts>,
}

/// What a layer norm has beside its weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerNormParts {
    pub bias: Option<TensorId>,
    /// Features that are normalised together.
    pub piece: usize,
}

/// Who watches the inputs of a block's modules.
pub(super) struct Watch<'a> {
    /// The sites that are shown, in their order.
    pub sites: &'a [InputSite],
    pub observer: &'a mut dyn ActivationObserver,
    /// Whether the pass ends behind the last of them. Else the block's output is wanted too.
    pub ends_there: bool,
}

/// A pass through one block: its weights, the batch, and who watches.
pub(super) struct Forward<'a> {
    pub layout: &'a BlockLayout,
    /// By their numbers in the layout.
    pub modules: &'a [ModuleWeights],
    pub tensors: &'a [Tensor],
    pub batch: &'a Batch,
    pub ropes: &'a RopeTables,
    pub cache: Option<&'a BlockCache>,
    pub watch: Option<Watch<'a>>,
    /// Who is shown the outputs of experts.
    pub experts: Option<&'a mut dyn ExpertObserver>,
}

impl Forward<'_> {
    /// What linear layers that share an input make of it; the modules are those of one
    /// [`super::layout::LayoutBuilder::linears`].
    pub fn linear<const N: usize>(
        &mut self,
        modules: [ModuleId; N],
        x: &Activations,
    ) -> Flow<[Activations; N]> {
        self.show(&modules, x)?;
        self.linear_beside(modules, x)
    }

    /// The same of modules whose input was shown already: those of
    /// [`super::layout::LayoutBuilder::linears_beside`].
    pub fn linear_beside<const N: usize>(
        &self,
        modules: [ModuleId; N],
        x: &Activations,
    ) -> Flow<[Activations; N]> {
        let outputs =
            modules.iter().map(|id| self.module(*id).forward(None, x)).collect::<Result<Vec<_>>>()?;
        outputs.try_into().map_err(|_| Halt::Failed(Error::failure("a linear layer without an output")))
    }

    /// `residual + factor · linear(x)`, in place of the residual.
    pub fn linear_add(
        &mut self,
        residual: Activations,
        module: ModuleId,
        x: &Activations,
        factor: f64,
    ) -> Flow<Activations> {
        self.show(&[module], x)?;
        let module = self.module(module);
        // A product that is added where it is made costs nothing beside.
        #[allow(clippy::float_cmp, reason = "the factor of a model that has none is 1 exactly")]
        if factor == 1.0 {
            return Ok(module.forward(Some(residual), x)?);
        }
        Ok(ops::add(residual, &module.forward(None, x)?, factor)?)
    }

    /// `x · weightᵀ` with a matrix of `rows` rows that is no module: a router.
    pub fn project(&self, weight: TensorId, rows: usize, x: &Activations) -> Result<Activations> {
        self.project_with(weight, None, rows, x)
    }

    /// The same with a bias, `[rows]`, where there is one.
    pub fn project_with(
        &self,
        weight: TensorId,
        bias: Option<TensorId>,
        rows: usize,
        x: &Activations,
    ) -> Result<Activations> {
        let bias = bias.map(|id| &self.tensors[id.index()]);
        ops::linear(x, &self.tensors[weight.index()].reshape((rows, ()))?, bias)
    }

    /// What heads say that follow the gated delta rule, of what [`ops::delta_net`] gets.
    pub fn delta_net(&self, layer: DeltaLayer, inputs: [&Activations; 3]) -> Result<Activations> {
        let [kernel, rate, bias] = [layer.kernel, layer.rate, layer.bias].map(|id| &self.tensors[id.index()]);
        let weights = DeltaWeights { kernel, rate, bias };
        let runs = self.batch.runs();
        match self.cache {
            None => ops::delta_net(inputs, weights, layer.shape, &runs, None),
            Some(cache) => cache.with_memories(|memories| {
                ops::delta_net(inputs, weights, layer.shape, &runs, Some(memories))
            }),
        }
    }

    /// Every number of a tensor, on the host.
    pub fn values(&self, tensor: TensorId) -> Result<Vec<f32>> {
        Ok(self.tensors[tensor.index()].to_dtype(DType::F32)?.to_vec1()?)
    }

    /// `x` times a tensor of one number.
    pub fn scale(&self, factor: TensorId, x: Activations) -> Result<Activations> {
        ops::scale_by(x, &self.tensors[factor.index()])
    }

    /// Whether the output of these modules matters: always, unless the pass only observes and watches none of them. Then
    /// it may leave out what nothing that is watched depends on, such as an expert beside others.
    pub fn is_needed(&self, modules: &[ModuleId]) -> bool {
        let site = |id: &ModuleId| self.layout.module(*id).site;
        let is_watched = |watch: &Watch<'_>| modules.iter().any(|id| watch.sites.contains(&site(id)));
        self.watch.as_ref().is_none_or(|watch| !watch.ends_there || is_watched(watch))
    }

    /// Whether a module is there: its expert may be left out.
    pub fn has(&self, module: ModuleId) -> bool {
        self.layout.has(module)
    }

    /// Shows what the expert of a module made of the rows that were routed to it, before they are multiplied by `gates`.
    pub fn show_expert(&mut self, module: ModuleId, output: &Activations, gates: &[f32]) -> Result<()> {
        match (&mut self.experts, self.layout.module(module).expert) {
            (Some(observer), Some(expert)) => observer.output(expert.index, output, gates),
            _ => Ok(()),
        }
    }

    pub fn norm(&self, norm: Norm, x: &Activations) -> Result<Activations> {
        let weight = &self.tensors[norm.weight.index()];
        match norm.layer {
            None => ops::rms_norm(x, weight, norm.eps),
            Some(LayerNormParts { bias, piece }) => {
                let bias = bias.map(|id| &self.tensors[id.index()]);
                ops::layer_norm(x, weight, bias, piece, norm.eps)
            }
        }
    }

    /// What the heads make of queries, keys and values that are rotated already. `sinks`, where there are some, is one
    /// more score for every query head, which has no value.
    pub fn attend(
        &self,
        [q, k, v]: [&Activations; 3],
        shape: AttentionShape,
        sinks: Option<TensorId>,
    ) -> Result<Activations> {
        let sinks = sinks.map(|id| &self.tensors[id.index()]);
        match self.cache {
            None => match self.batch.continued() {
                None => ops::causal_attention(q, k, v, &self.batch.segments(None), shape, sinks),
                Some((rows, segments)) => {
                    let (k, v) = (ops::take_rows(k, &rows)?, ops::take_rows(v, &rows)?);
                    ops::causal_attention(q, &k, &v, &segments, shape, sinks)
                }
            },
            Some(cache) => cache.attend(self.batch, [q, k, v], shape, sinks),
        }
    }

    fn module(&self, id: ModuleId) -> &ModuleWeights {
        &self.modules[id.index()]
    }

    fn show(&mut self, modules: &[ModuleId], x: &Activations) -> Flow<()> {
        let Some(site) = modules.first().map(|id| self.layout.module(*id).site) else { return Ok(()) };
        debug_assert!(modules.iter().all(|id| self.layout.module(*id).site == site), "one call, one site");
        let Some(watch) = &mut self.watch else { return Ok(()) };
        if watch.sites.contains(&site) {
            watch.observer.input(site, x)?;
        }
        // A site may be passed without being shown: an expert that no token is routed to.
        let is_last = watch.sites.last().is_none_or(|last| *last <= site);
        if watch.ends_there && is_last { Err(Halt::Observed) } else { Ok(()) }
    }
}
