//! secateur: prune a large language model and see what that really costs.
//!
//! The library behind the `secateur` binary. [`engine`] runs studies and talks over channels; `headless` shows them
//! as lines, a table or JSON; everything below (`prune`, `eval`, `model`, `data`, `store`) knows neither.

pub mod engine;
pub mod error;
pub mod hub;
pub mod model;
pub mod results;
pub mod study;

pub use error::{Error, Result};
