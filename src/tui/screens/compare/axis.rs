//! The x axis of the charts: what it measures, and how much of it is shown.

use super::figures;
use crate::tui::theme::Theme;

/// What the x axis of the charts shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum XAxis {
    /// Sparsity in percent.
    Sparsity,
    /// All cells have this sparsity, in percent: each has a place of its own, 1, 2, 3 …, with its name.
    Cells {
        sparsity: f64,
        /// Names by place.
        names: Vec<String>,
    },
    /// Stored bits per weight of the whole model.
    BitsPerWeight,
    /// Size of the whole model.
    Size {
        /// `MB`.
        unit: &'static str,
        /// Bytes of one.
        unit_bytes: f64,
    },
}

impl XAxis {
    /// An axis of sizes up to so many bytes.
    pub(super) fn of_sizes(largest: u64) -> Self {
        let (unit, unit_bytes) = match largest {
            0..1_000_000 => ("kB", 1e3),
            1_000_000..1_000_000_000 => ("MB", 1e6),
            _ => ("GB", 1e9),
        };
        Self::Size { unit, unit_bytes }
    }

    /// Whether it says how much room models take.
    pub(super) fn is_room(&self) -> bool {
        matches!(self, Self::BitsPerWeight | Self::Size { .. })
    }

    /// Its name, with its unit.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Sparsity => "sparsity %".into(),
            Self::Cells { sparsity, .. } => format!("all at {}", figures::sparsity(*sparsity)),
            Self::BitsPerWeight => "bits per weight".into(),
            Self::Size { unit, .. } => format!("size {unit}"),
        }
    }

    /// The cells that the read-out is about when the cursor stands at `x`.
    pub(super) fn caption(&self, x: f64, theme: Theme) -> String {
        match self {
            Self::Sparsity => format!("at {}", figures::sparsity(x)),
            Self::Cells { sparsity, .. } => format!("at {}", figures::sparsity(*sparsity)),
            Self::BitsPerWeight => format!("up to {} bits", figures::size(theme, Some(x))),
            Self::Size { unit, .. } => format!("up to {} {unit}", figures::size(theme, Some(x))),
        }
    }

    /// Where the cursor stands at first: in the middle, on the first cell, or where all cells are in reach.
    pub(super) fn start(&self, xs: &[f64]) -> Option<f64> {
        match self {
            Self::Sparsity => Some(50.0),
            Self::Cells { .. } => Some(1.0),
            Self::BitsPerWeight | Self::Size { .. } => xs.last().copied(),
        }
    }

    /// What it shows when all is shown: every cell with some room on both sides. Of sparsities never so little that ticks
    /// would be fractions.
    pub(super) fn range(&self, xs: &[f64]) -> (f64, f64) {
        let (Some(&low), Some(&high)) = (xs.first(), xs.last()) else { return (0.0, 100.0) };
        match self {
            Self::Sparsity => {
                let room = ((high - low) * 0.05).max(2.0).max((20.0 - (high - low)) / 2.0);
                ((low - room).max(-2.0), (high + room).min(102.0))
            }
            Self::Cells { .. } => (low - 0.6, high + 0.6),
            Self::BitsPerWeight | Self::Size { .. } => {
                let room = ((high - low) * 0.05).max(high * 0.02).max(1e-3);
                ((low - room).max(0.0), high + room)
            }
        }
    }

    /// The narrowest part of it that a zoom shows.
    pub(super) fn narrowest(&self, (low, high): (f64, f64)) -> f64 {
        if self.is_room() { (high - low) / 50.0 } else { 1.0 }
    }
}
