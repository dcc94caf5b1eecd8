//! Export: a pruned model as a Hugging Face folder that other programs load as it is.
//!
//! The weights keep the source's files, names, order, dtypes and metadata, byte for byte except for the pruned
//! matrices, whose zeroes are real ones. What belongs to the model besides (configuration, tokenizer, templates,
//! licence) is copied, and `sparsity.json` says what was done. Tensors are streamed: never more than one block's
//! checkpoint is in memory.

mod part;
mod source;

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use self::part::{Output, PartialFolder};
use self::source::{CHUNK, SourceFile, SourceTensor};
use super::checkpoint::{self, Stored};
use super::stored::unpack_mask;
use crate::error::{Error, Result};
use crate::model::convert::round_to;
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};
use crate::model::{ModelFolder, ModuleId};
use crate::number::{self, NamedNumbers};
use crate::results::CellResult;
use crate::study::Recipe;

/// The report that lies beside the weights.
pub(crate) const REPORT_FILE: &str = "sparsity.json";

/// Files besides the weights are copied up to this size: tokenizers have some tens of megabytes.
const LARGEST_COMPANION: u64 = 256 << 20;

/// Whether a model can be exported to `out`, so that a caller can refuse before hours are spent. Changes nothing.
///
/// # Errors
/// [`Error::Mistake`] when `out` is anything but a new name or an empty folder, or lies where nothing can be written;
/// [`Error::Failure`] when the disk has no room for even an empty file.
pub fn check_target(out: &Path) -> Result<()> {
    part::resolve(out).map(drop)
}

/// Writes the pruned model of a cell into the folder `out`, made of the source model `folder` and the cell's
/// `checkpoints` (one a block, see [`checkpoint::write_block`]). The folder is there whole or not at all; folders
/// above it are made.
///
/// # Errors
/// [`Error::Mistake`] as [`check_target`]; also when a block's checkpoint lacks, so that the cell is not finished, or
/// does not fit the model. [`Error::Failure`] when the disk is full or a checkpoint is damaged, [`Error::Io`] when
/// reading or writing fails otherwise. Nothing is left behind then.
pub fn write(folder: &ModelFolder, checkpoints: &Path, cell: &CellResult, out: &Path) -> Result<()> {
    check_target(out)?;
    check_finished(folder, checkpoints, cell)?;
    let files = weight_files(folder)?;
    let companions = companions(&folder.root, !files.contains(SINGLE_FILE))?;

    let part = PartialFolder::create(out)?;
    let mut blocks = Blocks::new(folder, checkpoints);
    let mut counts = Vec::new();
    for file in &files {
        let mut source = SourceFile::open(&folder.root.join(file))?;
        part.write(OsStr::new(file), |out| write_weights(&mut source, &mut blocks, &mut counts, out))?;
    }
    for name in companions {
        let path = folder.root.join(&name);
        part.write(&name, |out| copy(&path, out))?;
    }
    counts.sort_unstable_by_key(|c: &Count| (c.block, c.module));
    let report = Report::new(folder, cell, &counts);
    part.write(OsStr::new(REPORT_FILE), |out| {
        let json = serde_json::to_string_pretty(&report)
            .map_err(|e| Error::failure(format!("cannot make {REPORT_FILE}: {e}")))?;
        out.put(json.as_bytes())?;
        out.put(b"\n")
    })?;
    part.finish()
}

fn check_finished(folder: &ModelFolder, checkpoints: &Path, cell: &CellResult) -> Result<()> {
    let blocks = folder.config.blocks;
    // Whether a file is sound shows when it is read.
    let done = (0..blocks).filter(|&b| checkpoint::block_path(checkpoints, b).is_file()).count();
    if done == blocks {
        return Ok(());
    }
    Err(Error::mistake(format!(
        "the cell {} is not finished: {done} of {blocks} blocks are in {}; run its study with --resume first",
        cell.id,
        checkpoints.display()
    )))
}

/// What counts in `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// From tensor to file.
    weight_map: HashMap<String, String>,
}

/// Names of the files that the weights are in.
fn weight_files(folder: &ModelFolder) -> Result<BTreeSet<String>> {
    if folder.root.join(SINGLE_FILE).is_file() {
        return Ok(BTreeSet::from([SINGLE_FILE.to_owned()]));
    }
    let path = folder.root.join(INDEX_FILE);
    let text = fs::read(&path).map_err(|e| Error::io("cannot read", &path, e))?;
    let index: Index =
        serde_json::from_slice(&text).map_err(|e| Error::mistake(format!("{}: {e}", path.display())))?;
    Ok(index.weight_map.into_values().collect())
}

/// Names of the files in a model's folder that belong to the model besides its weights.
fn companions(root: &Path, sharded: bool) -> Result<BTreeSet<OsString>> {
    let cannot = |e| Error::io("cannot read", root, e);
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        // The file that a link points to is meant: the hub's cache is made of links.
        let small = |m: fs::Metadata| m.is_file() && m.len() <= LARGEST_COMPANION;
        if is_companion(&name.to_string_lossy(), sharded) && fs::metadata(root.join(&name)).is_ok_and(small) {
            names.insert(name);
        }
    }
    Ok(names)
}

fn is_companion(name: &str, sharded: bool) -> bool {
    if name.ends_with(".index.json") {
        // Any other index is of weights in another format, which are not exported.
        return sharded && name == INDEX_FILE;
    }
    let kind = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    let legal = ["license", "licence", "notice", "use_policy"];
    name != REPORT_FILE
        && (matches!(kind, "json" | "jinja" | "txt")
            || name.starts_with("tokenizer.model")
            || legal.iter().any(|word| name.to_lowercase().starts_with(word)))
}

fn copy(path: &Path, out: &mut Output<'_>) -> Result<()> {
    let cannot = |e| Error::io("cannot read", path, e);
    let mut file = File::open(path).map_err(cannot)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(cannot)? {
            0 => return Ok(()),
            n => out.put(&buffer[..n])?,
        }
    }
}

/// The checkpoints of a cell, of which one is held.
struct Blocks<'a> {
    folder: &'a ModelFolder,
    checkpoints: &'a Path,
    /// Names of all tensors that could have been pruned.
    prunable: HashMap<String, (usize, ModuleId)>,
    held: Option<(usize, Vec<(String, Stored)>)>,
}

impl<'a> Blocks<'a> {
    fn new(folder: &'a ModelFolder, checkpoints: &'a Path) -> Self {
        let layouts = folder.config.layouts().enumerate();
        let modules =
            layouts.flat_map(|(block, layout)| layout.modules().map(move |(id, m)| (m, (block, id))));
        let prunable = modules
            .map(|(module, place)| (folder.weights.stored_name(&module.weight()).to_owned(), place))
            .collect();
        Self { folder, checkpoints, prunable, held: None }
    }

    /// What became of a tensor; `None` when it was left alone.
    fn compressed(&mut self, tensor: &SourceTensor) -> Result<Option<(usize, ModuleId, &Stored)>> {
        let Some(&(block, id)) = self.prunable.get(&tensor.name) else { return Ok(None) };
        if self.held.as_ref().is_none_or(|(held, _)| *held != block) {
            // Let go of one before the next is read.
            self.held = None;
            self.held = Some((block, checkpoint::read_block(self.checkpoints, block, &Device::Cpu)?));
        }
        let name = &self.folder.config.layout(block).module(id).name;
        let modules = self.held.iter().flat_map(|(_, modules)| modules);
        let found = modules.into_iter().find(|(module, _)| module == name);
        let Some((_, stored)) = found else { return Ok(None) };
        if stored.fits(&tensor.shape, &tensor.dtype) {
            return Ok(Some((block, id, stored)));
        }
        Err(Error::mistake(format!(
            "{}: {name} does not fit `{}` of {}, which is {:?} of {}: the checkpoints are of another model",
            checkpoint::block_path(self.checkpoints, block).display(),
            tensor.name,
            self.folder.root.display(),
            tensor.shape,
            tensor.dtype
        )))
    }
}

/// What was counted in a matrix while it was written.
#[derive(Debug, Clone, Copy)]
struct Count {
    block: usize,
    module: ModuleId,
    zeros: usize,
    weights: usize,
}

/// Copies a file of weights, with what became of them in the place of the compressed ones.
fn write_weights(
    source: &mut SourceFile,
    blocks: &mut Blocks<'_>,
    counts: &mut Vec<Count>,
    out: &mut Output<'_>,
) -> Result<()> {
    out.put(&source.head)?;
    for tensor in std::mem::take(&mut source.tensors) {
        let Some((block, module, stored)) = blocks.compressed(&tensor)? else {
            source.pass(tensor.bytes, |bytes| out.put(bytes))?;
            continue;
        };
        let zeros = match tensor.dtype.as_str() {
            "F32" => write_stored::<4>(source, tensor.bytes, DType::F32, stored, out)?,
            "F16" => write_stored::<2>(source, tensor.bytes, DType::F16, stored, out)?,
            _ => write_stored::<2>(source, tensor.bytes, DType::BF16, stored, out)?,
        };
        counts.push(Count { block, module, zeros, weights: tensor.shape.iter().product() });
    }
    Ok(())
}

/// Writes a compressed matrix whose elements have `N` bytes; returns its number of zeros.
fn write_stored<const N: usize>(
    source: &mut SourceFile,
    bytes: u64,
    dtype: DType,
    stored: &Stored,
    out: &mut Output<'_>,
) -> Result<usize> {
    let mut zeros = 0;
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
        Stored::Codes(codes) => {
            let rounded = round_to(&mut codes.values(), &codes.shape, dtype)?;
            zeros += write_values::<N>(&rounded, out)?;
            source.skip(bytes)?;
        }
        Stored::Values(values) => {
            zeros += write_values::<N>(values, out)?;
            source.skip(bytes)?;
        }
    }
    Ok(zeros)
}

/// Writes new values; returns how many are zero.
fn write_values<const N: usize>(values: &Tensor, out: &mut Output<'_>) -> Result<usize> {
    let mut zeros = 0;
    let values = values.flatten_all()?;
    let count = values.elem_count();
    let mut piece = Vec::with_capacity(CHUNK.min(count * N));
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

/// What `sparsity.json` holds.
#[derive(Debug, Serialize)]
struct Report<'a> {
    program: &'static str,
    version: &'static str,
    source_model: PathBuf,
    cell: &'a str,
    recipe: &'a Recipe,
    /// Zeros over weights of the compressed modules, counted in what was written; `None` when there are none.
    sparsity: Option<f64>,
    zeros: usize,
    weights: usize,
    calibration: Option<&'a str>,
    seed: u64,
    modules: Vec<ModuleReport>,
}

#[derive(Debug, Serialize)]
struct ModuleReport {
    name: String,
    sparsity: f64,
    zeros: usize,
    weights: usize,
    reconstruction_error: Option<Float>,
    details: NamedNumbers,
}

/// A float that may be one that JSON has no number for.
#[derive(Debug, Serialize)]
struct Float(#[serde(with = "number")] f64);

impl<'a> Report<'a> {
    fn new(folder: &ModelFolder, cell: &'a CellResult, counts: &[Count]) -> Self {
        let found: HashMap<&str, _> = cell.modules.iter().map(|m| (m.name.as_str(), m)).collect();
        let module = |&Count { block, module, zeros, weights }: &Count| {
            let name = folder.config.layout(block).module(module).full_name.clone();
            let found = found.get(name.as_str());
            ModuleReport {
                sparsity: zeros as f64 / weights as f64,
                zeros,
                weights,
                reconstruction_error: found.map(|m| Float(m.reconstruction_error)),
                details: found.map(|m| m.details.clone()).unwrap_or_default(),
                name,
            }
        };
        let (zeros, weights) = counts.iter().fold((0, 0), |(z, w), c| (z + c.zeros, w + c.weights));
        Self {
            program: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            source_model: std::path::absolute(&folder.root).unwrap_or_else(|_| folder.root.clone()),
            cell: &cell.id,
            recipe: &cell.spec.recipe,
            sparsity: (weights > 0).then(|| zeros as f64 / weights as f64),
            zeros,
            weights,
            calibration: cell.spec.calibration.as_deref(),
            seed: cell.spec.seed,
            modules: counts.iter().map(module).collect(),
        }
    }
}
