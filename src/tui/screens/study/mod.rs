//! Study: the model, the data and the grid of cells, with what they would need.

mod draw;
mod grid;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use draw::{draw, panels};
pub(crate) use update::{act, typing};
