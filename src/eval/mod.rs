//! The measurements: divergences, text scores and their intervals.

pub mod divergence;
pub mod stats;
pub mod text;
pub(crate) mod verdict;
