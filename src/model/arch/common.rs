//! The keys of `config.json` that most families share.

use serde_json::Value;

use super::parts::{AttentionSettings, MlpSettings};
use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::model::config::{BlockPlan, EmbeddingDef, HeadDef, ModelConfig};
use crate::model::forward::DecoderBlock;
use crate::model::json::JsonFile;
use crate::model::layout::LayoutBuilder;
use crate::model::rope::{Rope, RopeId, RotaryEmbedding};

/// What a class of `transformers` takes where a key is absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    /// Key heads; `None` is as many as query heads, as is an explicit null.
    pub kv_heads: Option<usize>,
    /// Width of a head; `None` is the hidden size over the heads.
    pub head_dim: Option<usize>,
    pub max_positions: usize,
    pub norm_eps: f64,
    pub rope_theta: f64,
    pub tied_head: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            kv_heads: None,
            head_dim: None,
            max_positions: 2048,
            norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tied_head: false,
        }
    }
}

/// A decoder of grouped attention with rotary embeddings and gated MLPs, as far as its keys are everybody's.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub json: &'a JsonFile<'a>,
    pub hidden: usize,
    pub intermediate: usize,
    pub blocks: usize,
    pub eps: f64,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    max_positions: usize,
    rope: Rope,
    /// What a person should know of settings that contradict each other.
    pub warnings: Vec<String>,
    defaults: Defaults,
}

impl<'a> Common<'a> {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming the key that makes no sense.
    pub fn read(json: &'a JsonFile<'a>, defaults: Defaults) -> Result<Self> {
        only_silu(json)?;
        let max_positions = json.positive_or("max_position_embeddings", defaults.max_positions)?;
        let mut warnings = Vec::new();
        let rope = Rope::read(json, defaults.rope_theta, max_positions, &mut warnings)?;
        json.number_or("partial_rotary_factor", 1.0, "only 1", |v| (v - 1.0).abs() < 1e-9)?;
        let hidden = json.positive("hidden_size")?;
        let heads = json.positive("num_attention_heads")?;
        let kv_default = defaults.kv_heads.filter(|_| !json.has("num_key_value_heads")).unwrap_or(heads);
        let kv_heads = json.positive_or("num_key_value_heads", kv_default)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(json.wrong(&format!(
                "`num_attention_heads` is {heads} and `num_key_value_heads` is {kv_heads}: the first has to be a \
                 multiple of the second"
            )));
        }
        Ok(Self {
            json,
            hidden,
            intermediate: json.positive("intermediate_size")?,
            blocks: json.positive_up_to("num_hidden_layers", 1 << 16)?,
            eps: json.number_or("rms_norm_eps", defaults.norm_eps, "a number above 0", |v| v > 0.0)?,
            heads,
            kv_heads,
            head_dim: head_dim(json, defaults.head_dim, hidden, heads)?,
            max_positions,
            rope,
            warnings,
            defaults,
        })
    }

    /// Attention that sees everything, without biases and norms of its own.
    pub fn attention(&self) -> AttentionSettings {
        AttentionSettings {
            hidden: self.hidden,
            shape: AttentionShape {
                query: self.heads,
                key: self.kv_heads,
                dim: self.head_dim,
                window: None,
                scale: None,
            },
            eps: self.eps,
            input_bias: false,
            output_bias: false,
            query_key_norms: None,
            rope: Some(RopeId::ONLY),
        }
    }

    /// An MLP without biases.
    pub fn mlp(&self) -> MlpSettings {
        MlpSettings { hidden: self.hidden, intermediate: self.intermediate, bias: false }
    }

    /// The width of every block's attention window: `width` in the blocks that `layer_types` calls sliding, or without
    /// that key where `slides` says so.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] for a list that makes no sense.
    pub fn windows(
        &mut self,
        width: Option<usize>,
        slides: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<usize>>> {
        let Some(width) = width else {
            let types = self.json.get("layer_types").and_then(Value::as_array);
            if types.is_some_and(|types| types.iter().any(|kind| kind == "sliding_attention")) {
                self.warnings.push(self.json.note(
                    "`layer_types` names sliding blocks, but `use_sliding_window` is not true or `sliding_window` is null: \
                     no block has a window, as with transformers",
                ));
            }
            return Ok(vec![None; self.blocks]);
        };
        let sliding = self.sliding_types()?.unwrap_or_else(|| (0..self.blocks).map(slides).collect());
        Ok(sliding.into_iter().map(|slides| slides.then_some(width)).collect())
    }

    /// Which blocks `layer_types` calls sliding; `None` without that key.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] for a list that makes no sense.
    pub fn sliding_types(&self) -> Result<Option<Vec<bool>>> {
        const KEY: &str = "layer_types";
        let (json, blocks) = (self.json, self.blocks);
        let Some(types) = json.get(KEY) else { return Ok(None) };
        let Value::Array(types) = types else {
            return Err(json.unexpected(KEY, types, "a list with one entry a block"));
        };
        if types.len() != blocks {
            return Err(json.wrong(&format!(
                "`{KEY}` has {} entries and `num_hidden_layers` is {blocks}: they have to be as many",
                types.len()
            )));
        }
        let slides = |kind: &Value| match kind.as_str() {
            Some("sliding_attention") => Ok(true),
            Some("full_attention") => Ok(false),
            _ => Err(json.unexpected(KEY, kind, "a list of `full_attention` and `sliding_attention`")),
        };
        types.iter().map(slides).collect::<Result<_>>().map(Some)
    }

    /// The model, block by block.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming the key that makes no sense.
    pub fn model<B: DecoderBlock + 'static>(
        &self,
        architecture: &'static str,
        mut block: impl FnMut(usize, &mut LayoutBuilder) -> B,
    ) -> Result<ModelConfig> {
        let json = self.json;
        let plan = |index: usize| {
            let mut layout = LayoutBuilder::new(format!("model.layers.{index}"));
            let decoder = Box::new(block(index, &mut layout));
            BlockPlan { layout: layout.finish(), decoder }
        };
        let tied = json.bool_or("tie_word_embeddings", self.defaults.tied_head)?;
        Ok(ModelConfig {
            architecture,
            hidden_size: self.hidden,
            blocks: self.blocks,
            vocabulary: json.positive("vocab_size")?,
            max_positions: self.max_positions,
            embedding: EmbeddingDef { tensor: "model.embed_tokens.weight".into(), factor: 1.0 },
            head: HeadDef {
                norm: "model.norm.weight".into(),
                norm_eps: self.eps,
                tensor: "lm_head.weight".into(),
                tied,
                factor: 1.0,
            },
            ropes: vec![RotaryEmbedding { rope: self.rope, dim: self.head_dim }],
            eos: json.tokens("eos_token_id")?,
            bos: json.tokens("bos_token_id")?.first().copied(),
            warnings: self.warnings.clone(),
            plans: (0..self.blocks).map(plan).collect(),
        })
    }
}

/// The width of attention windows. An absent key is the class' own; only an explicit null switches windows off.
pub(super) fn window_width(json: &JsonFile<'_>) -> Result<Option<usize>> {
    match json.get("sliding_window") {
        None if json.has("sliding_window") => Ok(None),
        None => Ok(Some(4096)),
        Some(_) => Ok(Some(json.positive("sliding_window")?)),
    }
}

fn only_silu(json: &JsonFile<'_>) -> Result<()> {
    match json.get("hidden_act") {
        None => Ok(()),
        // Two names of one function.
        Some(Value::String(act)) if act == "silu" || act == "swish" => Ok(()),
        Some(other) => Err(json.unexpected("hidden_act", other, "only silu")),
    }
}

fn head_dim(json: &JsonFile<'_>, default: Option<usize>, hidden: usize, heads: usize) -> Result<usize> {
    let head_dim = match (json.get("head_dim"), default) {
        (Some(_), _) => json.positive("head_dim")?,
        (None, Some(default)) => default,
        (None, None) if hidden.is_multiple_of(heads) => hidden / heads,
        (None, None) => {
            return Err(json.wrong(&format!(
                "`hidden_size` is {hidden} and `num_attention_heads` is {heads}: without `head_dim` the first has to \
                 be a multiple of the second"
            )));
        }
    };
    if head_dim.is_multiple_of(2) {
        Ok(head_dim)
    } else {
        Err(json.wrong(&format!("a head is {head_dim} wide: rotary embeddings need an even `head_dim`")))
    }
}
