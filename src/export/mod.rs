//! Exports: finished cells and the base as files that other programs load.
//!
//! An importance matrix ([`InputSums`]) is no model but what was collected of one: it has a way of its own.
//!
//! A format is an [`Exporter`]: one file (or folder) here and a line in [`EXPORTERS`]. [`export`] takes a model through
//! one: it is written beside its place, opened again, compared with what is in memory, and only then gets its name.

mod compressed_tensors;
mod edited;
mod exporter;
mod files;
mod gguf;
mod hf;
mod model;
mod part;
mod registry;
mod report;
mod source;
mod structure;
#[cfg(test)]
mod test_cells;
mod verify;
mod write;

pub use exporter::{ExportOptions, Exporter};
pub(crate) use gguf::{BlockSums, InputSums, refuses_sums, write_sums};
pub use model::{ExportModel, cell_model};
pub(crate) use part::remove_unfinished;
pub use registry::{EXPORTERS, ExportFormat, ExportedForm};
pub use structure::stored_model;
pub(crate) use structure::{narrow_config, unit_counts};
pub use verify::Passage;
pub(crate) use verify::passages;
pub(crate) use write::check_target;
pub use write::{Verification, export};
