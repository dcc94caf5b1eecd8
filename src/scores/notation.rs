//! How the values of scores are written.

/// How a score's values are written: with how many digits, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// A positive figure of any size: `8.75`, `2.01e4`.
    Magnitude,
    /// A figure around 0 to 1: `0.0531`.
    Decimal,
    /// A share of positions: `62.5%`.
    Percent,
    /// A score of 0 to 1: a percentage in tables, `0.625` elsewhere.
    Fraction,
}

impl Notation {
    pub(super) fn in_table(self, value: f64) -> String {
        match self {
            Self::Magnitude => decimals(value, 2),
            Self::Decimal => decimals(value, 4),
            Self::Percent | Self::Fraction => percent(value, 1),
        }
    }

    pub(super) fn in_line(self, value: f64) -> String {
        match self {
            Self::Magnitude | Self::Fraction => format!("{value:.3}"),
            Self::Decimal => format!("{value:.4}"),
            Self::Percent => percent(value, 1),
        }
    }
}

/// A number with so many decimals; a power of ten where the number is too large to be read otherwise.
pub(crate) fn decimals(value: f64, places: usize) -> String {
    if value.is_nan() {
        "nan".into()
    } else if value.is_infinite() || value.abs() < 1e4 {
        format!("{value:.places$}")
    } else {
        format!("{value:.2e}")
    }
}

/// A share as a percentage.
pub(crate) fn percent(share: f64, places: usize) -> String {
    format!("{}%", decimals(share * 100.0, places))
}
