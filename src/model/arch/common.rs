//! The keys of `config.json` that most families share.

use std::sync::Arc;

use serde_json::Value;

use super::attention::AttentionSettings;
use super::mlp::MlpSettings;
use crate::error::Result;
use crate::kernels::activation::ActivationFunction;
use crate::kernels::attention::AttentionShape;
use crate::model::config::{BlockPlan, EmbeddingDef, HeadDef, ModelConfig, NormKind};
use crate::model::forward::DecoderBlock;
use crate::model::json::JsonFile;
use crate::model::layout::LayoutBuilder;
use crate::model::rope::{Rope, RotaryEmbedding};
use crate::model::rope_settings::{RopeReader, rotary_part};

/// Names of the keys that not all families call the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyNames {
    pub hidden: &'static str,
    pub intermediate: &'static str,
    pub blocks: &'static str,
    pub heads: &'static str,
    pub max_positions: &'static str,
    pub norm_eps: &'static str,
    pub activation: &'static str,
    pub rope_theta: &'static str,
    /// The part of a head that turns.
    pub rotary_part: &'static str,
}

impl KeyNames {
    pub const USUAL: Self = Self {
        hidden: "hidden_size",
        intermediate: "intermediate_size",
        blocks: "num_hidden_layers",
        heads: "num_attention_heads",
        max_positions: "max_position_embeddings",
        norm_eps: "rms_norm_eps",
        activation: "hidden_act",
        rope_theta: "rope_theta",
        rotary_part: "partial_rotary_factor",
    };

    /// Those of families with layer norms.
    pub const LAYER_NORM: Self = Self { norm_eps: "layer_norm_eps", ..Self::USUAL };
}

/// Names of the tensors at both ends of a model, and what those of its blocks begin with.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndNames {
    pub embedding: &'static str,
    pub blocks: &'static str,
    pub norm: &'static str,
    pub head: &'static str,
}

impl EndNames {
    pub const USUAL: Self =
        Self { embedding: "model.embed_tokens", blocks: "model.layers", norm: "model.norm", head: "lm_head" };
}

/// How the features of a head are paired for the rotation, and how many of them turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turning {
    /// All of them.
    Whole,
    /// The first ones: this part where the configuration says nothing.
    Part(f64),
    /// The same, and neighbours are a pair.
    Neighbours(f64),
    /// None: the family has learned positions.
    Nothing,
}

/// What a class of `transformers` is like, and what it takes where a key is absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub keys: &'static KeyNames,
    pub names: &'static EndNames,
    pub norm: NormKind,
    /// What the MLP applies, by the names that mean it, the default first.
    pub activations: &'static [(&'static str, ActivationFunction)],
    /// Query heads; `None` has to be given.
    pub heads: Option<usize>,
    /// Whether several query heads may share a key head.
    pub grouped: bool,
    /// Key heads; `None` is as many as query heads, as is an explicit null.
    pub kv_heads: Option<usize>,
    /// Width of a head; `None` is the hidden size over the heads.
    pub head_dim: Option<usize>,
    /// Width inside the MLP; `None` is as below.
    pub intermediate: Option<usize>,
    /// Width inside the MLP over the hidden size; `None` has to be given.
    pub intermediate_times: Option<usize>,
    pub vocabulary: Option<usize>,
    pub max_positions: usize,
    pub norm_eps: f64,
    pub rope_theta: f64,
    pub turning: Turning,
    /// The family reads its rotary embeddings itself.
    pub own_ropes: bool,
    pub tied_head: bool,
}

/// Two names of one function.
const SILU: &[(&str, ActivationFunction)] =
    &[("silu", ActivationFunction::Silu), ("swish", ActivationFunction::Silu)];

impl Defaults {
    /// Those of Llama.
    pub const PLAIN: Self = Self {
        keys: &KeyNames::USUAL,
        names: &EndNames::USUAL,
        norm: NormKind::Rms,
        activations: SILU,
        heads: None,
        grouped: true,
        kv_heads: None,
        head_dim: None,
        intermediate: None,
        intermediate_times: None,
        vocabulary: None,
        max_positions: 2048,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        turning: Turning::Whole,
        own_ropes: false,
        tied_head: false,
    };
}

impl Default for Defaults {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// A decoder, as far as its keys are everybody's.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub json: &'a JsonFile<'a>,
    pub hidden: usize,
    pub intermediate: usize,
    pub blocks: usize,
    pub eps: f64,
    pub max_positions: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    activation: ActivationFunction,
    /// Every kind of rotary embedding that blocks use.
    pub ropes: Vec<RotaryEmbedding>,
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
        let keys = defaults.keys;
        let activation = activation(json, keys.activation, defaults.activations)?;
        let max_positions = json.positive_or(keys.max_positions, defaults.max_positions)?;
        let hidden = json.positive(keys.hidden)?;
        let heads = match defaults.heads {
            Some(heads) => json.positive_or(keys.heads, heads)?,
            None => json.positive(keys.heads)?,
        };
        let mut common = Self {
            json,
            hidden,
            intermediate: match (defaults.intermediate, defaults.intermediate_times) {
                (Some(width), _) => json.positive_or(keys.intermediate, width)?,
                (None, Some(times)) => json.positive_or(keys.intermediate, times * hidden)?,
                (None, None) => json.positive(keys.intermediate)?,
            },
            blocks: json.positive_up_to(keys.blocks, 1 << 16)?,
            eps: json.number_or(keys.norm_eps, defaults.norm_eps, "a number above 0", |v| v > 0.0)?,
            max_positions,
            heads,
            kv_heads: key_heads(json, defaults, heads)?,
            head_dim: head_dim(json, defaults.head_dim, hidden, heads)?,
            activation,
            ropes: Vec::new(),
            warnings: Vec::new(),
            defaults,
        };
        if defaults.turning != Turning::Nothing && !defaults.own_ropes {
            let reader = common.rotary_reader()?;
            let rope = reader.settings.read(json, &mut common.warnings)?;
            common.ropes.push(reader.of(rope));
        }
        Ok(common)
    }

    /// Reads rotary embeddings of this model.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn rotary_reader(&self) -> Result<RotaryReader<'static>> {
        let (defaults, json) = (self.defaults, self.json);
        let (default, neighbours) = match defaults.turning {
            Turning::Whole | Turning::Nothing => (None, false),
            Turning::Part(part) => (Some(part), false),
            Turning::Neighbours(part) => (Some(part), true),
        };
        let part = rotary_part(json, defaults.keys.rotary_part, default)?;
        let dim = (self.head_dim as f64 * part) as usize;
        if dim == 0 || !dim.is_multiple_of(2) {
            return Err(json.wrong(&format!(
                "`{}` is {part} and a head is {} wide, of which {dim} features would turn: rotary embeddings need an even \
                 number",
                defaults.keys.rotary_part, self.head_dim
            )));
        }
        let settings = RopeReader {
            theta_key: defaults.keys.rope_theta,
            theta: defaults.rope_theta,
            context: self.max_positions,
            pairs: dim / 2,
            proportional: false,
        };
        Ok(RotaryReader { settings, dim, neighbours })
    }

    /// Attention that sees everything, without biases and norms of its own.
    pub fn attention(&self) -> AttentionSettings {
        let shape = AttentionShape {
            query: self.heads,
            key: self.kv_heads,
            dim: self.head_dim,
            window: None,
            scale: None,
            softcap: None,
        };
        let plain = AttentionSettings::plain(self.hidden, shape, (self.defaults.norm, self.eps));
        AttentionSettings { rope: plain.rope.filter(|_| !self.ropes.is_empty()), ..plain }
    }

    /// An MLP with a gate and without biases.
    pub fn mlp(&self) -> MlpSettings {
        MlpSettings::gated(self.hidden, self.intermediate, self.activation)
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
        self.typed_blocks("sliding_attention")
    }

    /// Which blocks `layer_types` calls `named`, where the others are full ones; `None` without that key.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] for a list that makes no sense.
    pub fn typed_blocks(&self, named: &str) -> Result<Option<Vec<bool>>> {
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
        let is_named = |kind: &Value| match kind.as_str() {
            Some(kind) if kind == named => Ok(true),
            Some("full_attention") => Ok(false),
            _ => Err(json.unexpected(KEY, kind, &format!("a list of `full_attention` and `{named}`"))),
        };
        types.iter().map(is_named).collect::<Result<_>>().map(Some)
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
        let (json, defaults) = (self.json, self.defaults);
        let names = defaults.names;
        let plan = |index: usize| {
            let mut layout = LayoutBuilder::new(format!("{}.{index}", names.blocks));
            let decoder = Arc::new(block(index, &mut layout));
            BlockPlan { layout: layout.finish(), decoder }
        };
        let tied = json.bool_or("tie_word_embeddings", defaults.tied_head)?;
        let weight = |name: &str| format!("{name}.weight");
        Ok(ModelConfig {
            architecture,
            inside: None,
            hidden_size: self.hidden,
            blocks: self.blocks,
            vocabulary: match defaults.vocabulary {
                Some(vocabulary) => json.positive_or("vocab_size", vocabulary)?,
                None => json.positive("vocab_size")?,
            },
            max_positions: self.max_positions,
            embedding: EmbeddingDef {
                tensor: weight(names.embedding),
                width: self.hidden,
                projection: None,
                factor: 1.0,
                positions: None,
                block_inputs: None,
            },
            head: HeadDef {
                norm: weight(names.norm),
                norm_eps: self.eps,
                norm_kind: Some(defaults.norm),
                projection: None,
                tensor: weight(names.head),
                bias: None,
                tied,
                factor: 1.0,
                softcap: None,
            },
            ropes: self.ropes.clone(),
            eos: json.tokens("eos_token_id")?,
            generation_eos: Vec::new(),
            bos: json.tokens("bos_token_id")?.first().copied(),
            warnings: self.warnings.clone(),
            needs_all_blocks: None,
            plans: (0..self.blocks).map(plan).collect(),
        })
    }
}

/// The width of attention windows. An absent key is the class' own; only an explicit null switches windows off.
pub(super) fn window_width(json: &JsonFile<'_>) -> Result<Option<usize>> {
    window_or(json, 4096)
}

/// The same where the class' own is another one.
pub(super) fn window_or(json: &JsonFile<'_>, default: usize) -> Result<Option<usize>> {
    match json.get("sliding_window") {
        None if json.has("sliding_window") => Ok(None),
        None => Ok(Some(default)),
        Some(_) => Ok(Some(json.positive("sliding_window")?)),
    }
}

/// The width of attention windows of a class that has none of its own: absent or null is none.
pub(super) fn window_if_given(json: &JsonFile<'_>) -> Result<Option<usize>> {
    json.get("sliding_window").map(|_| json.positive("sliding_window")).transpose()
}

/// Reads rotary embeddings of a model's heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct RotaryReader<'a> {
    pub settings: RopeReader<'a>,
    dim: usize,
    neighbours: bool,
}

impl RotaryReader<'_> {
    /// Heads that turn in this way.
    pub fn of(self, rope: Rope) -> RotaryEmbedding {
        RotaryEmbedding { rope, dim: self.dim, neighbours: self.neighbours }
    }
}

/// Refuses weights that are no plain numbers.
///
/// # Errors
/// [`crate::Error::Mistake`] naming the method.
pub(super) fn refuse_quantised(json: &JsonFile<'_>) -> Result<()> {
    let Some(quantised) = json.get("quantization_config") else { return Ok(()) };
    let method = quantised.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
    let hint = if method == "mxfp4" {
        "; transformers dequantises this model when it loads it with `Mxfp4Config(dequantize=True)` and can save it then"
    } else {
        ""
    };
    Err(json.wrong(&format!(
        "`quantization_config` says that the weights are quantised ({method}): accepted are models with plain F32, F16 \
         or BF16 weights{hint}"
    )))
}

/// Refuses a key that is neither absent nor the only value that is known.
///
/// # Errors
/// [`crate::Error::Mistake`] naming the key.
pub(super) fn only(json: &JsonFile<'_>, key: &str, accepted: bool) -> Result<()> {
    match json.get(key) {
        None => Ok(()),
        Some(value) if value.as_bool() == Some(accepted) => Ok(()),
        Some(other) => Err(json.unexpected(key, other, &format!("only {accepted}"))),
    }
}

fn activation(
    json: &JsonFile<'_>,
    key: &str,
    known: &[(&str, ActivationFunction)],
) -> Result<ActivationFunction> {
    let function = |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, function)| *function);
    let first = known.first().map(|(name, _)| *name).unwrap_or_default();
    let found = match json.get(key) {
        None => function(first),
        Some(Value::String(name)) => function(name),
        Some(_) => None,
    };
    found.ok_or_else(|| {
        let accepted =
            format!("only {}", known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or "));
        json.unexpected(key, json.get(key).unwrap_or(&Value::Null), &accepted)
    })
}

fn key_heads(json: &JsonFile<'_>, defaults: Defaults, heads: usize) -> Result<usize> {
    if !defaults.grouped {
        return Ok(heads);
    }
    let default = defaults.kv_heads.filter(|_| !json.has("num_key_value_heads")).unwrap_or(heads);
    let kv_heads = json.positive_or("num_key_value_heads", default)?;
    if heads.is_multiple_of(kv_heads) {
        return Ok(kv_heads);
    }
    Err(json.wrong(&format!(
        "`{}` is {heads} and `num_key_value_heads` is {kv_heads}: the first has to be a multiple of the second",
        defaults.keys.heads
    )))
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
