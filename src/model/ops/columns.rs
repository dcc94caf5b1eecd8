//! Columns of matrices, taken apart and put beside each other.

use candle_core::Tensor;

use super::{Activations, mixed};
use crate::error::Result;
use crate::kernels::scratch::Buffer;

/// Some columns of a matrix: `count` runs of `length`, which begin at `start` and then every `stride` columns.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct ColumnRuns {
    pub start: usize,
    pub length: usize,
    pub stride: usize,
    pub count: usize,
}

/// These columns of `x`, one run behind the other.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn columns(x: &Activations, runs: ColumnRuns) -> Result<Activations> {
    let ColumnRuns { start, length, stride, count } = runs;
    match x {
        Activations::Host { data, width } => {
            let mut out = Buffer::take(data.len() / (*width).max(1) * count * length);
            let rows = out.chunks_exact_mut(count * length).zip(data.chunks_exact(*width));
            for (out, row) in rows {
                for (run, out) in out.chunks_exact_mut(length).enumerate() {
                    out.copy_from_slice(&row[start + run * stride..][..length]);
                }
            }
            Ok(Activations::Host { data: out, width: count * length })
        }
        Activations::Device(x) if count == 1 => {
            Ok(Activations::Device(x.narrow(1, start, length)?.contiguous()?))
        }
        Activations::Device(x) => {
            let rows = x.dims2()?.0;
            let runs = x.reshape((rows, count, stride))?.narrow(2, start, length)?;
            Ok(Activations::Device(runs.contiguous()?.reshape((rows, count * length))?))
        }
    }
}

/// Matrices of equally many rows beside each other.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn beside(mut parts: Vec<Activations>) -> Result<Activations> {
    if parts.len() == 1 {
        return parts.pop().ok_or_else(mixed);
    }
    let width = parts.iter().map(Activations::width).sum::<Result<usize>>()?;
    let on_host = |part: &Activations| matches!(part, Activations::Host { .. });
    if !parts.iter().all(on_host) {
        let parts = parts.into_iter().map(Activations::into_tensor).collect::<Result<Vec<_>>>()?;
        return Ok(Activations::Device(Tensor::cat(&parts, 1)?));
    }
    let rows = parts.first().map_or(Ok(0), Activations::len)?;
    let (mut out, mut at) = (Buffer::take(rows * width), 0);
    for part in parts {
        let Activations::Host { data, width: columns } = part else { continue };
        for (out, row) in out.chunks_exact_mut(width).zip(data.chunks_exact(columns)) {
            out[at..at + columns].copy_from_slice(row);
        }
        at += columns;
    }
    Ok(Activations::Host { data: out, width })
}
