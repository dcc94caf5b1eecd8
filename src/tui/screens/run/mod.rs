//! Run: where the study stands.

mod draw;
#[cfg(test)]
mod tests;
mod update;
mod workers;

pub(crate) use draw::{draw, panels};
pub(crate) use update::act;
