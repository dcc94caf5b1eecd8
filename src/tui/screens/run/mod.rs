//! Run: where the study stands.

mod draw;
#[cfg(test)]
mod tests;
mod update;

pub use draw::{draw, panels};
pub use update::act;
