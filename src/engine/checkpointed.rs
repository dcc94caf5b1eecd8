//! Blocks as an earlier pass left them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device};

use super::place::Place;
use super::study::Study;
use crate::error::{Error, Result};
use crate::model::Block;
use crate::model::ops::with_elements;
use crate::store::checkpoint;
use crate::store::checkpoint::block_file::BlockFile;

/// Puts a checkpoint's weights into a block that was loaded from the source.
pub(super) fn apply_checkpoint(
    block: &mut Block,
    study: &Study,
    place: &Place,
    dir: &Path,
    index: usize,
) -> Result<()> {
    let file = Arc::new(Mutex::new(BlockFile::open(dir, index)?));
    let open = || file.lock().unwrap_or_else(PoisonError::into_inner);
    let names = open().modules();
    for name in names {
        let id = block.layout().find(&name).ok_or_else(|| {
            Error::failure(format!(
                "the checkpoint {} is damaged: `{name}` is no module",
                checkpoint::block_path(dir, index).display()
            ))
        })?;
        if let Some(source) = block.reader(id) {
            let target = (study.dtype, place.device.clone());
            block.set_reader(id, BlockFile::reader(file.clone(), name, source, target));
            continue;
        }
        let Some(stored) = open().module(&name)? else { continue };
        let source = block.module(id)?.weight;
        let weights = stored.weights(|| {
            // What stays is the source's, which the block holds; zeros are exact in any precision.
            let source = source.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            with_elements(&source, <[f32]>::to_vec)
        })?;
        block.set_weight(id, weights.to_device(&place.device)?.to_dtype(study.dtype)?);
    }
    Ok(())
}
