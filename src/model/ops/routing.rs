//! What a mixture of experts does with rows of hidden states: which expert sees which of them, and how the outputs come
//! together again.
//!
//! Choosing is done on the host, wherever the states are: it is little work, and the host has to know how many rows each
//! expert gets.

use candle_core::{DType, Tensor};

use super::{Activations, mixed};
use crate::error::Result;
use crate::kernels::routing::choose_experts;
use crate::kernels::scratch::Buffer;

/// The rows that an expert sees, and what its output for each is multiplied by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::model) struct RoutedRows {
    pub rows: Vec<u32>,
    pub weights: Vec<f32>,
}

/// Routes every row by its logits, `[n, experts]`, to `chosen` experts; one entry for each expert.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn route(
    logits: &Activations,
    chosen: usize,
    renormalise: bool,
) -> Result<Vec<RoutedRows>> {
    let experts = logits.width()?;
    let choices = with_values(logits, |logits| choose_experts(logits, experts, chosen, renormalise))?;
    let mut routed = vec![RoutedRows::default(); experts];
    for (row, choices) in choices.chunks_exact(chosen).enumerate() {
        for choice in choices {
            let expert = &mut routed[choice.expert];
            expert.rows.push(row as u32);
            expert.weights.push(choice.weight);
        }
    }
    Ok(routed)
}

/// `1 / (1 + exp(−x))` of every element, on the host.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn sigmoids(x: &Activations) -> Result<Vec<f32>> {
    with_values(x, |x| x.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect())
}

/// The Euclidean length of every row.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn row_norms(x: &Activations) -> Result<Vec<f64>> {
    let width = x.width()?.max(1);
    let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    with_values(x, |x| x.chunks_exact(width).map(norm).collect())
}

/// A matrix of zeros like another one.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn zeros_like(x: &Activations) -> Result<Activations> {
    match x {
        Activations::Host { data, width } => {
            let mut zeros = Buffer::take(data.len());
            zeros.fill(0.0);
            Ok(Activations::Host { data: zeros, width: *width })
        }
        Activations::Device(x) => Ok(Activations::Device(x.zeros_like()?)),
    }
}

/// Adds every row of `part` to a row of `sum`, in its place: row `i` to number `rows[i]`. No number comes twice.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn add_at_rows(
    sum: Activations,
    part: &Activations,
    rows: &[u32],
) -> Result<Activations> {
    match (sum, part) {
        (Activations::Host { mut data, width }, Activations::Host { data: part, .. }) => {
            for (part, &row) in part.chunks_exact(width).zip(rows) {
                let sum = &mut data[row as usize * width..][..width];
                for (sum, v) in sum.iter_mut().zip(part) {
                    *sum += v;
                }
            }
            Ok(Activations::Host { data, width })
        }
        (Activations::Device(sum), Activations::Device(part)) => {
            let rows = Tensor::from_slice(rows, rows.len(), sum.device())?;
            Ok(Activations::Device(sum.index_add(&rows, part, 0)?))
        }
        _ => Err(mixed()),
    }
}

/// Lends out the elements as `f32` on the host.
fn with_values<R>(x: &Activations, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    match x {
        Activations::Host { data, .. } => Ok(f(data)),
        Activations::Device(x) => Ok(f(&x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::{scale_rows, take_rows};
    use super::*;

    /// The same rows on the host, and as any device has them.
    fn both(x: &Tensor) -> [Activations; 2] {
        [Activations::of(x).unwrap(), Activations::Device(x.clone())]
    }

    #[test]
    fn rows_go_to_their_experts_and_come_back_to_their_places() {
        let logits =
            Tensor::new(&[[0f32, 3.0, 1.0], [2.0, -1.0, 1.9], [0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu).unwrap();
        for (logits, x) in both(&logits).into_iter().zip(both(&x)) {
            let routed = route(&logits, 2, true).unwrap();
            let rows: Vec<&[u32]> = routed.iter().map(|expert| &expert.rows[..]).collect();
            // Of experts that are equally likely the first ones are chosen.
            assert_eq!(rows, [&[1, 2][..], &[0, 2], &[0, 1]]);
            let mut sum = zeros_like(&x).unwrap();
            for expert in &routed {
                let part = take_rows(&x, &expert.rows).unwrap();
                sum = add_at_rows(sum, &scale_rows(part, &expert.weights).unwrap(), &expert.rows).unwrap();
            }
            // Weights of a row add up to one.
            let sum = sum.into_tensor().unwrap().to_vec2::<f32>().unwrap();
            for (got, want) in sum.iter().flatten().zip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) {
                assert!((got - want).abs() < 1e-5, "{sum:?}");
            }
        }
    }

    #[test]
    fn an_expert_that_nobody_chooses_gets_no_rows() {
        let logits = Tensor::new(&[[0f32, 3.0, 1.0]], &Device::Cpu).unwrap();
        let routed = route(&Activations::of(&logits).unwrap(), 1, false).unwrap();
        assert_eq!(routed.iter().map(|expert| expert.rows.len()).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
