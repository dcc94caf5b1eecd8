//! How likely a model finds tokens, from rows of logits.

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;

use super::positions::normalise;
use crate::error::Result;
use crate::kernels::simd;
use crate::model::Activations;

/// What a row of logits says of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLikelihood {
    /// `ln p(token | before)`, in nats.
    pub log: f64,
    /// No other token is more likely, nor one with a lower id as likely.
    pub is_greedy: bool,
}

/// Of every row of logits, `[n, vocabulary]`, what it says of the tokens that are asked of it.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn token_likelihoods(
    logits: &Activations,
    asked: &[Vec<u32>],
) -> Result<Vec<Vec<TokenLikelihood>>> {
    match logits {
        Activations::Host { data, width } => Ok(rows(data, *width, asked)),
        Activations::Device(x) => tensors(x, asked),
    }
}

fn rows(data: &[f32], vocabulary: usize, asked: &[Vec<u32>]) -> Vec<Vec<TokenLikelihood>> {
    let of_row = |exps: &mut Vec<f32>, (row, tokens): (&[f32], &Vec<u32>)| {
        let norm = simd(
            #[inline(always)]
            || normalise(row, exps),
        );
        let of = |&token: &u32| TokenLikelihood {
            log: f64::from(row[token as usize]) - f64::from(norm.log_sum),
            is_greedy: norm.top == token as usize,
        };
        tokens.iter().map(of).collect()
    };
    let scratch = || vec![0f32; vocabulary];
    data.par_chunks_exact(vocabulary).zip(asked).map_init(scratch, of_row).collect()
}

fn tensors(logits: &Tensor, asked: &[Vec<u32>]) -> Result<Vec<Vec<TokenLikelihood>>> {
    let log_p = candle_nn::ops::log_softmax(&logits.to_dtype(DType::F32)?, D::Minus1)?;
    let top = logits.argmax(1)?.to_vec1::<u32>()?;
    let mut found = Vec::with_capacity(asked.len());
    for (row, (tokens, top)) in asked.iter().zip(top).enumerate() {
        let ids = Tensor::from_slice(tokens, tokens.len(), logits.device())?;
        let logs = log_p.get(row)?.index_select(&ids, 0)?.to_vec1::<f32>()?;
        let of = |(log, token): (f32, &u32)| TokenLikelihood { log: log.into(), is_greedy: top == *token };
        found.push(logs.into_iter().zip(tokens).map(of).collect());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn host_and_device_agree_with_the_definition() {
        let logits = [0.5f32, -1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0];
        let asked = [vec![2, 3, 1], vec![0]];
        let sum: f64 = logits[..4].iter().map(|v| f64::from(*v).exp()).sum();
        let host = rows(&logits, 4, &asked);
        let tensor = Tensor::from_slice(&logits, (2, 4), &Device::Cpu).unwrap();
        for found in [host, tensors(&tensor, &asked).unwrap()] {
            for (found, value) in found[0].iter().zip([2.0, 2.0, -1.0]) {
                assert!((found.log - (value - sum.ln())).abs() < 1e-6, "{found:?}");
            }
            let greedy: Vec<bool> = found.concat().iter().map(|t| t.is_greedy).collect();
            assert_eq!(greedy, [true, false, false, true]);
            assert!((found[1][0].log + 4f64.ln()).abs() < 1e-6);
        }
    }
}
