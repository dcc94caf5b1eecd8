//! From what the user wrote to an open file: names, paths, formats, gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// Gets files of datasets; what stands between this module and a hub client.
pub trait Fetch {
    /// Local path of `file` of the dataset repository `repo`, downloading it where needed.
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf>;
}

/// Refuses every download: only local files can be used.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFetch;

impl Fetch for NoFetch {
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf> {
        Err(Error::mistake(format!(
            "{file} of the dataset {repo} would have to be downloaded, which is not possible here: \
             give the path of a local file instead"
        )))
    }
}

/// What a source is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Text,
    Task,
}

impl Purpose {
    fn noun(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Task => "task",
        }
    }

    /// What a path may end in.
    fn extensions(self) -> &'static str {
        match self {
            Self::Text => ".txt, .jsonl, .json or .parquet (each also with .gz behind it)",
            Self::Task => ".jsonl, .json or .parquet (each also with .gz behind it)",
        }
    }
}

/// How a file is laid out, gzip apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Json,
    Parquet,
}

/// A name that stands for a file of a dataset on the hub.
struct Known {
    name: &'static str,
    repo: &'static str,
    file: &'static str,
    /// The rows are the lines of one text, not documents.
    one_text: bool,
    is_task: bool,
}

const KNOWN: [Known; 3] = [
    Known {
        name: "wikitext2",
        repo: "Salesforce/wikitext",
        file: "wikitext-2-raw-v1/test-00000-of-00001.parquet",
        one_text: true,
        is_task: false,
    },
    Known {
        name: "c4",
        repo: "allenai/c4",
        file: "en/c4-train.00000-of-01024.json.gz",
        one_text: false,
        is_task: false,
    },
    Known {
        name: "alpaca",
        repo: "tatsu-lab/alpaca",
        file: "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
        one_text: false,
        is_task: true,
    },
];

/// A file that exists and whose layout is known.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// What the user wrote; messages name it.
    pub label: Arc<str>,
    pub format: Format,
    /// The rows are the lines of one text, not documents.
    pub one_text: bool,
    path: PathBuf,
    gzip: bool,
}

impl Source {
    /// Finds the file behind a path or a name. A file that exists wins over a name.
    pub fn resolve(source: &str, purpose: Purpose, fetch: &mut dyn Fetch) -> Result<Self> {
        let label: Arc<str> = source.into();
        let path = Path::new(source);
        let is_name = !source.contains(['/', '\\']) && path.extension().is_none();
        if is_name && !path.is_file() {
            let known = find_known(source, purpose)?;
            let (format, gzip) = format_of(known.file, purpose)?;
            let path = fetch.fetch(known.repo, known.file)?;
            return Ok(Self { label, format, one_text: known.one_text, path, gzip });
        }
        if path.is_dir() {
            return Err(Error::mistake(format!(
                "`{source}` is a folder: a {} is a file that ends in {}",
                purpose.noun(),
                purpose.extensions()
            )));
        }
        if !path.exists() {
            return Err(Error::mistake(format!("`{source}`: no such file")));
        }
        let (format, gzip) = format_of(source, purpose)?;
        Ok(Self { label, format, one_text: false, path: path.to_path_buf(), gzip })
    }

    /// Opens the file, unpacked if it is gzipped.
    pub fn open(&self) -> Result<Box<dyn BufRead>> {
        let file = BufReader::with_capacity(1 << 16, self.open_raw()?);
        Ok(if self.gzip { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
    }

    /// Opens the file, unpacked into a temporary one if it is gzipped, for random access.
    pub fn open_seekable(&self) -> Result<File> {
        if !self.gzip {
            return self.open_raw();
        }
        let mut unpacked =
            tempfile::tempfile().map_err(|e| Error::io("cannot write to", &std::env::temp_dir(), e))?;
        io::copy(&mut self.open()?, &mut unpacked).map_err(|e| self.read_error(e))?;
        Ok(unpacked)
    }

    /// The whole file, unpacked.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes).map_err(|e| self.read_error(e))?;
        Ok(bytes)
    }

    /// What a failed read means: in a gzipped file mostly that the file is damaged.
    pub fn read_error(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        if self.gzip && matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) {
            return Error::mistake(format!("`{}` is not a whole gzip file: {error}", self.label));
        }
        Error::io("cannot read", &self.path, error)
    }

    fn open_raw(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| Error::io("cannot open", &self.path, e))
    }
}

fn find_known(name: &str, purpose: Purpose) -> Result<&'static Known> {
    let fits = |known: &&Known| purpose == Purpose::Text || known.is_task;
    if let Some(known) = KNOWN.iter().filter(fits).find(|known| known.name == name) {
        return Ok(known);
    }
    let accepted: Vec<&str> = KNOWN.iter().filter(fits).map(|known| known.name).collect();
    let noun = purpose.noun();
    let found = if KNOWN.iter().any(|known| known.name == name) {
        format!("`{name}` is a text, not a task")
    } else {
        format!("`{name}` is neither a file nor a known {noun}")
    };
    Err(Error::mistake(format!(
        "{found}: known by name: {}; the path of a file that ends in {} works too",
        accepted.join(", "),
        purpose.extensions()
    )))
}

/// Layout by extension, and whether the file is gzipped.
fn format_of(file: &str, purpose: Purpose) -> Result<(Format, bool)> {
    let lower = file.to_lowercase();
    let (stem, gzip) = match lower.strip_suffix(".gz") {
        Some(stem) => (stem, true),
        None => (lower.as_str(), false),
    };
    let format = match Path::new(stem).extension().and_then(|e| e.to_str()) {
        Some("txt") if purpose == Purpose::Text => Format::Plain,
        Some("json" | "jsonl") => Format::Json,
        Some("parquet") => Format::Parquet,
        _ => {
            return Err(Error::mistake(format!(
                "`{file}`: unknown kind of file: a {} ends in {}",
                purpose.noun(),
                purpose.extensions()
            )));
        }
    };
    Ok((format, gzip))
}

/// Bytes as text, or the mistake that names the byte where they stop being UTF-8; `start` is the offset of the first
/// byte in the (unpacked) file.
pub(super) fn utf8<'a>(bytes: &'a [u8], label: &str, start: u64) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|e| not_utf8(label, start, e))
}

/// The same for a buffer that becomes the text.
pub(super) fn into_utf8(bytes: Vec<u8>, label: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| not_utf8(label, 0, e.utf8_error()))
}

fn not_utf8(label: &str, start: u64, error: std::str::Utf8Error) -> Error {
    let offset = start + error.valid_up_to() as u64;
    Error::mistake(format!("`{label}` is not UTF-8 text: invalid byte at offset {offset}"))
}
