//! The architectures: one file a family, and the registry of them.
//!
//! A family says which tensors its blocks have, in what shapes and with which inputs, and how hidden states go through;
//! see [`super::architecture::Architecture`].

mod attention;
mod cohere;
mod common;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod gemma4_block;
mod glm;
mod glm4;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod granite;
pub mod llama;
mod ministral3;
pub mod mistral;
pub mod mixtral;
mod mixture;
mod mlp;
mod norm;
mod olmo2;
mod olmo3;
mod olmoe;
mod opt;
mod parallel;
mod phi;
mod phi3;
mod pictures;
pub mod qwen2;
mod qwen2_moe;
pub mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod sandwich;
pub mod smollm3;
mod stablelm;
mod starcoder2;

use std::path::Path;

use serde_json::Value;

use self::common::refuse_quantised;
use self::pictures::{PICTURE_MODELS, PictureModel};
use super::architecture::Architecture;
use super::config::ModelConfig;
use super::json::JsonFile;
use crate::error::Result;

/// Every known family.
#[rustfmt::skip]
pub const ARCHITECTURES: &[&dyn Architecture] = &[
    &llama::Llama,
    &mistral::Mistral,
    &qwen2::Qwen2,
    &qwen3::Qwen3,
    &granite::Granite,
    &smollm3::SmolLm3,
    &olmo2::Olmo2,
    &olmo3::Olmo3,
    &gemma::Gemma,
    &gemma2::Gemma2,
    &gemma3::Gemma3,
    &phi::Phi,
    &phi3::Phi3,
    &gpt_neox::GptNeoX,
    &gpt2::Gpt2,
    &opt::Opt,
    &stablelm::StableLm,
    &starcoder2::Starcoder2,
    &cohere::Cohere,
    &glm::Glm,
    &glm4::Glm4,
    &ministral3::Ministral3,
    &mixtral::Mixtral,
    &qwen3_moe::Qwen3Moe,
    &olmoe::Olmoe,
    &qwen2_moe::Qwen2Moe,
    &gpt_oss::GptOss,
    &gemma4::Gemma4,
    &qwen3_5::Qwen35,
    &qwen3_5::Qwen35Moe,
];

/// Reads and checks a `config.json`, and takes further end tokens from the `generation_config.json` beside it where there
/// is one.
///
/// # Errors
/// [`crate::Error::Mistake`] naming the file and the key when the file cannot be read or parsed, a value makes no sense,
/// or the model needs something unknown.
pub fn read_config(path: &Path) -> Result<ModelConfig> {
    let json = JsonFile::read(path)?;
    let mut config = read_model(&json)?;
    let generation = path.with_file_name("generation_config.json");
    if generation.is_file() {
        for token in JsonFile::read(&generation)?.tokens("eos_token_id")? {
            if !config.eos.contains(&token) {
                config.eos.push(token);
                config.generation_eos.push(token);
            }
        }
    }
    Ok(config)
}

/// Reads and checks what a `config.json` says of the model.
///
/// # Errors
/// As [`read_config`].
pub(super) fn read_model(json: &JsonFile<'_>) -> Result<ModelConfig> {
    if let Some(outer) = PictureModel::find(json)? {
        return outer.read(json, ARCHITECTURES);
    }
    let (architecture, note) = find(json)?;
    refuse_quantised(json)?;
    let mut config = architecture.read(json)?;
    config.warnings.extend(note);
    Ok(config)
}

/// The family that a `config.json` names, and what to say where it names two.
fn find(json: &JsonFile<'_>) -> Result<(&'static dyn Architecture, Option<String>)> {
    let known = || {
        let pictures = PICTURE_MODELS.iter().map(|outer| outer.class);
        ARCHITECTURES.iter().map(|a| a.name()).chain(pictures).collect::<Vec<_>>().join(", ")
    };
    let named = json.names("architectures")?;
    let kind = json.get("model_type").and_then(Value::as_str);
    let of_type = ARCHITECTURES.iter().find(|a| Some(a.model_type()) == kind).copied();
    if named.is_empty() {
        // Hand-made configs sometimes leave the list out; the type says the same.
        let found = of_type.map(|architecture| (architecture, None));
        return found.ok_or_else(|| {
            json.wrong(&format!("`architectures` names none: accepted is one of {}", known()))
        });
    }
    let of_name = ARCHITECTURES.iter().find(|a| named.iter().any(|name| is_called(**a, name))).copied();
    let of_name = of_name.ok_or_else(|| {
        json.wrong(&format!("unknown architecture `{}`: accepted are {}", named.join(", "), known()))
    })?;
    match of_type {
        Some(of_type) if of_type != of_name => {
            let note = format!(
                "`architectures` is {} and `model_type` is {}: the second is used, as transformers does",
                named.join(", "),
                of_type.model_type()
            );
            Ok((of_type, Some(json.note(&note))))
        }
        _ => Ok((of_name, None)),
    }
}

/// Whether a family goes by a name: its own, or that of its decoder without a head.
fn is_called(architecture: &dyn Architecture, name: &str) -> bool {
    let decoder = architecture.name().strip_suffix("ForCausalLM").map(|family| format!("{family}Model"));
    architecture.name() == name
        || decoder.as_deref() == Some(name)
        || architecture.other_names().contains(&name)
}

#[cfg(test)]
mod tests;
