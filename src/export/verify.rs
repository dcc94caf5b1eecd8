//! Short passages, on which an export is compared with the model in memory.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::kernels::ggml::EndTypes;
use crate::model::head::{embed, hidden_states};
use crate::model::{Batch, Block, LmHead, ModelFolder};

/// Windows that are compared.
const WINDOWS: usize = 2;
/// Tokens of each.
const TOKENS: usize = 512;
/// Rows that go through the head together.
const HEAD_ROWS: usize = 128;

/// What is read where a study has no corpus.
const TEXT: &str = "The river rises in the hills above the town and runs north for about forty miles before it \
reaches the sea. In spring, when the snow melts, the water is high and brown, and the old stone bridge is closed to \
carts. Fishermen say that the best days are those after rain. The first school was built in 1874 by a teacher who \
had come from the coast with two books, a bell and a great deal of patience; her pupils paid her in eggs and wood. \
Today there are three schools, a library, and a small museum that shows how bread was made.";

/// A text of which the last tokens are predicted.
#[derive(Debug, Clone)]
pub struct Passage {
    /// The whole text.
    pub tokens: Vec<u32>,
    /// The first token that is predicted; at least 1.
    pub first: usize,
}

impl Passage {
    /// Tokens that are predicted.
    pub fn predicted(&self) -> &[u32] {
        &self.tokens[self.first..]
    }
}

/// The beginnings of the first windows of a corpus, or a short text of the program's own where there are none.
///
/// # Errors
/// A tokenizer that fails.
pub(crate) fn passages(
    windows: &[Vec<u32>],
    tokenizer: &dyn Fn() -> Result<Tokenizer>,
) -> Result<Vec<Vec<u32>>> {
    let texts: Vec<Vec<u32>> =
        windows.iter().take(WINDOWS).map(|window| window[..window.len().min(TOKENS)].to_vec()).collect();
    if !texts.is_empty() {
        return Ok(texts);
    }
    let encoding =
        tokenizer()?.encode(TEXT, true).map_err(|e| Error::failure(format!("cannot tokenise: {e}")))?;
    Ok(vec![encoding.get_ids().iter().copied().take(TOKENS).collect()])
}

/// What is done to the embedding and the head before they are used, rows of `f32` each: `(tensor name, rows)`.
pub(super) type ChangeRows<'a> = &'a dyn Fn(&str, Tensor) -> Result<Tensor>;

/// The mean negative log-likelihood of passages, in nats, by a model whose blocks come from `load`, one at a time.
///
/// # Errors
/// What `load` says; a tensor operation that fails.
pub(super) fn mean_nll(
    folder: &ModelFolder,
    passages: &[Passage],
    change: Option<ChangeRows<'_>>,
    load: &mut dyn FnMut(usize) -> Result<Block>,
) -> Result<f64> {
    let (dtype, device) = (DType::F32, Device::Cpu);
    let ids: Vec<u32> = passages.iter().flat_map(|p| p.tokens.iter().copied()).collect();
    let lengths: Vec<usize> = passages.iter().map(|p| p.tokens.len()).collect();
    if passages.is_empty() {
        return Ok(0.0);
    }
    let batch = Batch::of_lengths(&lengths);
    let ropes = folder.config.rope_tables(lengths.iter().copied().max().unwrap_or(0));
    let mut x = match change {
        None => embed(folder, &ids, &batch, dtype, &device)?,
        Some(change) => {
            let embedding = &folder.config.embedding;
            let rows = folder.weights.rows(&embedding.tensor, &ids, dtype, &device)?;
            hidden_states(folder, change(&embedding.tensor, rows)?, &ids, &batch)?
        }
    };
    for block in 0..folder.config.blocks {
        x = load(block)?.forward(&x, &batch, &ropes, None)?;
    }
    // What is to be changed is read as the files have it.
    let source = folder.with_ends(change.map_or(folder.ends, |_| EndTypes::default()));
    let mut head = LmHead::load(&source, dtype, &device)?;
    if let Some(change) = change {
        let name = folder.head_tensor();
        head.set_weight(change(name, head.weight().clone())?);
    }
    let mut total = 0.0;
    let (mut row, mut count) = (0, 0);
    for passage in passages {
        let targets = passage.predicted();
        for (start, targets) in (0..).step_by(HEAD_ROWS).zip(targets.chunks(HEAD_ROWS)) {
            // A row predicts the token behind it.
            let rows = x.narrow(0, row + passage.first - 1 + start, targets.len())?.contiguous()?;
            total += total_nll(&head.logits(&rows)?, targets)?;
        }
        row += passage.tokens.len();
        count += targets.len();
    }
    Ok(total / count.max(1) as f64)
}

/// The negative log-likelihood of tokens by their logits `[tokens, vocabulary]`, in nats, summed.
///
/// # Errors
/// A tensor operation that fails, a token that has no logit.
pub(super) fn total_nll(logits: &Tensor, targets: &[u32]) -> Result<f64> {
    let vocabulary = logits.dims2()?.1;
    let values = logits.flatten_all()?.to_vec1::<f32>()?;
    let terms: Vec<f64> = values
        .par_chunks(vocabulary)
        .zip(targets)
        .map(|(row, &target)| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|v| f64::from(v - largest).exp()).sum();
            let logit = row.get(target as usize).copied().unwrap_or(f32::NAN);
            f64::from(largest) + sum.ln() - f64::from(logit)
        })
        .collect();
    Ok(terms.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nll_is_that_of_the_softmax() {
        let logits = Tensor::new(&[[0.0_f32, 1.0, 2.0], [3.0, 3.0, 3.0]], &Device::Cpu).unwrap();
        let e = 1.0_f64.exp();
        let first = (1.0 + e + e * e).ln() - 1.0;
        assert!((total_nll(&logits, &[1, 0]).unwrap() - first - 3.0_f64.ln()).abs() < 1e-6);
        assert!(total_nll(&logits, &[1, 3]).unwrap().is_nan(), "a token beyond the vocabulary");
    }

    #[test]
    fn passages_are_the_beginnings_of_the_first_windows() {
        let windows: Vec<Vec<u32>> = (0..3).map(|w| vec![w; 600]).collect();
        let none = || Err(Error::failure("not asked"));
        assert_eq!(passages(&windows, &none).unwrap(), [vec![0; 512], vec![1; 512]]);
        assert_eq!(passages(&[vec![7; 5]], &none).unwrap(), [vec![7; 5]]);
    }
}
