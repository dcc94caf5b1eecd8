//! Texts: what is tokenised and cut into windows.

use std::borrow::Cow;

use super::field_names::FieldNames;
use super::format::Format;
use super::omissions::Omissions;
use super::records::records;
use super::shapes::RecordShapes;
use super::source::{DataSource, Fetch, Purpose, into_utf8};
use crate::error::{Error, Result};
use crate::study::short_name;

/// What stands between documents that are joined to one text, and between the rows of `wikitext2`.
const SEPARATOR: &str = "\n\n";

/// The words of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextContent {
    /// One text, as it is.
    Whole(String),
    /// Documents that have nothing to do with each other.
    Documents(Vec<String>),
}

impl TextContent {
    /// One text: documents are joined by an empty line.
    pub fn joined(&self) -> Cow<'_, str> {
        match self {
            Self::Whole(text) => Cow::Borrowed(text),
            Self::Documents(documents) => Cow::Owned(documents.join(SEPARATOR)),
        }
    }

    fn is_blank(&self) -> bool {
        match self {
            Self::Whole(text) => text.trim().is_empty(),
            Self::Documents(documents) => documents.iter().all(|text| text.trim().is_empty()),
        }
    }
}

/// A text with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Short name: file name without folders and extensions.
    pub name: String,
    /// The words; never blank.
    pub content: TextContent,
    pub(crate) omissions: Omissions,
    /// Whether records were read by names that the user gave.
    pub names_used: bool,
}

impl Text {
    /// A text that comes from no file.
    pub fn new(name: &str, content: TextContent) -> Self {
        Self { name: name.to_owned(), content, omissions: Omissions::default(), names_used: false }
    }

    /// What a person should know of the file it comes from.
    pub fn warning(&self) -> Option<String> {
        self.omissions.warning().map(|message| format!("text {}: {message}", self.name))
    }
}

/// Loads a text from a file or by name.
///
/// Files: `.txt` is one text, as it is; `.jsonl`, `.ndjson`, `.json` (objects one a line or in an array), `.csv`, `.tsv`
/// and `.parquet` hold documents: a `text` field, or the fields of a task, which become the Alpaca prompt with its
/// answer. Each may be packed (`.gz`, `.zst`). Names: `wikitext2` (test split, rows joined by an empty line), `c4`
/// (first shard of the English training split), `alpaca`. A record whose text is null is left out and counted.
///
/// # Errors
/// A mistake for an unknown name, a missing or unreadable file, a blank text, bytes that are not UTF-8 (with their
/// offset), a record that is not JSON or lacks its fields (with its line); otherwise what `fetch` and the file system
/// say.
pub fn load_text(source: &str, fields: &FieldNames, fetch: &mut dyn Fetch) -> Result<Text> {
    let source = DataSource::resolve(source, Purpose::Text, fetch)?;
    let shapes = RecordShapes::new(Purpose::Text, fields);
    let mut omissions = Omissions::default();
    let content = if source.format == Format::Plain {
        TextContent::Whole(into_utf8(source.read(fetch)?, &source.label)?)
    } else {
        let mut documents = Vec::new();
        for record in records(&source, &shapes, fetch)? {
            fetch.go_on()?;
            documents.extend(omissions.count(shapes.document(&record?)?));
        }
        if source.one_text {
            TextContent::Whole(documents.join(SEPARATOR))
        } else {
            TextContent::Documents(documents)
        }
    };
    if content.is_blank() {
        let why = match omissions.warning() {
            Some(omitted) => format!("; {omitted}"),
            None => String::new(),
        };
        return Err(Error::mistake(format!("`{}` is empty: there is no text in it{why}", source.label)));
    }
    Ok(Text { name: short_name(&source.label), content, omissions, names_used: shapes.names_used() })
}
