//! OPT: layer norms and biases everywhere, learned positions, and rectified linear units. The one of 350 million weights has its norms behind
//! the sums, and an embedding that is narrower than the rest.

use serde_json::{Value, json};

use super::attention::{Attention, AttentionNames, AttentionSettings};
use super::common::{Common, Defaults, EndNames, KeyNames, Turning, only};
use super::llama::LlamaBlock;
use super::mlp::{Mlp, MlpSettings};
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::kernels::attention::AttentionShape;
use crate::model::architecture::Architecture;
use crate::model::config::{ModelConfig, NormKind, PositionsDef};
use crate::model::forward::{DecoderBlock, Flow, Forward, Norm};
use crate::model::json::JsonFile;
use crate::model::layout::{BlockLayout, LayoutBuilder};
use crate::model::ops::Activations;
use crate::model::widths::BlockWidths;

/// `OPTForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt;

impl Architecture for Opt {
    fn name(&self) -> &'static str {
        "OPTForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "opt"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        only(json, "enable_bias", true)?;
        only(json, "layer_norm_elementwise_affine", true)?;
        only(json, "_remove_final_layer_norm", false)?;
        let common = Common::read(json, DEFAULTS)?;
        let attention =
            AttentionSettings { names: &NAMES, reads_head_dim: false, ..common.attention().with_bias(true) };
        let mlp = MlpSettings { bias: true, ..common.mlp().without_gate("fc1", "fc2") };
        let before = json.bool_or("do_layer_norm_before", true)?;
        let mut config = if before {
            common.model(self.name(), |_, layout| LlamaBlock::with_norms(layout, NORMS, attention, mlp))?
        } else {
            common.model(self.name(), |_, layout| PostSumBlock::new(layout, attention, mlp))?
        };
        config.head.norm_kind = config.head.norm_kind.filter(|_| before);
        config.embedding.positions = Some(PositionsDef {
            tensor: "model.decoder.embed_positions.weight".to_owned(),
            rows: common.max_positions + OFFSET,
            offset: OFFSET,
        });
        let width = json.positive_or("word_embed_proj_dim", common.hidden)?;
        if width != common.hidden {
            config.embedding.width = width;
            config.embedding.projection = Some("model.decoder.project_in.weight".to_owned());
            config.head.projection = Some("model.decoder.project_out.weight".to_owned());
        }
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": true, "ffn_dim": 128, "do_layer_norm_before": false, "word_embed_proj_dim": 48,
        })
    }
}

/// Rows of the positions before that of the first token.
const OFFSET: usize = 2;

/// The second has the name that the last norm of the model has, too.
const NORMS: [&str; 2] = ["self_attn_layer_norm", "final_layer_norm"];

const NAMES: AttentionNames = AttentionNames { output: "self_attn.out_proj", ..AttentionNames::USUAL };

const DEFAULTS: Defaults = Defaults {
    keys: &KeyNames {
        intermediate: "ffn_dim",
        // The epsilon is the class' own: no key changes it.
        norm_eps: "",
        activation: "activation_function",
        ..KeyNames::LAYER_NORM
    },
    names: &EndNames {
        embedding: "model.decoder.embed_tokens",
        blocks: "model.decoder.layers",
        norm: "model.decoder.final_layer_norm",
        head: "lm_head",
    },
    norm: NormKind::Layer { bias: true },
    activations: &[
        ("relu", ActivationFunction::Relu),
        ("gelu", ActivationFunction::Gelu),
        ("gelu_new", ActivationFunction::GeluTanh),
    ],
    grouped: false,
    norm_eps: 1e-5,
    turning: Turning::Nothing,
    tied_head: true,
    ..Defaults::PLAIN
};

/// `x = N(x + attention(x))`, then `x = N(x + mlp(x))`
#[derive(Debug)]
struct PostSumBlock {
    attention_norm: Norm,
    mlp_norm: Norm,
    attention: Attention,
    mlp: Mlp,
}

impl PostSumBlock {
    fn new(layout: &mut LayoutBuilder, attention: AttentionSettings, mlp: MlpSettings) -> Self {
        let AttentionSettings { hidden, norm, .. } = attention;
        let [attention_norm, mlp_norm] = NORMS.map(|name| Norm::new(layout, name, hidden, norm));
        Self {
            attention_norm,
            mlp_norm,
            attention: Attention::new(layout, attention),
            mlp: Mlp::new(layout, mlp),
        }
    }
}

impl DecoderBlock for PostSumBlock {
    fn forward(&self, x: Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        let projected = self.attention.project(&x, cx)?;
        let context = self.attention.attend(&projected, cx)?;
        drop(projected);
        let sum = cx.linear_add(x, self.attention.output, &context, 1.0)?;
        drop(context);
        let x = cx.norm(self.attention_norm, &sum)?;
        drop(sum);
        let inner = self.mlp.activate(&x, cx)?;
        let sum = cx.linear_add(x, self.mlp.down, &inner, 1.0)?;
        Ok(cx.norm(self.mlp_norm, &sum)?)
    }

    fn attention(&self) -> AttentionShape {
        self.attention.shape
    }

    fn widths(&self, layout: &BlockLayout) -> BlockWidths {
        BlockWidths { attention: self.attention.width_part(), mlp: Ok(self.mlp.width_part(layout)) }
    }
}
