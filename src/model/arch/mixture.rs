//! Mixtures of experts: what the families with one MLP out of many for every token share.

use super::common::Common;
use super::parts::{Attention, AttentionSettings, Mlp, MlpNames, MlpSettings};
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::kernels::attention::AttentionShape;
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::json::JsonFile;
use crate::model::layout::{BlockLayout, ExpertPlace, LayoutBuilder, ModuleId, TensorId};
use crate::model::ops::{self, Activations};
use crate::model::widths::BlockWidths;

/// How the tensors of a mixture are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct MixtureNames {
    /// `[experts, hidden]`
    pub router: &'static str,
    /// What stands before the number of an expert.
    pub experts: &'static str,
    /// An expert's gate, what is multiplied with it, and what writes back.
    pub layers: [&'static str; 3],
}

impl MixtureNames {
    /// As all but the first mixtures have it.
    pub const USUAL: Self = Self {
        router: "mlp.gate.weight",
        experts: "mlp.experts",
        layers: ["gate_proj", "up_proj", "down_proj"],
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
        Ok(Self { names, hidden, intermediate, experts, chosen, renormalise, activation, shared: None })
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
    inputs: [ModuleId; 2],
    down: ModuleId,
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
    experts: Vec<Expert>,
    chosen: usize,
    renormalise: bool,
    activation: ActivationFunction,
    shared: Option<SharedExpert>,
}

impl Mixture {
    /// Declares the layers of a mixture. Routers are no modules: nothing compresses them.
    pub fn new(layout: &mut LayoutBuilder, settings: MixtureSettings) -> Self {
        let MixtureSettings { names, hidden, intermediate, experts, chosen, .. } = settings;
        let router = layout.tensor_of_experts(names.router, &[experts, hidden]);
        let shared_gate =
            settings.shared.map(|_| layout.tensor("mlp.shared_expert_gate.weight", &[1, hidden]));
        let expert = |index: usize| {
            let [gate, up, down] = names.layers.map(|layer| format!("{}.{index}.{layer}", names.experts));
            layout.within_expert(ExpertPlace { index, experts, chosen }, |layout| Expert {
                inputs: layout.linears(hidden, [(&gate, intermediate, false), (&up, intermediate, false)]),
                down: layout.linear(intermediate, (&down, hidden, false)),
            })
        };
        let all = (0..experts).map(expert).collect();
        let shared = settings.shared.zip(shared_gate);
        Self {
            router,
            experts: all,
            chosen,
            renormalise: settings.renormalise,
            activation: settings.activation,
            shared: shared.map(|(mlp, gate)| SharedExpert { mlp: Mlp::new(layout, mlp), gate }),
        }
    }

    /// The mixture's output for `x`. Every expert runs once, on the tokens that the router sends to it.
    pub fn forward(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let experts: Vec<&Expert> = self.experts.iter().filter(|expert| cx.has(expert.down)).collect();
        let logits = cx.project(self.router, experts.len(), x)?;
        let routed = ops::route(&logits, self.chosen, self.renormalise)?;
        let mut sum = ops::zeros_like(x)?;
        for (expert, ops::RoutedRows { rows, weights }) in experts.into_iter().zip(routed) {
            let [gate, _] = expert.inputs;
            if rows.is_empty() || !cx.is_needed(&[gate, expert.down]) {
                continue;
            }
            let part = ops::take_rows(x, &rows)?;
            let [gate, up] = cx.linear(expert.inputs, &part)?;
            drop(part);
            let inner = ops::gated(&gate, &up, self.activation)?;
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
