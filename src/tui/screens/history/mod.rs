//! History: the studies of the store.

mod draw;
mod standing;
#[cfg(test)]
mod tests;
mod update;

pub use draw::{draw, panels};
pub use update::act;
