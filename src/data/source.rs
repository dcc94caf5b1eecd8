//! From what the user wrote to an open file: names, paths, packing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::format::{self, Format, Packing};
use crate::error::{Error, Result};

/// Gets files of datasets; what stands between this module and a hub client.
pub trait Fetch {
    /// Local path of `file` of the dataset repository `repo`, downloading it where needed.
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf>;

    /// Asked again and again while a file is read: `Ok` is to go on, an error ends the reading.
    fn go_on(&mut self) -> Result<()> {
        Ok(())
    }
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
    /// A task that asks for the last word of every text.
    LastWord,
}

impl Purpose {
    pub fn noun(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Task | Self::LastWord => "task",
        }
    }

    /// What a path may end in.
    fn extensions(self) -> String {
        format::extensions(self == Self::Text)
    }
}

/// A name that stands for a file of a dataset on the hub.
struct Known {
    name: &'static str,
    content: KnownContent,
    repo: &'static str,
    file: &'static str,
    /// The file of the same repository that examples are taken from, where another part is published for that.
    examples: Option<&'static str>,
}

impl Known {
    const fn with_examples(self, file: &'static str) -> Self {
        Self { examples: Some(file), ..self }
    }
}

/// What the rows of a known file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownContent {
    Documents,
    /// The lines of one text.
    Lines,
    /// Questions that also make documents.
    Instructions,
    /// Questions that are no text.
    Questions,
    /// Texts whose last words are asked for.
    LastWords,
}

impl KnownContent {
    fn is_text(self) -> bool {
        matches!(self, Self::Documents | Self::Lines | Self::Instructions)
    }

    fn is_task(self) -> bool {
        matches!(self, Self::Instructions | Self::Questions | Self::LastWords)
    }
}

const fn known(name: &'static str, content: KnownContent, repo: &'static str, file: &'static str) -> Known {
    Known { name, content, repo, file, examples: None }
}

// The names of texts are in study/names.rs too, which tells components of a calibration set by them; a test compares.
#[rustfmt::skip]
const KNOWN: [Known; 13] = {
    use KnownContent::{Documents, Instructions, LastWords, Lines, Questions};
    [
        known("wikitext2", Lines, "Salesforce/wikitext", "wikitext-2-raw-v1/test-00000-of-00001.parquet"),
        known("c4", Documents, "allenai/c4", "en/c4-train.00000-of-01024.json.gz"),
        known("alpaca", Instructions, "tatsu-lab/alpaca", "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"),
        known("arc_easy", Questions, "allenai/ai2_arc", "ARC-Easy/test-00000-of-00001.parquet")
            .with_examples("ARC-Easy/train-00000-of-00001.parquet"),
        known("arc_challenge", Questions, "allenai/ai2_arc", "ARC-Challenge/test-00000-of-00001.parquet")
            .with_examples("ARC-Challenge/train-00000-of-00001.parquet"),
        known("hellaswag", Questions, "Rowan/hellaswag", "data/validation-00000-of-00001.parquet")
            .with_examples("data/train-00000-of-00001.parquet"),
        known("piqa", Questions, "baber/piqa", "data/validation-00000-of-00001.parquet")
            .with_examples("data/train-00000-of-00001.parquet"),
        known("winogrande", Questions, "allenai/winogrande", "winogrande_xl/validation-00000-of-00001.parquet")
            .with_examples("winogrande_xl/train-00000-of-00001.parquet"),
        known("boolq", Questions, "aps/super_glue", "boolq/validation-00000-of-00001.parquet")
            .with_examples("boolq/train-00000-of-00001.parquet"),
        known("openbookqa", Questions, "allenai/openbookqa", "main/test-00000-of-00001.parquet")
            .with_examples("main/train-00000-of-00001.parquet"),
        known("copa", Questions, "aps/super_glue", "copa/validation-00000-of-00001.parquet")
            .with_examples("copa/train-00000-of-00001.parquet"),
        known("mmlu", Questions, "cais/mmlu", "all/test-00000-of-00001.parquet")
            .with_examples("all/dev-00000-of-00001.parquet"),
        known("lambada", LastWords, "EleutherAI/lambada_openai", "data/lambada_test.jsonl"),
    ]
};

/// A file that exists and whose layout is known.
#[derive(Debug, Clone)]
pub(super) struct DataSource {
    /// What the user wrote; messages name it.
    pub label: Arc<str>,
    pub format: Format,
    /// The rows are the lines of one text, not documents.
    pub one_text: bool,
    /// The rows are texts whose last words are asked for.
    pub last_words: bool,
    path: PathBuf,
    packing: Option<Packing>,
}

impl DataSource {
    /// Finds the file behind a path or a name. A file that exists wins over a name.
    pub fn resolve(source: &str, purpose: Purpose, fetch: &mut dyn Fetch) -> Result<Self> {
        Self::find(source, purpose, |known| (known.name.into(), known.file), fetch)
    }

    /// The same for the examples of a task: a name stands for the part of the set that is published for them, or for the
    /// questions themselves where there is none. Messages call it by its place on the hub.
    pub fn resolve_examples(source: &str, fetch: &mut dyn Fetch) -> Result<Self> {
        let part = |known: &Known| {
            let file = known.examples.unwrap_or(known.file);
            (format!("{}/{file}", known.repo), file)
        };
        Self::find(source, Purpose::Task, part, fetch)
    }

    /// `part` is a known set's label and file.
    fn find(
        source: &str,
        purpose: Purpose,
        part: impl Fn(&Known) -> (String, &'static str),
        fetch: &mut dyn Fetch,
    ) -> Result<Self> {
        let path = Path::new(source);
        let is_name = !source.contains(['/', '\\']) && path.extension().is_none();
        if is_name && !path.is_file() {
            let known = find_known(source, purpose)?;
            let (label, file) = part(known);
            let (format, packing) = format_of(file, purpose)?;
            let path = fetch.fetch(known.repo, file)?;
            let one_text = known.content == KnownContent::Lines;
            let last_words = known.content == KnownContent::LastWords;
            return Ok(Self { label: label.into(), format, one_text, last_words, path, packing });
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
        let (format, packing) = format_of(source, purpose)?;
        let path = path.to_path_buf();
        Ok(Self { label: source.into(), format, one_text: false, last_words: false, path, packing })
    }

    /// Opens the file, unpacked where it is packed.
    pub fn open(&self) -> Result<Box<dyn BufRead>> {
        /// What `zstd --long=31` makes: the most that a frame can ask for.
        const LARGEST_WINDOW: u32 = 31;
        const BUFFER: usize = 1 << 17;
        let file = BufReader::with_capacity(BUFFER, self.open_raw()?);
        Ok(match self.packing {
            None => Box::new(file),
            Some(Packing::Gzip) => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
            Some(Packing::Zstandard) => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(file).map_err(|e| self.read_error(e))?;
                decoder.window_log_max(LARGEST_WINDOW).map_err(|e| self.read_error(e))?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
        })
    }

    /// Opens the file, unpacked into a temporary one where it is packed, for random access.
    pub fn open_seekable(&self, fetch: &mut dyn Fetch) -> Result<File> {
        if self.packing.is_none() {
            return self.open_raw();
        }
        let failed = |e| Error::io("cannot write to", &std::env::temp_dir(), e);
        let mut unpacked = tempfile::tempfile().map_err(failed)?;
        self.in_pieces(fetch, |piece| unpacked.write_all(piece).map_err(failed))?;
        Ok(unpacked)
    }

    /// The whole file, unpacked.
    pub fn read(&self, fetch: &mut dyn Fetch) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.in_pieces(fetch, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Reads the whole file, unpacked, and asks whether to go on before every piece.
    fn in_pieces(&self, fetch: &mut dyn Fetch, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut file = self.open()?;
        loop {
            fetch.go_on()?;
            let piece = match file.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.read_error(error)),
            };
            take(piece)?;
            let length = piece.len();
            file.consume(length);
        }
    }

    /// What a failed read means: in a packed file mostly that the file is damaged.
    pub fn read_error(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        match self.packing {
            Some(packing) if matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof) => {
                let packing = packing.name();
                Error::mistake(format!("`{}` is not a whole {packing} file: {error}", self.label))
            }
            _ => Error::io("cannot read", &self.path, error),
        }
    }

    fn open_raw(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| Error::io("cannot open", &self.path, e))
    }
}

fn find_known(name: &str, purpose: Purpose) -> Result<&'static Known> {
    let fits = |known: &&Known| match purpose {
        Purpose::Text => known.content.is_text(),
        Purpose::Task | Purpose::LastWord => known.content.is_task(),
    };
    if let Some(known) = KNOWN.iter().filter(fits).find(|known| known.name == name) {
        return Ok(known);
    }
    let accepted: Vec<&str> = KNOWN.iter().filter(fits).map(|known| known.name).collect();
    let noun = purpose.noun();
    let found = if KNOWN.iter().any(|known| known.name == name) {
        let is_no = if purpose == Purpose::Text { "a task, not a text" } else { "a text, not a task" };
        format!("`{name}` is {is_no}")
    } else {
        format!("`{name}` is neither a file nor a known {noun}")
    };
    Err(Error::mistake(format!(
        "{found}: known by name: {}; the path of a file that ends in {} works too",
        accepted.join(", "),
        purpose.extensions()
    )))
}

/// Layout by extension, and how the file is packed.
fn format_of(file: &str, purpose: Purpose) -> Result<(Format, Option<Packing>)> {
    match format::of_file(file) {
        Some((format, packing)) if purpose == Purpose::Text || format != Format::Plain => {
            Ok((format, packing))
        }
        _ => Err(Error::mistake(format!(
            "`{file}`: unknown kind of file: a {} ends in {}",
            purpose.noun(),
            purpose.extensions()
        ))),
    }
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
