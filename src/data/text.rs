//! Texts: what is tokenised and cut into windows.

use std::borrow::Cow;

use super::records::records;
use super::source::{Fetch, Format, Purpose, Source, into_utf8};
use super::task::document;
use crate::error::{Error, Result};
use crate::study::short_name;

/// What stands between documents that are joined to one text, and between the rows of `wikitext2`.
const SEPARATOR: &str = "\n\n";

/// The words of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One text, as it is.
    Whole(String),
    /// Documents that have nothing to do with each other.
    Documents(Vec<String>),
}

impl Content {
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
    pub content: Content,
}

/// Loads a text from a file or by name.
///
/// Files: `.txt` is one text, as it is; `.jsonl`, `.json` (objects one a line or in an array) and `.parquet` hold
/// documents: a `text` field, or the fields of a task, which become the Alpaca prompt with its answer. Each may be
/// gzipped (`.gz`). Names: `wikitext2` (test split, rows joined by an empty line), `c4` (first shard of the English
/// training split), `alpaca`.
///
/// # Errors
/// A mistake for an unknown name, a missing or unreadable file, a blank text, bytes that are not UTF-8 (with their
/// offset), a record that is not JSON or lacks its fields (with its line); otherwise what `fetch` and the file system
/// say.
pub fn load_text(source: &str, fetch: &mut dyn Fetch) -> Result<Text> {
    let source = Source::resolve(source, Purpose::Text, fetch)?;
    let content = if source.format == Format::Plain {
        Content::Whole(into_utf8(source.read()?, &source.label)?)
    } else {
        let documents = records(&source)?.map(|record| document(record?)).collect::<Result<Vec<_>>>()?;
        if source.one_text {
            Content::Whole(documents.join(SEPARATOR))
        } else {
            Content::Documents(documents)
        }
    };
    if content.is_blank() {
        return Err(Error::mistake(format!("`{}` is empty: there is no text in it", source.label)));
    }
    Ok(Text { name: short_name(&source.label), content })
}
