//! What stays of the blocks of a cell that makes them narrower, in a file of its own beside the checkpoints: chosen once,
//! whole or not at all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::container::{self, Contents, Data, NamedTensor, TensorContent, Unreadable};
use crate::error::{Error, Result};
use crate::model::narrow::{NarrowBlock, NarrowPart, Narrowing};

const ATTENTION: &str = "attention";
const MLP: &str = "mlp";
/// A byte a unit, 1 where it stays.
const KEPT: &str = "kept";
/// What the units that go give in the mean, in f32.
const MEAN: &str = "mean";

/// Where the choice of a cell lies in its folder.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("width.safetensors")
}

/// Writes a choice, atomically; `units` are those of attention and of the MLP of every block.
///
/// # Errors
/// As [`super::checkpoint::write_block`].
pub(crate) fn write(dir: &Path, narrowing: &Narrowing, units: [usize; 2]) -> Result<()> {
    let mut entries = Vec::new();
    for (block, NarrowBlock { attention, mlp }) in &narrowing.0 {
        for ((part, stays), units) in [(ATTENTION, attention), (MLP, mlp)].into_iter().zip(units) {
            let name = |what: &str| format!("{block}.{part}.{what}");
            let bytes = (0..units).map(|unit| u8::from(stays.kept.binary_search(&unit).is_ok())).collect();
            entries.push(NamedTensor { name: name(KEPT), data: Data::Bytes(Cow::Owned(bytes)) });
            if let Some(mean) = &stays.mean {
                let values = Tensor::from_slice(mean, mean.len(), &Device::Cpu)?;
                entries.push(NamedTensor { name: name(MEAN), data: Data::Values(values) });
            }
        }
    }
    container::write(&path(dir), &entries, &[]).map(drop)
}

/// What an earlier run has chosen; `None` where there is nothing, or it is damaged.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
pub(crate) fn read(dir: &Path) -> Result<Option<Narrowing>> {
    let path = path(dir);
    let Contents { entries, .. } = match container::read(&path) {
        Ok(contents) => contents,
        Err(Unreadable::Missing | Unreadable::Broken(_)) => return Ok(None),
        Err(Unreadable::Io(e)) => return Err(Error::io("cannot read", &path, e)),
    };
    let mut parts: BTreeMap<(usize, String), NarrowPart> = BTreeMap::new();
    for (name, content) in entries {
        let words: Vec<&str> = name.split('.').collect();
        let &[block, part, what] = &words[..] else { return Ok(None) };
        let Ok(block) = block.parse() else { return Ok(None) };
        let stays = parts.entry((block, part.to_owned()));
        let stays = stays.or_insert_with(|| NarrowPart { kept: Vec::new(), mean: None });
        match (what, content) {
            (KEPT, TensorContent::Bytes(bytes)) => {
                stays.kept = (0..bytes.len()).filter(|unit| bytes[*unit] != 0).collect();
            }
            (MEAN, TensorContent::Values(values)) => {
                stays.mean = Some(values.to_dtype(DType::F32)?.to_vec1()?);
            }
            _ => return Ok(None),
        }
    }
    let mut narrowing = Narrowing::default();
    let blocks: Vec<usize> = parts.keys().map(|(block, _)| *block).collect();
    for block in blocks {
        let attention = parts.remove(&(block, ATTENTION.to_owned()));
        if let (Some(attention), Some(mlp)) = (attention, parts.remove(&(block, MLP.to_owned()))) {
            narrowing.0.insert(block, NarrowBlock { attention, mlp });
        }
    }
    Ok((!narrowing.0.is_empty()).then_some(narrowing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_back_as_it_was_and_a_torn_one_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let block = |kept: &[usize]| NarrowBlock {
            attention: NarrowPart { kept: vec![0, 1], mean: None },
            mlp: NarrowPart { kept: kept.to_vec(), mean: Some(vec![0.1, -2.0, 0.0]) },
        };
        let narrowing = Narrowing([(0, block(&[0, 3])), (12, block(&[1, 2]))].into());
        write(dir.path(), &narrowing, [2, 4]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(narrowing));
        let file = path(dir.path());
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 3]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
