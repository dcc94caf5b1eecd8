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

/// What `--as` may ask for: the model in a format, or what was collected of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ExportedForm {
    /// The model.
    Model(ExportFormat),
    /// Sums of the squares of its inputs, as llama.cpp reads them.
    ImportanceMatrix,
}

const IMATRIX: &str = "imatrix";

impl ExportedForm {
    /// All names, the default first.
    pub fn names() -> Vec<&'static str> {
        ExportFormat::names().into_iter().chain([IMATRIX]).collect()
    }

    /// A line of help: every form with what it is.
    pub fn help() -> String {
        let imatrix = "a file for llama.cpp's quantiser, of the base and a calibration set";
        format!("{}; {IMATRIX}: {imatrix}", ExportFormat::help())
    }
}

impl Default for ExportedForm {
    fn default() -> Self {
        Self::Model(ExportFormat::default())
    }
}

impl fmt::Display for ExportedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(format) => format.fmt(f),
            Self::ImportanceMatrix => f.pad(IMATRIX),
        }
    }
}

impl FromStr for ExportedForm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == IMATRIX { Ok(Self::ImportanceMatrix) } else { text.parse().map(Self::Model) }
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
