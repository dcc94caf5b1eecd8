//! A profile spreads a sparsity unevenly over the blocks of a model.

use std::path::Path;

use crate::error::{Error, Result};
use crate::study::{Level, Sparsity};

/// One factor per block by which a cell's fraction is multiplied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    factors: Vec<f64>,
    name: String,
}

impl Profile {
    /// Reads a profile: numbers, one per block, separated by blanks, commas or lines; `#` begins a comment, square
    /// brackets are allowed, so that a JSON list is a profile too.
    ///
    /// # Errors
    /// [`Error::Mistake`] naming the file and line of what is no number or negative, or a count that differs from
    /// `blocks`.
    pub fn read(path: &Path, blocks: usize) -> Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::mistake(format!("profile {name}: cannot be read: {e}")))?;
        let mut factors = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("");
            for word in line.split(|c: char| c.is_whitespace() || ",[]".contains(c)).filter(|w| !w.is_empty())
            {
                match word.parse::<f64>() {
                    Ok(v) if v.is_finite() && v >= 0.0 => factors.push(v),
                    _ => {
                        return Err(Error::mistake(format!(
                            "profile {name}, line {}: `{word}` is no factor; accepted are numbers from 0 up, one per block",
                            number + 1
                        )));
                    }
                }
            }
        }
        if factors.len() != blocks {
            return Err(Error::mistake(format!(
                "profile {name}: {} factors for a model of {blocks} blocks; one per block is needed",
                factors.len()
            )));
        }
        Ok(Self { factors, name })
    }

    /// The profile by which blocks of a model of `blocks` lose given shares of their weights where a cell has a fraction
    /// above 0. Blocks that are not named lose the fraction itself.
    pub fn of_shares(name: &str, blocks: usize, shares: &[(usize, f64)], fraction: f64) -> Self {
        let mut factors = vec![1.0; blocks];
        for (block, share) in shares {
            if let Some(factor) = factors.get_mut(*block) {
                *factor = share / fraction;
            }
        }
        Self { factors, name: name.to_owned() }
    }

    /// Whether all blocks lose the same.
    pub fn is_uniform(&self) -> bool {
        self.factors.iter().all(|factor| (factor - 1.0).abs() < 1e-12)
    }

    /// As [`Self::read`] reads it: `about` as comments, then a factor a line, each the same number when it is read.
    pub fn to_text(&self, about: &str) -> String {
        let comments = about.lines().map(|line| format!("# {line}\n"));
        comments.chain(self.factors.iter().map(|factor| format!("{factor}\n"))).collect()
    }

    /// The level of a block when the cell as a whole is to have `level`. N:M is the same everywhere.
    ///
    /// # Errors
    /// [`Error::Mistake`] when factor times fraction leaves `0 … 1`.
    pub fn at(&self, block: usize, level: Level) -> Result<Level> {
        let Level::Sparsity(Sparsity::Fraction(s)) = level else { return Ok(level) };
        let factor = self.factors.get(block).copied().unwrap_or(1.0);
        if s * factor < 1.0 {
            Ok(Sparsity::Fraction(s * factor).into())
        } else {
            Err(Error::mistake(format!(
                "profile {}: block {block} would lose {s} x {factor} of its weights; the product must stay below 1",
                self.name
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, blocks: usize) -> Result<Profile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Profile::read(file.path(), blocks)
    }

    #[test]
    fn factors_multiply_fractions_and_leave_groups_alone() {
        let profile = read("# first\n0.5, 1\n[1.5]\n", 3).unwrap();
        assert_eq!(profile.at(0, Sparsity::Fraction(0.4).into()).unwrap(), Sparsity::Fraction(0.2).into());
        let nm = Level::Sparsity(Sparsity::SemiStructured { zeros: 2, group: 4 });
        assert_eq!(profile.at(2, nm).unwrap(), nm);
        assert!(profile.at(2, Sparsity::Fraction(0.8).into()).unwrap_err().to_string().contains("block 2"));
    }

    #[test]
    fn a_profile_of_shares_reads_back_and_gives_them() {
        let shares = [(0, 0.666_351_722), (2, 0.75)];
        let profile = Profile::of_shares("owl", 3, &shares, 0.7);
        let again = read(&profile.to_text("of a cell\nand more"), 3).unwrap();
        assert_eq!(again.factors, profile.factors);
        let share = |block| profile.at(block, Sparsity::Fraction(0.7).into()).unwrap().zeros();
        assert!((share(0) - 0.666_351_722).abs() < 1e-12 && (share(2) - 0.75).abs() < 1e-12);
        assert!((share(1) - 0.7).abs() < 1e-12);
        assert!(!profile.is_uniform() && Profile::of_shares("owl", 3, &[(1, 0.7)], 0.7).is_uniform());
    }

    #[test]
    fn what_is_no_profile_is_refused_with_its_place() {
        assert!(read("1 1", 3).unwrap_err().to_string().contains("2 factors for a model of 3 blocks"));
        assert!(read("1\nx\n", 2).unwrap_err().to_string().contains("line 2: `x`"));
        assert!(read("1 -1", 2).is_err());
    }
}
