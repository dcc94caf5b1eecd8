//! Files with what an earlier run found out, as JSON: there as a whole, or as good as not there.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::atomic::write_atomically;
use crate::error::{Error, Result};

/// What a file holds; `None` where it is missing or damaged.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("cannot read", path, e)),
    }
}

/// Writes a file, in place of what was there.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let json = serde_json::to_vec(value)
        .map_err(|e| Error::failure(format!("cannot make {}: {e}", path.display())))?;
    write_atomically(path, |file| file.write_all(&json))
}
