//! `config.json` of a Hugging Face folder: which architecture, which sizes, which variant of attention.
//!
//! Absent keys mean what they mean to `transformers`; values that this program would get wrong are refused by name.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::json::JsonFile;
use crate::error::Result;
use crate::study::ModuleKind;

/// A model family that the decoder block knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama 1 to 3 and everything shaped like it.
    Llama,
    /// Llama with a sliding attention window.
    Mistral,
    /// Llama with biases on q, k and v.
    Qwen2,
    /// Llama with a norm on each head's queries and keys.
    Qwen3,
}

impl Architecture {
    /// Every known one.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The name in the `architectures` list of `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// The `model_type` of `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the frequencies of the rotary embedding are stretched for long contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3's: low frequencies are divided by `factor`, high ones are kept, those between are blended.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before the stretching, in tokens.
        original_max_position_embeddings: usize,
    },
}

/// The rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
}

/// What `config.json` says of a model, checked.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each says whether the model has one independent part")]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder blocks.
    pub blocks: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Epsilon of every RMS norm.
    pub norm_eps: f64,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Longest context that the model was made for, in tokens.
    pub max_positions: usize,
    /// Width of the sliding attention window, in tokens, of the blocks that have one: the token at position `i` sees
    /// those at `i - window + 1 ..= i`. Ask [`Self::sliding_window_for`].
    pub sliding_window: Option<usize>,
    /// Which blocks slide, one flag a block; all `false` without a window.
    pub sliding_blocks: Vec<bool>,
    /// The output head is the embedding.
    pub tied_head: bool,
    /// q, k and v have biases.
    pub qkv_bias: bool,
    /// The attention's output projection has a bias.
    pub output_bias: bool,
    /// gate, up and down have biases.
    pub mlp_bias: bool,
    /// Queries and keys are normalised head by head.
    pub qk_norm: bool,
    /// Tokens that end an answer, from `config.json` and `generation_config.json`.
    pub eos: Vec<u32>,
    /// Token that begins a text.
    pub bos: Option<u32>,
}

impl ModelConfig {
    /// Reads and checks a `config.json`, and takes further end tokens from the `generation_config.json` beside it
    /// where there is one.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming the file and the key when the file cannot be read or parsed, a value makes no sense,
    /// or the model needs something unknown.
    pub fn from_json(path: &Path) -> Result<Self> {
        let json = JsonFile::read(path)?;
        let architecture = architecture(&json)?;
        refuse_unknown_variants(&json)?;
        let hidden_size = json.positive("hidden_size")?;
        let heads = json.positive("num_attention_heads")?;
        let blocks = json.positive_up_to("num_hidden_layers", 1 << 16)?;
        let kv_heads = json.positive_or("num_key_value_heads", heads)?;
        let head_dim = head_dim(&json, architecture, hidden_size, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(json.wrong(&format!(
                "`num_attention_heads` is {heads} and `num_key_value_heads` is {kv_heads}: the first has to be a \
                 multiple of the second"
            )));
        }
        let (sliding_window, sliding_blocks) = sliding(&json, architecture, blocks)?;
        let attention_bias = json.bool_or("attention_bias", false)?;
        let max_positions = json.positive_or("max_position_embeddings", 2048)?;
        let mut config = Self {
            architecture,
            hidden_size,
            intermediate_size: json.positive("intermediate_size")?,
            blocks,
            heads,
            kv_heads,
            head_dim,
            vocabulary: json.positive("vocab_size")?,
            norm_eps: json.number_or("rms_norm_eps", 1e-6, "a number above 0", |v| v > 0.0)?,
            rope: rope(&json)?,
            max_positions,
            sliding_window,
            sliding_blocks,
            tied_head: json.bool_or("tie_word_embeddings", false)?,
            qkv_bias: match architecture {
                Architecture::Llama | Architecture::Qwen3 => attention_bias,
                Architecture::Mistral => false,
                Architecture::Qwen2 => true,
            },
            output_bias: attention_bias && matches!(architecture, Architecture::Llama | Architecture::Qwen3),
            mlp_bias: architecture == Architecture::Llama && json.bool_or("mlp_bias", false)?,
            qk_norm: architecture == Architecture::Qwen3,
            eos: json.tokens("eos_token_id")?,
            bos: json.tokens("bos_token_id")?.first().copied(),
        };
        let generation = path.with_file_name("generation_config.json");
        if generation.is_file() {
            for token in JsonFile::read(&generation)?.tokens("eos_token_id")? {
                if !config.eos.contains(&token) {
                    config.eos.push(token);
                }
            }
        }
        Ok(config)
    }

    /// Width of the attention window of a block, in tokens; `None` where it sees everything before it.
    pub fn sliding_window_for(&self, block: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.sliding_blocks.get(block).copied().unwrap_or(false))
    }

    /// Shape of a prunable module's weight: `(out, in)`.
    pub fn module_shape(&self, module: ModuleKind) -> (usize, usize) {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        match module {
            ModuleKind::QProj => (queries, hidden),
            ModuleKind::KProj | ModuleKind::VProj => (keys, hidden),
            ModuleKind::OProj => (hidden, queries),
            ModuleKind::GateProj | ModuleKind::UpProj => (inner, hidden),
            ModuleKind::DownProj => (hidden, inner),
        }
    }

    /// Whether a prunable module has a bias.
    pub fn module_bias(&self, module: ModuleKind) -> bool {
        match module {
            ModuleKind::QProj | ModuleKind::KProj | ModuleKind::VProj => self.qkv_bias,
            ModuleKind::OProj => self.output_bias,
            ModuleKind::GateProj | ModuleKind::UpProj | ModuleKind::DownProj => self.mlp_bias,
        }
    }
}

fn architecture(json: &JsonFile<'_>) -> Result<Architecture> {
    let known = || Architecture::ALL.map(Architecture::name).join(", ");
    let named: Vec<&str> = match json.get("architectures") {
        None => Vec::new(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(other) => return Err(json.unexpected("architectures", other, "a list of names")),
    };
    if named.is_empty() {
        // Hand-made configs sometimes leave the list out; the type says the same.
        let kind = json.get("model_type").and_then(Value::as_str);
        return Architecture::ALL.into_iter().find(|a| Some(a.model_type()) == kind).ok_or_else(|| {
            json.wrong(&format!("`architectures` names none: accepted is one of {}", known()))
        });
    }
    Architecture::ALL.into_iter().find(|a| named.contains(&a.name())).ok_or_else(|| {
        json.wrong(&format!("unknown architecture `{}`: accepted are {}", named.join(", "), known()))
    })
}

/// Refuses what would silently change the model's output.
fn refuse_unknown_variants(json: &JsonFile<'_>) -> Result<()> {
    match json.get("hidden_act") {
        None => {}
        Some(Value::String(act)) if act == "silu" => {}
        Some(other) => return Err(json.unexpected("hidden_act", other, "only silu")),
    }
    if let Some(quantised) = json.get("quantization_config") {
        let method = quantised.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
        return Err(json.wrong(&format!(
            "`quantization_config` says that the weights are quantised ({method}): accepted are models with plain \
             F32, F16 or BF16 weights"
        )));
    }
    json.number_or("partial_rotary_factor", 1.0, "only 1", |v| (v - 1.0).abs() < 1e-9)?;
    Ok(())
}

fn head_dim(json: &JsonFile<'_>, architecture: Architecture, hidden: usize, heads: usize) -> Result<usize> {
    let head_dim = match json.get("head_dim") {
        Some(_) => json.positive("head_dim")?,
        None if architecture == Architecture::Qwen3 => 128,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
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

/// The window and the blocks that slide, as `transformers` would decide.
fn sliding(
    json: &JsonFile<'_>,
    architecture: Architecture,
    blocks: usize,
) -> Result<(Option<usize>, Vec<bool>)> {
    let none = (None, vec![false; blocks]);
    let window = match (architecture, json.get("sliding_window")) {
        (Architecture::Llama, _) => return Ok(none),
        (Architecture::Qwen2 | Architecture::Qwen3, _) if !json.bool_or("use_sliding_window", false)? => {
            return Ok(none);
        }
        // An absent key is the default width; only an explicit null switches the window off.
        (_, None) if json.has("sliding_window") => return Ok(none),
        (_, None) => 4096,
        (_, Some(_)) => json.positive("sliding_window")?,
    };
    let slides = match json.get("layer_types") {
        Some(Value::Array(types)) if types.len() == blocks => types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(json.unexpected(
                    "layer_types",
                    kind,
                    "a list of `full_attention` and `sliding_attention`",
                )),
            })
            .collect::<Result<Vec<_>>>()?,
        Some(Value::Array(types)) => {
            return Err(json.wrong(&format!(
                "`layer_types` has {} entries and `num_hidden_layers` is {blocks}: they have to be as many",
                types.len()
            )));
        }
        Some(other) => return Err(json.unexpected("layer_types", other, "a list with one entry a block")),
        None if architecture == Architecture::Mistral => vec![true; blocks],
        None => {
            let first = json.count_or("max_window_layers", 28)?;
            (0..blocks).map(|block| block >= first).collect()
        }
    };
    Ok((slides.contains(&true).then_some(window), slides))
}

fn rope(json: &JsonFile<'_>) -> Result<Rope> {
    const THETA: &str = "a number above 0";
    // Since version 5 of `transformers` one object holds what were two keys.
    let key = if json.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    let theta = json.number_or("rope_theta", 10_000.0, THETA, |v| v > 0.0)?;
    let settings = match json.get(key) {
        None => return Ok(Rope { theta, scaling: RopeScaling::None }),
        Some(Value::Object(map)) => JsonFile { path: json.path, prefix: format!("{key}."), map: map.clone() },
        Some(other) => return Err(json.unexpected(key, other, "an object")),
    };
    let theta = settings.number_or("rope_theta", theta, THETA, |v| v > 0.0)?;
    let kind_key = if settings.get("rope_type").is_some() { "rope_type" } else { "type" };
    let factor = || settings.number("factor", "a number of at least 1", |v: f64| v >= 1.0 && v.is_finite());
    let scaling = match settings.get(kind_key) {
        Some(Value::String(kind)) if kind == "default" => RopeScaling::None,
        Some(Value::String(kind)) if kind == "linear" => RopeScaling::Linear { factor: factor()? },
        Some(Value::String(kind)) if kind == "llama3" => {
            let low_freq_factor = settings.number("low_freq_factor", THETA, |v| v > 0.0)?;
            RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor,
                high_freq_factor: settings.number(
                    "high_freq_factor",
                    &format!("a number above `low_freq_factor`, {low_freq_factor}"),
                    |v| v > low_freq_factor,
                )?,
                original_max_position_embeddings: settings.positive("original_max_position_embeddings")?,
            }
        }
        None if key == "rope_parameters" && !settings.map.values().any(Value::is_object) => RopeScaling::None,
        None => {
            return Err(settings
                .wrong(&format!("`{key}` has no `rope_type`: accepted are default, linear and llama3")));
        }
        Some(other) => return Err(settings.unexpected(kind_key, other, "default, linear or llama3")),
    };
    settings.number_or("partial_rotary_factor", 1.0, "only 1", |v| (v - 1.0).abs() < 1e-9)?;
    Ok(Rope { theta, scaling })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(extra: &Value) -> Result<ModelConfig> {
        let folder = tempfile::tempdir().unwrap();
        let mut config = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
        });
        for (key, value) in extra.as_object().unwrap() {
            config[key] = value.clone();
        }
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        ModelConfig::from_json(&path)
    }

    #[test]
    fn absent_keys_mean_what_they_mean_to_transformers() {
        let config = parse(&json!({})).unwrap();
        assert_eq!((config.head_dim, config.kv_heads, config.max_positions), (16, 2, 2048));
        assert_eq!(config.rope, Rope { theta: 10_000.0, scaling: RopeScaling::None });
        assert!(!config.tied_head && !config.qkv_bias && !config.output_bias && !config.mlp_bias);
        assert!(config.eos.is_empty() && config.bos.is_none());
        let qwen3 = parse(&json!({"architectures": ["Qwen3ForCausalLM"]})).unwrap();
        assert_eq!(qwen3.head_dim, 128);
        assert!(qwen3.qk_norm);
        let qwen2 = parse(&json!({"architectures": ["Qwen2ForCausalLM"]})).unwrap();
        assert!(qwen2.qkv_bias && !qwen2.output_bias);
    }

    #[test]
    fn both_spellings_of_rope_settings_say_the_same() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let old = parse(&json!({"rope_theta": 500_000.0, "rope_scaling": scaling})).unwrap();
        let mut parameters = scaling.clone();
        parameters["rope_theta"] = json!(500_000.0);
        let new = parse(&json!({"rope_parameters": parameters})).unwrap();
        assert_eq!(old.rope, new.rope);
        assert_eq!(
            new.rope.scaling,
            RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192
            }
        );
        let linear = parse(&json!({"rope_scaling": {"type": "linear", "factor": 2}})).unwrap();
        assert_eq!(linear.rope.scaling, RopeScaling::Linear { factor: 2.0 });
        let plain = parse(&json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}})).unwrap();
        assert_eq!(plain.rope, Rope { theta: 7.0, scaling: RopeScaling::None });
    }

    #[test]
    fn windows_slide_in_the_blocks_that_say_so() {
        let windows = |extra: Value| -> Vec<Option<usize>> {
            let config = parse(&extra).unwrap();
            (0..config.blocks).map(|b| config.sliding_window_for(b)).collect()
        };
        let mistral = "MistralForCausalLM";
        let qwen = "Qwen2ForCausalLM";
        assert_eq!(windows(json!({"architectures": [mistral], "sliding_window": 8})), [Some(8); 4]);
        assert_eq!(windows(json!({"architectures": [mistral], "sliding_window": null})), [None; 4]);
        assert_eq!(windows(json!({"architectures": [mistral]})), [Some(4096); 4]);
        assert_eq!(windows(json!({"architectures": [qwen], "sliding_window": 8})), [None; 4]);
        assert_eq!(
            windows(json!({"architectures": [qwen], "sliding_window": 8, "use_sliding_window": true,
                "max_window_layers": 3})),
            [None, None, None, Some(8)]
        );
        let types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"];
        assert_eq!(
            windows(json!({"architectures": [qwen], "sliding_window": 8, "use_sliding_window": true,
                "layer_types": types})),
            [Some(8), None, None, Some(8)]
        );
        assert_eq!(windows(json!({"sliding_window": 8})), [None; 4], "Llama has no window");
    }

    #[test]
    fn end_tokens_come_from_both_files_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let config = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9,
            "eos_token_id": 2, "bos_token_id": 1});
        std::fs::write(&path, config.to_string()).unwrap();
        let generation = folder.path().join("generation_config.json");
        std::fs::write(generation, r#"{"eos_token_id": [7, 2, 8]}"#).unwrap();
        let config = ModelConfig::from_json(&path).unwrap();
        assert_eq!((config.eos, config.bos), (vec![2, 7, 8], Some(1)));
    }
}
