//! What a person should know of how a module was compressed.

use std::fmt;

/// A warning about a module. Modules of which the same is to be told share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleWarning {
    /// A sentence.
    Sentence(String),
    /// In so many groups of columns all weights are zero.
    EmptyGroups(u64),
}

impl ModuleWarning {
    /// Takes another one in where both tell the same: sentences that are equal, numbers of groups as their sum. `false`
    /// where they differ.
    pub fn join(&mut self, other: &Self) -> bool {
        match (&mut *self, other) {
            (Self::EmptyGroups(all), Self::EmptyGroups(more)) => {
                *all += more;
                true
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for ModuleWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sentence(text) => f.write_str(text),
            Self::EmptyGroups(1) => f.write_str("in 1 group all weights are zero"),
            Self::EmptyGroups(groups) => write!(f, "in {groups} groups all weights are zero"),
        }
    }
}
