//! Who computes, as a setting names it.

use std::str::FromStr;

use crate::error::Error;

/// Who computes the cells of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PlacesName {
    /// This machine.
    #[default]
    Here,
    /// Jobs of a Slurm cluster.
    Slurm,
}

impl PlacesName {
    /// Every name.
    pub const NAMES: [&str; 2] = ["here", "slurm"];
}

impl FromStr for PlacesName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "here" => Ok(Self::Here),
            "slurm" => Ok(Self::Slurm),
            _ => Err(Error::mistake(format!(
                "unknown places `{text}`: accepted are {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}
