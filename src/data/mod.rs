//! Data: texts and tasks, from files or by name, and the token windows cut from them.
//!
//! A text is what perplexity and divergence are measured on and what calibration windows are drawn from
//! ([`load_text`], [`evaluation_windows`], [`calibration_windows`]); a task is a list of instructions with accepted
//! answers ([`load_task`]). Names such as `wikitext2` stand for files of datasets on the hub; how such a file gets
//! here is the caller's business ([`Fetch`]).

mod records;
mod source;
mod task;
mod text;
mod windows;

pub use source::{Fetch, NoFetch};
pub use task::{Task, TaskRecord, load_task};
pub use text::{Content, Text, load_text};
pub use windows::{calibration_windows, evaluation_windows};

#[cfg(test)]
mod tests;
