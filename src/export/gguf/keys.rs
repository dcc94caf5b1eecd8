//! What a file says of its model.

use super::super::model::ExportModel;
use super::container::{KeyValue, Keys};
use super::layout::family;
use super::tokenizer;
use crate::error::Result;
use crate::kernels::ggml::GgmlMixture;
use crate::model::{ModelConfig, RopeScaling, chat_template};

/// The version of the types' byte layouts.
const QUANTIZATION_VERSION: u32 = 2;

/// All keys of a file.
///
/// # Errors
/// A tokenizer or a chat template that cannot be written.
pub(super) fn keys(model: &ExportModel<'_>, mixture: GgmlMixture) -> Result<Keys> {
    let config = &model.folder.config;
    let name = family(config).map_or("", |family| family.name);
    let mut keys: Keys = vec![
        ("general.architecture".into(), name.into()),
        ("general.type".into(), "model".into()),
        ("general.name".into(), title(model).into()),
        ("general.file_type".into(), mixture.file_type.into()),
        ("general.quantization_version".into(), QUANTIZATION_VERSION.into()),
    ];
    keys.extend(sizes(config).into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
    keys.extend(tokenizer::keys(model.folder)?);
    if let Some((template, _)) = chat_template(model.folder)? {
        keys.push(("tokenizer.chat_template".into(), template.into()));
    }
    if let Some(cell) = model.cell {
        keys.push(("secateur.version".into(), env!("CARGO_PKG_VERSION").into()));
        keys.push(("secateur.cell".into(), cell.result.id.clone().into()));
        keys.push(("secateur.recipe".into(), cell.result.spec.recipe.to_string().into()));
    }
    Ok(keys)
}

/// The folder's name, and the cell's where there is one.
fn title(model: &ExportModel<'_>) -> String {
    let root = model.folder.root.canonicalize().unwrap_or_else(|_| model.folder.root.clone());
    let name = root.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    model.cell.map_or_else(|| name.clone(), |cell| format!("{name} {}", cell.result.id))
}

/// The longest context that a file is good for: llama.cpp knows no windows in these families, so a text is to end where a
/// window would begin to hide something.
pub(super) fn context_length(config: &ModelConfig) -> usize {
    let windows = (0..config.blocks).filter_map(|block| config.attention(block).window);
    windows.min().unwrap_or(usize::MAX).min(config.max_positions)
}

fn sizes(config: &ModelConfig) -> Vec<(&'static str, KeyValue)> {
    let attention = config.attention(0);
    let layout = config.layout(0);
    let intermediate = layout.find("mlp.gate_proj").map_or(0, |id| layout.module(id).shape.0);
    let count = |n: usize| KeyValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
    let mut sizes = vec![
        ("block_count", count(config.blocks)),
        ("context_length", count(context_length(config))),
        ("embedding_length", count(config.hidden_size)),
        ("feed_forward_length", count(intermediate)),
        ("attention.head_count", count(attention.query)),
        ("attention.head_count_kv", count(attention.key)),
        ("rope.dimension_count", count(attention.dim)),
        ("attention.key_length", count(attention.dim)),
        ("attention.value_length", count(attention.dim)),
        ("vocab_size", count(config.vocabulary)),
        ("attention.layer_norm_rms_epsilon", KeyValue::F32(config.head.norm_eps as f32)),
    ];
    if let Some(embedding) = config.ropes.first() {
        sizes.push(("rope.freq_base", KeyValue::F32(embedding.rope.theta as f32)));
        if let RopeScaling::Linear { factor } = embedding.rope.scaling {
            sizes.push(("rope.scaling.type", "linear".into()));
            sizes.push(("rope.scaling.factor", KeyValue::F32(factor as f32)));
        }
    }
    sizes
}
