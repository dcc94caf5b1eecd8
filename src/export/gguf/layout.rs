//! Which tensors a file has: llama.cpp's names for what the source calls otherwise, and what is done to them.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};

use super::super::model::ExportModel;
use super::container::TensorEntry;
use super::families::{Biases, GgufFamily, RowRule, known};
use crate::error::Result;
use crate::kernels::ggml::{GgmlMixture, GgmlType, MatrixKind, MatrixPlace};
use crate::model::{BlockLayout, ModelConfig, ModelFolder, ModuleDef, ModuleId, NormKind, RopeScaling};

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(super) struct GgufTensor {
    pub entry: TensorEntry,
    pub content: TensorSource,
}

/// Where a tensor's values come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TensorSource {
    /// The embedding or the head.
    End(String),
    /// Tensors of the source that are nobody's matrix.
    Small(SmallTensor),
    /// Matrices that may be compressed, one behind the other: one, or that of every expert. With `as_stored` they have codes
    /// or blocks, which are written as they are.
    Modules { block: usize, modules: Vec<ModuleId>, order: RowOrder, as_stored: bool },
    /// These.
    Values(Vec<f32>),
}

/// A norm, a bias, a router, or the like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SmallTensor {
    /// Names in the source, one behind the other.
    names: Vec<String>,
    /// What every value gets.
    plus: f32,
    order: RowOrder,
    /// Entries that are written, where it is not all of them: those of experts that are there.
    kept: Option<Vec<usize>>,
}

impl SmallTensor {
    /// Its values as they are written.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn values(&self, folder: &ModelFolder) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for name in &self.names {
            let mut tensor = folder.weights.tensor(name, DType::F32, &Device::Cpu)?;
            if let Some(kept) = &self.kept {
                let kept: Vec<u32> = kept.iter().map(|entry| *entry as u32).collect();
                tensor = tensor.index_select(&Tensor::new(kept, &Device::Cpu)?, 0)?;
            }
            all.extend(tensor.flatten_all()?.to_vec1::<f32>()?.iter().map(|value| value + self.plus));
        }
        Ok(self.order.apply(&all, 1))
    }
}

/// The order of rows in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowOrder {
    AsStored,
    /// Of every head the first of the first half, the first of the second half, the second of the first half, and so on.
    Halves {
        heads: usize,
    },
    /// The queries of all heads, then the keys, then the values, where the source has those of a head together.
    ByPart {
        heads: usize,
    },
}

impl RowOrder {
    /// Puts rows of `columns` values in this order.
    pub fn apply<T: Copy>(self, values: &[T], columns: usize) -> Vec<T> {
        let rows = values.len() / columns.max(1);
        match self {
            Self::AsStored => values.to_vec(),
            Self::Halves { heads } => exchange(values, [heads, 2, rows / (2 * heads).max(1)], columns),
            Self::ByPart { heads } => exchange(values, [1, heads, 3], rows / (3 * heads).max(1) * columns),
        }
    }

    /// Undoes [`Self::apply`].
    pub fn undo<T: Copy>(self, values: &[T], columns: usize) -> Vec<T> {
        let rows = values.len() / columns.max(1);
        match self {
            Self::AsStored => values.to_vec(),
            Self::Halves { heads } => exchange(values, [heads, rows / (2 * heads).max(1), 2], columns),
            Self::ByPart { heads } => exchange(values, [1, 3, heads], rows / (3 * heads).max(1) * columns),
        }
    }
}

/// Takes pieces of `length` values for a table `[a, b, c]` and makes it `[a, c, b]`.
fn exchange<T: Copy>(values: &[T], [a, b, c]: [usize; 3], length: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for first in 0..a {
        for (third, second) in (0..c).flat_map(|third| (0..b).map(move |second| (third, second))) {
            let start = ((first * b + second) * c + third) * length;
            out.extend_from_slice(&values[start..start + length]);
        }
    }
    out
}

/// What stands in the way of a model; `None` is nothing.
pub(super) fn refuses(folder: &ModelFolder) -> Option<String> {
    let config = &folder.config;
    if let Some(class) = config.inside {
        return Some(format!("the model is a {class}, of which only the text part could be written"));
    }
    let Some(family) = GgufFamily::of(config) else {
        let known = known();
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
        if let Some(why) = unread(family, config.layout(block)) {
            return Some(why);
        }
    }
    if config.embedding.projection.is_some() || config.head.norm_kind.is_none() {
        return Some(format!("llama.cpp's {} has a last norm, and no projections at its ends", family.name));
    }
    family.refuses(folder)
}

/// A tensor of a block that llama.cpp does not read, or one that it misses.
fn unread(family: &GgufFamily, layout: &BlockLayout) -> Option<String> {
    for (_, module) in layout.modules() {
        let Some(name) = family.name_of(&known_path(module)) else {
            return Some(format!("llama.cpp's {} has no {}", family.name, module.name));
        };
        let reads_bias = match family.biases {
            Biases::None => false,
            Biases::Inputs => ["attn_q", "attn_k", "attn_v"].contains(&name),
            Biases::All | Biases::Always => true,
        };
        if module.bias && !reads_bias {
            return Some(format!(
                "{} has a bias, which llama.cpp's {} does not read",
                module.name, family.name
            ));
        }
        if !module.bias && family.biases == Biases::Always {
            return Some(format!("{} has no bias, and llama.cpp's {} wants one", module.name, family.name));
        }
    }
    let unknown = small_tensors(layout).into_iter().find(|small| family.name_of(&small.path).is_none());
    unknown.map(|small| format!("llama.cpp's {} has no {}", family.name, small.path))
}

/// The path of a module within its block, without the number of an expert.
pub(super) fn known_path(module: &ModuleDef) -> Cow<'_, str> {
    match module.expert {
        Some(expert) => Cow::Owned(module.name.replace(&format!(".{}.", expert.index), ".")),
        None => Cow::Borrowed(&module.name),
    }
}

/// Tensors of a block beside its modules that belong together.
struct BlockTensor {
    /// The path within the block, without `.weight` and `.bias`.
    path: String,
    /// `weight` or `bias`.
    part: String,
    names: Vec<String>,
    shape: Vec<usize>,
}

fn small_tensors(layout: &BlockLayout) -> Vec<BlockTensor> {
    let prefix = layout
        .modules()
        .next()
        .map_or("", |(_, module)| module.full_name.strip_suffix(module.name.as_str()).unwrap_or_default());
    let of_modules: Vec<String> =
        layout.modules().flat_map(|(_, module)| [Some(module.weight()), module.bias()]).flatten().collect();
    let mut all: Vec<BlockTensor> = Vec::new();
    for (name, shape) in layout.tensors().into_iter().filter(|(name, _)| !of_modules.contains(name)) {
        let path = name.strip_prefix(prefix).unwrap_or(&name);
        let (path, part) = path.rsplit_once('.').unwrap_or((path, ""));
        // The norms of all heads are one tensor there.
        let (path, by_head) = path.split_once(".norms.").map_or((path, false), |(path, _)| (path, true));
        if let Some(last) = all.last_mut().filter(|last| by_head && last.path == path && last.part == part) {
            last.names.push(name);
            last.shape[0] += 1;
            continue;
        }
        let shape = if by_head { [&[1], &shape[..]].concat() } else { shape };
        let (path, part) = (path.to_owned(), part.to_owned());
        all.push(BlockTensor { path, part, names: vec![name], shape });
    }
    all
}

/// Every tensor of a file, in order.
pub(super) fn tensors(model: &ExportModel<'_>, mixture: GgmlMixture) -> Vec<GgufTensor> {
    let folder = model.folder;
    let config = &folder.config;
    let Some(family) = GgufFamily::of(config) else { return Vec::new() };
    let plus = plus(config);
    let mut all = vec![end(folder, "token_embd.weight", &config.embedding.tensor, mixture)];
    let positions = config.embedding.positions.iter();
    all.extend(positions.map(|table| {
        let shape = vec![table.rows, config.hidden_size];
        small("position_embd.weight".into(), vec![table.tensor.clone()], shape, 0.0)
    }));
    for block in 0..config.blocks {
        block_tensors(folder, family, block, mixture, &mut all);
    }
    let (head, hidden) = (&config.head, vec![config.hidden_size]);
    all.push(small("output_norm.weight".into(), vec![head.norm.clone()], hidden.clone(), plus));
    let bias = head.norm_bias();
    all.extend(bias.map(|name| small("output_norm.bias".into(), vec![name], hidden, 0.0)));
    if !head.tied {
        all.push(end(folder, "output.weight", &head.tensor, mixture));
    }
    let bias = head.bias.iter();
    all.extend(
        bias.map(|name| small("output.bias".into(), vec![name.clone()], vec![config.vocabulary], 0.0)),
    );
    all.extend(rope_factors(config));
    all
}

/// What norms get: llama.cpp has no norms that multiply by one more than their weight.
fn plus(config: &ModelConfig) -> f32 {
    if config.head.norm_kind == Some(NormKind::RmsPlusOne) { 1.0 } else { 0.0 }
}

/// What single frequencies of the rotary embedding are divided by.
fn rope_factors(config: &ModelConfig) -> Vec<GgufTensor> {
    let values = |name: &str, values: Vec<f32>| {
        let entry = TensorEntry { name: name.to_owned(), shape: vec![values.len()], kind: GgmlType::F32 };
        GgufTensor { entry, content: TensorSource::Values(values) }
    };
    let Some(embedding) = config.ropes.first() else { return Vec::new() };
    if let RopeScaling::LongRope { short_factor, long_factor, .. } = &embedding.rope.scaling {
        let single = |factors: &[f64]| factors.iter().map(|factor| *factor as f32).collect();
        return vec![
            values("rope_factors_long.weight", single(long_factor)),
            values("rope_factors_short.weight", single(short_factor)),
        ];
    }
    let factors = embedding.rope.frequency_factors(embedding.dim);
    factors.into_iter().map(|factors| values("rope_freqs.weight", factors)).collect()
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
    GgufTensor { entry, content: TensorSource::End(tensor.into()) }
}

fn small(name: String, names: Vec<String>, shape: Vec<usize>, plus: f32) -> GgufTensor {
    let entry = TensorEntry { name, shape, kind: GgmlType::F32 };
    let source = SmallTensor { names, plus, order: RowOrder::AsStored, kept: None };
    GgufTensor { entry, content: TensorSource::Small(source) }
}

fn block_tensors(
    folder: &ModelFolder,
    family: &GgufFamily,
    block: usize,
    mixture: GgmlMixture,
    all: &mut Vec<GgufTensor>,
) {
    let config = &folder.config;
    let layout = config.layout(block);
    for BlockTensor { path, part, names, shape } in small_tensors(layout) {
        let Some(name) = family.name_of(&path) else { continue };
        // The gate of a shared expert is one row.
        let shape = if shape.first() == Some(&1) { shape[1..].to_vec() } else { shape };
        let plus = if name.ends_with("_norm") { plus(config) } else { 0.0 };
        let is_cut = layout.cut_tensors().iter().any(|cut| names.contains(cut));
        let kept = is_cut.then(|| layout.kept_experts());
        let entry = TensorEntry { name: format!("blk.{block}.{name}.{part}"), shape, kind: GgmlType::F32 };
        let source = SmallTensor { names, plus, order: RowOrder::AsStored, kept };
        all.push(GgufTensor { entry, content: TensorSource::Small(source) });
    }
    for (id, module) in layout.modules() {
        let path = known_path(module);
        let Some(name) = family.name_of(&path) else { continue };
        if module.expert.is_some() {
            let same = layout.modules().filter(|(_, other)| known_path(other) == path);
            let modules: Vec<ModuleId> = same.map(|(id, _)| id).collect();
            // All experts are in the tensor of the first.
            if modules.first() == Some(&id) {
                let shape = vec![modules.len(), module.shape.0, module.shape.1];
                let kind = module_type(config, block, id, mixture);
                let entry = TensorEntry { name: format!("blk.{block}.{name}.weight"), shape, kind };
                let order = RowOrder::AsStored;
                let content = TensorSource::Modules { block, modules, order, as_stored: false };
                all.push(GgufTensor { entry, content });
            }
            continue;
        }
        let order = row_order(family, config, block, name);
        let (rows, columns) = module.shape;
        let entry = TensorEntry {
            name: format!("blk.{block}.{name}.weight"),
            shape: vec![rows, columns],
            kind: module_type(config, block, id, mixture),
        };
        let content = TensorSource::Modules { block, modules: vec![id], order, as_stored: false };
        all.push(GgufTensor { entry, content });
        if let Some(tensor) = module.bias() {
            let entry = TensorEntry {
                name: format!("blk.{block}.{name}.bias"),
                shape: vec![rows],
                kind: GgmlType::F32,
            };
            let content =
                TensorSource::Small(SmallTensor { names: vec![tensor], plus: 0.0, order, kept: None });
            all.push(GgufTensor { entry, content });
        }
    }
}

/// In which order the rows of a matrix are, and the values of its bias.
fn row_order(family: &GgufFamily, config: &ModelConfig, block: usize, name: &str) -> RowOrder {
    let attention = config.attention(block);
    match (family.rows, name) {
        (RowRule::Halves, "attn_q") => RowOrder::Halves { heads: attention.query },
        (RowRule::Halves, "attn_k") => RowOrder::Halves { heads: attention.key },
        (RowRule::ByPart, "attn_qkv") => RowOrder::ByPart { heads: attention.query },
        _ => RowOrder::AsStored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_head_are_interleaved_and_come_back() {
        // Two heads of four rows of two values.
        let rows: Vec<f32> = (0..8).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        let order = RowOrder::Halves { heads: 2 };
        let turned = order.apply(&rows, 2);
        let numbers: Vec<f32> = turned.iter().copied().step_by(2).collect();
        assert_eq!(numbers, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(order.undo(&turned, 2), rows);
        // As FORMATS.md has it: row r goes to 2r in the first half, to 2(r - h/2) + 1 in the second.
        for (row, head) in [(0, 4), (1, 4), (2, 4), (3, 4)] {
            let to = if row < head / 2 { 2 * row } else { 2 * (row - head / 2) + 1 };
            assert!((numbers[to] - row as f32).abs() < 1e-9);
        }
    }

    #[test]
    fn queries_keys_and_values_of_every_head_are_sorted_and_come_back() {
        // Two heads of two rows each: q, q, k, k, v, v of the first, then of the second.
        let rows: Vec<u8> = (0..12).flat_map(|row| [row, 100 + row]).collect();
        let order = RowOrder::ByPart { heads: 2 };
        let sorted = order.apply(&rows, 2);
        let numbers: Vec<u8> = sorted.iter().copied().step_by(2).collect();
        assert_eq!(numbers, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        assert_eq!(order.undo(&sorted, 2), rows);
    }
}
