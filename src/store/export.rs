//! stub until merge
use std::path::Path;
/// x
pub fn write(_: &crate::model::ModelFolder, _: &Path, _: &crate::results::CellResult, _: &Path) -> crate::Result<()> { Err(crate::Error::failure("export")) }
