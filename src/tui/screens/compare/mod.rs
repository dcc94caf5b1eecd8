//! Compare: perplexity, JS divergence and task scores side by side, and the table of all cells.

mod data;
mod draw;
mod figures;
mod insight;
mod readout;
mod table;
#[cfg(test)]
mod tests;
mod update;

pub use data::cursor;
pub use draw::{draw, panels};
pub use update::{act, typing};
