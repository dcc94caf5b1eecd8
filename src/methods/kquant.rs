//! The block formats of llama.cpp: every weight becomes a small whole number, with scales for blocks of 32 or 256.
//!
//! What happens is what `llama-quantize` does, byte for byte, with importance from the calibration set or without
//! (`kernels::ggml`). Embedding and head lie outside the blocks; a recipe may give them formats of their own.

use super::quantise::BITS_DETAIL;
use super::{
    Arguments, Bound, CompressionOutcome, Cost, Encoded, Family, InputStatistics, Matrix, Method, Needs,
    Parameter, ParameterKind, weighted_error,
};
use crate::error::{Error, Result};
use crate::kernels::ggml::{self, Blocks, GgmlMixture, GgmlType, MatrixKind, MatrixPlace};
use crate::results::ErrorBasis;
use crate::study::{FormatName, Level};

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

const END_FORMATS: ParameterKind = ParameterKind::Choice(&[
    AUTO, SOURCE, "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "q3_k", "q2_k",
]);

/// Whether errors count by what the columns are multiplied with.
const IMPORTANCE: Parameter = Parameter {
    name: "imatrix",
    about: "whether columns count by the mean square of their inputs, as with llama.cpp's importance matrix",
    kind: ParameterKind::Choice(&["no", "yes"]),
};

/// The format of the embedding.
const EMBEDDING: Parameter = Parameter {
    name: "embed",
    about: "format of the embedding; `auto` is the mixture's, or the source's where the format is no mixture",
    kind: END_FORMATS,
};

/// The format of the output head.
const HEAD: Parameter = Parameter {
    name: "head",
    about: "format of the output head; `auto` as for `embed`. A head that is the embedding has one format with it",
    kind: END_FORMATS,
};

/// What the formats' search for scales takes, in operations a weight.
const OPERATIONS: f64 = 600.0;

/// llama.cpp's block formats.
#[derive(Debug, Clone, Copy)]
pub struct KQuant;

/// A format, understood.
#[derive(Debug, Clone, Copy)]
enum Format {
    One(GgmlType),
    Mixture(GgmlMixture),
}

impl Format {
    fn of(name: &str) -> Option<Self> {
        let mixture = || name.parse().ok().filter(|mixture: &GgmlMixture| mixture.is_mixed());
        GgmlType::of_blocks(name).map(Self::One).or_else(|| mixture().map(Self::Mixture))
    }

    /// The type of a matrix. Rows that are no whole blocks get another, as llama.cpp has it.
    fn type_of(self, place: &MatrixPlace) -> GgmlType {
        match self {
            Self::One(kind) => kind.fitting(place.columns),
            Self::Mixture(mixture) => mixture.type_of(place),
        }
    }
}

fn format(level: Level) -> Result<Format> {
    let found = match level {
        Level::Format(name) => Format::of(&name),
        _ => None,
    };
    found.ok_or_else(|| Error::failure("a method that writes blocks needs a format"))
}

/// What a recipe says of one end of the model.
fn end(level: Level, text: &str, kind: MatrixKind) -> Option<EndFormat> {
    match (Format::of(text), format(level)) {
        (Some(format), _) => Some(EndFormat { format, kind, is_given: true }),
        (None, Ok(format @ Format::Mixture(_))) if text == AUTO => {
            Some(EndFormat { format, kind, is_given: false })
        }
        _ => None,
    }
}

/// The format of the embedding or the head.
#[derive(Debug, Clone, Copy)]
pub struct EndFormat {
    format: Format,
    kind: MatrixKind,
    /// Whether the recipe names it. Else it comes from the mixture.
    is_given: bool,
}

/// The formats of the embedding and the output head; `None` is the source's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ends {
    /// The embedding's.
    pub embedding: Option<EndFormat>,
    /// The head's.
    pub head: Option<EndFormat>,
}

impl Ends {
    /// Of a model whose head is its embedding: the one format of both. What the recipe names goes before what the mixture
    /// says, and of that the head's, as llama.cpp has it.
    ///
    /// # Errors
    /// [`Error::Mistake`] where the recipe names two.
    pub fn tied(self) -> Result<Self> {
        let given = |end: Option<EndFormat>| end.filter(|end| end.is_given);
        let both = match (given(self.embedding), given(self.head)) {
            (
                Some(EndFormat { format: Format::One(embed), .. }),
                Some(EndFormat { format: Format::One(head), .. }),
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

impl Method for KQuant {
    fn name(&self) -> &'static str {
        "kquant"
    }

    fn about(&self) -> &'static str {
        "writes the weights in a block format of llama.cpp"
    }

    fn family(&self) -> Family {
        Family::Format
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[IMPORTANCE, EMBEDDING, HEAD]
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn needs_with(&self, arguments: &Arguments) -> Needs {
        if arguments.text(&IMPORTANCE) == "yes" { Needs::ColumnNorms } else { Needs::Nothing }
    }

    fn updates_weights(&self) -> bool {
        true
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        Cost { operations: OPERATIONS * (rows * columns) as f64, bound: Bound::Arithmetic }
    }

    fn bits(&self, level: Level) -> Option<f64> {
        match format(level).ok()? {
            Format::One(kind) => Some(kind.bits_per_value()),
            Format::Mixture(mixture) => Some(mixture.main_type().bits_per_value()),
        }
    }

    fn ends(&self, level: Level, arguments: &Arguments) -> Ends {
        Ends {
            embedding: end(level, &arguments.text(&EMBEDDING), MatrixKind::Embedding),
            head: end(level, &arguments.text(&HEAD), MatrixKind::Head),
        }
    }

    fn run(
        &self,
        matrix: Matrix<'_>,
        inputs: Option<&mut InputStatistics>,
        level: Level,
        arguments: &Arguments,
        _: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let Matrix { weights, columns, place, .. } = matrix;
        let kind = format(level)?.type_of(&MatrixPlace { columns, ..place });
        let sums = if self.needs_with(arguments) == Needs::Nothing {
            None
        } else {
            let sums = inputs.and_then(|inputs| inputs.input_norms_squared());
            Some(sums.ok_or_else(|| Error::failure("importance needs the sums of squares of the inputs"))?)
        };
        let importance = sums.as_deref().map(importance);
        let bytes = ggml::quantise_by_importance(kind, weights, columns, importance.as_deref())?;
        let blocks = Blocks::new(kind, [weights.len() / columns.max(1), columns], bytes)?;
        let before = weights.to_vec();
        weights.copy_from_slice(&blocks.values()?);
        let basis = if sums.is_some() { ErrorBasis::ColumnNorms } else { ErrorBasis::Weights };
        Ok(CompressionOutcome {
            error: weighted_error(&before, weights, sums.as_deref(), columns),
            basis,
            dead_columns: sums.map_or(0, |sums| sums.iter().filter(|sum| **sum == 0.0).count()),
            details: [(BITS_DETAIL, kind.bits_per_value())].into_iter().collect(),
            encoded: Some(Encoded::Blocks(blocks)),
        })
    }
}

/// What columns count. One that saw nothing counts next to nothing instead, so that a block of such columns still keeps
/// its weights.
fn importance(sums: &[f64]) -> Vec<f32> {
    let mean = sums.iter().sum::<f64>() / sums.len().max(1) as f64;
    let least = if mean > 0.0 { 1e-6 * mean } else { 1.0 };
    sums.iter().map(|&sum| if sum > 0.0 { sum as f32 } else { least as f32 }).collect()
}

/// Whether a name is that of a format.
pub(super) fn is_format(name: &FormatName) -> bool {
    FORMATS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::ggml::MIXTURES;
    use crate::methods::Procedure;
    use crate::study::Parameters;

    #[test]
    fn formats_are_all_that_ggml_has_the_largest_first() {
        let bits = |name: &str| KQuant.bits(Level::Format(FormatName::from(name).unwrap())).unwrap();
        for pair in FORMATS.windows(2) {
            assert!(bits(pair[0]) >= bits(pair[1]), "{pair:?}");
        }
        for mixture in MIXTURES.iter().filter(|mixture| !mixture.is_float()) {
            assert!(FORMATS.contains(&mixture.name()), "{mixture}");
        }
        assert!(FORMATS.contains(&USUAL_FORMAT));
        let ParameterKind::Choice(words) = END_FORMATS else { panic!("a choice") };
        assert!(words.iter().skip(2).all(|word| GgmlType::of_blocks(word).is_some()));
    }

    #[test]
    fn embedding_and_head_stay_unless_the_recipe_or_its_mixture_says_otherwise() {
        let types = |recipe: &str| {
            let procedure = Procedure::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap();
            let ends = procedure.end_types(512, 30, false).unwrap();
            [ends.embedding, ends.head]
        };
        assert_eq!(types("kquant@q4_k"), [None, None]);
        assert_eq!(types("kquant@q4_k,head=q6_k"), [None, Some(GgmlType::Q6K)]);
        assert_eq!(types("kquant@q4_k_m"), [Some(GgmlType::Q4K), Some(GgmlType::Q6K)]);
        assert_eq!(types("kquant@q4_k_m,embed=source"), [None, Some(GgmlType::Q6K)]);
        assert_eq!(types("kquant@q4_k+head=q8_0,embed=q2_k"), [Some(GgmlType::Q2K), Some(GgmlType::Q8_0)]);
        assert_eq!(types("wanda@50%"), [None, None]);
        let tied = |recipe: &str| {
            let procedure = Procedure::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap();
            procedure.end_types(512, 30, true).map(|ends| (ends.embedding, ends.head))
        };
        let both = |kind| (Some(kind), Some(kind));
        assert_eq!(tied("kquant@q4_k_m").unwrap(), both(GgmlType::Q6K));
        assert_eq!(tied("kquant@q4_k_m,embed=q8_0").unwrap(), both(GgmlType::Q8_0));
        assert_eq!(tied("kquant@q4_k,head=q6_k").unwrap(), both(GgmlType::Q6K));
        let message = tied("kquant@q4_k,head=q6_k,embed=q4_k").unwrap_err().to_string();
        assert!(message.contains("embed=q4_k and head=q6_k"), "{message}");
    }
}
