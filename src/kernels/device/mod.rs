//! The selections and the solver of the methods on tensors, for a device that holds the weights already.
//!
//! Every function is composed of candle's operations, so it runs on any device, and tests on a CPU compare it with the
//! loops over slices. Where a GPU would wait between many small operations, a CUDA kernel of our own takes their place
//! ([`cuda`]); it gives the same result.

pub(crate) mod attention;
pub(crate) mod columns;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cuda_passes;
#[cfg(feature = "cuda")]
mod cuda_rows;
#[cfg(feature = "cuda")]
mod cuda_start;
pub(crate) mod factor;
pub(crate) mod fit;
pub(crate) mod grid;
pub(crate) mod limits;
pub(crate) mod pack;
pub(crate) mod projection;
pub(crate) mod rows;
pub(crate) mod select;
pub(crate) mod start;
mod sums;

pub(crate) use sums::{
    add_gram, add_squares, count_zeros, magnitude_sums, product_sum, squared_norm, weighted_squares,
};
