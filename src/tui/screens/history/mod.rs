//! History: the studies of the store.

mod draw;
mod standing;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use draw::{draw, panels};
pub(crate) use update::{act, ask_for_export};
