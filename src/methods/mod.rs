//! The methods: which weights of a matrix change, and how.
//!
//! A method sees one matrix of `f32` and what was collected of its inputs, on the host or, with what it says there
//! ([`Method::on_device`]), where they lie; it knows neither models nor the engine. Everything that the rest of the program wants to know of it, it is asked: adding one is a
//! file in this folder and a line in [`METHODS`].

mod allocation;
mod completion;
mod depth;
pub mod device;
mod experts;
mod factor;
mod family;
mod formats;
mod gptq;
mod grid;
mod kquant;
mod layer_errors;
mod magnitude;
mod narrowing;
mod order;
mod outliers;
mod parameters;
mod profile;
pub(crate) mod quantise;
mod removal;
mod ria;
mod routed;
mod rtn;
mod selection;
mod solver;
mod sparsegpt;
mod stage;
mod statistics;
mod survey;
mod swaps;
#[cfg(test)]
mod tests;
mod wanda;
mod warning;
mod width;

pub use allocation::Allocation;
pub(crate) use completion::{Completion, complete, understand};
pub use depth::Depth;
pub use device::DeviceMatrix;
pub(crate) use device::DeviceMethod;
pub(crate) use experts::ExpertScores;
pub use experts::Experts;
pub use factor::Factor;
pub use family::Family;
pub(crate) use family::{BITS, Bits, KINDS, STRUCTURE_LEVELS, StructureLevel, USUAL_BITS, USUAL_SHARE};
pub use formats::{EndFormat, EndFormats};
pub(crate) use formats::{FORMATS, KnownFormat, USUAL_FORMAT, usual_format};
pub use gptq::Gptq;
pub use grid::{GridLevels, grid, recipes};
pub(crate) use grid::{kind_of, needs_calibration};
pub use kquant::KQuant;
pub(crate) use layer_errors::{ERROR_LEVELS, ErrorCurve};
pub use magnitude::Magnitude;
pub use narrowing::{BlockWeights, WidthCounts, WidthRemoval};
pub(crate) use narrowing::{mean_output, units_that_stay};
pub(crate) use order::least_common_multiple;
pub(crate) use outliers::{ScoreSum, count_above};
pub(crate) use parameters::{Arguments, Parameter, ParameterKind};
pub(crate) use profile::Profile;
pub use removal::{BlockRemoval, DenseModel, ExpertRemoval};
pub(crate) use ria::Ria;
pub use routed::RoutedTokens;
pub use rtn::Rtn;
pub use solver::{PreparedInputs, Target, solve};
pub use sparsegpt::SparseGpt;
pub(crate) use stage::{GridChoice, grid_of};
pub use stage::{Procedure, Stage};
pub use statistics::{InputStatistics, Statistics};
pub(crate) use survey::{BlockFigures, cosine};
pub use survey::{SiteFigures, Survey};
pub use wanda::Wanda;
pub use warning::ModuleWarning;
pub use width::Width;

use std::fmt;
use std::str::FromStr;

use candle_core::DType;

use crate::error::{Error, Result};
use crate::kernels::codes::Codes;
use crate::kernels::ggml::{BlockMatrix, MatrixKind, MatrixPlace};
use crate::number::NamedNumbers;
use crate::results::ErrorBasis;
use crate::study::{Level, Parameters, Sparsity};

/// Every method, in the order in which they are shown.
pub const METHODS: &[&dyn Method] =
    &[&Magnitude, &Wanda, &SparseGpt, &Ria, &Rtn, &Gptq, &KQuant, &Depth, &Width, &Experts];

/// What a method needs to know of a module's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Sum of squares of every input feature.
    ColumnNorms,
    /// Products of every pair of input features.
    Hessian,
}

/// Which weights of a matrix become zero while it is solved or put on a grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Zeroing {
    /// None but those that are rounded to it.
    None,
    /// Those that a step before made zero, and no others but by rounding.
    Kept,
    /// So many, chosen on the way.
    Chosen(Sparsity),
}

/// What limits the speed of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// How fast weights are read and written.
    Memory,
    /// How fast numbers are multiplied.
    Arithmetic,
}

/// What a method takes for one matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Floating-point operations, or as many as take the same time.
    pub operations: f64,
    /// What limits their speed.
    pub bound: Bound,
}

/// What a method did to a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct CompressionOutcome {
    /// Relative squared error of the module's output.
    pub error: f64,
    /// What the error was measured with.
    pub basis: ErrorBasis,
    /// Input features that were zero in every calibration token.
    pub dead_columns: usize,
    /// Numbers that only this method has, by name: `damping`.
    pub details: NamedNumbers,
    /// What the weights stand for, where they are no values of their own.
    pub encoded: Option<Encoded>,
}

/// A matrix in fewer bits.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoded {
    /// On a grid.
    Codes(Codes),
    /// In blocks of a format.
    Blocks(BlockMatrix),
}

impl CompressionOutcome {
    /// Of a method that makes a mask.
    fn of_mask(error: f64, basis: ErrorBasis, dead_columns: usize) -> Self {
        Self { error, basis, dead_columns, details: NamedNumbers::default(), encoded: None }
    }
}

/// A matrix to compress in place.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// Row-major `[rows, columns]`, that is `[out, in]`.
    pub weights: &'a mut [f32],
    /// Input features.
    pub columns: usize,
    /// What the model's files hold it in, and scales are rounded to: f32, f16 or bf16.
    pub dtype: DType,
    /// What is zero already, or is to become so besides.
    pub zeroing: Zeroing,
    /// Where it stands in the model.
    pub place: MatrixPlace,
}

impl<'a> Matrix<'a> {
    /// A matrix of a model in `f32`, as it came.
    pub fn new(weights: &'a mut [f32], columns: usize) -> Self {
        let place = MatrixPlace { kind: MatrixKind::Other, block: 0, blocks: 1, queries_per_key: 1, columns };
        Self { weights, columns, dtype: DType::F32, zeroing: Zeroing::None, place }
    }
}

/// A method of compression.
pub trait Method: Sync {
    /// The name used on the command line, in files and on screen.
    fn name(&self) -> &'static str;

    /// One line for help texts and docs.
    fn about(&self) -> &'static str;

    /// What it does to weights, and with that its kind of level.
    fn family(&self) -> Family {
        Family::Prune
    }

    /// The parameters that a recipe may give.
    fn parameters(&self) -> &'static [Parameter] {
        &[]
    }

    /// The values of the parameters: a recipe's before the study's before the defaults.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a parameter that the method does not have, and for a value out of range.
    fn arguments(&self, recipe: &Parameters, study: &Parameters) -> Result<Arguments> {
        Arguments::of(self.name(), self.parameters(), recipe, study)
    }

    /// The defaults of the parameters.
    fn default_arguments(&self) -> Arguments {
        Arguments::defaults(self.parameters())
    }

    /// What has to be collected of a module's inputs first.
    fn needs(&self) -> Needs;

    /// The same, given the values of the parameters.
    fn needs_with(&self, _arguments: &Arguments) -> Needs {
        self.needs()
    }

    /// Whether it looks at activations, so that a calibration set matters, given the values of the parameters.
    fn looks_at_data(&self, arguments: &Arguments) -> bool {
        self.needs_with(arguments) != Needs::Nothing
    }

    /// How it removes decoder blocks, if it does. Then it does nothing to matrices.
    fn block_removal(&self) -> Option<&dyn BlockRemoval> {
        None
    }

    /// How it makes blocks narrower, if it does. Then it does nothing to matrices besides.
    fn width_removal(&self) -> Option<&dyn WidthRemoval> {
        None
    }

    /// How it removes experts of every block, if it does. Then it does nothing to matrices.
    fn expert_removal(&self) -> Option<&dyn ExpertRemoval> {
        None
    }

    /// Whether it can work at a level of its family.
    fn takes(&self, _level: Level) -> bool {
        true
    }

    /// The levels that it can work at, in words, where these are not all of its family.
    fn levels(&self) -> Option<&'static str> {
        None
    }

    /// Whether it works on every model. Only such methods run where somebody gives a level of their family and names none.
    fn suits_every_model(&self) -> bool {
        true
    }

    /// The levels that a search goes through where it is given none, the least compression first; `None` are those of its
    /// family.
    fn searched_levels(&self) -> Option<Vec<Level>> {
        None
    }

    /// Whether weights that stay get new values. Else a mask is all there is to store.
    fn updates_weights(&self) -> bool;

    /// What the method takes for a matrix `[rows, columns]`.
    fn cost(&self, rows: usize, columns: usize) -> Cost;

    /// What a person should know of a module, given the details that [`Method::run`] told.
    fn warnings(&self, _details: &NamedNumbers, _arguments: &Arguments) -> Vec<ModuleWarning> {
        Vec::new()
    }

    /// Bits of a weight at a level, about, where weights get fewer.
    fn bits(&self, level: Level) -> Option<f64> {
        match level {
            Level::Bits(bits) => Some(f64::from(bits)),
            _ => None,
        }
    }

    /// What becomes of the matrices at both ends of the model.
    fn ends(&self, _level: Level, _arguments: &Arguments) -> EndFormats {
        EndFormats::default()
    }

    /// Whether it chooses weights in the loop over columns that GPTQ has too, so that both can be done in one.
    fn chooses_while_solving(&self) -> bool {
        false
    }

    /// Whether it quantises in that loop, and prunes in it what [`Matrix::zeroing`] asks for.
    fn joins_a_solver(&self) -> bool {
        false
    }

    /// The form that works where the matrix lies, if this method has one for such a level. Else the matrix comes to the
    /// host.
    fn on_device(&self, _level: Level) -> Option<&dyn DeviceMethod> {
        None
    }

    /// Compresses a matrix in place. A method that removes whole parts of a model is never asked to.
    ///
    /// `inputs` is there whenever [`Method::needs`] asks for any. `stop` is asked now and then and ends the work with
    /// [`Error::Cancelled`].
    ///
    /// # Errors
    /// [`Error::Mistake`] for a level that does not fit the matrix, [`Error::Failure`] when the method cannot work.
    fn run(
        &self,
        _matrix: Matrix<'_>,
        _inputs: Option<&mut InputStatistics>,
        _level: Level,
        _arguments: &Arguments,
        _stop: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        Err(Error::failure(format!(
            "{} removes parts of a model, and leaves matrices as they are",
            self.name()
        )))
    }
}

impl dyn Method {
    /// Refuses a level of another family, and one that the method cannot work at.
    ///
    /// # Errors
    /// [`Error::Mistake`] with what is accepted.
    pub(crate) fn check_level(&self, level: Level) -> Result<()> {
        self.family().check(self.name(), level)?;
        match self.levels().filter(|_| !self.takes(self.family().own(level))) {
            None => Ok(()),
            Some(accepted) => Err(Error::mistake(format!(
                "{} knows no level `{level}`; accepted is {accepted}",
                self.name()
            ))),
        }
    }

    /// Whether the method looks at activations, so that a calibration set matters.
    pub fn needs_calibration(&self) -> bool {
        self.looks_at_data(&self.default_arguments())
    }
}

impl PartialEq for dyn Method {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for dyn Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The method of this name.
///
/// # Errors
/// [`Error::Mistake`] with all names there are.
pub fn find(name: &str) -> Result<&'static dyn Method> {
    let wanted = name.trim().to_ascii_lowercase();
    METHODS
        .iter()
        .copied()
        .find(|m| m.name() == wanted)
        .ok_or_else(|| Error::mistake(format!("unknown method `{}`: accepted are {}", name.trim(), names())))
}

/// A method by its name, as a word of a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MethodName(pub &'static dyn Method);

impl FromStr for MethodName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        find(name).map(Self)
    }
}

/// All names with commas between.
pub(crate) fn names() -> String {
    METHODS.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ")
}

/// The sparsity of a level of a method that prunes.
///
/// # Errors
/// [`Error::Failure`] for another kind of level: recipes with one are refused before anything runs.
fn sparsity(level: Level) -> Result<Sparsity> {
    level.sparsity().ok_or_else(|| Error::failure("a method that prunes needs a sparsity"))
}

/// Refuses an N:M whose groups do not fill a row.
///
/// # Errors
/// [`Error::Mistake`] naming the module, the group and the row.
fn check_divides(sparsity: Sparsity, columns: usize, module: &str) -> Result<()> {
    match sparsity {
        Sparsity::SemiStructured { group, .. } if !columns.is_multiple_of(group) => {
            Err(Error::mistake(format!(
                "sparsity {sparsity}: groups of {group} do not fill the {columns} columns of {module}; M must divide \
                 every row"
            )))
        }
        _ => Ok(()),
    }
}

/// How many of `count` elements a fraction takes: `floor(count · s)`.
fn share(count: usize, fraction: f64) -> usize {
    (count as f64 * fraction).floor() as usize
}

/// Relative squared error `Σ s_j (w − w')² / Σ s_j w²` of rows before and after, with a factor per column.
fn weighted_error(before: &[f32], after: &[f32], factors: Option<&[f64]>, columns: usize) -> f64 {
    use rayon::prelude::*;
    let sums: Vec<(f64, f64)> = before
        .par_chunks(columns)
        .zip(after.par_chunks(columns))
        .map(|(before, after)| {
            let (mut lost, mut all) = (0.0, 0.0);
            for (j, (&b, &a)) in before.iter().zip(after).enumerate() {
                let factor = factors.map_or(1.0, |f| f[j]);
                let (b, a) = (f64::from(b), f64::from(a));
                lost += factor * (b - a) * (b - a);
                all += factor * b * b;
            }
            (lost, all)
        })
        .collect();
    let (lost, all) = sums.iter().fold((0.0, 0.0), |(l, a), (lost, all)| (l + lost, a + all));
    if all > 0.0 { lost / all } else { 0.0 }
}
