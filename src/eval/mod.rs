//! Measurements: what pruning cost.
//!
//! [`text`] scores answers (exact match, F1, ROUGE-1); [`stats`] turns single values into means with intervals,
//! perplexities and rank correlations. Nothing here knows models or the engine.

pub mod stats;
pub mod text;
