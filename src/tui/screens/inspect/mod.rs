//! Inspect: answers side by side, and what pruning did to every module of a cell.

mod answers;
mod draw;
mod layout;
mod list;
mod modules;
mod places;
mod prompt_row;
#[cfg(test)]
mod record_tests;
mod records;
mod rows;
#[cfg(test)]
pub(in crate::tui) mod sample;
mod shading;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use answers::{refreshed, wanted};
pub(crate) use draw::{draw, panels};
pub(crate) use update::act;
