//! Every format there is. A new one is a file and a line here.

use std::fmt;
use std::str::FromStr;

use super::compressed_tensors::CompressedTensors;
use super::exporter::Exporter;
use super::gguf::Gguf;
use super::hf::HuggingFace;
use crate::error::Error;

/// Every format, the one that is meant where none is named first.
pub const EXPORTERS: &[&dyn Exporter] = &[&HuggingFace, &Gguf, &CompressedTensors];

/// A format by its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExportFormat(pub &'static dyn Exporter);

impl ExportFormat {
    /// All names, the default first.
    pub fn names() -> Vec<&'static str> {
        EXPORTERS.iter().map(|format| format.name()).collect()
    }

    /// A line of help: every format with what it is.
    pub fn help() -> String {
        let lines = EXPORTERS.iter().map(|format| format!("{}: {}", format.name(), format.about()));
        lines.collect::<Vec<_>>().join("; ")
    }
}

impl Default for ExportFormat {
    fn default() -> Self {
        Self(EXPORTERS[0])
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name())
    }
}

impl FromStr for ExportFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = EXPORTERS.iter().find(|format| format.name() == text);
        found.map(|format| Self(*format)).ok_or_else(|| {
            Error::mistake(format!(
                "unknown export format `{text}`: accepted are {}",
                Self::names().join(", ")
            ))
        })
    }
}
