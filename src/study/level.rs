//! How far a step goes: a sparsity, bits, a format, or what of the model is removed.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Which share of a matrix becomes zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sparsity {
    /// A fraction `0 ≤ s < 1` of the weights.
    Fraction(f64),
    /// `zeros` of every `group` consecutive weights of a row, written `zeros:group`.
    ///
    /// As in the Wanda authors' code the first number counts zeros; NVIDIA's N:M counts the weights that stay. For
    /// 2:4 and 4:8 both are the same.
    SemiStructured {
        /// Zeros in a group.
        zeros: usize,
        /// Weights in a group.
        group: usize,
    },
}

impl Sparsity {
    /// The fraction of weights removed, `0 … 1`.
    pub fn fraction(self) -> f64 {
        match self {
            Self::Fraction(s) => s,
            Self::SemiStructured { zeros, group } => zeros as f64 / group as f64,
        }
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fraction(s) => f.pad(&s.to_string()),
            Self::SemiStructured { zeros, group } => f.pad(&format!("{zeros}:{group}")),
        }
    }
}

impl FromStr for Sparsity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let accepted = "accepted are a fraction 0 <= s < 1 (0.5 or 50%) or N:M with N < M (2:4)";
        let wrong = || Error::mistake(format!("sparsity `{text}`: {accepted}"));
        let s = text.trim();
        if let Some((zeros, group)) = s.split_once(':') {
            let zeros: usize = zeros.trim().parse().map_err(|_| wrong())?;
            let group: usize = group.trim().parse().map_err(|_| wrong())?;
            return if zeros < group { Ok(Self::SemiStructured { zeros, group }) } else { Err(wrong()) };
        }
        let value = match s.strip_suffix('%') {
            Some(percent) => hundredths(percent).ok_or_else(wrong)?,
            None => s.parse().map_err(|_| wrong())?,
        };
        if (0.0..1.0).contains(&value) { Ok(Self::Fraction(value)) } else { Err(wrong()) }
    }
}

/// A percentage as a fraction: 33.4 is 0.334, which a division in binary misses.
fn hundredths(percent: &str) -> Option<f64> {
    let percent = percent.trim();
    percent.parse::<f64>().ok()?;
    format!("{percent}e-2").parse().ok()
}

impl Serialize for Sparsity {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sparsity {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How far a step goes. Every family of methods has its own kind of level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Level {
    /// For methods that prune.
    Sparsity(Sparsity),
    /// For methods that quantise: bits of a weight, written `4bit`.
    Bits(u8),
    /// For methods that write weights in blocks: a format's name, `q4_k`.
    Format(FormatName),
    /// For methods that remove parts of the model: a share `0 < s < 1` of them. It is written as a fraction is, and read as
    /// one: what a method removes is known to the method.
    Share(f64),
    /// For methods that remove decoder blocks: how many, written `8blocks`.
    Blocks(usize),
}

/// The name of a format, in small letters: `q4_k_m`.
pub type FormatName = ArrayString<16>;

impl Level {
    /// The share of the weights that becomes zero or goes, `0 … 1`, as far as the level alone says it.
    pub fn zeros(self) -> f64 {
        match self {
            Self::Sparsity(sparsity) => sparsity.fraction(),
            Self::Share(share) => share,
            Self::Bits(_) | Self::Format(_) | Self::Blocks(_) => 0.0,
        }
    }

    /// The sparsity, of a level that is one.
    pub fn sparsity(self) -> Option<Sparsity> {
        match self {
            Self::Sparsity(sparsity) => Some(sparsity),
            Self::Bits(_) | Self::Format(_) | Self::Share(_) | Self::Blocks(_) => None,
        }
    }

    /// As it stands in file names: `0.5`, `2of4`, `4bit`, `q4_k`, `8blocks`.
    pub fn slug(self) -> String {
        match self {
            Self::Sparsity(sparsity) => sparsity.to_string().replace(':', "of"),
            Self::Share(share) => share.to_string(),
            Self::Bits(_) | Self::Format(_) | Self::Blocks(_) => self.label(),
        }
    }

    /// As people read it: `50%`, `2:4`, `4bit`, `q4_k`; a fraction is rounded to a ten thousandth of a percent.
    pub fn label(self) -> String {
        match self {
            Self::Sparsity(Sparsity::Fraction(s)) | Self::Share(s) => format!("{}%", (s * 1e6).round() / 1e4),
            Self::Blocks(1) => "1block".to_owned(),
            Self::Blocks(count) => format!("{count}blocks"),
            Self::Sparsity(groups) => groups.to_string(),
            Self::Bits(bits) => format!("{bits}bit"),
            Self::Format(name) => name.to_string(),
        }
    }
}

impl fmt::Display for Level {
    /// `50%` where that reads back as the same number, else the fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.label();
        match self {
            Self::Share(share) => Self::Sparsity(Sparsity::Fraction(*share)).fmt(f),
            Self::Sparsity(sparsity) if !label.parse().is_ok_and(|read: Self| read == *self) => {
                f.pad(&sparsity.to_string())
            }
            _ => f.pad(&label),
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(bits) = text.trim().to_ascii_lowercase().strip_suffix("bit") {
            return parse_bits(bits).map(Self::Bits);
        }
        if let Some(count) = parse_blocks(text) {
            return Ok(Self::Blocks(count));
        }
        match parse_format(text) {
            Ok(name) => Ok(Self::Format(name)),
            Err(_) => text.parse().map(Self::Sparsity).map_err(|_| {
                Error::mistake(format!(
                    "level `{text}`: accepted are a fraction 0 <= s < 1 (0.5 or 50%) or N:M with N < M (2:4) of weights, \
                     bits (4bit), a format (q4_k) and blocks (2blocks)"
                ))
            }),
        }
    }
}

/// The name of a format: `q4_k`, `Q4_K_M`.
///
/// # Errors
/// [`Error::Mistake`] for anything but a short word of letters, digits and `_` that begins with a letter.
pub fn parse_format(text: &str) -> Result<FormatName, Error> {
    let name = text.trim().to_ascii_lowercase();
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let name = FormatName::from(&name).ok().filter(|_| is_name);
    name.ok_or_else(|| Error::mistake(format!("format `{text}`: accepted is a name such as q4_k")))
}

/// A number of decoder blocks: `8blocks`, `1block`.
pub fn parse_blocks(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    let number = text.strip_suffix("blocks").or_else(|| text.strip_suffix("block"))?;
    number.trim().parse().ok()
}

/// Bits of a weight: `4`, `4bit`.
///
/// # Errors
/// [`Error::Mistake`] for anything but a whole number from 1 to 16.
pub fn parse_bits(text: &str) -> Result<u8, Error> {
    let number = text.trim().to_ascii_lowercase();
    let number = number.strip_suffix("bit").unwrap_or(&number).trim();
    let bits = number.parse().ok().filter(|bits| (1..=16).contains(bits));
    bits.ok_or_else(|| Error::mistake(format!("bits `{text}`: accepted is a whole number of bits (4bit)")))
}

impl From<Sparsity> for Level {
    fn from(sparsity: Sparsity) -> Self {
        Self::Sparsity(sparsity)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sparsities_that_make_sense_are_accepted_and_shown_as_given() {
        for (text, shown, fraction) in [
            ("0.5", "0.5", 0.5),
            ("50%", "0.5", 0.5),
            ("0", "0", 0.0),
            ("33.4%", "0.334", 0.334),
            ("99.99 %", "0.9999", 0.9999),
            ("2:4", "2:4", 0.5),
            ("3:4", "3:4", 0.75),
        ] {
            let s: Sparsity = text.parse().unwrap();
            assert_eq!(s.to_string(), shown);
            assert!((s.fraction() - fraction).abs() < 1e-12);
        }
    }

    #[test]
    fn sparsities_that_make_none_name_themselves_and_what_is_accepted() {
        for text in ["1.0", "-0.1", "4:2", "4:4", "nan", "inf", "half", ":", "2:", "100%", ""] {
            let message = text.parse::<Sparsity>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{text}`")) && message.contains("2:4"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_level_reads_back_as_the_same_number(fraction in 0.0f64..1.0, whole in 0u32..1000) {
            for s in [fraction, f64::from(whole) / 1000.0] {
                let level = Level::Sparsity(Sparsity::Fraction(s));
                prop_assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
            }
        }

        #[test]
        fn bits_read_back_as_they_are_written(bits in 1u8..=16) {
            let level = Level::Bits(bits);
            prop_assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
            prop_assert_eq!(level.slug(), format!("{bits}bit"));
            prop_assert_eq!(parse_bits(&bits.to_string()).unwrap(), bits);
        }

        #[test]
        fn numbers_of_blocks_read_back_as_they_are_written(count in 0usize..200) {
            let level = Level::Blocks(count);
            prop_assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
            prop_assert_eq!(format!("{count} Blocks").parse::<Level>().unwrap(), level);
            prop_assert_eq!(level.slug(), level.label());
        }

        #[test]
        fn a_share_is_written_as_the_fraction_that_it_is_read_as(share in 0.0f64..1.0) {
            let (level, fraction) = (Level::Share(share), Level::Sparsity(Sparsity::Fraction(share)));
            prop_assert_eq!(level.to_string().parse::<Level>().unwrap(), fraction);
            prop_assert_eq!((level.slug(), level.label()), (fraction.slug(), fraction.label()));
        }

        #[test]
        fn formats_read_back_as_they_are_written(name in "[a-z][a-z0-9_]{0,12}") {
            prop_assume!(!name.ends_with("bit"));
            let level = Level::Format(parse_format(&name.to_ascii_uppercase()).unwrap());
            prop_assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
            prop_assert_eq!(level.slug(), name);
        }
    }
}
