//! Sizes that the CUDA kernels and what stands in for them elsewhere have in common.

/// Rows of the blocks on the diagonal that are factorised element by element.
pub(super) const LEAF: usize = 64;

/// Neighbours that a GPU's thread compares.
pub(crate) const MOST_NEIGHBOURS: usize = 32;
