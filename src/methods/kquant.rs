//! The block formats of llama.cpp: every weight becomes a small whole number, with scales for blocks of 32 or 256.
//!
//! What happens is what `llama-quantize` does, byte for byte, with importance from the calibration set or without
//! (`kernels::ggml`). Embedding and head lie outside the blocks; a recipe may give them formats of their own.

use super::formats::{BlockFormat, END_FORMATS, EndFormats, end, format};
use super::quantise::BITS_DETAIL;
use super::{
    Arguments, Bound, CompressionOutcome, Cost, Encoded, Family, InputStatistics, Matrix, Method, Needs,
    Parameter, ParameterKind, weighted_error,
};
use crate::error::{Error, Result};
use crate::kernels::ggml::{self, BlockMatrix, MatrixKind, MatrixPlace};
use crate::results::ErrorBasis;
use crate::study::Level;

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
            BlockFormat::One(kind) => Some(kind.bits_per_value()),
            BlockFormat::Mixture(mixture) => Some(mixture.main_type().bits_per_value()),
        }
    }

    fn ends(&self, level: Level, arguments: &Arguments) -> EndFormats {
        EndFormats {
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
            let sums = inputs.map(|inputs| inputs.input_norms_squared()).transpose()?;
            Some(sums.ok_or_else(|| Error::failure("importance needs the sums of squares of the inputs"))?)
        };
        let importance = sums.as_deref().map(importance);
        let bytes = ggml::quantise_by_importance(kind, weights, columns, importance.as_deref())?;
        let blocks = BlockMatrix::new(kind, [weights.len() / columns.max(1), columns], bytes)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::ggml::{GgmlType, MIXTURES};
    use crate::methods::{FORMATS, Procedure, USUAL_FORMAT};
    use crate::study::{FormatName, Parameters};

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
