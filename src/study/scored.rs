//! Which positions of a window count.

use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The positions of a window that scores on texts are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoredPositions {
    /// Every position.
    #[default]
    All,
    /// Those of the second half that have a next token in the window: what `llama-perplexity` prints.
    SecondHalf,
}

impl ScoredPositions {
    /// The names of all of them.
    pub const NAMES: [&str; 2] = [Self::All.name(), Self::SecondHalf.name()];

    /// The name used on the command line, in files and on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::SecondHalf => "second-half",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// The positions that count in a window of so many tokens.
    pub(crate) fn of(self, tokens: usize) -> Range<usize> {
        match self {
            Self::All => 0..tokens,
            Self::SecondHalf => tokens / 2..tokens.saturating_sub(1).max(tokens / 2),
        }
    }
}

impl FromStr for ScoredPositions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::All, Self::SecondHalf].into_iter().find(|scored| scored.name() == text).ok_or_else(|| {
            Error::mistake(format!("unknown positions `{text}`: accepted are {}", Self::NAMES.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_half_ends_before_the_position_without_a_next_token() {
        assert_eq!(ScoredPositions::All.of(512), 0..512);
        assert_eq!(ScoredPositions::SecondHalf.of(512), 256..511);
        assert_eq!(ScoredPositions::SecondHalf.of(3), 1..2);
        assert!(ScoredPositions::SecondHalf.of(2).is_empty() && ScoredPositions::SecondHalf.of(0).is_empty());
        for name in ScoredPositions::NAMES {
            assert_eq!(name.parse::<ScoredPositions>().unwrap().name(), name);
        }
        assert!("half".parse::<ScoredPositions>().is_err());
    }
}
