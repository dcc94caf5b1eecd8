//! What a file says of its model.

use super::super::model::ExportModel;
use super::container::{KeyValue, Keys};
use super::families::GgufFamily;
use super::layout::known_path;
use super::tokenizer;
use crate::error::Result;
use crate::kernels::ggml::GgmlMixture;
use crate::model::{ModelConfig, ModelFolder, NormKind, RopeScaling, chat_template};

/// The version of the types' byte layouts.
const QUANTIZATION_VERSION: u32 = 2;

/// All keys of a file.
///
/// # Errors
/// A tokenizer or a chat template that cannot be written.
pub(super) fn keys(model: &ExportModel<'_>, mixture: GgmlMixture) -> Result<Keys> {
    let config = &model.folder.config;
    let name = GgufFamily::of(config).map_or("", |family| family.name);
    let mut keys: Keys = vec![
        ("general.architecture".into(), name.into()),
        ("general.type".into(), "model".into()),
        ("general.name".into(), title(model).into()),
        ("general.file_type".into(), mixture.file_type.into()),
        ("general.quantization_version".into(), QUANTIZATION_VERSION.into()),
    ];
    keys.extend(sizes(model.folder));
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

/// The longest context that a file is good for. Where llama.cpp knows no windows in a family, a text is to end where one
/// would begin to hide something; where it stretches the rotary embedding by the length of its context, and not of a text, a
/// text is to end where that makes a difference.
pub(super) fn context_length(config: &ModelConfig) -> usize {
    let has_windows = GgufFamily::of(config).is_some_and(|family| family.has_windows);
    let windows = (0..config.blocks).filter_map(|block| config.attention(block).window);
    let limit = windows.filter(|_| !has_windows).chain(config.length_limit()).min();
    limit.unwrap_or(usize::MAX).min(config.max_positions)
}

/// The keys that say what a model's parts are like. A file that is opened again has to have them with these values.
pub(super) fn sizes(folder: &ModelFolder) -> Keys {
    let config = &folder.config;
    let Some(family) = GgufFamily::of(config) else { return Keys::new() };
    let attention = config.attention(0);
    let layout = config.layout(0);
    // Of an MLP, or of an expert where there is none.
    let width = |wanted: &str| {
        let named = |path: &str| family.name_of(path) == Some(wanted);
        layout.modules().find(|(_, module)| named(&known_path(module))).map(|(_, module)| module.shape.1)
    };
    let inner = width("ffn_down").or_else(|| width("ffn_down_exps")).unwrap_or(0);
    let count = |n: usize| KeyValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
    let epsilon = match config.head.norm_kind {
        Some(NormKind::Layer { .. }) => "attention.layer_norm_epsilon",
        _ => "attention.layer_norm_rms_epsilon",
    };
    let mut sizes = vec![
        ("block_count", count(config.blocks)),
        ("context_length", count(context_length(config))),
        ("embedding_length", count(config.hidden_size)),
        ("feed_forward_length", count(inner)),
        ("attention.head_count", count(attention.query)),
        ("attention.head_count_kv", count(attention.key)),
        ("attention.key_length", count(attention.dim)),
        ("attention.value_length", count(attention.dim)),
        ("vocab_size", count(config.vocabulary)),
        (epsilon, KeyValue::F32(config.head.norm_eps as f32)),
    ];
    if let Some(embedding) = config.ropes.first() {
        sizes.push(("rope.dimension_count", count(embedding.dim)));
        sizes.push(("rope.freq_base", KeyValue::F32(embedding.rope.theta as f32)));
        sizes.extend(rope_scaling(&embedding.rope.scaling));
    }
    sizes.extend((family.keys)(folder));
    sizes.into_iter().map(|(key, value)| (format!("{}.{key}", family.name), value)).collect()
}

fn rope_scaling(scaling: &RopeScaling) -> Vec<(&'static str, KeyValue)> {
    let kind = |name: &str, factor: f64| {
        vec![("rope.scaling.type", name.into()), ("rope.scaling.factor", KeyValue::F32(factor as f32))]
    };
    match scaling {
        RopeScaling::Linear { factor } => kind("linear", *factor),
        RopeScaling::Yarn { factor, original_max_position_embeddings, attention_factor, .. } => {
            let mut keys = kind("yarn", *factor);
            let original = u32::try_from(*original_max_position_embeddings).unwrap_or(u32::MAX);
            keys.push(("rope.scaling.original_context_length", original.into()));
            // llama.cpp multiplies this by what the paper has.
            let usual = 1.0 + 0.1 * factor.ln();
            keys.push(("rope.scaling.attn_factor", KeyValue::F32((attention_factor / usual) as f32)));
            keys
        }
        _ => Vec::new(),
    }
}
