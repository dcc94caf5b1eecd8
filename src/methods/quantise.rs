//! What the methods that quantise share: the parameters of a grid, and what is told of it.

use std::str::FromStr;

use candle_core::DType;

use super::{Arguments, ModuleWarning, Parameter, ParameterKind};
use crate::error::{Error, Result};
use crate::kernels::codes::{Codes, Grid};
use crate::number::NamedNumbers;
use crate::study::Level;

/// Columns of a row that share a scale.
pub(super) const GROUP: Parameter = Parameter {
    name: "group",
    about: "columns of a row that share a scale; `row` is all of them",
    kind: ParameterKind::Choice(&["64", "row", "128", "32"]),
};

/// Whether zero lies in the middle of the grid.
pub(super) const SYMMETRIC: Parameter = Parameter {
    name: "sym",
    about: "whether zero lies in the middle of every group's grid",
    kind: ParameterKind::Choice(&["no", "yes"]),
};

/// A value of [`GROUP`], as a word of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupSize(pub String);

impl FromStr for GroupSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = text.trim().to_ascii_lowercase();
        if GROUP.accepts(&word) {
            return Ok(Self(word));
        }
        Err(Error::mistake(format!("group size `{text}`: accepted is {}", GROUP.accepted())))
    }
}

/// Whether arguments ask for a zero in the middle of the grid.
pub(super) fn is_symmetric(arguments: &Arguments) -> bool {
    arguments.text(&SYMMETRIC) == "yes"
}

/// Names of the details that are told of a module.
pub(super) const BITS_DETAIL: &str = "bits";
const GROUP_DETAIL: &str = "group";
const EMPTY_GROUPS: &str = "empty_groups";

/// The group size that arguments ask for; `None` is a whole row.
pub(super) fn group(arguments: &Arguments) -> Option<usize> {
    // The other choices are numbers.
    arguments.text(&GROUP).parse().ok()
}

/// The grid for a matrix of so many columns, whose scales are rounded to `dtype`.
///
/// # Errors
/// [`Error::Mistake`] where groups do not fill its rows, [`Error::Failure`] for a level that is no number of bits.
pub(super) fn grid(level: Level, arguments: &Arguments, columns: usize, dtype: DType) -> Result<Grid> {
    let Level::Bits(bits) = level else { return Err(Error::failure("a method that quantises needs bits")) };
    check_group(arguments, columns, "the matrix")?;
    Ok(Grid {
        bits,
        group: group(arguments).unwrap_or(columns),
        symmetric: is_symmetric(arguments),
        scale_dtype: dtype,
    })
}

/// Refuses groups that do not fill a row.
///
/// # Errors
/// [`Error::Mistake`] naming the module, the group and what would do.
pub(super) fn check_group(arguments: &Arguments, columns: usize, module: &str) -> Result<()> {
    let Some(size) = group(arguments).filter(|size| !columns.is_multiple_of(*size)) else { return Ok(()) };
    let fits = |words: &'static [&'static str]| {
        let fits = words.iter().filter(|w| w.parse().is_ok_and(|size| columns.is_multiple_of(size)));
        fits.copied().chain(["row"]).collect::<Vec<_>>().join(", ")
    };
    let ParameterKind::Choice(words) = GROUP.kind else { return Ok(()) };
    Err(Error::mistake(format!(
        "group={size}: groups of {size} do not fill the {columns} columns of {module}; accepted is {}",
        fits(words)
    )))
}

/// What is told of a module's grid.
pub(super) fn details(codes: &Codes) -> NamedNumbers {
    let empty = codes.empty_groups() as f64;
    let group = codes.grid.group as f64;
    let named = [(BITS_DETAIL, f64::from(codes.grid.bits)), (GROUP_DETAIL, group), (EMPTY_GROUPS, empty)];
    named.into_iter().filter(|(name, value)| *name != EMPTY_GROUPS || *value > 0.0).collect()
}

/// What a person should know of groups in which nothing is left.
pub(super) fn warn_of_empty_groups(details: &NamedNumbers) -> Option<ModuleWarning> {
    details.get(EMPTY_GROUPS).map(|empty| ModuleWarning::EmptyGroups(empty as u64))
}
