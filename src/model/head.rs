//! Both ends of a model: token ids to hidden states, hidden states to logits.

use candle_core::{DType, Device, Tensor};

use super::batch::Batch;
use super::config::{BlockInputsDef, NormKind};
use super::folder::ModelFolder;
use super::ops::{self, Activations, with_elements};
use crate::error::{Error, Result};
use crate::kernels::device::rows::take_rows;
use crate::kernels::ggml::{self, GgmlType};

/// Values of a head that are rounded at once.
const ROUNDED_AT_ONCE: usize = 1 << 22;

/// Embeds the token ids of a batch: `[ids, hidden]`. Only the rows asked for are read.
pub fn embed(
    folder: &ModelFolder,
    ids: &[u32],
    batch: &Batch,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let embedding = &folder.config.embedding;
    let rows = match folder.ends.embedding {
        None => folder.weights.rows(&embedding.tensor, ids, dtype, device)?,
        Some(kind) => {
            let rows = folder.weights.rows(&embedding.tensor, ids, DType::F32, &Device::Cpu)?;
            rounded(kind, &rows)?.to_device(device)?.to_dtype(dtype)?
        }
    };
    hidden_states(folder, rows, ids, batch)
}

/// Most bytes of a table of rows that lie on a device at once.
const MOST_TABLE: usize = 1 << 30;

/// The rows of an embedding that some texts need, each of which is read once where the texts go to a GPU.
#[derive(Debug)]
pub(crate) struct EmbeddingRows<'a> {
    folder: &'a ModelFolder,
    dtype: DType,
    device: &'a Device,
    /// Token ids in their order, and their rows.
    table: Option<(Vec<u32>, Tensor)>,
}

impl<'a> EmbeddingRows<'a> {
    /// Of texts with these tokens.
    ///
    /// # Errors
    /// A file that cannot be read, or a device without room.
    pub fn new(
        folder: &'a ModelFolder,
        tokens: impl Iterator<Item = u32>,
        dtype: DType,
        device: &'a Device,
    ) -> Result<Self> {
        let alone = Self { folder, dtype, device, table: None };
        if !device.is_cuda() || folder.ends.embedding.is_some() {
            return Ok(alone);
        }
        let mut ids: Vec<u32> = tokens.collect();
        ids.sort_unstable();
        ids.dedup();
        let embedding = &folder.config.embedding;
        if ids.len() * embedding.width * dtype.size_in_bytes() > MOST_TABLE {
            return Ok(alone);
        }
        let rows = folder.weights.rows(&embedding.tensor, &ids, dtype, device)?;
        Ok(Self { table: Some((ids, rows)), ..alone })
    }

    /// As [`embed`], of a batch of these texts.
    ///
    /// # Errors
    /// As [`embed`].
    pub fn embed(&self, ids: &[u32], batch: &Batch) -> Result<Tensor> {
        if let Some((known, table)) = &self.table {
            let places: Option<Vec<u32>> =
                ids.iter().map(|id| known.binary_search(id).ok().map(|place| place as u32)).collect();
            if let Some(places) = places
                && let Some(rows) = take_rows(table, &places)?
            {
                return hidden_states(self.folder, rows, ids, batch);
            }
        }
        embed(self.folder, ids, batch, self.dtype, self.device)
    }
}

/// What the first block gets of rows of the embedding, `[rows of the batch, width of the embedding]`.
pub(crate) fn hidden_states(
    folder: &ModelFolder,
    rows: Tensor,
    ids: &[u32],
    batch: &Batch,
) -> Result<Tensor> {
    let embedding = &folder.config.embedding;
    let (dtype, device) = (rows.dtype(), rows.device().clone());
    let rows = match &embedding.projection {
        None => rows,
        Some(name) => rows.matmul(&folder.weights.tensor(name, dtype, &device)?.t()?)?,
    };
    #[allow(clippy::float_cmp, reason = "the factor of a model that has none is 1 exactly")]
    let rows = if embedding.factor == 1.0 { rows } else { (rows * embedding.factor)? };
    if let Some(inputs) = &embedding.block_inputs {
        return with_block_inputs(folder, &rows, ids, inputs);
    }
    let Some(table) = &embedding.positions else { return Ok(rows) };
    let offset = table.offset as u32;
    let positions: Vec<u32> = batch.positions().iter().map(|position| position + offset).collect();
    if let Some(beyond) = positions.iter().find(|row| **row as usize >= table.rows) {
        return Err(Error::mistake(format!(
            "a text has a token at position {}: `{}` has positions for {} tokens",
            beyond - offset,
            table.tensor,
            table.rows.saturating_sub(table.offset)
        )));
    }
    Ok((rows + folder.weights.rows(&table.tensor, &positions, dtype, &device)?)?)
}

/// Rows of the residual with the inputs of all blocks behind them: `(N(W·x / √hidden) + table[token]·√width) / √2`.
fn with_block_inputs(
    folder: &ModelFolder,
    rows: &Tensor,
    ids: &[u32],
    inputs: &BlockInputsDef,
) -> Result<Tensor> {
    let (dtype, device) = (rows.dtype(), rows.device().clone());
    let tensor = |name: &String| folder.weights.tensor(name, dtype, &device);
    let projected = ops::linear(&Activations::of(rows)?, &tensor(&inputs.projection)?, None)?;
    let projected = ops::scale(projected, 1.0 / (folder.config.hidden_size as f64).sqrt())?;
    let normed = ops::rms_norm(&projected, &tensor(&inputs.norm)?, inputs.norm_eps)?.into_tensor()?;
    let looked_up =
        (folder.weights.rows(&inputs.table, ids, dtype, &device)? * (inputs.width as f64).sqrt())?;
    let both = ((normed + looked_up)? * std::f64::consts::FRAC_1_SQRT_2)?;
    Ok(Tensor::cat(&[rows, &both], 1)?)
}

/// A matrix in `f32` as a format leaves it.
fn rounded(kind: GgmlType, matrix: &Tensor) -> Result<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    let values = with_elements(&matrix.contiguous()?, |values| ggml::rounded(kind, values, columns))??;
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

/// A whole matrix as a format leaves it, read some rows at a time: it is large, and not needed twice.
fn rounded_rows(folder: &ModelFolder, tensor: &str, kind: GgmlType) -> Result<Tensor> {
    let (rows, columns) = (folder.config.vocabulary, folder.config.embedding.width);
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
    norm: Option<LastNorm>,
    projection: Option<Tensor>,
    /// `[vocabulary, width of the embedding]`
    weight: Tensor,
    bias: Option<Tensor>,
    /// What the logits are multiplied by.
    factor: f64,
    softcap: Option<f64>,
}

/// The last norm.
#[derive(Debug, Clone)]
struct LastNorm {
    kind: NormKind,
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
}

impl LastNorm {
    fn apply(&self, x: &Activations) -> Result<Activations> {
        match self.kind {
            NormKind::Rms | NormKind::RmsPlusOne => ops::rms_norm(x, &self.weight, self.eps),
            NormKind::Layer { .. } => {
                let width = self.weight.elem_count();
                ops::layer_norm(x, &self.weight, self.bias.as_ref(), width, self.eps)
            }
        }
    }
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
        let head = &folder.config.head;
        let tensor = |name: &String| folder.weights.tensor(name, dtype, device);
        let norm = |kind| -> Result<LastNorm> {
            let weight = match kind {
                // One more than a number of few bits has more bits.
                NormKind::RmsPlusOne => (folder.weights.tensor(&head.norm, DType::F32, device)? + 1.0)?,
                _ => tensor(&head.norm)?,
            };
            let bias = head.norm_bias().as_ref().map(tensor).transpose()?;
            Ok(LastNorm { kind, weight, bias, eps: head.norm_eps })
        };
        Ok(Self {
            norm: head.norm_kind.map(norm).transpose()?,
            projection: head.projection.as_ref().map(tensor).transpose()?,
            weight,
            bias: head.bias.as_ref().map(tensor).transpose()?,
            factor: head.factor,
            softcap: head.softcap,
        })
    }

    /// The matrix, `[vocabulary, width of the embedding]`.
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
        let normed = self.norm.as_ref().map(|norm| norm.apply(hidden)).transpose()?;
        let normed = normed.as_ref().unwrap_or(hidden);
        let projected = self.projection.as_ref().map(|weight| ops::linear(normed, weight, None));
        let projected = projected.transpose()?;
        let logits = ops::linear(projected.as_ref().unwrap_or(normed), &self.weight, self.bias.as_ref())?;
        #[allow(clippy::float_cmp, reason = "the factor of a model that has none is 1 exactly")]
        let logits = if self.factor == 1.0 { logits } else { ops::scale(logits, self.factor)? };
        match self.softcap {
            None => Ok(logits),
            Some(cap) => ops::softcap(logits, cap),
        }
    }
}
