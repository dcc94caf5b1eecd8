//! A model's folder: everything that has to be in it, checked before anything is computed.

use std::path::{Path, PathBuf};

use candle_core::DType;

use super::config::ModelConfig;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::results::ModelInfo;
use crate::study::ModuleKind;

/// Name of the embedding's tensor, `[vocabulary, hidden]`.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the last norm's tensor, `[hidden]`.
pub const FINAL_NORM: &str = "model.norm.weight";
/// Name of the output head's tensor, `[vocabulary, hidden]`, of a model whose head is its own.
pub const HEAD: &str = "lm_head.weight";

/// A Hugging Face folder that holds a whole model of a known architecture.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// The folder.
    pub root: PathBuf,
    /// Its `config.json`.
    pub config: ModelConfig,
    /// Its weights; every tensor that the configuration asks for is there, in the right shape.
    pub weights: Weights,
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`, where there is one.
    pub tokenizer_config: Option<PathBuf>,
    /// `special_tokens_map.json`, where there is one.
    pub special_tokens_map: Option<PathBuf>,
    /// `chat_template.jinja`, where there is one.
    pub chat_template: Option<PathBuf>,
}

impl ModelFolder {
    /// Opens a folder and checks that it is complete: configuration, tokenizer, and every tensor that the configuration
    /// asks for, in the shape that it asks for. Reads no weights.
    ///
    /// # Errors
    /// [`Error::Mistake`] naming what is missing, or which tensor contradicts the configuration and how.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let what = if path.exists() { "is a file" } else { "no such folder" };
            return Err(Error::mistake(format!(
                "{}: {what}: a model is a Hugging Face folder with config.json, tokenizer.json and safetensors weights",
                path.display()
            )));
        }
        let here = |file: &str| Some(path.join(file)).filter(|p| p.is_file());
        let needed = |file: &str, why: &str| {
            here(file).ok_or_else(|| {
                Error::mistake(format!("{}: no {file}: a model's folder needs one ({why})", path.display()))
            })
        };
        let config = ModelConfig::from_json(&needed("config.json", "sizes and architecture")?)?;
        let tokenizer = needed("tokenizer.json", "the fast tokenizer; other tokenizer files are not read")?;
        let weights = Weights::open(path)?;
        check_tensors(&config, &weights)?;
        Ok(Self {
            root: path.to_path_buf(),
            config,
            weights,
            tokenizer,
            tokenizer_config: here("tokenizer_config.json"),
            special_tokens_map: here("special_tokens_map.json"),
            chat_template: here("chat_template.jinja"),
        })
    }

    /// Name of the tensor that the output head is: the embedding's where the head is tied.
    pub fn head_tensor(&self) -> &'static str {
        if self.config.tied_head { EMBEDDING } else { HEAD }
    }

    /// Precision of the prunable weights on disk.
    pub fn dtype(&self) -> DType {
        self.weights.info(&weight_name(0, ModuleKind::QProj)).map_or(DType::F32, |info| info.dtype)
    }

    /// What reports say about the model; `source` is what the user called it.
    pub fn info(&self, source: &str) -> ModelInfo {
        let parameters = tensors(&self.config).iter().map(|(_, shape)| size(shape)).sum();
        let module = |kind| {
            let (rows, columns) = self.config.module_shape(kind);
            (rows * columns) as u64
        };
        ModelInfo {
            source: source.to_string(),
            architecture: self.config.architecture.name().to_string(),
            parameters,
            prunable_parameters: ModuleKind::ALL.into_iter().map(module).sum::<u64>()
                * self.config.blocks as u64,
            blocks: self.config.blocks,
            vocabulary: self.config.vocabulary,
            dtype: self.dtype().as_str().to_uppercase(),
        }
    }
}

/// Full name of a prunable module: `model.layers.3.mlp.up_proj`.
pub fn module_name(block: usize, module: ModuleKind) -> String {
    format!("model.layers.{block}.{}", module.path())
}

/// Name of a prunable module's weight, `[out, in]`.
pub fn weight_name(block: usize, module: ModuleKind) -> String {
    format!("{}.weight", module_name(block, module))
}

/// Every tensor that a model of this configuration has, with its shape: embedding, blocks, last norm, and the head
/// unless it is tied.
pub fn tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![(EMBEDDING.to_string(), vec![config.vocabulary, config.hidden_size])];
    for block in 0..config.blocks {
        tensors.extend(block_tensors(config, block));
    }
    tensors.push((FINAL_NORM.to_string(), vec![config.hidden_size]));
    if !config.tied_head {
        tensors.push((HEAD.to_string(), vec![config.vocabulary, config.hidden_size]));
    }
    tensors
}

/// Every tensor of one decoder block, with its shape.
pub fn block_tensors(config: &ModelConfig, block: usize) -> Vec<(String, Vec<usize>)> {
    let prefix = format!("model.layers.{block}");
    let mut tensors = Vec::new();
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        tensors.push((format!("{prefix}.{norm}.weight"), vec![config.hidden_size]));
    }
    if config.qk_norm {
        for norm in ["q_norm", "k_norm"] {
            tensors.push((format!("{prefix}.self_attn.{norm}.weight"), vec![config.head_dim]));
        }
    }
    for module in ModuleKind::ALL {
        let (rows, columns) = config.module_shape(module);
        tensors.push((weight_name(block, module), vec![rows, columns]));
        if config.module_bias(module) {
            tensors.push((format!("{}.bias", module_name(block, module)), vec![rows]));
        }
    }
    tensors
}

fn check_tensors(config: &ModelConfig, weights: &Weights) -> Result<()> {
    for (name, expected) in tensors(config) {
        if name == HEAD && !weights.contains(HEAD) {
            return Err(Error::mistake(format!(
                "{}: no tensor `{HEAD}`: `tie_word_embeddings` is not true in config.json, so the model needs a head of \
                 its own",
                weights.root().display()
            )));
        }
        let info = weights.required(&name)?;
        if info.shape != expected {
            return Err(Error::mistake(format!(
                "{}: `{name}` has the shape {:?}, but config.json asks for {expected:?}",
                info.file.display(),
                info.shape
            )));
        }
    }
    Ok(())
}

fn size(shape: &[usize]) -> u64 {
    shape.iter().map(|n| *n as u64).product()
}
