//! Compare: perplexity, JS divergence and task scores side by side, and the table of all cells.

mod axis;
mod charted;
mod data;
mod draw;
mod figures;
mod readout;
mod table;
#[cfg(test)]
mod tests;
mod update;
mod verdict;

pub(crate) use data::{cursor, optional_columns};
pub(crate) use draw::{draw, panels};
pub(crate) use update::{act, typing};
