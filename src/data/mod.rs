//! Data: texts and tasks, from files or by name, and the token windows cut from them.
//!
//! A text is what perplexity and divergence are measured on and what calibration windows are drawn from
//! ([`load_text`], [`evaluation_windows`], [`draw_set`]); a task is a list of instructions with accepted
//! answers ([`load_task`]). Names such as `wikitext2` stand for files of datasets on the hub; how such a file gets
//! here is the caller's business ([`Fetch`]).
//!
//! A file goes through three tables, each in one place: `format` says what its extension means, `records` reads its
//! records one by one, `shapes` says which of their fields make a text or a task.

mod answers;
mod calibration;
mod calibration_set;
mod chat;
mod choice_formats;
mod choice_record;
mod contamination;
mod few_shot;
mod field_names;
mod format;
mod omissions;
mod records;
mod shapes;
mod source;
mod task;
mod task_record;
mod text;
mod value;
mod windows;

pub(crate) use calibration::Coverage;
#[cfg(test)]
pub(crate) use calibration::calibration_windows;
pub(crate) use calibration_set::{WindowDraw, describe_place, draw_set};
pub(crate) use choice_record::ChoiceRecord;
pub(crate) use contamination::TokenRuns;
pub(crate) use few_shot::put_examples;
pub(crate) use field_names::FIELDS;
pub use field_names::FieldNames;
pub(crate) use source::Fetch;
pub use source::NoFetch;
pub use task::load_task;
pub(crate) use task::{Task, TaskRecords};
pub(crate) use task_record::TaskRecord;
pub use text::{Text, TextContent, load_text};
pub(crate) use windows::Encoder;
pub use windows::evaluation_windows;

#[cfg(test)]
mod tests;
