//! Attention where it is not composed of operations on tensors.
#![cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps, reason = "what a GPU does can fail"))]

use candle_core::Tensor;

use crate::error::Result;
use crate::kernels::attention::{AttentionShape, Segment};

/// Queries of a sequence from which on it is worth products of its own.
#[cfg(feature = "cuda")]
const WORTHWHILE: usize = 16;

/// As [`crate::kernels::attention::causal`], of segments with equally many queries; `None` where operations on tensors
/// have to do: on a device that is no GPU, and for few queries, which are better answered for all sequences together.
///
/// # Errors
/// An operation of the device that fails.
pub(crate) fn causal(
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    segments: &[Segment],
    shape: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() && segments.first().is_some_and(|segment| segment.queries >= WORTHWHILE) {
        return Ok(Some(super::cuda_passes::attend(q, (k, v), segments, shape, sinks)?));
    }
    let _ = (q, k, v, segments, shape, sinks);
    Ok(None)
}
