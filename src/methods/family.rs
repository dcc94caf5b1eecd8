//! Families of methods, and the levels of each.

use std::str::FromStr;

use super::formats::{FORMATS, is_format};
use crate::error::{Error, Result};
use crate::study::{Level, Sparsity, parse_bits};

/// Bits that the methods here know. Fewer than 2 are no grid, and more than 8 no compression.
pub(crate) const BITS: [u8; 4] = [8, 4, 3, 2];

/// Bits where none are given.
pub(crate) const USUAL_BITS: u8 = 4;

/// The levels of methods that remove parts of a model, in words.
pub(crate) const STRUCTURE_LEVELS: &str = "a share above 0 (0.25 or 25%) and a number of blocks (8blocks)";

/// Level of methods that remove parts of a model where none is given.
pub(crate) const USUAL_SHARE: Level = Level::Share(0.25);

/// What a method does to weights. Each family has its own kind of level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Whole parts of the model go.
    Structure,
    /// Some become zero.
    Prune,
    /// All go on a grid of a few bits.
    Quantise,
    /// All are written in blocks of a format.
    Format,
}

/// What models are called by what was done to them, the last where that is more than one thing.
pub(crate) const KINDS: [&str; 4] = ["cut-down", "pruned", "quantised", "combined"];

impl Family {
    /// What a model is called to which nothing else was done: one of [`KINDS`].
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Structure => KINDS[0],
            Self::Prune => KINDS[1],
            Self::Quantise | Self::Format => KINDS[2],
        }
    }

    /// A level as methods of this family have it: shares are read as fractions.
    pub fn own(self, level: Level) -> Level {
        match (self, level) {
            (Self::Structure, Level::Sparsity(Sparsity::Fraction(share))) => Level::Share(share),
            _ => level,
        }
    }

    /// Refuses a level of another family.
    ///
    /// # Errors
    /// [`Error::Mistake`] with what is accepted.
    pub(super) fn check(self, method: &str, level: Level) -> Result<()> {
        match (self, self.own(level)) {
            (Self::Structure, Level::Share(share)) if share > 0.0 => Ok(()),
            (Self::Structure, Level::Blocks(count)) if count > 0 => Ok(()),
            (Self::Structure, _) => Err(Error::mistake(format!(
                "{method} removes parts of the model, and `{level}` is none of its levels; accepted are {STRUCTURE_LEVELS}"
            ))),
            (Self::Prune, Level::Sparsity(_)) => Ok(()),
            (Self::Quantise, Level::Bits(bits)) if BITS.contains(&bits) => Ok(()),
            (Self::Format, Level::Format(name)) if is_format(&name) => Ok(()),
            (Self::Format, _) => Err(Error::mistake(format!(
                "{method} writes formats of llama.cpp, and knows no level `{level}`; accepted are {}",
                FORMATS.join(", ")
            ))),
            (Self::Prune, _) => Err(Error::mistake(format!(
                "{method} prunes, and `{level}` is no sparsity; accepted are a fraction (0.5 or 50%) and N:M (2:4)"
            ))),
            (Self::Quantise, _) => {
                let bits = BITS.map(|bits| Level::Bits(bits).label()).join(", ");
                Err(Error::mistake(format!(
                    "{method} quantises, and knows no level `{level}`; accepted are {bits}"
                )))
            }
        }
    }
}

/// A level of methods that remove parts of a model, as a word of a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StructureLevel(pub Level);

impl FromStr for StructureLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let level = text.parse().map(|level| Family::Structure.own(level)).ok();
        let known = level.filter(|level| Family::Structure.check("", *level).is_ok());
        known
            .map(Self)
            .ok_or_else(|| Error::mistake(format!("structure `{text}`: accepted are {STRUCTURE_LEVELS}")))
    }
}

/// One of [`BITS`], as a word of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits(pub u8);

impl FromStr for Bits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = parse_bits(text).ok().filter(|bits| BITS.contains(bits));
        let accepted = || BITS.map(|bits| bits.to_string()).join(", ");
        known.map(Self).ok_or_else(|| Error::mistake(format!("bits `{text}`: accepted are {}", accepted())))
    }
}
