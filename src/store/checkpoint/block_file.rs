//! A block's checkpoint of which single modules are read, so that a block of many experts is never in memory as a whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device};

use super::super::container::OpenContainer;
use super::super::stored::Stored;
use super::{BLOCK_KEY, block_path, broken, unreadable};
use crate::error::Result;
use crate::model::WeightReader;
use crate::model::ops::with_elements;

/// The checkpoint of one block, found sound when it was opened.
pub(crate) struct BlockFile {
    path: PathBuf,
    file: OpenContainer,
    /// Of its tensors.
    names: Vec<String>,
    metadata: HashMap<String, String>,
}

impl BlockFile {
    /// Opens what [`super::write_block`] wrote.
    ///
    /// # Errors
    /// As [`super::read_block`].
    pub fn open(dir: &Path, block: usize) -> Result<Self> {
        let path = block_path(dir, block);
        let file = OpenContainer::open(&path).map_err(|e| unreadable(&path, e))?;
        let (names, metadata) = (file.names(), file.metadata());
        if metadata.get(BLOCK_KEY) != Some(&block.to_string()) {
            return Err(broken(&path, "it belongs to another block"));
        }
        Ok(Self { path, file, names, metadata })
    }

    /// The modules that are in it, in the order in which they were given.
    pub fn modules(&self) -> Vec<String> {
        let mut modules: Vec<String> = self.names.iter().map(|name| module_of(name).to_owned()).collect();
        modules.dedup();
        modules
    }

    /// What became of a module; `None` where nothing did.
    ///
    /// # Errors
    /// A file that cannot be read, or makes no sense.
    pub fn module(&mut self, name: &str) -> Result<Option<Stored>> {
        let mut entries = Vec::new();
        for entry in self.names.iter().filter(|entry| module_of(entry) == name) {
            let content = self.file.read(entry).map_err(|e| unreadable(&self.path, e))?;
            entries.push((entry.clone(), content));
        }
        let stored = Stored::from_entries(entries, &self.metadata, &Device::Cpu);
        let stored = stored.map_err(|why| broken(&self.path, &why))?;
        Ok(stored.into_iter().next().map(|(_, stored)| stored))
    }

    /// Reads a module as it was compressed, whenever it is needed: `source` reads it as it was before.
    pub fn reader(
        file: Arc<Mutex<Self>>,
        module: String,
        source: WeightReader,
        (dtype, device): (DType, Device),
    ) -> WeightReader {
        Arc::new(move || {
            let stored = file.lock().unwrap_or_else(PoisonError::into_inner).module(&module)?;
            let Some(stored) = stored else { return source() };
            let weights =
                || with_elements(&source()?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?, <[f32]>::to_vec);
            Ok(stored.weights(weights)?.to_device(&device)?.to_dtype(dtype)?)
        })
    }
}

/// The module of an entry: what stands before the last dot.
fn module_of(entry: &str) -> &str {
    entry.rsplit_once('.').map_or(entry, |(module, _)| module)
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::store::checkpoint::{read_block, write_block};

    #[test]
    fn single_modules_are_those_of_the_whole_block() {
        let dir = tempfile::tempdir().unwrap();
        let values = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let modules = [
            ("mlp.experts.1.up", Stored::Values(values.clone())),
            ("mlp.experts.10.up", Stored::Mask { shape: [2, 2], bits: vec![0b1010_0000] }),
            ("mlp.experts.11.up", Stored::Dropped([2, 2])),
        ];
        write_block(dir.path(), 4, &modules).unwrap();
        let mut file = BlockFile::open(dir.path(), 4).unwrap();
        assert_eq!(file.modules(), modules.each_ref().map(|(name, _)| (*name).to_owned()));
        for (name, whole) in read_block(dir.path(), 4, &Device::Cpu).unwrap().into_iter().rev() {
            let single = file.module(&name).unwrap().unwrap();
            assert_eq!(format!("{single:?}"), format!("{whole:?}"));
        }
        assert!(file.module("mlp.experts.2.up").unwrap().is_none());

        let source: WeightReader = Arc::new(move || Ok((values.clone() + 0.0)?));
        let file = Arc::new(Mutex::new(file));
        let read = |module: &str| {
            let target = (DType::F32, Device::Cpu);
            let reader = BlockFile::reader(file.clone(), module.to_owned(), source.clone(), target);
            reader().unwrap().to_vec2::<f32>().unwrap()
        };
        assert_eq!(read("mlp.experts.10.up"), [[1.0, 0.0], [3.0, 0.0]]);
        assert_eq!(read("mlp.experts.2.up"), [[1.0, 2.0], [3.0, 4.0]], "nothing became of it");
    }

    #[test]
    fn a_damaged_file_and_one_of_another_block_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        write_block(dir.path(), 0, &[("up", Stored::Dropped([2, 2]))]).unwrap();
        std::fs::copy(block_path(dir.path(), 0), block_path(dir.path(), 1)).unwrap();
        let refused = |block| BlockFile::open(dir.path(), block).err().unwrap().to_string();
        assert!(refused(1).contains("another block"), "{}", refused(1));
        let mut bytes = std::fs::read(block_path(dir.path(), 0)).unwrap();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        std::fs::write(block_path(dir.path(), 0), bytes).unwrap();
        assert!(refused(0).contains("damaged"), "{}", refused(0));
        assert!(refused(2).contains("missing"), "{}", refused(2));
    }
}
