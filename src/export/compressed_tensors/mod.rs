//! compressed-tensors, `pack-quantized`: codes of a few bits in whole words, as transformers and vLLM load them.
//!
//! Of every quantised Linear there are `weight_packed` (I32 `[out, words]`, every row one string of bits), `weight_scale`
//! (`[out, groups]`, in the dtype of the model's files), `weight_shape` and, where groups have zeros of their own,
//! `weight_zero_point` (I32 `[words, groups]`: every column one string of bits). All other tensors are the source's, byte
//! for byte. `config.json` says how to read it in `quantization_config`. A sparsity is never written there: what reads
//! it is gone from the libraries.

mod reopen;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

use candle_core::DType;
use half::{bf16, f16};
use serde_json::{Map, Value, json};

use super::edited::{as_written, new_tensors};
use super::exporter::{ExportOptions, Exporter};
use super::files::{CONFIG, companions, copy, json_text, weight_files};
use super::model::{Blocks, ExportModel, quantises, refuses_removal};
use super::part::PartialExport;
use super::source::SourceFile;
use super::verify::{self, Passage};
use crate::error::{Error, Result};
use crate::kernels::codes::{Codes, Grid, pack};
use crate::model::renumber::{self, TensorNames};
use crate::model::weights::SINGLE_FILE;
use crate::model::{ModelFolder, ModuleId};
use crate::store::checkpoint::Stored;
use crate::study::Recipe;

/// What the tensors of a matrix are called behind its module's name.
const PACKED: &str = "weight_packed";
const SCALE: &str = "weight_scale";
const SHAPE: &str = "weight_shape";
const ZERO_POINT: &str = "weight_zero_point";

/// The format of vLLM and transformers.
#[derive(Debug, Clone, Copy)]
pub(super) struct CompressedTensors;

impl Exporter for CompressedTensors {
    fn name(&self) -> &'static str {
        "compressed-tensors"
    }

    fn about(&self) -> &'static str {
        "a folder with packed codes, for cells of rtn and gptq, as transformers and vLLM load it"
    }

    fn extension(&self) -> Option<&'static str> {
        None
    }

    fn refuses(&self, folder: &ModelFolder, recipe: Option<&Recipe>, _: &ExportOptions) -> Option<String> {
        if let Some(class) = folder.config.inside {
            return Some(format!(
                "the model is a {class}, and what the format says of its other parts is not known"
            ));
        }
        if folder.config.layouts().any(|layout| layout.modules().any(|(_, module)| module.turned)) {
            let class = folder.config.architecture;
            return Some(format!("a {class} has its matrices as [in, out], which the format does not know"));
        }
        if folder.config.layouts().any(|layout| layout.modules().any(|(_, module)| module.expert.is_some())) {
            let class = folder.config.architecture;
            return Some(format!(
                "a {class} is a mixture of experts, and how readers of the format find its experts is not known"
            ));
        }
        match recipe {
            None => Some("it holds codes, and the base has none".into()),
            Some(recipe) if !recipe.steps().any(quantises) => {
                Some("it holds codes of rtn and gptq, and the recipe has neither".into())
            }
            Some(recipe) => refuses_removal(folder, recipe),
        }
    }

    fn write(&self, model: &ExportModel<'_>, _: &ExportOptions, out: &PartialExport) -> Result<()> {
        let folder = model.folder;
        let files = weight_files(folder)?;
        let contents = PackedFile::of(model, &files)?;
        out.write(OsStr::new(SINGLE_FILE), |out| {
            let header = contents.header();
            out.put(&(header.len() as u64).to_le_bytes())?;
            out.put(header.as_bytes())?;
            let mut blocks = Blocks::new(model);
            for file in &files {
                let mut source = SourceFile::open(&folder.root.join(file))?;
                let tensors = std::mem::take(&mut source.tensors);
                let new = new_tensors(folder, &source, &tensors);
                for tensor in tensors {
                    if contents.names.new_name(&tensor.name).is_none() {
                        source.skip(tensor.bytes)?;
                        continue;
                    }
                    let place = contents.modules.get(&tensor.name).copied();
                    if place.is_none() && !folder.weights.is_edited(&tensor.name) {
                        source.pass(tensor.bytes, |bytes| out.put(bytes))?;
                        continue;
                    }
                    source.skip(tensor.bytes)?;
                    let Some((block, id)) = place else {
                        folder.weights.bytes(&tensor.name, |bytes| out.put(bytes))??;
                        continue;
                    };
                    let Some(Stored::Codes(codes)) = blocks.stored(block, id)? else {
                        return Err(not_codes(&tensor.name));
                    };
                    for part in parts_of(&codes) {
                        out.put(&(part.bytes)(&codes))?;
                    }
                }
                for tensor in new.iter().filter(|tensor| contents.names.new_name(&tensor.name).is_some()) {
                    folder.weights.bytes(&tensor.name, |bytes| out.put(bytes))??;
                }
            }
            Ok(())
        })?;
        for name in companions(&folder.root, false)?.into_iter().filter(|name| name != CONFIG) {
            let path = folder.root.join(&name);
            out.write(&name, |out| copy(&path, out))?;
        }
        let config = contents.config(folder)?;
        out.write(OsStr::new(CONFIG), |out| out.put(config.as_bytes()))
    }

    fn read_back(
        &self,
        model: &ExportModel<'_>,
        _: &ExportOptions,
        path: &Path,
        passages: &[Passage],
    ) -> Result<f64> {
        let mut read = reopen::Reopened::open(path, model.folder)?;
        verify::mean_nll(model.folder, passages, None, &mut |block| read.load(block))
    }

    fn in_memory(&self, model: &ExportModel<'_>, _: &ExportOptions, passages: &[Passage]) -> Result<f64> {
        let mut blocks = Blocks::new(model);
        verify::mean_nll(model.folder, passages, None, &mut |block| blocks.load(block))
    }

    fn tolerance(&self, _: &ExportModel<'_>, _: &ExportOptions) -> f64 {
        // The same products of scale and code.
        1e-6
    }
}

fn not_codes(tensor: &str) -> Error {
    Error::failure(format!("`{tensor}` has no codes in the checkpoint"))
}

/// One tensor of a quantised matrix.
struct Part {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: fn(&Codes) -> Vec<u8>,
}

/// Bytes of an element of such a dtype.
fn width(dtype: &str) -> usize {
    match dtype {
        "I64" => 8,
        "BF16" | "F16" => 2,
        _ => 4,
    }
}

/// The tensors that a matrix becomes, in their order.
fn parts_of(codes: &Codes) -> Vec<Part> {
    let ([rows, columns], grid) = (codes.shape, codes.grid);
    let (bits, groups) = (usize::from(grid.bits), grid.groups(columns));
    let dtype = match grid.scale_dtype {
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        _ => "F32",
    };
    let words = |count: usize| (count * bits).div_ceil(32);
    let mut parts = vec![
        Part { name: PACKED, dtype: "I32", shape: vec![rows, words(columns)], bytes: packed },
        Part { name: SCALE, dtype, shape: vec![rows, groups], bytes: scales },
        Part { name: SHAPE, dtype: "I64", shape: vec![2], bytes: shape },
    ];
    if !grid.symmetric {
        parts.push(Part { name: ZERO_POINT, dtype: "I32", shape: vec![words(rows), groups], bytes: zeros });
    }
    parts
}

fn packed(codes: &Codes) -> Vec<u8> {
    codes.packed().to_vec()
}

fn scales(codes: &Codes) -> Vec<u8> {
    let scales = codes.groups.iter().map(|group| group.scale);
    match codes.grid.scale_dtype {
        DType::F16 => scales.flat_map(|scale| f16::from_f32(scale).to_le_bytes()).collect(),
        DType::BF16 => scales.flat_map(|scale| bf16::from_f32(scale).to_le_bytes()).collect(),
        _ => scales.flat_map(f32::to_le_bytes).collect(),
    }
}

fn shape(codes: &Codes) -> Vec<u8> {
    codes.shape.iter().flat_map(|n| (*n as i64).to_le_bytes()).collect()
}

/// Packed down the rows: every group's zeros are one string of bits, and its words stand in a column.
fn zeros(codes: &Codes) -> Vec<u8> {
    let groups = codes.grid.groups(codes.shape[1]);
    let bits = usize::from(codes.grid.bits);
    let words = (codes.shape[0] * bits).div_ceil(32);
    let mut packed = vec![0u8; 4 * words * groups];
    for group in 0..groups {
        let zeros: Vec<u8> = codes.groups.iter().skip(group).step_by(groups).map(|g| g.zero).collect();
        let mut column = vec![0u8; 4 * words];
        pack(&zeros, bits, &mut column);
        for (word, bytes) in column.chunks_exact(4).enumerate() {
            packed[4 * (word * groups + group)..][..4].copy_from_slice(bytes);
        }
    }
    packed
}

/// The columns that share a scale in all matrices, of which each has so many columns; `None` where every row has one scale.
/// A row that is one group long can be said either way.
fn common_group(grids: &[(Grid, usize)]) -> Result<Option<usize>> {
    let group = grids.iter().find(|(grid, columns)| grid.group < *columns).map(|(grid, _)| grid.group);
    if group.is_none_or(|group| grids.iter().all(|(grid, _)| grid.group == group)) {
        return Ok(group);
    }
    Err(Error::mistake("the matrices of the cell have groups of several sizes, which the format cannot say"))
}

/// What the file will hold.
struct PackedFile {
    /// Name, dtype, shape and length of every tensor, in the order of their data.
    tensors: Vec<(String, String, Vec<usize>, u64)>,
    /// Names in the source's files of the matrices that have codes.
    modules: HashMap<String, (usize, ModuleId)>,
    /// Modules that stay as they are, by their new names.
    ignored: Vec<String>,
    /// What tensors are called now; those of blocks that are left out have no name.
    names: TensorNames,
    grid: Grid,
    /// Columns that share a scale; `None` where every row has one scale.
    group: Option<usize>,
}

impl PackedFile {
    fn of(model: &ExportModel<'_>, files: &std::collections::BTreeSet<String>) -> Result<Self> {
        let folder = model.folder;
        let mut blocks = Blocks::new(model);
        let (mut modules, mut ignored, mut layouts) = (HashMap::new(), Vec::new(), HashMap::new());
        let mut grids: Vec<(Grid, usize)> = Vec::new();
        let names = TensorNames::of(folder)?;
        for (block, layout) in folder.config.layouts().enumerate() {
            for (id, module) in layout.modules() {
                match blocks.stored(block, id)? {
                    Some(Stored::Codes(codes)) => {
                        let name = folder.weights.stored_name(&module.weight()).to_owned();
                        grids.push((codes.grid, codes.shape[1]));
                        layouts.insert(name.clone(), parts_of(&codes));
                        modules.insert(name, (block, id));
                    }
                    Some(_) => return Err(not_codes(&module.weight())),
                    None => ignored.extend(names.new_name(&module.full_name).map(Cow::into_owned)),
                }
            }
        }
        let Some(&(grid, _)) = grids.first() else {
            return Err(Error::mistake("no matrix of the cell has codes".to_owned()));
        };
        let group = common_group(&grids)?;
        let mut tensors = Vec::new();
        for file in files {
            let source = SourceFile::open(&folder.root.join(file))?;
            let new = new_tensors(folder, &source, &source.tensors);
            for tensor in source.tensors.iter().map(|tensor| as_written(folder, tensor)).chain(new) {
                let Some(new_name) = names.new_name(&tensor.name) else { continue };
                let Some(parts) = layouts.get(&tensor.name) else {
                    tensors.push((new_name.into_owned(), tensor.dtype, tensor.shape, tensor.bytes));
                    continue;
                };
                let module = new_name.strip_suffix("weight").unwrap_or(&new_name);
                for part in parts {
                    let bytes = part.shape.iter().product::<usize>() * width(part.dtype);
                    let name = format!("{module}{}", part.name);
                    tensors.push((name, part.dtype.to_owned(), part.shape.clone(), bytes as u64));
                }
            }
        }
        Ok(Self { tensors, modules, ignored, names, grid, group })
    }

    /// The header of the safetensors file, filled up to a multiple of 8.
    fn header(&self) -> String {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({ "format": "pt" }));
        let mut start = 0;
        for (name, dtype, shape, bytes) in &self.tensors {
            let end = start + bytes;
            header.insert(
                name.clone(),
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }),
            );
            start = end;
        }
        let mut text = Value::Object(header).to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        text
    }

    /// The source's configuration with how its codes are to be read.
    fn config(&self, folder: &ModelFolder) -> Result<String> {
        let mut config = renumber::config_of(folder)?;
        let mut weights = json!({
            "num_bits": self.grid.bits,
            "type": "int",
            "symmetric": self.grid.symmetric,
            "strategy": if self.group.is_some() { "group" } else { "channel" },
        });
        if let Some(group) = self.group {
            weights["group_size"] = json!(group);
        }
        let mut ignored = vec!["lm_head".to_owned()];
        ignored.extend(self.ignored.iter().cloned());
        config.insert(
            "quantization_config".into(),
            json!({
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "quantization_status": "compressed",
                "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } },
                "ignore": ignored,
            }),
        );
        json_text(CONFIG, &config)
    }
}

#[cfg(test)]
mod tests;
