//! Where a model's configuration and its weights disagree: what counts, as `transformers` decides, and what to say of it.

use candle_core::{DType, Device};

use super::config::ModelConfig;
use super::ops::with_elements;
use super::weights::Weights;
use crate::error::Result;

/// Ends of the names of buffers that old checkpoints hold and nobody reads: frequencies, and masks.
const BUFFERS: [&str; 4] = ["rotary_emb.inv_freq", "attention.masked_bias", "attn.masked_bias", "attn.bias"];

/// Tensors that a warning names at most.
const NAMED: usize = 3;

/// Finds tensors under the names that the files have for them, decides what the output head is, and warns of what is
/// stored and not used.
///
/// # Errors
/// Weights that cannot be read.
pub(super) fn reconcile(config: &mut ModelConfig, weights: &mut Weights) -> Result<()> {
    find_bare_names(config, weights);
    choose_head(config, weights)?;
    config.warnings.extend(unused(config, weights));
    Ok(())
}

/// A decoder that was saved without its head has names without the decoder's own: `layers.0…` for `model.layers.0…`.
fn find_bare_names(config: &ModelConfig, weights: &mut Weights) {
    for (name, _) in config.tensors() {
        if weights.contains(&name) {
            continue;
        }
        if let Some((_, bare)) = name.split_once('.')
            && name != config.head.tensor
            && weights.contains(bare)
        {
            let bare = bare.to_owned();
            weights.alias(name, bare);
        }
    }
}

/// A tied head is the embedding, unless the files hold another one: then that is the head.
fn choose_head(config: &mut ModelConfig, weights: &mut Weights) -> Result<()> {
    let (embedding, head) = (config.embedding.tensor.clone(), config.head.tensor.clone());
    if !config.head.tied || weights.info(&head).is_none() {
        return Ok(());
    }
    if !weights.contains(&embedding) {
        // They are one tensor, stored by its other name.
        weights.alias(embedding, head);
    } else if !equal(weights, &embedding, &head)? {
        config.head.tied = false;
        config.warnings.push(format!(
            "{}: `tie_word_embeddings` is true in config.json, but `{head}` differs from `{embedding}`: the stored head is \
             used, as transformers does",
            weights.root().display()
        ));
    }
    Ok(())
}

fn equal(weights: &Weights, a: &str, b: &str) -> Result<bool> {
    let (Some(first), Some(second)) = (weights.info(a), weights.info(b)) else { return Ok(false) };
    if first.shape != second.shape {
        return Ok(false);
    }
    if first.dtype == second.dtype {
        return weights.bytes(a, |a| weights.bytes(b, |b| a == b))?;
    }
    let read = |name| weights.tensor(name, DType::F32, &Device::Cpu);
    let (first, second) = (read(a)?, read(b)?);
    with_elements(&first, |a| with_elements(&second, |b| a == b))?
}

/// What to say of weights that the configuration does not reach.
fn unused(config: &ModelConfig, weights: &Weights) -> Option<String> {
    let mut used: Vec<String> =
        config.tensors().iter().map(|(name, _)| weights.stored_name(name).to_owned()).collect();
    // Tied, it was found to be the same.
    used.push(config.head.tensor.clone());
    used.sort_unstable();
    // What the names of a text model inside another one begin with.
    let own = config.embedding.tensor.rsplitn(3, '.').nth(2).unwrap_or_default();
    let is_used = |name: &str| used.binary_search_by(|used| used.as_str().cmp(name)).is_ok();
    let left: Vec<&str> = weights
        .names()
        // What is made of whole numbers or flags is a buffer.
        .filter(|name| weights.info(name).is_some() && !is_used(name))
        .filter(|name| !BUFFERS.iter().any(|buffer| name.ends_with(buffer)))
        // What is around a text model is meant to be left alone.
        .filter(|name| config.inside.is_none() || name.starts_with(own))
        .collect();
    if left.is_empty() {
        return None;
    }
    let more = left.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "{}: {} of the stored tensors are not used by a {} with this config.json, as with transformers: {}{more}",
        weights.root().display(),
        left.len(),
        config.architecture,
        left[..left.len().min(NAMED)].join(", ")
    ))
}
