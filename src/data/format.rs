//! How files are laid out and packed: one table, from which extensions are told and messages written.

use std::path::Path;

/// How a file is laid out, once it is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One text, as it is.
    Plain,
    /// JSON: one object a line, or one array of objects.
    Json,
    /// Values between commas or tabs, with a line of names before them.
    Table { delimiter: u8 },
    /// Columns, as Apache Parquet stores them.
    Parquet,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstandard,
}

impl Packing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstandard => "zstd",
        }
    }
}

/// Extension and layout. Messages name them in this order.
const FORMATS: [(&str, Format); 7] = [
    (".txt", Format::Plain),
    (".jsonl", Format::Json),
    (".ndjson", Format::Json),
    (".json", Format::Json),
    (".csv", Format::Table { delimiter: b',' }),
    (".tsv", Format::Table { delimiter: b'\t' }),
    (".parquet", Format::Parquet),
];

/// What may stand behind an extension of [`FORMATS`].
const PACKINGS: [(&str, Packing); 2] = [(".gz", Packing::Gzip), (".zst", Packing::Zstandard)];

/// Layout and packing by a file's name; `None` for a name that says neither.
pub(super) fn of_file(file: &str) -> Option<(Format, Option<Packing>)> {
    // Only the last component counts: folders may be called anything.
    let name = Path::new(file).file_name()?.to_str()?.to_lowercase();
    let packed = PACKINGS.iter().find(|(extension, _)| name.ends_with(extension));
    let stem = packed.map_or(name.as_str(), |(extension, _)| &name[..name.len() - extension.len()]);
    let (_, format) = FORMATS.iter().find(|(extension, _)| stem.ends_with(extension))?;
    Some((*format, packed.map(|(_, packing)| *packing)))
}

/// The accepted extensions for a message; `.txt` only where `plain`.
pub(super) fn extensions(plain: bool) -> String {
    let formats = FORMATS.iter().filter(|(_, format)| plain || *format != Format::Plain);
    let (last, others) = match formats.map(|(extension, _)| *extension).collect::<Vec<_>>() {
        all if all.is_empty() => return String::new(),
        mut all => (all.pop().unwrap_or_default(), all.join(", ")),
    };
    let packings: Vec<&str> = PACKINGS.iter().map(|(extension, _)| *extension).collect();
    format!("{others} or {last} (each also with {} after it)", packings.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::short_name;

    #[test]
    fn every_format_is_known_by_its_extension_packed_or_not() {
        for (extension, format) in FORMATS {
            assert_eq!(of_file(&format!("a.b/data{extension}")), Some((format, None)));
            for (packed, packing) in PACKINGS {
                let name = format!("data{extension}{packed}").to_uppercase();
                assert_eq!(of_file(&name), Some((format, Some(packing))), "{name}");
            }
        }
        for unknown in ["data", "data.gz", "data.zst", "data.docx", "data.json.bz2", "data.csv/"] {
            let known = of_file(unknown);
            assert!(known.is_none() || unknown.ends_with('/'), "{unknown}: {known:?}");
        }
    }

    #[test]
    fn messages_name_every_extension() {
        assert_eq!(
            extensions(true),
            ".txt, .jsonl, .ndjson, .json, .csv, .tsv or .parquet (each also with .gz or .zst after it)"
        );
        assert!(!extensions(false).contains(".txt"));
    }

    #[test]
    fn short_names_lose_every_extension() {
        for (extension, _) in FORMATS {
            assert_eq!(short_name(&format!("a/data{extension}")), "data");
            for (packed, _) in PACKINGS {
                assert_eq!(short_name(&format!("a/data{extension}{packed}")), "data");
            }
        }
    }
}
