//! Both ends of a model: token ids to hidden states, hidden states to logits.

use candle_core::{DType, Device, Tensor};

use super::folder::ModelFolder;
use super::ops::{self, Activations, with_elements};
use crate::error::Result;
use crate::kernels::ggml::{self, GgmlType};

/// Values of a head that are rounded at once.
const ROUNDED_AT_ONCE: usize = 1 << 22;

/// Embeds token ids: `[ids, hidden]`. Only the rows asked for are read.
pub fn embed(folder: &ModelFolder, ids: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
    let embedding = &folder.config.embedding;
    let rows = match folder.ends.embedding {
        None => folder.weights.rows(&embedding.tensor, ids, dtype, device)?,
        Some(kind) => {
            let rows = folder.weights.rows(&embedding.tensor, ids, DType::F32, &Device::Cpu)?;
            rounded(kind, &rows)?.to_device(device)?.to_dtype(dtype)?
        }
    };
    #[allow(clippy::float_cmp, reason = "the factor of a model that has none is 1 exactly")]
    if embedding.factor == 1.0 { Ok(rows) } else { Ok((rows * embedding.factor)?) }
}

/// A matrix in `f32` as a format leaves it.
fn rounded(kind: GgmlType, matrix: &Tensor) -> Result<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    let values = with_elements(&matrix.contiguous()?, |values| ggml::rounded(kind, values, columns))??;
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

/// A whole matrix as a format leaves it, read some rows at a time: it is large, and not needed twice.
fn rounded_rows(folder: &ModelFolder, tensor: &str, kind: GgmlType) -> Result<Tensor> {
    let (rows, columns) = (folder.config.vocabulary, folder.config.hidden_size);
    let mut values = Vec::with_capacity(rows * columns);
    let ids: Vec<u32> = (0..rows as u32).collect();
    for ids in ids.chunks((ROUNDED_AT_ONCE / columns.max(1)).max(1)) {
        let rows = folder.weights.rows(tensor, ids, DType::F32, &Device::Cpu)?;
        values.extend(with_elements(&rows, |rows| ggml::rounded(kind, rows, columns))??);
    }
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

/// The last norm and the output head.
#[derive(Debug, Clone)]
pub struct LmHead {
    norm: Tensor,
    /// `[vocabulary, hidden]`
    weight: Tensor,
    eps: f64,
    /// What the logits are multiplied by.
    factor: f64,
}

impl LmHead {
    /// Reads the head of a model; a tied one is its embedding.
    pub fn load(folder: &ModelFolder, dtype: DType, device: &Device) -> Result<Self> {
        let weight = match folder.ends.head {
            None => folder.weights.tensor(folder.head_tensor(), dtype, device)?,
            Some(kind) => {
                rounded_rows(folder, folder.head_tensor(), kind)?.to_device(device)?.to_dtype(dtype)?
            }
        };
        Ok(Self {
            norm: folder.weights.tensor(&folder.config.head.norm, dtype, device)?,
            weight,
            eps: folder.config.head.norm_eps,
            factor: folder.config.head.factor,
        })
    }

    /// The matrix, `[vocabulary, hidden]`.
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Replaces the matrix.
    pub(crate) fn set_weight(&mut self, weight: Tensor) {
        self.weight = weight;
    }

    /// Tokens that it tells apart.
    ///
    /// # Errors
    /// A weight that is no matrix.
    pub fn vocabulary(&self) -> Result<usize> {
        Ok(self.weight.dims2()?.0)
    }

    /// Logits `[n, vocabulary]` of hidden states `[n, hidden]` as the last block leaves them.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.logits_of(&Activations::of(hidden)?)?.into_tensor()
    }

    /// The same for rows that stay where they are.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn logits_of(&self, hidden: &Activations) -> Result<Activations> {
        let logits = ops::linear(&ops::rms_norm(hidden, &self.norm, self.eps)?, &self.weight, None)?;
        #[allow(clippy::float_cmp, reason = "the factor of a model that has none is 1 exactly")]
        if self.factor == 1.0 { Ok(logits) } else { ops::scale(logits, self.factor) }
    }
}
