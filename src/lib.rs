//! secateur: compress a large language model and see what that really costs.
//!
//! The library behind the `secateur` binary. [`engine`] runs studies and talks over channels; `headless` shows them
//! as lines, a table or JSON, `tui` on a screen; everything below (`methods`, `scores`, `model`, `data`, `store`) knows neither.

// Files of `tests/` that unit tests include know the library by its name.
#[cfg(test)]
extern crate self as secateur;
#[cfg(test)]
#[path = "../tests/common/skip.rs"]
mod skip;

mod alpaca;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod export;
mod find;
pub mod headless;
pub mod hub;
mod human;
mod interrupt;
pub mod kernels;
pub mod methods;
pub mod model;
pub mod number;
pub mod panics;
mod paths;
pub mod report;
pub mod results;
pub mod scores;
pub mod store;
pub mod study;
mod sysinfo;
mod text;
pub mod tui;

pub use error::{Error, Result};
