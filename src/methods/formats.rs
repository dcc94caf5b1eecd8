//! Formats of llama.cpp as levels of a recipe: their names, and which type they give to which matrix.

use std::str::FromStr;

use super::parameters::ParameterKind;
use crate::error::{Error, Result};
use crate::kernels::ggml::{GgmlMixture, GgmlType, MatrixKind, MatrixPlace};
use crate::study::{FormatName, Level, parse_format};

/// Formats, the largest first. Those that end in `_m` or `_s` are llama.cpp's mixtures; any other is one type for all
/// matrices of the blocks.
pub(crate) const FORMATS: [&str; 14] = [
    "q8_0", "q6_k", "q5_1", "q5_k_m", "q5_k", "q5_0", "q4_1", "q4_k_m", "q4_k_s", "q4_k", "q4_0", "q3_k_m",
    "q3_k", "q2_k",
];

/// Format where none is given.
pub(crate) const USUAL_FORMAT: &str = "q4_k_m";

/// The place of [`USUAL_FORMAT`] among [`FORMATS`].
pub(crate) fn usual_format() -> usize {
    FORMATS.iter().position(|name| *name == USUAL_FORMAT).unwrap_or(0)
}

/// As the mixture has it, and as the source has it where the format is none.
const AUTO: &str = "auto";
/// As the source has it.
const SOURCE: &str = "source";

pub(super) const END_FORMATS: ParameterKind = ParameterKind::Choice(&[
    AUTO, SOURCE, "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "q3_k", "q2_k",
]);

/// A format, understood.
#[derive(Debug, Clone, Copy)]
pub(super) enum BlockFormat {
    One(GgmlType),
    Mixture(GgmlMixture),
}

impl BlockFormat {
    pub(super) fn of(name: &str) -> Option<Self> {
        let mixture = || name.parse().ok().filter(|mixture: &GgmlMixture| mixture.is_mixed());
        GgmlType::of_blocks(name).map(Self::One).or_else(|| mixture().map(Self::Mixture))
    }

    /// The type of a matrix. Rows that are no whole blocks get another, as llama.cpp has it.
    pub(super) fn type_of(self, place: &MatrixPlace) -> GgmlType {
        match self {
            Self::One(kind) => kind.fitting(place.columns),
            Self::Mixture(mixture) => mixture.type_of(place),
        }
    }
}

/// The format of a level.
///
/// # Errors
/// [`Error::Failure`] for another kind of level: recipes with one are refused before anything runs.
pub(super) fn format(level: Level) -> Result<BlockFormat> {
    let found = match level {
        Level::Format(name) => BlockFormat::of(&name),
        _ => None,
    };
    found.ok_or_else(|| Error::failure("a method that writes blocks needs a format"))
}

/// What a recipe says of one end of the model.
pub(super) fn end(level: Level, text: &str, kind: MatrixKind) -> Option<EndFormat> {
    match (BlockFormat::of(text), format(level)) {
        (Some(format), _) => Some(EndFormat { format, kind, is_given: true }),
        (None, Ok(format @ BlockFormat::Mixture(_))) if text == AUTO => {
            Some(EndFormat { format, kind, is_given: false })
        }
        _ => None,
    }
}

/// The format of the embedding or the head.
#[derive(Debug, Clone, Copy)]
pub struct EndFormat {
    format: BlockFormat,
    kind: MatrixKind,
    /// Whether the recipe names it. Else it comes from the mixture.
    is_given: bool,
}

/// The formats of the embedding and the output head; `None` is the source's.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndFormats {
    /// The embedding's.
    pub embedding: Option<EndFormat>,
    /// The head's.
    pub head: Option<EndFormat>,
}

impl EndFormats {
    /// Of a model whose head is its embedding: the one format of both. What the recipe names goes before what the mixture
    /// says, and of that the head's, as llama.cpp has it.
    ///
    /// # Errors
    /// [`Error::Mistake`] where the recipe names two.
    pub fn tied(self) -> Result<Self> {
        let given = |end: Option<EndFormat>| end.filter(|end| end.is_given);
        let both = match (given(self.embedding), given(self.head)) {
            (
                Some(EndFormat { format: BlockFormat::One(embed), .. }),
                Some(EndFormat { format: BlockFormat::One(head), .. }),
            ) if embed != head => {
                return Err(Error::mistake(format!(
                    "embed={} and head={}: in this model both are one matrix; give one of them",
                    embed.name(),
                    head.name()
                )));
            }
            (embed, head) => head.or(embed).or(self.head).or(self.embedding),
        };
        Ok(Self { embedding: both, head: both })
    }
}

impl EndFormat {
    /// The type of the matrix, given rows of so many values in a model of so many blocks.
    pub fn type_of(self, columns: usize, blocks: usize) -> GgmlType {
        let place = MatrixPlace { kind: self.kind, block: 0, blocks, queries_per_key: 1, columns };
        self.format.type_of(&place)
    }
}

/// Whether a name is that of a format.
pub(super) fn is_format(name: &FormatName) -> bool {
    FORMATS.contains(&name.as_str())
}

/// One of [`FORMATS`], as a word of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownFormat(pub FormatName);

impl FromStr for KnownFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = parse_format(text).ok().filter(is_format);
        let accepted = || FORMATS.join(", ");
        known.map(Self).ok_or_else(|| Error::mistake(format!("format `{text}`: accepted are {}", accepted())))
    }
}
