//! Mixtures of experts: what the families with one MLP out of many for every token share.

use super::attention::{Attention, AttentionSettings};
use super::common::Common;
use super::mlp::{Mlp, MlpNames, MlpSettings};
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::kernels::attention::AttentionShape;
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::json::JsonFile;
use crate::model::layout::{BlockLayout, ExpertPlace, LayoutBuilder, ModuleId, TensorId};
use crate::model::ops::{self, Activations, ColumnRuns};
use crate::model::widths::BlockWidths;

/// How the tensors of a mixture are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct MixtureNames {
    /// `[experts, hidden]`
    pub router: &'static str,
    /// `[experts]`, where there is one.
    pub router_bias: Option<&'static str>,
    /// What stands before the number of an expert.
    pub experts: &'static str,
    pub layers: ExpertLayers,
}

/// How the layers of an expert are called, and where the files have them.
#[derive(Debug, Clone, Copy)]
pub(super) enum ExpertLayers {
    /// The gate, what is multiplied with it, and what writes back: a matrix each, and an expert's own.
    Separate([&'static str; 3]),
    /// One matrix with all rows of the gate and then those of the other, and what writes back: all experts' in one tensor
    /// `[experts, out, in]`.
    Halves { gate_up: &'static str, down: &'static str },
    /// The same as `[experts, in, out]`, and rows of the gate and of the other alternate.
    Alternating { gate_up: &'static str, down: &'static str },
}

impl MixtureNames {
    /// As all but the first mixtures have it.
    pub const USUAL: Self = Self {
        router: "mlp.gate.weight",
        router_bias: None,
        experts: "mlp.experts",
        layers: ExpertLayers::Separate(["gate_proj", "up_proj", "down_proj"]),
    };
}

/// What a mixture has in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct MixtureSettings {
    pub names: &'static MixtureNames,
    pub hidden: usize,
    /// Width inside an expert.
    pub intermediate: usize,
    pub experts: usize,
    /// Experts that a token goes through.
    pub chosen: usize,
    /// Whether the weights of those add up to one.
    pub renormalise: bool,
    pub activation: ActivationFunction,
    /// Whether the layers of experts have biases.
    pub bias: bool,
    /// What gates are cut off at, where they are: then `gate · sigmoid(1.702 · gate) · (up + 1)` is in the place of the
    /// activation, see [`ops::clamped_gated`].
    pub clamp: Option<f64>,
    /// Name of a tensor with a number for each expert that its output is multiplied by, `[experts]`.
    pub expert_scale: Option<&'static str>,
    /// An MLP that every token goes through, and the sigmoid of `shared_expert_gate` weighs.
    pub shared: Option<MlpSettings>,
}

/// What a class takes where a key is absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct MixtureDefaults {
    pub experts: usize,
    pub chosen: usize,
}

impl MixtureSettings {
    /// Reads the keys. The width of an expert is the `intermediate` of the keys in common.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming the key that makes no sense.
    pub fn read(common: &Common<'_>, defaults: MixtureDefaults) -> Result<Self> {
        let json = common.json;
        let key = ["num_experts", "num_local_experts"].into_iter().find(|key| json.get(key).is_some());
        let key = key.unwrap_or("num_experts");
        let experts = json.positive_or(key, defaults.experts)?;
        let chosen = json.positive_or("num_experts_per_tok", defaults.chosen)?;
        if chosen > experts {
            return Err(json.wrong(&format!(
                "`num_experts_per_tok` is {chosen} and `{key}` is {experts}: a token cannot go through more experts than \
                 there are"
            )));
        }
        let MlpSettings { hidden, intermediate, activation, .. } = common.mlp();
        let renormalise = json.bool_or("norm_topk_prob", false)?;
        let names = &MixtureNames::USUAL;
        Ok(Self {
            names,
            hidden,
            intermediate,
            experts,
            chosen,
            renormalise,
            activation,
            bias: false,
            clamp: None,
            expert_scale: None,
            shared: None,
        })
    }
}

/// Refuses the keys with which some blocks of Qwen's mixtures have one dense MLP: no published model has them.
///
/// # Errors
/// [`crate::Error::Mistake`] naming the key.
pub(super) fn refuse_dense_blocks(json: &JsonFile<'_>) -> Result<()> {
    if let Some(blocks) = json.get("mlp_only_layers")
        && blocks.as_array().is_none_or(|blocks| !blocks.is_empty())
    {
        return Err(json.unexpected("mlp_only_layers", blocks, "only an empty list"));
    }
    match json.get("decoder_sparse_step") {
        Some(step) if step.as_u64() != Some(1) => Err(json.unexpected("decoder_sparse_step", step, "only 1")),
        _ => Ok(()),
    }
}

/// One of the MLPs that a token may go through.
#[derive(Debug, Clone, Copy)]
struct Expert {
    inputs: ExpertInputs,
    down: ModuleId,
}

/// The first layers of an expert.
#[derive(Debug, Clone, Copy)]
enum ExpertInputs {
    Separate([ModuleId; 2]),
    Halves(ModuleId),
    Alternating(ModuleId),
}

impl Expert {
    /// Declares the layers of an expert.
    fn declare(layout: &mut LayoutBuilder, settings: MixtureSettings, place: ExpertPlace) -> Self {
        let MixtureSettings { names, hidden, intermediate, bias, .. } = settings;
        let full = |layer: &str| format!("{}.{}.{layer}", names.experts, place.index);
        let fused = |layout: &mut LayoutBuilder, gate_up, down| {
            layout.within_fused_expert(place, |layout| {
                let gate_up = layout.linear(hidden, (&full(gate_up), 2 * intermediate, bias));
                (gate_up, layout.linear(intermediate, (&full(down), hidden, bias)))
            })
        };
        match names.layers {
            ExpertLayers::Separate(layers) => {
                let [gate, up, down] = layers.map(full);
                layout.within_expert(place, |layout| Self {
                    inputs: ExpertInputs::Separate(
                        layout.linears(hidden, [(&gate, intermediate, bias), (&up, intermediate, bias)]),
                    ),
                    down: layout.linear(intermediate, (&down, hidden, bias)),
                })
            }
            ExpertLayers::Halves { gate_up, down } => {
                let (gate_up, down) = fused(layout, gate_up, down);
                Self { inputs: ExpertInputs::Halves(gate_up), down }
            }
            ExpertLayers::Alternating { gate_up, down } => {
                layout.turn();
                let (gate_up, down) = fused(layout, gate_up, down);
                Self { inputs: ExpertInputs::Alternating(gate_up), down }
            }
        }
    }

    /// Whether a pass needs what it gives, see [`Forward::is_needed`].
    fn is_needed(&self, cx: &Forward<'_>) -> bool {
        let (ExpertInputs::Separate([first, _])
        | ExpertInputs::Halves(first)
        | ExpertInputs::Alternating(first)) = self.inputs;
        cx.is_needed(&[first, self.down])
    }

    /// Gate and what is multiplied with it.
    fn gate_and_up(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<[Activations; 2]> {
        match self.inputs {
            ExpertInputs::Separate(modules) => cx.linear(modules, x),
            ExpertInputs::Halves(module) => {
                let [both] = cx.linear([module], x)?;
                let stride = both.width()?;
                let length = stride / 2;
                let part = |start| ops::columns(&both, ColumnRuns { start, length, stride, count: 1 });
                Ok([part(0)?, part(length)?])
            }
            ExpertInputs::Alternating(module) => {
                let [both] = cx.linear([module], x)?;
                let count = both.width()? / 2;
                let part = |start| ops::columns(&both, ColumnRuns { start, length: 1, stride: 2, count });
                Ok([part(0)?, part(1)?])
            }
        }
    }
}

/// An MLP for every token, with a share of its own.
#[derive(Debug)]
struct SharedExpert {
    mlp: Mlp,
    /// `[1, hidden]`
    gate: TensorId,
}

/// A router and its experts.
#[derive(Debug)]
pub(super) struct Mixture {
    router: TensorId,
    router_bias: Option<TensorId>,
    experts: Vec<Expert>,
    chosen: usize,
    renormalise: bool,
    activation: ActivationFunction,
    clamp: Option<f64>,
    expert_scale: Option<TensorId>,
    shared: Option<SharedExpert>,
}

impl Mixture {
    /// Declares the layers of a mixture. Routers are no modules: nothing compresses them.
    pub fn new(layout: &mut LayoutBuilder, settings: MixtureSettings) -> Self {
        let MixtureSettings { names, hidden, experts, chosen, .. } = settings;
        let router = layout.tensor_of_experts(names.router, &[experts, hidden]);
        let router_bias = names.router_bias.map(|name| layout.tensor_of_experts(name, &[experts]));
        let shared_gate =
            settings.shared.map(|_| layout.tensor("mlp.shared_expert_gate.weight", &[1, hidden]));
        let expert = |index: usize| Expert::declare(layout, settings, ExpertPlace { index, experts, chosen });
        let all = (0..experts).map(expert).collect();
        let shared = settings.shared.zip(shared_gate);
        Self {
            router,
            router_bias,
            experts: all,
            chosen,
            renormalise: settings.renormalise,
            activation: settings.activation,
            clamp: settings.clamp,
            expert_scale: settings.expert_scale.map(|name| layout.tensor_of_experts(name, &[experts])),
            shared: shared.map(|(mlp, gate)| SharedExpert { mlp: Mlp::new(layout, mlp), gate }),
        }
    }

    /// The mixture's output for `x`. Every expert runs once, on the tokens that the router sends to it.
    pub fn forward(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        self.forward_routed(x, x, cx)
    }

    /// The same where the router reads something else than the experts.
    pub fn forward_routed(
        &self,
        routing: &Activations,
        x: &Activations,
        cx: &mut Forward<'_>,
    ) -> Flow<Activations> {
        let experts: Vec<&Expert> = self.experts.iter().filter(|expert| cx.has(expert.down)).collect();
        let logits = cx.project_with(self.router, self.router_bias, experts.len(), routing)?;
        let mut routed = ops::route(&logits, self.chosen, self.renormalise)?;
        if let Some(scales) = self.expert_scale {
            for (expert, scale) in routed.iter_mut().zip(cx.values(scales)?) {
                expert.weights.iter_mut().for_each(|weight| *weight *= scale);
            }
        }
        let mut sum = ops::zeros_like(x)?;
        for (expert, ops::RoutedRows { rows, weights }) in experts.into_iter().zip(routed) {
            if rows.is_empty() || !expert.is_needed(cx) {
                continue;
            }
            let part = ops::take_rows(x, &rows)?;
            let [gate, up] = expert.gate_and_up(&part, cx)?;
            drop(part);
            let inner = match self.clamp {
                None => ops::gated(&gate, &up, self.activation)?,
                Some(limit) => ops::clamped_gated(&gate, &up, limit)?,
            };
            drop((gate, up));
            let [output] = cx.linear([expert.down], &inner)?;
            cx.show_expert(expert.down, &output, &weights)?;
            sum = ops::add_at_rows(sum, &ops::scale_rows(output, &weights)?, &rows)?;
        }
        let Some(shared) = self.shared.as_ref().filter(|shared| shared.mlp.is_needed(cx)) else {
            return Ok(sum);
        };
        let inner = shared.mlp.activate(x, cx)?;
        let [output] = cx.linear([shared.mlp.down], &inner)?;
        let shares = ops::sigmoids(&cx.project(shared.gate, 1, x)?)?;
        Ok(ops::add(sum, &ops::scale_rows(output, &shares)?, 1.0)?)
    }
}

/// An MLP that is called `mlp.shared_expert`.
pub(super) fn shared_expert(mlp: MlpSettings, intermediate: usize) -> MlpSettings {
    let names = MlpNames::Gated {
        gate: "mlp.shared_expert.gate_proj",
        up: "mlp.shared_expert.up_proj",
        down: "mlp.shared_expert.down_proj",
    };
    MlpSettings { intermediate, names, ..mlp }
}

/// Llama's block with a mixture of experts in the place of the MLP.
#[derive(Debug)]
pub(super) struct MixtureBlock {
    attention_norm: Norm,
    mixture_norm: Norm,
    attention: Attention,
    mixture: Mixture,
}

impl MixtureBlock {
    pub fn new(layout: &mut LayoutBuilder, attention: AttentionSettings, mixture: MixtureSettings) -> Self {
        let AttentionSettings { hidden, norm, .. } = attention;
        Self {
            attention_norm: Norm::new(layout, "input_layernorm", hidden, norm),
            mixture_norm: Norm::new(layout, "post_attention_layernorm", hidden, norm),
            attention: Attention::new(layout, attention),
            mixture: Mixture::new(layout, mixture),
        }
    }
}

impl DecoderBlock for MixtureBlock {
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let normed = cx.norm(self.attention_norm, &x)?;
        let projected = self.attention.project(&normed, cx)?;
        drop(normed);
        let context = self.attention.attend(&projected, cx)?;
        drop(projected);
        let x = cx.linear_add(x, self.attention.output, &context, 1.0)?;
        drop(context);
        let normed = cx.norm(self.mixture_norm, &x)?;
        let output = self.mixture.forward(&normed, cx)?;
        Ok(ops::add(x, &output, 1.0)?)
    }

    fn attention(&self) -> AttentionShape {
        self.attention.shape
    }

    fn widths(&self, _layout: &BlockLayout) -> BlockWidths {
        BlockWidths::none("they are mixtures of experts")
    }
}
