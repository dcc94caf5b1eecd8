//! Records of files, one after the other, each with its place in the file.

mod columns;
mod json;
mod record;
mod table;

pub(super) use record::Record;
use record::Records;

use super::format::Format;
use super::shapes::RecordShapes;
use super::source::{DataSource, Fetch};
use crate::error::Result;

/// Opens a source that holds records. Of tables only the columns are read that `shapes` ask for. What has to be unpacked
/// or read whole before the first record asks `fetch` whether to go on.
pub(super) fn records(source: &DataSource, shapes: &RecordShapes, fetch: &mut dyn Fetch) -> Result<Records> {
    match source.format {
        Format::Parquet => columns::records(source, shapes, fetch),
        Format::Table { delimiter } => table::records(source, shapes, delimiter),
        Format::Json | Format::Plain => json::records(source, fetch),
    }
}
