//! Both ends of a model: token ids to hidden states, hidden states to logits.

use candle_core::{DType, Device, Tensor};

use super::ModelFolder;
use super::folder::{EMBEDDING, FINAL_NORM};
use super::ops::{self, Rows};
use crate::error::Result;

/// Embeds token ids: `[ids, hidden]`. Only the rows asked for are read.
pub fn embed(folder: &ModelFolder, ids: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
    folder.weights.rows(EMBEDDING, ids, dtype, device)
}

/// The last norm and the output head.
#[derive(Debug, Clone)]
pub struct Head {
    norm: Tensor,
    /// `[vocabulary, hidden]`
    weight: Tensor,
    eps: f64,
}

impl Head {
    /// Reads the head of a model; a tied one is its embedding.
    pub fn load(folder: &ModelFolder, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self {
            norm: folder.weights.tensor(FINAL_NORM, dtype, device)?,
            weight: folder.weights.tensor(folder.head_tensor(), dtype, device)?,
            eps: folder.config.norm_eps,
        })
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
        self.logits_of(&Rows::of(hidden)?)?.into_tensor()
    }

    /// The same for rows that stay where they are.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn logits_of(&self, hidden: &Rows) -> Result<Rows> {
        ops::linear(&ops::rms_norm(hidden, &self.norm, self.eps)?, &self.weight, None)
    }
}
