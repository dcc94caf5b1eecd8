//! GGUF: one file for llama.cpp and everything that is built on it.
//!
//! All tensors, the tokenizer and the chat template are in it. Matrices are floats or in ggml's block formats, as
//! `--quantize` says; norms and biases are always F32. Rows are written a few at a time.

mod codes;
mod container;
mod families;
mod imatrix;
mod keys;
mod layout;
mod reopen;
mod settings;
mod tokenizer;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::exporter::{ExportOptions, Exporter};
use super::model::{Blocks, ExportModel};
use super::part::{Output, PartialExport};
use super::structure::narrow_config;
use super::verify::{self, Passage};
use crate::error::{Error, Result};
use crate::kernels::ggml::{self, GgmlMixture, GgmlType};
use crate::methods::Procedure;
use crate::model::ModelFolder;
use crate::store::checkpoint::Stored;
use crate::study::{Parameters, Recipe};
use container::{TensorEntry, finish_tensor, header};
pub(crate) use imatrix::{BlockSums, InputSums, refuses_sums, write_sums};
use layout::{GgufTensor, TensorSource};

/// Values of a tensor that are in memory at once, unless it is a matrix that may be compressed.
const PIECE: usize = 1 << 22;
/// Tokens of a window that are read: candle has no fast products for some block formats.
const LONGEST: usize = 192;
/// Tokens at the end of a window that are compared: the reader gives one prediction a call.
const COMPARED: usize = 64;

/// The format of llama.cpp.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gguf;

impl Exporter for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn about(&self) -> &'static str {
        "one file for llama.cpp, with --quantize TYPE in its block formats"
    }

    fn extension(&self) -> Option<&'static str> {
        Some("gguf")
    }

    fn quantises(&self) -> bool {
        true
    }

    fn refuses(
        &self,
        folder: &ModelFolder,
        recipe: Option<&Recipe>,
        options: &ExportOptions,
    ) -> Option<String> {
        // Of a cell that is not there yet, the model that it will be.
        let narrow =
            recipe.filter(|_| !folder.is_narrowed()).and_then(|recipe| narrowed_folder(folder, recipe));
        let of_model =
            layout::refuses(narrow.as_ref().unwrap_or(folder)).or_else(|| tokenizer::refuses(folder));
        let of_model = of_model.or_else(|| refuses_fewer_blocks(folder, recipe?));
        of_model.or_else(|| codes::refuses(folder, recipe, options))
    }

    fn write(&self, model: &ExportModel<'_>, options: &ExportOptions, out: &PartialExport) -> Result<()> {
        let mixture = mixture(model.folder, options);
        let keys = keys::keys(model, codes::mixture(model, options).unwrap_or(mixture))?;
        let mut tensors = layout::tensors(model, mixture);
        codes::choose(model, options, &mut tensors)?;
        let entries: Vec<TensorEntry> = tensors.iter().map(|tensor| tensor.entry.clone()).collect();
        let mut blocks = Blocks::new(model);
        out.write_file(|out| {
            out.put(&header(&keys, &entries))?;
            tensors.iter().try_for_each(|tensor| write_tensor(model.folder, &mut blocks, tensor, out))
        })
    }

    fn longest_text(&self, folder: &ModelFolder) -> usize {
        keys::context_length(&folder.config).min(LONGEST)
    }

    fn compared_tokens(&self) -> usize {
        COMPARED
    }

    fn read_back(
        &self,
        model: &ExportModel<'_>,
        options: &ExportOptions,
        path: &Path,
        passages: &[Passage],
    ) -> Result<f64> {
        // Readers round what is multiplied with blocks to eight bits, and what is written as stored is to be that.
        let is_kept = codes::mixture(model, options).is_some();
        reopen::mean_nll(model, mixture(model.folder, options), is_kept, path, passages)
    }

    fn in_memory(
        &self,
        model: &ExportModel<'_>,
        options: &ExportOptions,
        passages: &[Passage],
    ) -> Result<f64> {
        let is_kept = codes::mixture(model, options).is_some();
        let mixture = mixture(model.folder, options);
        let config = &model.folder.config;
        let mut blocks = Blocks::new(model);
        let mut load = |index: usize| {
            let mut block = blocks.load(index)?;
            for (id, _) in config.layout(index).modules() {
                if is_kept && codes::is_kept(blocks.stored(index, id)?.as_ref()) {
                    continue;
                }
                let kind = layout::module_type(config, index, id, mixture);
                let weight = rounded(kind, block.module(id)?.weight)?;
                block.set_weight(id, weight);
            }
            Ok(block)
        };
        let ends =
            |tensor: &str, rows: Tensor| rounded(layout::end_type(model.folder, tensor, mixture), rows);
        verify::mean_nll(model.folder, passages, Some(&ends), &mut load)
    }

    fn tolerance(&self, model: &ExportModel<'_>, options: &ExportOptions) -> f64 {
        if codes::mixture(model, options).is_some() {
            // The same products of scales and whole numbers.
            return 1e-6;
        }
        // Readers of block formats round what is multiplied with them to eight bits.
        if options.quantize.is_none_or(GgmlMixture::is_float) { 0.005 } else { 0.02 }
    }
}

/// What a recipe will make of a model, where that is narrower: its configuration, not its weights.
fn narrowed_folder(folder: &ModelFolder, recipe: &Recipe) -> Option<ModelFolder> {
    let procedure = Procedure::of(recipe, &Parameters::new()).ok()?;
    // What does not fit the model is refused with its reason when the recipe is checked.
    let narrow = narrow_config(folder, &procedure).ok().flatten()?;
    Some(narrow.of_folder(folder))
}

/// Why a file cannot do without some block, where a recipe removes blocks: llama.cpp takes some kinds of blocks from their
/// numbers. Which blocks go is known when the model is surveyed, and a refusal has to come before.
fn refuses_fewer_blocks(folder: &ModelFolder, recipe: &Recipe) -> Option<String> {
    let config = &folder.config;
    let removes =
        Procedure::of(recipe, &Parameters::new()).is_ok_and(|procedure| procedure.removal().is_some());
    let is_whole = config.blocks == config.blocks_in_files();
    let numbers = (0..config.blocks).filter(|_| removes && is_whole && config.blocks > 1);
    numbers.map(|number| folder.without_blocks(&[number])).find_map(|fewer| layout::refuses(&fewer))
}

/// The types of a file: those that were asked for, else floats. llama.cpp computes with F16 everywhere, and with BF16 only
/// on newer machines.
fn mixture(folder: &ModelFolder, options: &ExportOptions) -> GgmlMixture {
    let kind = if folder.dtype() == DType::F32 { GgmlType::F32 } else { GgmlType::F16 };
    options.quantize.or_else(|| GgmlMixture::of_floats(kind)).unwrap_or(ggml::MIXTURES[0])
}

/// A matrix of `f32` as it is after quantising.
fn rounded(kind: GgmlType, matrix: Tensor) -> Result<Tensor> {
    if kind == GgmlType::F32 {
        return Ok(matrix);
    }
    let (rows, columns) = matrix.dims2()?;
    let values = ggml::rounded(kind, &matrix.flatten_all()?.to_vec1::<f32>()?, columns)?;
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

fn write_tensor(
    folder: &ModelFolder,
    blocks: &mut Blocks<'_>,
    tensor: &GgufTensor,
    out: &mut Output<'_>,
) -> Result<()> {
    let GgufTensor { entry, content } = tensor;
    let columns = entry.shape.last().copied().unwrap_or(0);
    let mut written = 0;
    let mut put = |values: &[f32]| {
        let bytes = ggml::quantise(entry.kind, values, columns)
            .map_err(|e| Error::failure(format!("{}: {e}; another --quantize may hold it", entry.name)))?;
        written += bytes.len();
        out.put(&bytes)
    };
    match content {
        TensorSource::Values(values) => put(values)?,
        TensorSource::Small(small) => put(&small.values(folder)?)?,
        TensorSource::End(name) => {
            let ids: Vec<u32> = (0..entry.shape[0] as u32).collect();
            for ids in ids.chunks((PIECE / columns.max(1)).max(1)) {
                let rows = folder.weights.rows(name, ids, DType::F32, &Device::Cpu)?;
                put(&rows.flatten_all()?.to_vec1::<f32>()?)?;
            }
        }
        TensorSource::Modules { block, modules, order, as_stored: true } => {
            for module in modules {
                let bytes = match blocks.stored(*block, *module)? {
                    Some(Stored::Codes(codes)) => codes::bytes(&entry.name, entry.kind, &codes)?,
                    Some(Stored::Blocks(blocks)) => blocks.bytes,
                    _ => return Err(Error::failure(format!("{} is not as it was", entry.name))),
                };
                written += bytes.len();
                out.put(&order.apply(&bytes, entry.kind.row_bytes(columns)))?;
            }
        }
        TensorSource::Modules { block, modules, order, as_stored: false } => {
            for module in modules {
                let values = blocks.weight(*block, *module)?.flatten_all()?.to_vec1::<f32>()?;
                put(&order.apply(&values, columns))?;
            }
        }
    }
    finish_tensor(entry, written, out)
}

#[cfg(test)]
mod tests;
