//! Which tensors a file has: llama.cpp's names for what the source calls otherwise, and what is done to them.

use super::super::model::ExportModel;
use super::container::TensorEntry;
use crate::kernels::ggml::{GgmlMixture, GgmlType, MatrixKind, MatrixPlace};
use crate::model::{ModelConfig, ModelFolder, ModuleId, RopeScaling};

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(super) struct GgufTensor {
    pub entry: TensorEntry,
    pub content: TensorSource,
}

/// Where a tensor's values come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TensorSource {
    /// A tensor of the source as it is.
    Source(String),
    /// A bias whose values are in another order.
    Turned { tensor: String, heads: usize },
    /// A matrix that may be compressed; `heads` says of how many heads its rows are, where these are in another order.
    /// With `as_stored` it has codes or blocks, which are written as they are.
    Module { block: usize, module: ModuleId, heads: Option<usize>, as_stored: bool },
    /// These.
    Values(Vec<f32>),
}

/// A family of models as llama.cpp knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GgufFamily {
    /// `general.architecture`.
    pub name: &'static str,
    /// Rows of queries and keys are in llama.cpp's own order.
    turns_rows: bool,
    biases: Biases,
    /// Whether it reads factors for single frequencies of the rotary embedding.
    pub has_rope_factors: bool,
}

/// Which biases llama.cpp reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Biases {
    None,
    /// Those of queries, keys and values.
    Inputs,
    All,
}

/// Families by the class in `transformers`.
const FAMILIES: &[(&str, GgufFamily)] = &[
    ("LlamaForCausalLM", LLAMA),
    ("MistralForCausalLM", LLAMA),
    ("Qwen2ForCausalLM", GgufFamily { name: "qwen2", biases: Biases::Inputs, ..QWEN3 }),
    ("Qwen3ForCausalLM", QWEN3),
];

const LLAMA: GgufFamily =
    GgufFamily { name: "llama", turns_rows: true, biases: Biases::All, has_rope_factors: true };

const QWEN3: GgufFamily =
    GgufFamily { name: "qwen3", turns_rows: false, biases: Biases::None, has_rope_factors: false };

/// Modules of a block with llama.cpp's names.
const MODULES: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Other tensors of a block.
const NORMS: [(&str, &str); 4] = [
    ("input_layernorm.weight", "attn_norm.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("self_attn.q_norm.weight", "attn_q_norm.weight"),
    ("self_attn.k_norm.weight", "attn_k_norm.weight"),
];

/// The family of a model.
pub(super) fn family(config: &ModelConfig) -> Option<GgufFamily> {
    FAMILIES.iter().find(|(class, _)| *class == config.architecture).map(|(_, family)| *family)
}

/// What llama.cpp calls a module of a block.
pub(super) fn name(module: &str) -> Option<&'static str> {
    MODULES.iter().find(|(name, _)| *name == module).map(|(_, name)| *name)
}

/// What stands in the way of a model's shape; `None` is nothing.
pub(super) fn refuses(config: &ModelConfig) -> Option<String> {
    if let Some(class) = config.inside {
        return Some(format!("the model is a {class}, of which only the text part could be written"));
    }
    let Some(family) = family(config) else {
        let known = FAMILIES.iter().map(|(class, _)| *class).collect::<Vec<_>>().join(", ");
        return Some(format!("{} is none of the families that are written: {known}", config.architecture));
    };
    let first = config.attention(0);
    let shapes = |block: usize| config.layout(block).modules().map(|(_, m)| m.shape).collect::<Vec<_>>();
    for block in 0..config.blocks {
        let attention = config.attention(block);
        if (attention.query, attention.key, attention.dim) != (first.query, first.key, first.dim)
            || shapes(block) != shapes(0)
        {
            return Some(format!("block {block} has another shape than block 0"));
        }
        for (_, module) in config.layout(block).modules() {
            let is_input = MODULES[..3].iter().any(|(name, _)| *name == module.name);
            let reads_bias = family.biases == Biases::All || (family.biases == Biases::Inputs && is_input);
            if module.bias && !reads_bias {
                return Some(format!(
                    "{} has a bias, which llama.cpp's {} does not read",
                    module.name, family.name
                ));
            }
            if !MODULES.iter().any(|(name, _)| *name == module.name) {
                return Some(format!("llama.cpp's {} has no {}", family.name, module.name));
            }
        }
    }
    for embedding in &config.ropes {
        let known = matches!(
            embedding.rope.scaling,
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. }
        );
        if !known || embedding.dim != first.dim || embedding.neighbours || config.ropes.len() > 1 {
            return Some(
                "its rotary embedding is stretched in a way that is not written: accepted are none, linear \
                 and llama3"
                    .to_owned(),
            );
        }
    }
    let has_factors = config.ropes.iter().any(|rope| rope.rope.frequency_factors(rope.dim).is_some());
    (has_factors && !family.has_rope_factors)
        .then(|| format!("llama.cpp's {} does not know Llama 3's stretched frequencies", family.name))
}

/// Every tensor of a file, in order.
pub(super) fn tensors(model: &ExportModel<'_>, mixture: GgmlMixture) -> Vec<GgufTensor> {
    let folder = model.folder;
    let config = &folder.config;
    let Some(family) = family(config) else { return Vec::new() };
    let mut all = vec![end(folder, "token_embd.weight", &config.embedding.tensor, mixture)];
    for block in 0..config.blocks {
        block_tensors(folder, family, block, mixture, &mut all);
    }
    all.push(plain("output_norm.weight".into(), config.head.norm.clone(), vec![config.hidden_size]));
    if !config.head.tied {
        all.push(end(folder, "output.weight", &config.head.tensor, mixture));
    }
    let factors = config.ropes.first().and_then(|rope| rope.rope.frequency_factors(rope.dim));
    if let Some(factors) = factors {
        let name = "rope_freqs.weight".to_owned();
        let entry = TensorEntry { name, shape: vec![factors.len()], kind: GgmlType::F32 };
        all.push(GgufTensor { entry, content: TensorSource::Values(factors) });
    }
    all
}

/// The type of the embedding or the head in a file: the cell's own, or that of the mixture.
pub(super) fn end_type(folder: &ModelFolder, tensor: &str, mixture: GgmlMixture) -> GgmlType {
    let config = &folder.config;
    let is_head = config.head.tied || tensor == config.head.tensor;
    if let Some(kind) = if is_head { folder.ends.head } else { folder.ends.embedding } {
        return kind;
    }
    let attention = config.attention(0);
    mixture.type_of(&MatrixPlace {
        kind: if is_head { MatrixKind::Head } else { MatrixKind::Embedding },
        block: 0,
        blocks: config.blocks,
        queries_per_key: attention.query / attention.key.max(1),
        columns: config.hidden_size,
    })
}

/// The type of a module in a file.
pub(super) fn module_type(
    config: &ModelConfig,
    block: usize,
    module: ModuleId,
    mixture: GgmlMixture,
) -> GgmlType {
    mixture.type_of(&config.matrix_place(block, module))
}

fn end(folder: &ModelFolder, name: &str, tensor: &str, mixture: GgmlMixture) -> GgufTensor {
    let config = &folder.config;
    let kind = end_type(folder, tensor, mixture);
    let shape = vec![config.vocabulary, config.hidden_size];
    let entry = TensorEntry { name: name.into(), shape, kind };
    GgufTensor { entry, content: TensorSource::Source(tensor.into()) }
}

fn plain(name: String, tensor: String, shape: Vec<usize>) -> GgufTensor {
    let entry = TensorEntry { name, shape, kind: GgmlType::F32 };
    GgufTensor { entry, content: TensorSource::Source(tensor) }
}

fn block_tensors(
    folder: &ModelFolder,
    family: GgufFamily,
    block: usize,
    mixture: GgmlMixture,
    all: &mut Vec<GgufTensor>,
) {
    let config = &folder.config;
    let (layout, attention) = (config.layout(block), config.attention(block));
    for (tensor, shape) in layout.tensors() {
        if let Some((_, name)) = NORMS.iter().find(|(end, _)| tensor.ends_with(&format!(".{end}"))) {
            all.push(plain(format!("blk.{block}.{name}"), tensor, shape));
        }
    }
    for (id, module) in layout.modules() {
        let Some((_, name)) = MODULES.iter().find(|(name, _)| *name == module.name) else { continue };
        let heads = match *name {
            "attn_q" => Some(attention.query),
            "attn_k" => Some(attention.key),
            _ => None,
        };
        let heads = heads.filter(|_| family.turns_rows);
        let (rows, columns) = module.shape;
        let entry = TensorEntry {
            name: format!("blk.{block}.{name}.weight"),
            shape: vec![rows, columns],
            kind: module_type(config, block, id, mixture),
        };
        all.push(GgufTensor {
            entry,
            content: TensorSource::Module { block, module: id, heads, as_stored: false },
        });
        if let Some(tensor) = module.bias() {
            let name = format!("blk.{block}.{name}.bias");
            let mut bias = plain(name, tensor.clone(), vec![rows]);
            if let Some(heads) = heads {
                bias.content = TensorSource::Turned { tensor, heads };
            }
            all.push(bias);
        }
    }
}

/// Puts the rows of queries or keys in the order in which llama.cpp turns them: of every head the first of the first
/// half, the first of the second half, the second of the first half, and so on. A row has `columns` values.
pub(super) fn interleave_halves<T: Copy>(values: &[T], heads: usize, columns: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    let head = values.len() / heads.max(1);
    for head in values.chunks(head.max(1)) {
        let (first, second) = head.split_at(head.len() / 2);
        for (a, b) in first.chunks(columns).zip(second.chunks(columns)) {
            out.extend_from_slice(a);
            out.extend_from_slice(b);
        }
    }
    out
}

/// Undoes [`interleave_halves`].
pub(super) fn separate_halves(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    let head = values.len() / heads.max(1);
    for head in values.chunks(head.max(1)) {
        for half in [0, 1] {
            for row in head.chunks(columns).skip(half).step_by(2) {
                out.extend_from_slice(row);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_head_are_interleaved_and_come_back() {
        // Two heads of four rows of two values.
        let rows: Vec<f32> = (0..8).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        let turned = interleave_halves(&rows, 2, 2);
        let order: Vec<f32> = turned.iter().copied().step_by(2).collect();
        assert_eq!(order, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(separate_halves(&turned, 2, 2), rows);
        // As FORMATS.md has it: row r goes to 2r in the first half, to 2(r - h/2) + 1 in the second.
        for (row, head) in [(0, 4), (1, 4), (2, 4), (3, 4)] {
            let to = if row < head / 2 { 2 * row } else { 2 * (row - head / 2) + 1 };
            assert!((order[to] - row as f32).abs() < 1e-9);
        }
    }
}
