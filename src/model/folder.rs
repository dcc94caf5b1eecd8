//! A model's folder: everything that has to be in it, checked before anything is computed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};

use super::arch::read_config;
use super::config::ModelConfig;
use super::json::JsonFile;
use super::layout::{BlockLayout, ModuleDef};
use super::reconcile::reconcile;
use super::removed::RemovedParts;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernels::ggml::{EndTypes, GgmlType};
use crate::results::{ModelInfo, SourceBits};

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
    /// What embedding and head are rounded to as they are read; nothing in a folder that was opened.
    pub ends: EndTypes,
    /// What `config.json` would have to say, where the model is another one than that of its files.
    pub(crate) rewritten: Option<Arc<Map<String, Value>>>,
}

impl ModelFolder {
    /// Opens a folder and checks that it is complete: configuration, tokenizer, and every tensor that the configuration
    /// asks for, in the shape that it asks for. Reads no weights, but for comparing a tied head with a stored one.
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
        let mut config = read_config(&needed("config.json", "sizes and architecture")?)?;
        let tokenizer = needed("tokenizer.json", "the fast tokenizer; other tokenizer files are not read")?;
        let mut weights = Weights::open(path)?;
        reconcile(&mut config, &mut weights)?;
        check_tensors(&config, &weights)?;
        cut_fused_tensors(&config, &mut weights)?;
        Ok(Self {
            root: path.to_path_buf(),
            config,
            weights,
            tokenizer,
            tokenizer_config: here("tokenizer_config.json"),
            special_tokens_map: here("special_tokens_map.json"),
            chat_template: here("chat_template.jinja"),
            ends: EndTypes::default(),
            rewritten: None,
        })
    }

    /// The same model with embedding and head rounded to formats.
    pub fn with_ends(&self, ends: EndTypes) -> Cow<'_, Self> {
        if ends == self.ends { Cow::Borrowed(self) } else { Cow::Owned(Self { ends, ..self.clone() }) }
    }

    /// The same model without some blocks, by their numbers in the files.
    pub fn without_blocks(&self, removed: &[usize]) -> Cow<'_, Self> {
        if removed.is_empty() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { config: self.config.without_blocks(removed), ..self.clone() })
    }

    /// The same model without some of its parts.
    pub fn without(&self, removed: &RemovedParts) -> Cow<'_, Self> {
        let model = self.without_blocks(&removed.blocks);
        if removed.experts.iter().all(Vec::is_empty) {
            return model;
        }
        let config = model.config.without_experts(&removed.experts);
        Cow::Owned(Self { config, ..model.into_owned() })
    }

    /// What `config.json` says, or has to say of a model that is narrower than that of its files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn configuration(&self) -> Result<Map<String, Value>> {
        match &self.rewritten {
            Some(map) => Ok((**map).clone()),
            None => Ok(JsonFile::read(&self.root.join("config.json"))?.map),
        }
    }

    /// Whether its blocks are narrower than those of its files.
    pub fn is_narrowed(&self) -> bool {
        self.rewritten.is_some()
    }

    /// Parameters of the model; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        self.config.tensors().iter().map(|(_, shape)| size(shape)).sum()
    }

    /// Bits that embedding and head take less than in the files.
    pub fn saved_at_ends(&self) -> u64 {
        let config = &self.config;
        let width = config.embedding.width;
        let values = config.vocabulary as u64 * width as u64;
        let saved = |tensor: &str, kind: Option<GgmlType>| {
            let (Some(kind), Some(info)) = (kind, self.weights.info(tensor)) else { return 0 };
            let stored = (config.vocabulary * kind.row_bytes(width)) as u64 * 8;
            (values * 8 * info.dtype.size_in_bytes() as u64).saturating_sub(stored)
        };
        let head = if config.head.tied { 0 } else { saved(&config.head.tensor, self.ends.head) };
        saved(&config.embedding.tensor, self.ends.embedding) + head
    }

    /// Name of the tensor that the output head is: the embedding's where the head is tied.
    pub fn head_tensor(&self) -> &str {
        if self.config.head.tied { &self.config.embedding.tensor } else { &self.config.head.tensor }
    }

    /// Precision of the prunable weights on disk.
    pub fn dtype(&self) -> DType {
        let first = self.config.layouts().flat_map(BlockLayout::modules).next();
        first.map_or(DType::F32, |(_, module)| self.stored_dtype(module))
    }

    /// Reads a module's weight, `[out, in]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub(crate) fn matrix(&self, module: &ModuleDef, dtype: DType, device: &Device) -> Result<Tensor> {
        let weight = self.weights.tensor(&module.weight(), dtype, device)?;
        Ok(if module.turned { weight.t()?.contiguous()? } else { weight })
    }

    /// Precision of a module's weights on disk.
    pub fn stored_dtype(&self, module: &ModuleDef) -> DType {
        self.weights.info(&module.weight()).map_or(DType::F32, |info| info.dtype)
    }

    /// What reports say about the model; `source` is what the user called it, `compressed` are the modules that cells
    /// compress.
    pub fn info<'a>(&self, source: &str, compressed: impl Iterator<Item = &'a ModuleDef>) -> ModelInfo {
        ModelInfo {
            source: source.to_string(),
            architecture: self.config.architecture.to_string(),
            parameters: self.parameters(),
            prunable_parameters: self.config.layouts().map(|layout| layout.elements() as u64).sum(),
            modules: self.config.module_names(),
            blocks: self.config.blocks,
            vocabulary: self.config.vocabulary,
            dtype: self.dtype().as_str().to_uppercase(),
            source_bits: Some(self.source_bits(compressed)),
        }
    }

    /// What the tensors of the model take in its files, where cells compress these modules.
    pub fn source_bits<'a>(&self, compressed: impl Iterator<Item = &'a ModuleDef>) -> SourceBits {
        // Opening the folder has found every tensor of the configuration in its files, where a router may have rows of
        // experts that are left out.
        let bits = |name: &str, elements: u64| {
            let info = self.weights.info(name);
            info.map_or(0, |info| elements * 8 * info.dtype.size_in_bytes() as u64)
        };
        let all: u64 = self.config.tensors().iter().map(|(name, shape)| bits(name, size(shape))).sum();
        let touched: u64 = compressed.map(|module| bits(&module.weight(), module.elements() as u64)).sum();
        SourceBits { all, untouched: all - touched }
    }
}

fn check_tensors(config: &ModelConfig, weights: &Weights) -> Result<()> {
    for (name, expected) in config.tensors() {
        if name == config.head.tensor && !weights.contains(&name) {
            return Err(Error::mistake(format!(
                "{}: no tensor `{name}`: `tie_word_embeddings` is not true in config.json, so the model needs a head of \
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

/// Lets the matrix of every expert be found where the files have those of all experts in one tensor.
fn cut_fused_tensors(config: &ModelConfig, weights: &mut Weights) -> Result<()> {
    for (_, module) in config.layouts().flat_map(BlockLayout::modules) {
        let Some(place) = module.expert else { continue };
        for (tensor, name, _) in module.pieces() {
            weights.name_piece(name, &tensor, place.index)?;
        }
    }
    Ok(())
}

fn size(shape: &[usize]) -> u64 {
    shape.iter().map(|n| *n as u64).product()
}
