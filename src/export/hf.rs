//! The Hugging Face folder: dense safetensors that `transformers` and its kin load as they are.
//!
//! The weights keep the source's files, names, order, dtypes and metadata, byte for byte except for the compressed
//! matrices, whose zeros are real ones. What belongs to the model besides (configuration, tokenizer, templates,
//! licence) is copied, and `sparsity.json` says what was done. Tensors are streamed: never more than one matrix
//! of a checkpoint is in memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};

use super::edited::{as_written, new_tensors};
use super::exporter::{ExportOptions, Exporter};
use super::files::{CONFIG, REPORT_FILE, companions, copy, json_text, weight_files};
use super::model::{Blocks, ExportModel, refuses_removal};
use super::part::{Output, PartialExport};
use super::report::{Count, SparsityReport};
use super::source::{CHUNK, SourceFile, SourceTensor};
use super::verify::{self, Passage};
use crate::error::{Error, Result};
use crate::kernels::ggml::{self, GgmlType};
use crate::model::convert::round_to;
use crate::model::renumber::{self, TensorNames};
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};
use crate::model::{ModelFolder, ModuleId};
use crate::store::checkpoint::Stored;
use crate::store::stored::unpack_mask;
use crate::study::Recipe;

/// The format of `transformers`.
#[derive(Debug, Clone, Copy)]
pub(super) struct HuggingFace;

impl Exporter for HuggingFace {
    fn name(&self) -> &'static str {
        "hf"
    }

    fn about(&self) -> &'static str {
        "a Hugging Face folder, dense, as transformers loads it"
    }

    fn extension(&self) -> Option<&'static str> {
        None
    }

    fn refuses(
        &self,
        folder: &ModelFolder,
        recipe: Option<&Recipe>,
        _options: &ExportOptions,
    ) -> Option<String> {
        recipe.and_then(|recipe| refuses_removal(folder, recipe))
    }

    fn write(&self, model: &ExportModel<'_>, _options: &ExportOptions, out: &PartialExport) -> Result<()> {
        let folder = model.folder;
        let files = weight_files(folder)?;
        let mut writer = WeightWriter::new(model)?;
        for file in &files {
            let mut source = SourceFile::open(&folder.root.join(file))?;
            if source.tensors.iter().any(|tensor| writer.names.new_name(&tensor.name).is_some()) {
                out.write(OsStr::new(file), |out| writer.write(&mut source, out))?;
            }
        }
        for name in companions(&folder.root, !files.contains(SINGLE_FILE))? {
            let path = folder.root.join(&name);
            let rewritten = match name.to_str() {
                _ if writer.is_as_it_was() => None,
                Some(CONFIG) => Some(json_text(CONFIG, &renumber::config_of(folder)?)?),
                Some(INDEX_FILE) => Some(renumbered_index(&path, folder, &writer.names)?),
                _ => None,
            };
            match rewritten {
                Some(text) => out.write(&name, |out| out.put(text.as_bytes()))?,
                None => out.write(&name, |out| copy(&path, out))?,
            }
        }
        let Some(cell) = model.cell else { return Ok(()) };
        let mut counts = writer.counts;
        counts.sort_unstable_by_key(|c: &Count| (c.block, c.module));
        let report = SparsityReport::new(folder, cell.result, &counts);
        out.write(OsStr::new(REPORT_FILE), |out| out.put(json_text(REPORT_FILE, &report)?.as_bytes()))
    }

    fn read_back(
        &self,
        _model: &ExportModel<'_>,
        _options: &ExportOptions,
        path: &Path,
        passages: &[Passage],
    ) -> Result<f64> {
        let folder = ModelFolder::open(path)?;
        let mut blocks = Blocks::new(&ExportModel { folder: &folder, cell: None });
        verify::mean_nll(&folder, passages, None, &mut |block| blocks.load(block))
    }

    fn in_memory(
        &self,
        model: &ExportModel<'_>,
        _options: &ExportOptions,
        passages: &[Passage],
    ) -> Result<f64> {
        let folder = model.folder;
        let mut blocks = Blocks::new(model);
        let mut load = |index: usize| {
            let mut block = blocks.load(index)?;
            for (id, module) in folder.config.layout(index).modules() {
                if let Some(Stored::Codes(_) | Stored::Blocks(_)) = blocks.stored(index, id)? {
                    block.set_weight(id, as_in_files(folder, &module.weight(), &blocks.weight(index, id)?)?);
                }
            }
            Ok(block)
        };
        let end = |tensor: &str, rows: Tensor| {
            let is_embedding = tensor == folder.config.embedding.tensor;
            let kind = if is_embedding { folder.ends.embedding } else { folder.ends.head };
            let (Some(kind), (_, columns)) = (kind, rows.dims2()?) else { return Ok(rows) };
            let values = ggml::rounded(kind, &rows.flatten_all()?.to_vec1::<f32>()?, columns)?;
            as_in_files(folder, tensor, &Tensor::from_vec(values, rows.shape(), &Device::Cpu)?)
        };
        let are_rounded = folder.ends.embedding.is_some() || folder.ends.head.is_some();
        verify::mean_nll(folder, passages, are_rounded.then_some(&end), &mut load)
    }

    fn tolerance(&self, _model: &ExportModel<'_>, _options: &ExportOptions) -> f64 {
        // The same numbers in the same program: nothing but a defect tells them apart.
        1e-6
    }
}

/// A matrix that is made of scales and whole numbers, in the precision in which the file of its tensor has it.
fn as_in_files(folder: &ModelFolder, tensor: &str, matrix: &Tensor) -> Result<Tensor> {
    let dtype = folder.weights.required(tensor)?.dtype;
    let mut values = matrix.flatten_all()?.to_vec1::<f32>()?;
    Ok(round_to(&mut values, matrix.dims(), dtype)?.to_dtype(DType::F32)?)
}

/// The index of the shards, with new names of tensors, with those that are new, and without those that are gone.
fn renumbered_index(path: &Path, folder: &ModelFolder, names: &TensorNames) -> Result<String> {
    let wrong = |what: &str| Error::mistake(format!("{}: {what}", path.display()));
    let text = fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
    let mut index: Map<String, Value> = serde_json::from_slice(&text).map_err(|e| wrong(&e.to_string()))?;
    let map = index.get_mut("weight_map").and_then(Value::as_object_mut);
    let map = map.ok_or_else(|| wrong("no `weight_map`"))?;
    let given = folder.weights.given().filter_map(|name| {
        let file = folder.weights.info(name)?.file.file_name()?.to_string_lossy().into_owned();
        Some((name.to_owned(), Value::String(file)))
    });
    map.extend(given);
    let renamed = std::mem::take(map).into_iter();
    map.extend(renamed.filter_map(|(name, file)| Some((names.new_name(&name)?.into_owned(), file))));
    // The size of all tensors is no longer that, and whoever reads the index does without.
    if let Some(notes) = index.get_mut("metadata").and_then(Value::as_object_mut) {
        notes.remove("total_size");
        notes.remove("total_parameters");
    }
    json_text(INDEX_FILE, &index)
}

/// Copies files of weights, with what became of them in the place of the compressed ones.
struct WeightWriter<'a> {
    folder: &'a ModelFolder,
    blocks: Blocks<'a>,
    /// Embedding and head, where these are rounded, by their names in the files: name and format.
    ends: HashMap<String, (String, GgmlType)>,
    /// Names in the files of all tensors that could have been compressed, and which matrices lie in each, one behind the
    /// other: those of all experts, or one.
    modules: HashMap<String, Vec<(usize, ModuleId)>>,
    /// What tensors are called now; those of blocks that are left out have no name.
    names: TensorNames,
    counts: Vec<Count>,
}

impl<'a> WeightWriter<'a> {
    fn new(model: &ExportModel<'a>) -> Result<Self> {
        let folder = model.folder;
        let names = TensorNames::of(folder)?;
        let layouts = folder.config.layouts().enumerate();
        let all = layouts.flat_map(|(block, layout)| layout.modules().map(move |(id, m)| (m, (block, id))));
        let mut modules = HashMap::<String, Vec<_>>::new();
        for (module, place) in all {
            let tensor = module.fused_tensor().unwrap_or_else(|| module.weight());
            modules.entry(folder.weights.stored_name(&tensor).to_owned()).or_default().push(place);
        }
        let ends = [
            (&folder.config.embedding.tensor, folder.ends.embedding),
            (&folder.config.head.tensor, folder.ends.head),
        ];
        let ends = ends.into_iter().filter(|(name, _)| folder.weights.contains(name));
        let ends = ends
            .filter_map(|(name, kind)| {
                Some((folder.weights.stored_name(name).to_owned(), (name.clone(), kind?)))
            })
            .collect();
        Ok(Self { folder, blocks: Blocks::new(model), ends, modules, names, counts: Vec::new() })
    }

    /// Writes embedding or head as their format leaves them, some rows at a time.
    fn write_end(
        &self,
        source: &mut SourceFile,
        tensor: &SourceTensor,
        (name, kind): &(String, GgmlType),
        out: &mut Output<'_>,
    ) -> Result<()> {
        let &[rows, columns] = &tensor.shape[..] else {
            return Err(Error::failure(format!("{} is no matrix", tensor.name)));
        };
        let ids: Vec<u32> = (0..rows as u32).collect();
        for ids in ids.chunks((CHUNK / columns.max(1)).max(1)) {
            let values = self.folder.weights.rows(name, ids, DType::F32, &Device::Cpu)?;
            let mut values = ggml::rounded(*kind, &values.flatten_all()?.to_vec1::<f32>()?, columns)?;
            let rounded = round_to(&mut values, &[ids.len(), columns], tensor.float()?)?;
            match rounded.dtype() {
                DType::F32 => write_values::<4>(&rounded, out)?,
                _ => write_values::<2>(&rounded, out)?,
            };
        }
        source.skip(tensor.bytes)
    }

    fn write(&mut self, source: &mut SourceFile, out: &mut Output<'_>) -> Result<()> {
        let tensors = std::mem::take(&mut source.tensors);
        let new_name = |tensor: &SourceTensor| self.names.new_name(&tensor.name).map(Cow::into_owned);
        let new = new_tensors(self.folder, source, &tensors);
        if self.is_as_it_was() {
            out.put(&source.head)?;
        } else {
            let written = tensors.iter().map(|tensor| self.cut(&as_written(self.folder, tensor)));
            let written: Vec<_> = written.chain(new.clone()).collect();
            let named = written.iter().filter_map(|tensor| Some((tensor, new_name(tensor)?)));
            out.put(&source.head_of(named)?)?;
        }
        for tensor in tensors {
            match self.names.new_name(&tensor.name) {
                Some(_) if self.folder.weights.is_edited(&tensor.name) => {
                    source.skip(tensor.bytes)?;
                    self.write_edited(&as_written(self.folder, &tensor), out)?;
                }
                Some(_) => self.write_tensor(source, &tensor, out)?,
                None => source.skip(tensor.bytes)?,
            }
        }
        let stays = |tensor: &&SourceTensor| self.names.new_name(&tensor.name).is_some();
        let new: Vec<&SourceTensor> = new.iter().filter(stays).collect();
        new.into_iter()
            .try_for_each(|tensor| self.folder.weights.bytes(&tensor.name, |bytes| out.put(bytes))?)
    }

    /// Whether files that have no weights are copied as they are.
    fn is_as_it_was(&self) -> bool {
        self.names.are_the_same() && !self.folder.is_narrowed()
    }

    /// Writes a tensor of which only a part is read, and what became of it.
    fn write_edited(&mut self, tensor: &SourceTensor, out: &mut Output<'_>) -> Result<()> {
        if let Some(&[(block, module)]) = self.modules.get(&tensor.name).map(Vec::as_slice)
            && self.blocks.stored(block, module)?.is_some()
        {
            let zeros = self.write_weight(tensor, (block, module), out)?;
            self.counts.push(Count { block, module, zeros, weights: tensor.shape.iter().product() });
            return Ok(());
        }
        self.folder.weights.bytes(&tensor.name, |bytes| out.put(bytes))?
    }

    /// A tensor as it will be listed: with the entries of experts that stay.
    fn cut(&self, tensor: &SourceTensor) -> SourceTensor {
        match (self.names.kept_entries(&tensor.name), tensor.shape.first()) {
            (Some(kept), Some(&entries)) => {
                let mut shape = tensor.shape.clone();
                shape[0] = kept.len();
                SourceTensor {
                    shape,
                    bytes: tensor.bytes / entries as u64 * kept.len() as u64,
                    ..tensor.clone()
                }
            }
            _ => tensor.clone(),
        }
    }

    /// Writes the entries of experts that stay.
    fn write_entries(
        source: &mut SourceFile,
        tensor: &SourceTensor,
        kept: &[usize],
        out: &mut Output<'_>,
    ) -> Result<()> {
        let entries = tensor.shape.first().copied().unwrap_or(0);
        let bytes = tensor.bytes / entries.max(1) as u64;
        for entry in 0..entries {
            if kept.contains(&entry) {
                source.pass(bytes, |bytes| out.put(bytes))?;
            } else {
                source.skip(bytes)?;
            }
        }
        Ok(())
    }

    fn write_tensor(
        &mut self,
        source: &mut SourceFile,
        tensor: &SourceTensor,
        out: &mut Output<'_>,
    ) -> Result<()> {
        let Some(places) = self.modules.get(&tensor.name).cloned() else {
            return match (self.ends.get(&tensor.name), self.names.kept_entries(&tensor.name)) {
                (Some(end), _) => self.write_end(source, tensor, end, out),
                (None, Some(kept)) => Self::write_entries(source, tensor, kept, out),
                (None, None) => source.pass(tensor.bytes, |bytes| out.put(bytes)),
            };
        };
        let (&[entries, ref shape @ ..], mut places) = (&tensor.shape[..], places.into_iter()) else {
            return Err(Error::failure(format!("{} is a single number", tensor.name)));
        };
        if shape.len() < 2 {
            return places.try_for_each(|place| self.write_matrix(source, tensor, place, out));
        }
        // One matrix for every expert of the files.
        let piece = SourceTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype.clone(),
            shape: shape.to_vec(),
            bytes: tensor.bytes / entries.max(1) as u64,
        };
        let kept = self.names.kept_entries(&tensor.name).map(<[usize]>::to_vec);
        for entry in 0..entries {
            if kept.as_ref().is_some_and(|kept| !kept.contains(&entry)) {
                source.skip(piece.bytes)?;
            } else if let Some(place) = places.next() {
                self.write_matrix(source, &piece, place, out)?;
            }
        }
        Ok(())
    }

    /// Writes a matrix that could have been compressed.
    fn write_matrix(
        &mut self,
        source: &mut SourceFile,
        tensor: &SourceTensor,
        (block, module): (usize, ModuleId),
        out: &mut Output<'_>,
    ) -> Result<()> {
        let Some(stored) = self.blocks.stored(block, module)? else {
            return source.pass(tensor.bytes, |bytes| out.put(bytes));
        };
        if self.folder.config.layout(block).module(module).turned {
            let zeros = self.write_weight(tensor, (block, module), out)?;
            source.skip(tensor.bytes)?;
            self.counts.push(Count { block, module, zeros, weights: tensor.shape.iter().product() });
            return Ok(());
        }
        let zeros = match tensor.dtype.as_str() {
            "F32" => write_stored::<4>(source, tensor, &stored, out)?,
            _ => write_stored::<2>(source, tensor, &stored, out)?,
        };
        self.counts.push(Count { block, module, zeros, weights: tensor.shape.iter().product() });
        Ok(())
    }

    /// Writes a compressed matrix in the shape of the files; returns its number of zeros.
    fn write_weight(
        &mut self,
        tensor: &SourceTensor,
        (block, module): (usize, ModuleId),
        out: &mut Output<'_>,
    ) -> Result<usize> {
        let mut weight = self.blocks.weight(block, module)?;
        if self.folder.config.layout(block).module(module).turned {
            weight = weight.t()?.contiguous()?;
        }
        let shape = weight.dims().to_vec();
        let rounded = round_to(&mut weight.flatten_all()?.to_vec1::<f32>()?, &shape, tensor.float()?)?;
        match rounded.dtype() {
            DType::F32 => write_values::<4>(&rounded, out),
            _ => write_values::<2>(&rounded, out),
        }
    }
}

/// Writes a compressed matrix whose elements have `N` bytes; returns its number of zeros.
fn write_stored<const N: usize>(
    source: &mut SourceFile,
    tensor: &SourceTensor,
    stored: &Stored,
    out: &mut Output<'_>,
) -> Result<usize> {
    let (mut zeros, bytes) = (0, tensor.bytes);
    match stored {
        Stored::Mask { bits, .. } => {
            let mut kept = unpack_mask(bits, bytes as usize / N);
            source.pass(bytes, |piece| {
                for (element, keep) in piece.as_chunks_mut::<N>().0.iter_mut().zip(kept.by_ref()) {
                    if !keep {
                        *element = [0; N];
                    }
                }
                zeros += count_zeros::<N>(piece);
                out.put(piece)
            })?;
        }
        Stored::Values(values) => {
            zeros += write_values::<N>(values, out)?;
            source.skip(bytes)?;
        }
        Stored::Blocks(blocks) => {
            let rounded = round_to(&mut blocks.values()?, &blocks.shape, tensor.float()?)?;
            zeros += write_values::<N>(&rounded, out)?;
            source.skip(bytes)?;
        }
        Stored::Dropped(_) => return Err(Error::failure(format!("{} is gone", tensor.name))),
        Stored::Codes(codes) => {
            // Scales have the dtype of the model's files, and here the products get it too.
            let rounded = round_to(&mut codes.values(), &codes.shape, codes.grid.scale_dtype)?;
            zeros += write_values::<N>(&rounded, out)?;
            source.skip(bytes)?;
        }
    }
    Ok(zeros)
}

/// Writes new values, of `N` bytes each; returns how many are zero.
fn write_values<const N: usize>(values: &Tensor, out: &mut Output<'_>) -> Result<usize> {
    let values = values.flatten_all()?;
    let count = values.elem_count();
    let (mut zeros, mut piece) = (0, Vec::with_capacity(CHUNK.min(count * N)));
    for start in (0..count).step_by(CHUNK / N) {
        piece.clear();
        values.narrow(0, start, (count - start).min(CHUNK / N))?.write_bytes(&mut piece)?;
        zeros += count_zeros::<N>(&piece);
        out.put(&piece)?;
    }
    Ok(zeros)
}

/// Zeroes of either sign among little-endian floats of `N` bytes.
fn count_zeros<const N: usize>(bytes: &[u8]) -> usize {
    let is_zero = |element: &&[u8; N]| {
        element.iter().enumerate().all(|(i, byte)| if i + 1 == N { byte << 1 == 0 } else { *byte == 0 })
    };
    bytes.as_chunks::<N>().0.iter().filter(is_zero).count()
}
