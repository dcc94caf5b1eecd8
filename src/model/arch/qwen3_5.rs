//! Qwen 3.5, the text part: three blocks of four read a text token by token, by the gated delta rule, and the fourth has
//! attention whose output is gated. In every block there is an MLP, or a mixture of experts.

use serde_json::{Value, json};

use super::attention::{Attention, AttentionSettings, QueryKeyNorms};
use super::common::{Common, Defaults, only};
use super::llama::LlamaBlock;
use super::mixture::{ExpertLayers, Mixture, MixtureDefaults, MixtureNames, MixtureSettings, shared_expert};
use super::mlp::{Mlp, MlpSettings};
use super::qwen3_moe::KEYS;
use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::kernels::delta::DeltaShape;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::forward::{BlockMemory, DecoderBlock, DeltaLayer, Flow, Forward, Norm};
use crate::model::json::JsonFile;
use crate::model::layout::{LayoutBuilder, ModuleId};
use crate::model::ops::{self, Activations};

/// `Qwen3_5ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Qwen35;

/// `Qwen3_5MoeForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Qwen35Moe;

const DEFAULTS: Defaults = Defaults {
    norm: NormKind::RmsPlusOne,
    heads: Some(16),
    kv_heads: Some(4),
    head_dim: Some(256),
    vocabulary: Some(248_320),
    max_positions: 32_768,
    turning: super::common::Turning::Part(0.25),
    ..Defaults::PLAIN
};

impl Architecture for Qwen35 {
    fn name(&self) -> &'static str {
        "Qwen3_5ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "qwen3_5_text"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let common = Common::read(json, DEFAULTS)?;
        read(self.name(), &common, None)
    }

    fn example(&self) -> Value {
        example()
    }
}

/// Rows of the gate come before those of what it is multiplied with.
const EXPERTS: MixtureNames = MixtureNames {
    layers: ExpertLayers::Halves { gate_up: "gate_up_proj", down: "down_proj" },
    ..MixtureNames::USUAL
};

impl Architecture for Qwen35Moe {
    fn name(&self) -> &'static str {
        "Qwen3_5MoeForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "qwen3_5_moe_text"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults { keys: &KEYS, intermediate: Some(512), kv_heads: Some(2), ..DEFAULTS };
        let common = Common::read(json, defaults)?;
        super::mixture::refuse_dense_blocks(json)?;
        let shared = json.positive_or("shared_expert_intermediate_size", 512)?;
        let mixture = MixtureSettings {
            names: &EXPERTS,
            // The class always does it, whatever the key says.
            renormalise: true,
            shared: Some(shared_expert(common.mlp(), shared)),
            ..MixtureSettings::read(&common, MixtureDefaults { experts: 256, chosen: 8 })?
        };
        read(self.name(), &common, Some(mixture))
    }

    fn example(&self) -> Value {
        let mut keys = example();
        let own = json!({
            "moe_intermediate_size": 64, "shared_expert_intermediate_size": 32, "num_experts": 4,
            "num_experts_per_tok": 2,
        });
        if let (Value::Object(keys), Value::Object(own)) = (&mut keys, own) {
            keys.extend(own);
        }
        keys
    }
}

fn example() -> Value {
    json!({
        "tie_word_embeddings": false, "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
        "layer_types": ["full_attention", "linear_attention", "linear_attention"],
        "rope_theta": null, "rope_parameters": {
            "rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.25,
            "mrope_section": [2, 1, 1], "mrope_interleaved": true },
    })
}

fn read(name: &'static str, common: &Common<'_>, mixture: Option<MixtureSettings>) -> Result<ModelConfig> {
    let json = common.json;
    only(json, "attn_output_gate", true)?;
    let linear = linear_blocks(common)?;
    let mut attention = common.attention().with_bias(json.bool_or("attention_bias", false)?);
    attention.query_key_norms = Some(QueryKeyNorms::Widths([attention.shape.dim; 2]));
    attention.output_gate = true;
    let delta = delta_shape(json)?;
    common.model(name, |block, layout| {
        let delta = linear[block].then_some(delta);
        Qwen35Block::new(layout, attention, delta, (common.mlp(), mixture))
    })
}

/// Which blocks follow the delta rule: as `layer_types` says, or all but every so many.
fn linear_blocks(common: &Common<'_>) -> Result<Vec<bool>> {
    if let Some(linear) = common.typed_blocks("linear_attention")? {
        return Ok(linear);
    }
    let every = common.json.positive_or("full_attention_interval", 4)?;
    Ok((1..=common.blocks).map(|number| !number.is_multiple_of(every)).collect())
}

fn delta_shape(json: &JsonFile<'_>) -> Result<DeltaShape> {
    let shape = DeltaShape {
        key_heads: json.positive_or("linear_num_key_heads", 16)?,
        value_heads: json.positive_or("linear_num_value_heads", 32)?,
        key_dim: json.positive_or("linear_key_head_dim", 128)?,
        value_dim: json.positive_or("linear_value_head_dim", 128)?,
        taps: json.positive_or("linear_conv_kernel_dim", 4)?,
    };
    if !shape.value_heads.is_multiple_of(shape.key_heads) {
        return Err(json.wrong(&format!(
            "`linear_num_value_heads` is {} and `linear_num_key_heads` is {}: the first has to be a multiple of the second",
            shape.value_heads, shape.key_heads
        )));
    }
    Ok(shape)
}

/// A layer that follows the gated delta rule.
#[derive(Debug)]
struct DeltaNet {
    /// Queries, keys and values in one; the gate of the output; what strength and decay come from.
    inputs: [ModuleId; 4],
    heads: DeltaLayer,
    /// Of every head's output.
    norm: Norm,
    output: ModuleId,
}

impl DeltaNet {
    fn new(layout: &mut LayoutBuilder, hidden: usize, shape: DeltaShape, eps: f64) -> Self {
        let values = shape.value_heads * shape.value_dim;
        let name = |tensor: &str| format!("linear_attn.{tensor}");
        let heads = DeltaLayer {
            shape,
            kernel: layout.tensor(&name("conv1d.weight"), &[shape.channels(), 1, shape.taps]),
            rate: layout.tensor(&name("A_log"), &[shape.value_heads]),
            bias: layout.tensor(&name("dt_bias"), &[shape.value_heads]),
        };
        let norm = Norm::new(layout, "linear_attn.norm", shape.value_dim, (NormKind::Rms, eps));
        let inputs = layout.linears(
            hidden,
            [
                ("linear_attn.in_proj_qkv", shape.channels(), false),
                ("linear_attn.in_proj_z", values, false),
                ("linear_attn.in_proj_b", shape.value_heads, false),
                ("linear_attn.in_proj_a", shape.value_heads, false),
            ],
        );
        let output = layout.linear(values, ("linear_attn.out_proj", hidden, false));
        Self { inputs, heads, norm, output }
    }

    /// The input of the output projection.
    fn context(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let [mixed, gate, strength, decay] = cx.linear(self.inputs, x)?;
        let said = cx.delta_net(self.heads, [&mixed, &strength, &decay])?;
        let normed = cx.norm(self.norm, &said)?;
        Ok(ops::silu_mul(&gate, &normed)?)
    }
}

/// What mixes the tokens of a text.
#[derive(Debug)]
enum Mixer {
    Attention(Attention),
    DeltaNet(DeltaNet),
}

/// What works on each token.
#[derive(Debug)]
enum Feed {
    Mlp(Mlp),
    Mixture(Mixture),
}

/// Llama's block with either of both.
#[derive(Debug)]
struct Qwen35Block {
    norms: [Norm; 2],
    mixer: Mixer,
    feed: Feed,
}

impl Qwen35Block {
    fn new(
        layout: &mut LayoutBuilder,
        attention: AttentionSettings,
        delta: Option<DeltaShape>,
        (mlp, mixture): (MlpSettings, Option<MixtureSettings>),
    ) -> Self {
        let AttentionSettings { hidden, norm, .. } = attention;
        let norms = LlamaBlock::NORMS.map(|name| Norm::new(layout, name, hidden, norm));
        let mixer = match delta {
            Some(shape) => Mixer::DeltaNet(DeltaNet::new(layout, hidden, shape, norm.1)),
            None => Mixer::Attention(Attention::new(layout, attention)),
        };
        let feed = match mixture {
            Some(mixture) => Feed::Mixture(Mixture::new(layout, mixture)),
            None => Feed::Mlp(Mlp::new(layout, mlp)),
        };
        Self { norms, mixer, feed }
    }
}

impl DecoderBlock for Qwen35Block {
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let [first, second] = self.norms;
        let normed = cx.norm(first, &x)?;
        let (context, output) = match &self.mixer {
            Mixer::DeltaNet(delta) => (delta.context(&normed, cx)?, delta.output),
            Mixer::Attention(attention) => {
                let projected = attention.project(&normed, cx)?;
                (attention.attend(&projected, cx)?, attention.output)
            }
        };
        drop(normed);
        let x = cx.linear_add(x, output, &context, 1.0)?;
        drop(context);
        let normed = cx.norm(second, &x)?;
        match &self.feed {
            Feed::Mixture(mixture) => Ok(ops::add(x, &mixture.forward(&normed, cx)?, 1.0)?),
            Feed::Mlp(mlp) => {
                let inner = mlp.activate(&normed, cx)?;
                drop(normed);
                cx.linear_add(x, mlp.down, &inner, 1.0)
            }
        }
    }

    /// Of the delta rule the heads of values, and as many keys as it has.
    fn attention(&self) -> AttentionShape {
        match &self.mixer {
            Mixer::Attention(attention) => attention.shape,
            Mixer::DeltaNet(DeltaNet { heads: DeltaLayer { shape, .. }, .. }) => AttentionShape {
                query: shape.value_heads,
                key: shape.key_heads,
                dim: shape.key_dim,
                window: None,
                scale: None,
                softcap: None,
            },
        }
    }

    fn memory(&self) -> BlockMemory {
        match &self.mixer {
            Mixer::Attention(attention) => BlockMemory::of_attention(attention.shape),
            Mixer::DeltaNet(delta) => BlockMemory::DeltaNet(delta.heads.shape),
        }
    }

    fn kind(&self) -> &'static str {
        match &self.mixer {
            Mixer::Attention(_) => "full_attention",
            Mixer::DeltaNet(_) => "linear_attention",
        }
    }
}
