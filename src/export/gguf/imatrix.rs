//! An importance matrix as llama.cpp reads it: how large the inputs of every matrix are, by which its quantiser weighs
//! the errors that it makes.
//!
//! It is a GGUF without a model. For every matrix, under llama.cpp's name, `NAME.in_sum2` has the sum over all tokens of the
//! square of each input feature and `NAME.counts` the number of tokens, both F32; keys say of which data sets and of how
//! many chunks of text.

use std::path::Path;

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;

use super::super::part::{PartialExport, TargetKind};
use super::container::{KeyValue, Keys, TensorEntry, finish_tensor, header};
use super::families::GgufFamily;
use super::layout;
use crate::error::{Error, Result};
use crate::kernels::ggml::GgmlType;
use crate::model::{BlockLayout, InputSite, ModelFolder};
use crate::panics;

/// For every input of a block the sum over all tokens of the square of each feature.
pub(crate) type BlockSums = Vec<(InputSite, Vec<f64>)>;

/// What was summed, and over what.
#[derive(Debug, Clone)]
pub(crate) struct InputSums {
    /// Name or file of the calibration set.
    pub set: String,
    /// Windows that were read.
    pub windows: usize,
    /// Tokens of each.
    pub window_tokens: usize,
    /// Block by block.
    pub blocks: Vec<BlockSums>,
}

/// A tensor of the file.
struct SumsTensor {
    entry: TensorEntry,
    values: Vec<f32>,
}

/// Why there can be none of a model; `None` where there can.
pub(crate) fn refuses_sums(folder: &ModelFolder) -> Option<String> {
    let has_experts =
        folder.config.layouts().flat_map(BlockLayout::modules).any(|(_, module)| module.expert.is_some());
    let experts = has_experts.then(|| "the sums of experts are not written yet".to_owned());
    layout::refuses(folder).or(experts)
}

/// Writes an importance matrix to `out`, a file that is there whole or not at all, and reads it again.
///
/// # Errors
/// [`Error::Mistake`] for a place that is taken and a model that llama.cpp does not know, [`Error::Failure`] when the disk
/// is full or what was read is not what was written.
pub(crate) fn write_sums(folder: &ModelFolder, sums: &InputSums, out: &Path) -> Result<()> {
    if let Some(why) = refuses_sums(folder) {
        return Err(Error::mistake(format!("there can be no importance matrix: {why}")));
    }
    let entries = entries(folder, sums);
    let keys: Keys = vec![
        ("general.type".into(), "imatrix".into()),
        ("imatrix.datasets".into(), KeyValue::Texts(vec![sums.set.clone()])),
        ("imatrix.chunk_count".into(), count(sums.windows)),
        ("imatrix.chunk_size".into(), count(sums.window_tokens)),
    ];
    let part = PartialExport::create(out, TargetKind::File)?;
    part.write_file(|out| {
        let list: Vec<TensorEntry> = entries.iter().map(|tensor| tensor.entry.clone()).collect();
        out.put(&header(&keys, &list))?;
        entries.iter().try_for_each(|SumsTensor { entry, values }| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.put(&bytes)?;
            finish_tensor(entry, bytes.len(), out)
        })
    })?;
    let same = panics::catch(|| read_back(part.path(), &entries));
    same.map_err(|why| {
        Error::failure(format!("the importance matrix was not written as it should be: {why}"))
    })?;
    part.finish()
}

fn count(n: usize) -> KeyValue {
    KeyValue::U32(u32::try_from(n).unwrap_or(u32::MAX))
}

/// The tensors in the order of their names, as llama.cpp writes them.
fn entries(folder: &ModelFolder, sums: &InputSums) -> Vec<SumsTensor> {
    let tokens = (sums.windows * sums.window_tokens) as f32;
    let mut entries = Vec::new();
    let Some(family) = GgufFamily::of(&folder.config) else { return entries };
    for (block, sites) in sums.blocks.iter().enumerate() {
        for (_, module) in folder.config.layout(block).modules() {
            let found = sites.iter().find(|(site, _)| *site == module.site);
            let (Some(name), Some((_, values))) = (family.name_of(&module.name), found) else { continue };
            let mut add = |kind: &str, values: Vec<f32>| {
                let name = format!("blk.{block}.{name}.weight.{kind}");
                let entry = TensorEntry { name, shape: vec![values.len()], kind: GgmlType::F32 };
                entries.push(SumsTensor { entry, values });
            };
            add("in_sum2", values.iter().map(|sum| *sum as f32).collect());
            add("counts", vec![tokens]);
        }
    }
    entries.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    entries
}

/// Compares a file with what it should be, by candle's reader.
fn read_back(path: &Path, entries: &[SumsTensor]) -> Result<()> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::io("cannot open", path, e))?;
    let content = Content::read(&mut file)?;
    for SumsTensor { entry, values } in entries {
        let read = content.tensor(&mut file, &entry.name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
        if read.dims() != entry.shape || read.to_vec1::<f32>()? != *values {
            return Err(Error::failure(format!("{} has other values", entry.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arch::qwen3::Qwen3;
    use crate::model::{ARCHITECTURES, Synthetic};

    fn sums(folder: &ModelFolder) -> InputSums {
        let of_block = |block: usize| {
            let sites = folder.config.layout(block).sites();
            let of_site = |(i, (site, width)): (usize, (InputSite, usize))| {
                (
                    site,
                    (0..width)
                        .map(|feature| (block * 1000 + i * 100) as f64 + feature as f64 / 8.0)
                        .collect(),
                )
            };
            sites.enumerate().map(of_site).collect()
        };
        let blocks = (0..folder.config.blocks).map(of_block).collect();
        InputSums { set: "c4".into(), windows: 5, window_tokens: 64, blocks }
    }

    #[test]
    fn every_matrix_has_the_sums_of_its_own_input() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(&Qwen3).write(&dir.path().join("model")).unwrap();
        let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
        let (sums, out) = (sums(&folder), dir.path().join("a/imatrix.gguf"));
        write_sums(&folder, &sums, &out).unwrap();
        let mut file = std::fs::File::open(&out).unwrap();
        let content = Content::read(&mut file).unwrap();
        assert_eq!(content.metadata["general.type"].to_string().unwrap(), "imatrix");
        assert_eq!(content.metadata["imatrix.datasets"].to_vec().unwrap()[0].to_string().unwrap(), "c4");
        assert_eq!(content.metadata["imatrix.chunk_count"].to_u32().unwrap(), 5);
        assert_eq!(content.metadata["imatrix.chunk_size"].to_u32().unwrap(), 64);
        assert_eq!(content.tensor_infos.len(), folder.config.blocks * 7 * 2);
        let mut read = |name: &str| -> Vec<f32> {
            let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
            tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap()
        };
        // The second input of a block is that of attention's output, the fourth that of the MLP's.
        for (name, first) in [("attn_q", 1000.0), ("attn_v", 1000.0), ("attn_output", 1100.0)] {
            let found = read(&format!("blk.1.{name}.weight.in_sum2"));
            assert_eq!(found[..3], [first, first + 0.125, first + 0.25], "{name}");
        }
        assert_eq!(
            read("blk.2.ffn_down.weight.in_sum2").len(),
            folder.config.layout(0).sites().last().unwrap().1
        );
        assert_eq!(read("blk.0.ffn_up.weight.counts"), [320.0]);
        let error = write_sums(&folder, &sums, &out).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("never overwrites"), "{error}");
    }

    #[test]
    fn a_family_that_llama_cpp_calls_otherwise_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let opt = ARCHITECTURES.iter().find(|a| a.name() == "OPTForCausalLM").unwrap();
        Synthetic::tiny(*opt).write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let error = write_sums(&folder, &sums(&folder), &dir.path().join("out")).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("OPTForCausalLM"), "{error}");
    }
}
