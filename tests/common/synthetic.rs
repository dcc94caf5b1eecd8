//! Random models for tests and benches: real Hugging Face folders of any shape and size.
//!
//! Weights are streamed to disk, so a model larger than memory can be written. The numbers are not trained, but scaled
//! so that a forward pass has healthy activations and a next-token distribution that is neither flat nor certain.
//!
//! The library's unit tests, the tests, benches and examples all include this file. It uses what the library gives to
//! everyone.

#![allow(dead_code, reason = "not everyone needs every shape")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::DType;
use half::{bf16, f16};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use secateur::model::arch::llama::Llama;
use secateur::model::arch::mixtral::Mixtral;
use secateur::model::weights::{INDEX_FILE, SINGLE_FILE};
use secateur::model::{Architecture, ModelConfig, read_config};
use secateur::{Error, Result};

/// Tokens that the tokenizer of a synthetic model has: `<s>`, `</s>` and one a byte.
pub(crate) const SMALLEST_VOCABULARY: usize = 258;

/// Elements made by one task.
const CHUNK: usize = 1 << 16;
/// Chunks in memory at once.
const BATCH: usize = 64;

/// What a random model looks like. The default is tiny.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// The family.
    pub architecture: &'static dyn Architecture,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the MLP.
    pub intermediate: usize,
    /// Decoder blocks.
    pub blocks: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding, at least [`SMALLEST_VOCABULARY`]; the tokenizer makes only that many different tokens.
    pub vocabulary: usize,
    /// Longest context, in tokens.
    pub max_positions: usize,
    /// The output head is the embedding.
    pub tied: bool,
    /// Further keys of `config.json`.
    pub keys: Map<String, Value>,
    /// What the weights are stored as: `F32`, `F16` or `BF16`.
    pub dtype: DType,
    /// Number of shards; `None` is one `model.safetensors`.
    pub sharded: Option<usize>,
    /// The model's chat template, in Jinja.
    pub chat_template: Option<String>,
    /// The same seed gives the same weights.
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            architecture: &Llama,
            hidden: 64,
            intermediate: 128,
            blocks: 3,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            vocabulary: SMALLEST_VOCABULARY,
            max_positions: 512,
            tied: true,
            keys: Map::new(),
            dtype: DType::F32,
            sharded: None,
            chat_template: None,
            seed: 0,
        }
    }
}

impl Synthetic {
    /// Llama-2-7B's shape: 13.5 GB in bf16.
    pub fn llama2_7b() -> Self {
        Self {
            hidden: 4096,
            intermediate: 11_008,
            blocks: 32,
            heads: 32,
            kv_heads: 32,
            head_dim: 128,
            vocabulary: 32_000,
            max_positions: 4096,
            tied: false,
            dtype: DType::BF16,
            sharded: Some(2),
            ..Self::default()
        }
    }

    /// `SmolLM2-135M`'s shape: 0.3 GB in bf16.
    pub fn smollm2_135m() -> Self {
        Self {
            hidden: 576,
            intermediate: 1536,
            blocks: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            vocabulary: 49_152,
            max_positions: 8192,
            dtype: DType::BF16,
            ..Self::default()
        }
    }

    /// Mixtral 8x7B's shape: 93 GB in bf16, 2.9 GB of them each block.
    pub fn mixtral() -> Self {
        Self {
            architecture: &Mixtral,
            hidden: 4096,
            intermediate: 14_336,
            blocks: 32,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            vocabulary: 32_000,
            max_positions: 32_768,
            tied: false,
            dtype: DType::BF16,
            sharded: Some(8),
            ..Self::default()
        }
        .with("num_local_experts", json!(8))
        .with("num_experts_per_tok", json!(2))
    }

    /// A model of a few hundred kilobytes that has what is special about its family.
    pub fn tiny(architecture: &'static dyn Architecture) -> Self {
        let mut tiny = Self { architecture, ..Self::default() };
        if let Value::Object(keys) = architecture.example() {
            tiny.keys = keys;
        }
        tiny.tied = tiny.keys.remove("tie_word_embeddings") != Some(json!(false));
        let head_dim = tiny.keys.remove("head_dim").and_then(|dim| dim.as_u64());
        tiny.head_dim = head_dim.map_or(tiny.head_dim, |dim| dim as usize);
        tiny
    }

    /// The same with another key in its `config.json`.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.keys.insert(key.to_owned(), value);
        self
    }

    /// Writes the model into a folder, which is made where it is missing: config, generation config, weights, tokenizer
    /// and its config.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the shape makes no sense, [`Error::Io`] when something cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        if self.vocabulary < SMALLEST_VOCABULARY {
            return Err(Error::mistake(format!(
                "vocabulary {}: accepted are at least {SMALLEST_VOCABULARY} (one token a byte and two special ones)",
                self.vocabulary
            )));
        }
        std::fs::create_dir_all(dir).map_err(|e| Error::io("cannot make", dir, e))?;
        write_json(dir, "config.json", &self.config_json())?;
        write_json(
            dir,
            "generation_config.json",
            &json!({"bos_token_id": 0, "do_sample": false, "eos_token_id": 1}),
        )?;
        write_json(dir, "tokenizer.json", &tokenizer_json())?;
        write_json(dir, "tokenizer_config.json", &self.tokenizer_config_json())?;
        self.write_weights(dir)
    }

    fn config_json(&self) -> Value {
        let mut config = json!({
            "architectures": [self.architecture.name()],
            "model_type": self.architecture.model_type(),
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.max_positions,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
            "tie_word_embeddings": self.tied,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": match self.dtype {
                DType::BF16 => "bfloat16",
                DType::F16 => "float16",
                _ => "float32",
            },
        });
        for (key, value) in &self.keys {
            config[key] = value.clone();
        }
        config
    }

    fn tokenizer_config_json(&self) -> Value {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.max_positions,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "clean_up_tokenization_spaces": false,
        });
        if let Some(template) = &self.chat_template {
            config["chat_template"] = json!(template);
        }
        config
    }

    fn write_weights(&self, dir: &Path) -> Result<()> {
        let config = read_config(&dir.join("config.json"))?;
        let tensors: Vec<Tensor> = config
            .tensors()
            .into_iter()
            .enumerate()
            .map(|(number, (name, shape))| {
                let (mean, deviation) = self.distribution(&config, &name, &shape);
                let seed = mix(self.seed ^ mix(number as u64 + 1));
                Tensor { name, shape, mean, deviation, seed }
            })
            .collect();
        let Some(shards) = self.sharded else {
            return self.write_file(&dir.join(SINGLE_FILE), &tensors);
        };
        let total: usize = tensors.iter().map(Tensor::elements).sum();
        let share = total.div_ceil(shards.max(1));
        let mut map = Map::new();
        let mut parts: Vec<Vec<&Tensor>> = vec![Vec::new(); shards.max(1)];
        let mut before = 0;
        for tensor in &tensors {
            let part = before / share;
            map.insert(tensor.name.clone(), json!(shard_name(part, parts.len())));
            parts[part].push(tensor);
            before += tensor.elements();
        }
        for (number, part) in parts.iter().enumerate() {
            self.write_file(&dir.join(shard_name(number, parts.len())), part)?;
        }
        let size = total * self.dtype.size_in_bytes();
        write_json(dir, INDEX_FILE, &json!({"metadata": {"total_size": size}, "weight_map": map}))
    }

    /// Mean and standard deviation of a tensor's weights.
    fn distribution(&self, config: &ModelConfig, name: &str, shape: &[usize]) -> (f32, f32) {
        let head = 2.0 / (self.hidden as f32).sqrt();
        match shape {
            _ if name == config.head.tensor => (0.0, head),
            _ if name == config.embedding.tensor => (0.0, if self.tied { head } else { 1.0 }),
            _ if name.ends_with("bias") => (0.0, 0.1),
            [.., columns] if shape.len() > 1 => (0.0, 1.5 / (*columns as f32).sqrt()),
            _ => (1.0, 0.1),
        }
    }

    fn write_file<T: std::borrow::Borrow<Tensor>>(&self, path: &Path, tensors: &[T]) -> Result<()> {
        let cannot = |e| Error::io("cannot write", path, e);
        let size = self.dtype.size_in_bytes();
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut at = 0;
        for tensor in tensors {
            let tensor = tensor.borrow();
            let end = at + tensor.elements() * size;
            let entry = json!({"dtype": self.dtype.as_str().to_uppercase(), "shape": tensor.shape, "data_offsets": [at, end]});
            header.insert(tensor.name.clone(), entry);
            at = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = BufWriter::new(File::create(path).map_err(cannot)?);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(cannot)?;
        file.write_all(&header).map_err(cannot)?;
        let mut bytes = vec![0; CHUNK * BATCH * size];
        for tensor in tensors {
            let tensor = tensor.borrow();
            for start in (0..tensor.elements()).step_by(CHUNK * BATCH) {
                let count = (CHUNK * BATCH).min(tensor.elements() - start);
                let bytes = &mut bytes[..count * size];
                bytes
                    .par_chunks_mut(CHUNK * size)
                    .enumerate()
                    .for_each(|(i, bytes)| tensor.fill(start + i * CHUNK, self.dtype, bytes));
                file.write_all(bytes).map_err(cannot)?;
            }
        }
        file.flush().map_err(cannot)
    }
}

/// A tensor to be written.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    mean: f32,
    deviation: f32,
    seed: u64,
}

impl Tensor {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Writes the elements from number `start` on. Each depends on its number alone, so chunks can be made in any order.
    fn fill(&self, start: usize, dtype: DType, bytes: &mut [u8]) {
        let value = |i: usize| self.mean + self.deviation * normal(self.seed, (start + i) as u64);
        match dtype {
            DType::F32 => {
                for (i, bytes) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
                    *bytes = value(i).to_le_bytes();
                }
            }
            DType::F16 => {
                for (i, bytes) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
                    *bytes = f16::from_f32(value(i)).to_le_bytes();
                }
            }
            _ => {
                for (i, bytes) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
                    *bytes = bf16::from_f32(value(i)).to_le_bytes();
                }
            }
        }
    }
}

/// The finaliser of `SplitMix64`: every bit of the result depends on every bit of `z`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Number `i` of a stream of nearly normal numbers with mean 0 and deviation 1: the sum of four uniform ones, which has
/// no branches and so is quick.
fn normal(seed: u64, i: u64) -> f32 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let first = mix(seed.wrapping_add((2 * i + 1).wrapping_mul(STEP)));
    let second = mix(seed.wrapping_add((2 * i + 2).wrapping_mul(STEP)));
    // As signed numbers they are uniform around 0; each has the deviation 2^32 / sqrt(12).
    let uniform = |bits: u64| bits as u32 as i32 as f32;
    let sum = (uniform(first) + uniform(first >> 32)) + (uniform(second) + uniform(second >> 32));
    sum * (3_f32.sqrt() / 4_294_967_296.0)
}

fn shard_name(number: usize, shards: usize) -> String {
    format!("model-{:05}-of-{shards:05}.safetensors", number + 1)
}

/// A byte-level tokenizer without merges: every byte is a token, and a text begins with `<s>`.
fn tokenizer_json() -> Value {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut vocabulary = Map::new();
    for (id, token) in
        ["<s>".into(), "</s>".into()].into_iter().chain(alphabet.into_iter().map(String::from)).enumerate()
    {
        vocabulary.insert(token, json!(id));
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

fn write_json(dir: &Path, file: &str, value: &Value) -> Result<()> {
    let path = dir.join(file);
    std::fs::write(&path, format!("{value:#}\n")).map_err(|e| Error::io("cannot write", &path, e))
}
