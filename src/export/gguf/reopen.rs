//! A file opened again by other code than wrote it: candle's reader, and its own models where it has the family.
//!
//! candle's models predict one token a call, so a window is read up to the first compared token at once and then token
//! by token. Where candle has no model, or one without something that this model has, every tensor is read with candle's
//! reader and put into a model of this program.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};

use super::super::model::{Blocks, ExportModel};
use super::super::verify::{self, Passage};
use super::container::KeyValue;
use super::families::GgufFamily;
use super::keys;
use super::layout::{self, TensorSource};
use crate::error::{Error, Result};
use crate::kernels::ggml::GgmlMixture;
use crate::model::{ModelConfig, ModelFolder};

/// Longest text that is read; candle's models make tables for a whole context.
const LONGEST: u32 = 4096;

/// A file with its header read.
struct OpenFile {
    content: Content,
    reader: BufReader<File>,
}

impl OpenFile {
    fn open(path: &Path) -> Result<Self> {
        let cannot = |e| Error::io("cannot open", path, e);
        let file = File::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader)?;
        if fits(&content, length).is_none() {
            return Err(Error::failure("its tensors do not lie in it one behind the other"));
        }
        Ok(Self { content, reader })
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let tensor = self.content.tensor(&mut self.reader, name, &Device::Cpu)?;
        Ok(tensor.dequantize(&Device::Cpu)?)
    }

    fn number(&self, key: &str) -> Result<u32> {
        let value = self.content.metadata.get(key);
        Ok(value.ok_or_else(|| Error::failure(format!("it has no key {key}")))?.to_u32()?)
    }

    /// Refuses a file that does not say of its model what was written.
    fn check_sizes(&self, folder: &ModelFolder) -> Result<()> {
        for (key, wanted) in keys::sizes(folder) {
            let found = self.content.metadata.get(&key);
            if !found.is_some_and(|found| is_same(&wanted, found)) {
                return Err(Error::failure(format!(
                    "its key {key} is {found:?}, and {wanted:?} was written"
                )));
            }
        }
        Ok(())
    }

    /// Refuses numbers that contradict the tensors: candle asks for as much memory as they say.
    fn check(&self, family: &str) -> Result<()> {
        let number = |key: &str| self.number(&format!("{family}.{key}"));
        let tensors = self.content.tensor_infos.len();
        let embedding = self.content.tensor_infos.get("token_embd.weight");
        let width = embedding.and_then(|info| info.shape.dims().last().copied()).unwrap_or(0);
        let rows = |name: &str| {
            let info = self.content.tensor_infos.get(&format!("blk.0.{name}.weight"));
            info.and_then(|info| info.shape.dims().first().copied()).unwrap_or(0) as u64
        };
        let hidden = number("embedding_length")? as usize;
        let blocks = number("block_count")? as usize;
        let (heads, key_heads) = (number("attention.head_count")?, number("attention.head_count_kv")?);
        let (turned, dim) = (number("rope.dimension_count")?, number("attention.key_length")?);
        let has_block =
            |block: usize| self.content.tensor_infos.contains_key(&format!("blk.{block}.attn_q.weight"));
        // One that this program never writes where candle reads it.
        let has_experts = self.content.metadata.contains_key(&format!("{family}.expert_count"));
        let is_sound = hidden == width
            && (0..=blocks.min(tensors)).all(|block| has_block(block) == (block < blocks))
            && (1..=heads).contains(&key_heads)
            && turned == dim
            && u64::from(heads) * u64::from(dim) == rows("attn_q")
            && u64::from(key_heads) * u64::from(dim) == rows("attn_k")
            && !has_experts;
        if is_sound { Ok(()) } else { Err(Error::failure("its keys contradict its tensors")) }
    }
}

fn is_same(wanted: &KeyValue, found: &Value) -> bool {
    match (wanted, found) {
        (KeyValue::U32(wanted), Value::U32(found)) => wanted == found,
        (KeyValue::F32(wanted), Value::F32(found)) => wanted.to_bits() == found.to_bits(),
        (KeyValue::Bool(wanted), Value::Bool(found)) => wanted == found,
        (KeyValue::Text(wanted), Value::String(found)) => wanted == found,
        _ => false,
    }
}

/// Whether the data of every tensor lies inside a file of so many bytes and shares none with another; `None` where not.
/// candle asks for as much memory as the list of tensors says.
fn fits(content: &Content, length: u64) -> Option<()> {
    let mut places = Vec::with_capacity(content.tensor_infos.len());
    for info in content.tensor_infos.values() {
        let (dims, kind) = (info.shape.dims(), info.ggml_dtype);
        let values = dims.iter().try_fold(1u64, |product, size| product.checked_mul(*size as u64))?;
        let (block, bytes) = (kind.block_size() as u64, kind.type_size() as u64);
        let in_row = *dims.last()? as u64;
        if values == 0 || !in_row.is_multiple_of(block) {
            return None;
        }
        let from = content.tensor_data_offset.checked_add(info.offset)?;
        places.push((from, from.checked_add((values / block).checked_mul(bytes)?)?));
    }
    places.sort_unstable();
    let end = places.iter().try_fold(0, |end, (from, to)| (*from >= end).then_some(*to))?;
    (end <= length).then_some(())
}

/// The mean negative log-likelihood of passages by a file, in nats. With `exact` nothing that is multiplied with blocks is
/// rounded.
///
/// # Errors
/// Anything that is wrong with the file.
pub(super) fn mean_nll(
    model: &ExportModel<'_>,
    mixture: GgmlMixture,
    exact: bool,
    path: &Path,
    passages: &[Passage],
) -> Result<f64> {
    let config = &model.folder.config;
    let file = OpenFile::open(path)?;
    let family = GgufFamily::of(config).map_or("", |family| family.name);
    let said = file.content.metadata.get("general.architecture").map(Value::to_string).transpose()?;
    if said.map(String::as_str) != Some(family) {
        return Err(Error::failure(format!("its architecture is not {family}")));
    }
    file.check_sizes(model.folder)?;
    if !exact && candle_has(config, family) {
        file.check(family)?;
        by_candle(file, family, passages)
    } else {
        by_tensors(model, mixture, file, passages)
    }
}

/// Whether candle's model of a family computes all that this one needs.
fn candle_has(config: &ModelConfig, family: &str) -> bool {
    let attention = config.attention(0);
    let fills = attention.query * attention.dim == config.hidden_size;
    let is_plain = config.ropes.iter().all(|rope| rope.rope.scaling == crate::model::RopeScaling::None);
    let has_bias = |name: &str| {
        let layout = config.layout(0);
        layout.find(name).is_some_and(|id| layout.module(id).bias)
    };
    let biases = ["q_proj", "k_proj", "v_proj"].map(|name| has_bias(&format!("self_attn.{name}")));
    let others = has_bias("self_attn.o_proj") || has_bias("mlp.down_proj");
    let has_experts = config.layout(0).modules().any(|(_, module)| module.expert.is_some());
    is_plain
        && !others
        && !has_experts
        && match family {
            "llama" => fills && biases == [false; 3],
            "qwen2" => fills && biases == [true; 3],
            "qwen3" => biases == [false; 3],
            _ => false,
        }
}

/// A model of candle's.
enum CandleModel {
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
}

impl CandleModel {
    fn load(file: OpenFile, family: &str) -> Result<Self> {
        let OpenFile { mut content, mut reader } = file;
        if let Some(Value::U32(length)) = content.metadata.get_mut(&format!("{family}.context_length")) {
            *length = LONGEST.min(*length);
        }
        // Without this key candle's Qwen 3 computes angles in f16.
        content.metadata.insert("general.dtype".into(), Value::U32(0));
        let (reader, device) = (&mut reader, &Device::Cpu);
        Ok(match family {
            "llama" => Self::Llama(quantized_llama::ModelWeights::from_gguf(content, reader, device)?),
            "qwen2" => Self::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, reader, device)?),
            _ => Self::Qwen3(quantized_qwen3::ModelWeights::from_gguf(content, reader, device)?),
        })
    }

    /// Logits `[1, vocabulary]` behind the last of new tokens, which follow `past` others.
    fn forward(&mut self, tokens: &[u32], past: usize) -> Result<Tensor> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        Ok(match self {
            Self::Llama(model) => model.forward(&tokens, past)?,
            Self::Qwen2(model) => model.forward(&tokens, past)?,
            Self::Qwen3(model) => model.forward(&tokens, past)?,
        })
    }

    fn forget(&mut self) {
        match self {
            Self::Llama(model) => model.clear_kv_cache(),
            Self::Qwen2(model) => model.clear_kv_cache(),
            Self::Qwen3(model) => model.clear_kv_cache(),
        }
    }
}

fn by_candle(file: OpenFile, family: &str, passages: &[Passage]) -> Result<f64> {
    let mut model = CandleModel::load(file, family)?;
    let (mut total, mut count) = (0.0, 0);
    for passage in passages {
        model.forget();
        let mut logits = model.forward(&passage.tokens[..passage.first], 0)?;
        for (past, target) in (passage.first..).zip(passage.predicted()) {
            total += verify::total_nll(&logits, &[*target])?;
            count += 1;
            if past + 1 < passage.tokens.len() {
                logits = model.forward(&[*target], past)?;
            }
        }
    }
    Ok(total / f64::from(count.max(1)))
}

/// Reads every tensor with candle's reader. Norms and the like have to be the source's; matrices go into this program's
/// model.
fn by_tensors(
    model: &ExportModel<'_>,
    mixture: GgmlMixture,
    mut file: OpenFile,
    passages: &[Passage],
) -> Result<f64> {
    let tensors = layout::tensors(model, mixture);
    let (mut matrices, mut ends) = (Vec::new(), Vec::new());
    for tensor in &tensors {
        let name = &tensor.entry.name;
        let read = file.tensor(name)?;
        if read.dims() != tensor.entry.shape {
            return Err(Error::failure(format!("{name} has another shape")));
        }
        match &tensor.content {
            TensorSource::Modules { block, modules, order, .. } => {
                matrices.push((*block, modules, *order, name));
            }
            TensorSource::End(source) => ends.push((source.as_str(), read)),
            TensorSource::Small(small) => {
                same(name, &read.flatten_all()?.to_vec1()?, &small.values(model.folder)?)?;
            }
            TensorSource::Values(values) => same(name, &read.to_vec1()?, values)?,
        }
    }
    let mut blocks = Blocks::new(&ExportModel::base(model.folder));
    let mut load = |index: usize| {
        let mut block = blocks.load(index)?;
        for (_, modules, order, name) in matrices.iter().filter(|(block, ..)| *block == index) {
            let read = file.tensor(name)?.flatten_all()?.to_vec1::<f32>()?;
            let length = read.len() / modules.len().max(1);
            for (id, values) in modules.iter().zip(read.chunks(length.max(1))) {
                let (rows, columns) = model.folder.config.layout(index).module(*id).shape;
                let values = order.undo(values, columns);
                block.set_weight(*id, Tensor::from_vec(values, (rows, columns), &Device::Cpu)?);
            }
        }
        Ok(block)
    };
    let embedding = &model.folder.config.embedding.tensor;
    let ids: Vec<u32> = passages.iter().flat_map(|passage| passage.tokens.iter().copied()).collect();
    let ids = Tensor::new(ids, &Device::Cpu)?;
    let change = |tensor: &str, rows: Tensor| {
        let found = ends.iter().find(|(source, _)| *source == tensor);
        let (_, whole) = found.ok_or_else(|| Error::failure(format!("it has no {tensor}")))?;
        // The embedding is asked for the rows of the passages, the head for all.
        let is_embedding = tensor == embedding && rows.dims() != whole.dims();
        Ok(if is_embedding { whole.index_select(&ids, 0)? } else { whole.clone() })
    };
    verify::mean_nll(model.folder, passages, Some(&change), &mut load)
}

fn same(name: &str, found: &[f32], wanted: &[f32]) -> Result<()> {
    let near = |(f, w): (&f32, &f32)| (f - w).abs() <= 1e-6 * w.abs();
    if found.len() == wanted.len() && found.iter().zip(wanted).all(near) {
        return Ok(());
    }
    Err(Error::failure(format!("{name} has other values than the model")))
}
