//! Operations on rows of activations and logits that a GPU does in one kernel where candle would take several. Each is
//! `None` where operations on tensors have to do: on other devices, and for rows that do not fit the kernel.
#![cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps, reason = "what a GPU does can fail"))]

use candle_core::Tensor;

use crate::error::Result;

/// Elements that a thread takes together.
#[cfg(feature = "cuda")]
const TOGETHER: usize = 4;

/// What a position shows of two distributions over the next token, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Compared {
    /// What the target costs the cell.
    pub nll: f32,
    /// What it costs the base.
    pub base_nll: f32,
    /// Jensen-Shannon divergence.
    pub js: f32,
    /// Kullback-Leibler divergence of the cell from the base.
    pub kl: f32,
    /// Whether both find the same token the likeliest.
    pub agrees: bool,
}

/// Whether all lie on a GPU in one precision of floats.
#[cfg(feature = "cuda")]
fn are_on_gpu(all: &[&Tensor]) -> bool {
    use candle_core::DType::{BF16, F16, F32};
    all.iter()
        .all(|x| x.device().is_cuda() && x.dtype() == all[0].dtype() && matches!(x.dtype(), F32 | F16 | BF16))
}

/// `a + b` of one shape.
///
/// # Errors
/// An operation of the device that fails.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if are_on_gpu(&[a, b]) && a.shape() == b.shape() && a.elem_count().is_multiple_of(TOGETHER) {
        return Ok(Some(super::cuda_rows::of_pairs("add", a, b)?));
    }
    let _ = (a, b);
    Ok(None)
}

/// `silu(gate) · up` of one shape.
///
/// # Errors
/// An operation of the device that fails.
pub(crate) fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if are_on_gpu(&[gate, up]) && gate.shape() == up.shape() && gate.elem_count().is_multiple_of(TOGETHER) {
        return Ok(Some(super::cuda_rows::of_pairs("silu_mul", gate, up)?));
    }
    let _ = (gate, up);
    Ok(None)
}

/// Some rows of a matrix, in this order.
///
/// # Errors
/// An operation of the device that fails; a row that is not there.
pub(crate) fn take_rows(table: &Tensor, rows: &[u32]) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if are_on_gpu(&[table]) && table.dims2()?.1.is_multiple_of(TOGETHER) {
        return Ok(Some(super::cuda_rows::take_rows(table, rows)?));
    }
    let _ = (table, rows);
    Ok(None)
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension.
///
/// # Errors
/// An operation of the device that fails.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if are_on_gpu(&[x, weight])
        && x.dims().last().is_some_and(|width| width.is_multiple_of(TOGETHER) && weight.dims() == [*width])
    {
        return Ok(Some(super::cuda_rows::rms_norm(x, weight, eps as f32)?));
    }
    let _ = (x, weight, eps);
    Ok(None)
}

/// `x`, `[n, heads · dim]`, of which the first `turned` features of every head are rotated by the position of their row,
/// feature `i` with feature `i + turned / 2`. Cosines and sines are `[positions, turned / 2]`.
///
/// # Errors
/// An operation of the device that fails.
pub(crate) fn rotate(
    x: &Tensor,
    positions: &[u32],
    (cos, sin): (&Tensor, &Tensor),
    (heads, turned): (usize, usize),
) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if are_on_gpu(&[x, cos, sin]) {
        return Ok(Some(super::cuda_rows::rotate(x, positions, (cos, sin), (heads, turned))?));
    }
    let _ = (x, positions, cos, sin, heads, turned);
    Ok(None)
}

/// Rows of a cell's logits beside those of the base, where there are some; `targets` are the next tokens.
///
/// # Errors
/// An operation of the device that fails; a target that is no token.
pub(crate) fn compare(
    cell: &Tensor,
    base: Option<&Tensor>,
    targets: &[u32],
) -> Result<Option<Vec<Compared>>> {
    #[cfg(feature = "cuda")]
    if are_on_gpu(&[cell, base.unwrap_or(cell)]) && base.is_none_or(|base| base.shape() == cell.shape()) {
        let numbers = super::cuda_rows::compare(cell, base, targets)?;
        let compared = numbers.as_chunks().0.iter().map(|&[nll, base_nll, js, kl, agrees]| Compared {
            nll,
            base_nll,
            js,
            kl,
            agrees: agrees > 0.5,
        });
        return Ok(Some(compared.collect()));
    }
    let _ = (cell, base, targets);
    Ok(None)
}
