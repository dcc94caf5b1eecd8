//! Settings of a model that llama.cpp reads in some families only: what they are, which keys they become, and what a family
//! takes for granted.

use serde_json::Value;

use super::container::KeyValue;
use crate::model::{ModelConfig, ModelFolder, RopeScaling};

/// A setting that not every family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    EmbeddingFactor,
    HeadBias,
    HeadFactor,
    HeadSoftcap,
    Llama3Rope,
    LongRope,
    Neighbours,
    PartialRotary,
    Positions,
    ScoreScale,
    ScoreSoftcap,
    SecondRope,
    YarnRope,
}

fn differs(found: f64, usual: f64) -> bool {
    (found - usual).abs() > 1e-9 * usual.abs()
}

/// What a model has that not every family of llama.cpp reads.
pub(super) fn specials(config: &ModelConfig) -> Vec<(Special, &'static str)> {
    let (head, attention) = (&config.head, config.attention(0));
    let usual_scale = 1.0 / (attention.dim as f64).sqrt();
    let scaling = |is: fn(&RopeScaling) -> bool| config.ropes.iter().any(|rope| is(&rope.rope.scaling));
    let all = [
        (Special::EmbeddingFactor, differs(config.embedding.factor, 1.0), "a factor of the embedding"),
        (Special::HeadBias, head.bias.is_some(), "a head with a bias"),
        (Special::HeadFactor, differs(head.factor, 1.0), "a factor of the logits"),
        (Special::HeadSoftcap, head.softcap.is_some(), "a cap on logits"),
        (
            Special::Llama3Rope,
            scaling(|s| matches!(s, RopeScaling::Llama3 { .. })),
            "Llama 3's stretched frequencies",
        ),
        (Special::LongRope, scaling(|s| matches!(s, RopeScaling::LongRope { .. })), "LongRoPE"),
        (Special::YarnRope, scaling(|s| matches!(s, RopeScaling::Yarn { .. })), "YaRN"),
        (
            Special::Neighbours,
            config.ropes.iter().any(|rope| rope.neighbours),
            "pairs of neighbours that turn",
        ),
        (
            Special::PartialRotary,
            config.ropes.iter().any(|rope| rope.dim != attention.dim),
            "heads that turn in part",
        ),
        (Special::Positions, config.embedding.positions.is_some(), "learned positions"),
        (
            Special::ScoreScale,
            attention.scale.is_some_and(|scale| differs(scale, usual_scale)),
            "a factor of the scores",
        ),
        (Special::ScoreSoftcap, attention.softcap.is_some(), "a cap on scores"),
        (Special::SecondRope, config.ropes.len() > 1, "two rotary embeddings"),
    ];
    all.into_iter().filter(|(_, has, _)| *has).map(|(special, _, what)| (special, what)).collect()
}

/// A stretching of the rotary embedding that no family here is written with.
pub(super) fn strange_rope(config: &ModelConfig) -> Option<String> {
    let is_known = |scaling: &RopeScaling| match scaling {
        RopeScaling::Dynamic { .. } => false,
        // The others are numbers that llama.cpp takes from nowhere else.
        RopeScaling::Yarn { beta_fast, beta_slow, truncate, .. } => {
            !differs(*beta_fast, 32.0) && !differs(*beta_slow, 1.0) && *truncate
        }
        _ => true,
    };
    let known = config.ropes.iter().all(|rope| is_known(&rope.rope.scaling));
    (!known).then(|| {
        "its rotary embedding is stretched in a way that is not written: accepted are none, linear, llama3, longrope, and \
         yarn with beta_fast 32 and beta_slow 1"
            .to_owned()
    })
}

/// A key of `config.json` that is there and not null. The file was read before, when the folder was opened.
fn source_key(folder: &ModelFolder, key: &str) -> Option<Value> {
    folder.configuration().ok()?.get(key).filter(|value| !value.is_null()).cloned()
}

fn float(value: f64) -> KeyValue {
    KeyValue::F32(value as f32)
}

fn count(value: usize) -> KeyValue {
    KeyValue::U32(u32::try_from(value).unwrap_or(u32::MAX))
}

pub(super) fn granite_keys(folder: &ModelFolder) -> Vec<(&'static str, KeyValue)> {
    let config = &folder.config;
    let attention = config.attention(0);
    let scale = attention.scale.unwrap_or_else(|| 1.0 / (attention.dim as f64).sqrt());
    let residual = source_key(folder, "residual_multiplier").and_then(|value| value.as_f64()).unwrap_or(1.0);
    vec![
        ("attention.scale", float(scale)),
        ("embedding_scale", float(config.embedding.factor)),
        ("residual_scale", float(residual)),
        ("logit_scale", float(1.0 / config.head.factor)),
    ]
}

pub(super) fn window_key(folder: &ModelFolder) -> Vec<(&'static str, KeyValue)> {
    let windows = (0..folder.config.blocks).filter_map(|block| folder.config.attention(block).window);
    windows.take(1).map(|window| ("attention.sliding_window", count(window))).collect()
}

pub(super) fn gemma_2_keys(folder: &ModelFolder) -> Vec<(&'static str, KeyValue)> {
    let mut keys = window_key(folder);
    let scores = folder.config.attention(0).softcap;
    keys.extend(scores.map(|cap| ("attn_logit_softcapping", float(cap))));
    keys.extend(folder.config.head.softcap.map(|cap| ("final_logit_softcapping", float(cap))));
    keys
}

pub(super) fn gemma_3_keys(folder: &ModelFolder) -> Vec<(&'static str, KeyValue)> {
    let mut keys = window_key(folder);
    keys.extend(folder.config.ropes.get(1).map(|rope| ("rope.freq_base_swa", float(rope.rope.theta))));
    keys
}

pub(super) fn parallel_key(folder: &ModelFolder, absent: bool) -> Vec<(&'static str, KeyValue)> {
    let parallel = source_key(folder, "use_parallel_residual").and_then(|value| value.as_bool());
    vec![("use_parallel_residual", KeyValue::Bool(parallel.unwrap_or(absent)))]
}

/// llama.cpp multiplies cosines and sines by `attn_factor` as it is.
pub(super) fn long_rope_keys(folder: &ModelFolder) -> Vec<(&'static str, KeyValue)> {
    let scaling = folder.config.ropes.first().map(|rope| &rope.rope.scaling);
    let Some(RopeScaling::LongRope { original_max_position_embeddings, attention_factor, .. }) = scaling
    else {
        return Vec::new();
    };
    vec![
        ("rope.scaling.original_context_length", count(*original_max_position_embeddings)),
        ("rope.scaling.attn_factor", float(*attention_factor)),
    ]
}

pub(super) fn expert_keys(folder: &ModelFolder) -> Vec<(&'static str, KeyValue)> {
    let layout = folder.config.layout(0);
    let Some(place) = layout.modules().find_map(|(_, module)| module.expert) else { return Vec::new() };
    vec![("expert_count", count(place.experts)), ("expert_used_count", count(place.chosen))]
}

/// With the width of an expert, which is another than that of an MLP.
pub(super) fn qwen_expert_keys(folder: &ModelFolder) -> Vec<(&'static str, KeyValue)> {
    let layout = folder.config.layout(0);
    let mut keys = expert_keys(folder);
    let width =
        layout.modules().find(|(_, module)| module.expert.is_some()).map(|(_, module)| module.shape.0);
    keys.extend(width.map(|width| ("expert_feed_forward_length", count(width))));
    let shared = layout.find("mlp.shared_expert.gate_proj");
    keys.extend(shared.map(|id| ("expert_shared_feed_forward_length", count(layout.module(id).shape.0))));
    keys
}

/// Every family of mixtures in llama.cpp either makes the weights of chosen experts add up to one, or does not.
pub(super) fn renormalises(folder: &ModelFolder, wanted: bool) -> Option<String> {
    let found = source_key(folder, "norm_topk_prob").and_then(|value| value.as_bool()).unwrap_or(false);
    (found != wanted).then(|| format!("`norm_topk_prob` is {found}, and llama.cpp takes it to be {wanted}"))
}

/// What Gemma's embedding is multiplied by in llama.cpp.
pub(super) fn root_of_width(folder: &ModelFolder) -> Option<String> {
    let root = (folder.config.hidden_size as f64).sqrt();
    differs(folder.config.embedding.factor, root)
        .then(|| "the embedding has another factor than the root of its width".to_owned())
}

/// llama.cpp knows the scale of Gemma's scores by the number of blocks: `largest` is that of the largest model.
pub(super) fn gemma_scale(folder: &ModelFolder, largest: usize) -> Option<String> {
    let config = &folder.config;
    let attention = config.attention(0);
    let width = if config.blocks == largest {
        config.hidden_size as f64 / attention.query as f64
    } else {
        attention.dim as f64
    };
    let scale = attention.scale.unwrap_or_else(|| 1.0 / (attention.dim as f64).sqrt());
    differs(scale, 1.0 / width.sqrt()).then(|| {
        format!("`query_pre_attn_scalar` is {:.0}, and llama.cpp takes it to be {width:.0}", scale.powi(-2))
    })
}

/// llama.cpp takes all blocks to have a window, except block `every`, `2 · every` and so on, counted from 1.
pub(super) fn windows_but(folder: &ModelFolder, every: usize) -> Option<String> {
    let config = &folder.config;
    let windows: Vec<_> = (0..config.blocks).map(|block| config.attention(block).window).collect();
    let width = windows.iter().flatten().next();
    let as_known = windows.iter().enumerate().all(|(block, window)| {
        if (block + 1).is_multiple_of(every) {
            window.is_none()
        } else {
            window.as_ref() == width && width.is_some()
        }
    });
    (!as_known).then(|| {
        format!("llama.cpp takes all blocks but every {every}th to have a window, and in this model it is otherwise")
    })
}

/// llama.cpp does not turn every fourth block of `SmolLM` 3, whatever its configuration says. A block that has moved up,
/// because others are left out, is turned as its number in the files says.
pub(super) fn every_fourth_block_is_not_rotated(folder: &ModelFolder) -> Option<String> {
    let list = source_key(folder, "no_rope_layers");
    let every = source_key(folder, "no_rope_layer_interval").and_then(|every| every.as_u64()).unwrap_or(4);
    let is_turned = |number: usize| match list.as_ref().and_then(Value::as_array) {
        Some(flags) => flags.get(number).and_then(Value::as_u64) == Some(1),
        None => !(number as u64 + 1).is_multiple_of(every),
    };
    let config = &folder.config;
    let as_known = (0..config.blocks)
        .all(|block| is_turned(config.number_in_files(block)) != (block + 1).is_multiple_of(4));
    (!as_known).then(|| {
        "llama.cpp takes every fourth block to be without a rotary embedding, and in this model it is otherwise".to_owned()
    })
}
