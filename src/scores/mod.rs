//! The measurements: divergences, text scores and their intervals.

pub mod positions;
pub mod squad;
pub mod stats;
pub(crate) mod verdict;
