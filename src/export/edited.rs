//! Tensors of a source of which only a part is written, and those that it does not have.

use super::source::{SourceFile, SourceTensor};
use crate::model::{ModelFolder, TensorInfo};

/// A tensor as it is written: smaller, where only a part of it is read.
pub(super) fn as_written(folder: &ModelFolder, tensor: &SourceTensor) -> SourceTensor {
    let info = folder.weights.info(&tensor.name).filter(|_| folder.weights.is_edited(&tensor.name));
    info.map_or_else(|| tensor.clone(), |info| source_tensor(&tensor.name, info))
}

/// The tensors that no file has, and that belong into this one, which has `tensors`.
pub(super) fn new_tensors(
    folder: &ModelFolder,
    source: &SourceFile,
    tensors: &[SourceTensor],
) -> Vec<SourceTensor> {
    let weights = &folder.weights;
    let of_file = weights.given().filter_map(|name| {
        let info = weights.info(name).filter(|info| info.file == source.path())?;
        tensors.iter().all(|tensor| tensor.name != name).then(|| source_tensor(name, info))
    });
    of_file.collect()
}

fn source_tensor(name: &str, info: &TensorInfo) -> SourceTensor {
    SourceTensor {
        name: name.to_owned(),
        dtype: info.dtype.as_str().to_uppercase(),
        shape: info.shape.clone(),
        bytes: (info.elements() * info.dtype.size_in_bytes()) as u64,
    }
}
