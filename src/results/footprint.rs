//! What models take: their compressed modules, and the whole.

use serde::{Deserialize, Serialize};

use crate::number;

/// What became of weights: how many there are, how many are zero, how many bits they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Footprint {
    /// Weights in all, zeros among them.
    pub weights: u64,
    /// Weights that are zero, counted.
    pub zeros: u64,
    /// Bits, as the best export of this program stores them.
    pub stored_bits: u64,
    /// Bits with one a weight that says whether it is zero, and nothing else for those that are. No runtime reaches
    /// this bound for unstructured zeros.
    pub packed_bits: u64,
    /// Of a whole cell: bits that what it does not compress takes less than in the source: the embedding and the output
    /// head where the recipe gives them formats of their own, and the norms and biases of blocks that are gone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub saved_at_ends: u64,
    /// Of a whole cell: parameters that are gone. They are none of the weights above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(bits: &u64) -> bool {
    *bits == 0
}

impl Footprint {
    /// The share of zeros, `0 … 1`; 0 where there are no weights.
    pub fn sparsity(&self) -> f64 {
        self.zeros as f64 / (self.weights as f64).max(1.0)
    }

    /// Stored bits a weight.
    pub fn bits_per_weight(&self) -> f64 {
        self.stored_bits as f64 / (self.weights as f64).max(1.0)
    }
}

impl std::iter::Sum for Footprint {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |a, b| Self {
            weights: a.weights + b.weights,
            zeros: a.zeros + b.zeros,
            stored_bits: a.stored_bits + b.stored_bits,
            packed_bits: a.packed_bits + b.packed_bits,
            saved_at_ends: a.saved_at_ends + b.saved_at_ends,
            removed: a.removed + b.removed,
        })
    }
}

/// What the tensors of a model take in its files, in bits; a tied head counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBits {
    /// All tensors.
    pub all: u64,
    /// Those that no cell of the study compresses: embedding, head, norms, biases, modules and blocks left out.
    pub untouched: u64,
}

/// A whole model as the best export of this program writes it. The compressed modules count as their [`Footprint`] says,
/// embedding and head as the recipe has them, all other tensors as in the source's files, headers of files not at all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelFootprint {
    /// All parameters that are there; a tied head counts once.
    pub parameters: u64,
    /// Zeros of the compressed modules, counted; `None` for the base. Other weights are not looked at.
    pub zeros: Option<u64>,
    /// Bytes.
    pub size_bytes: u64,
    /// Bytes if the compressed modules were packed: see [`Footprint::packed_bits`].
    pub packed_size_bytes: u64,
    /// Bits of all tensors, divided by all parameters.
    #[serde(with = "number")]
    pub bits_per_weight: f64,
    /// The same if the compressed modules were packed.
    #[serde(with = "number")]
    pub packed_bits_per_weight: f64,
}

impl ModelFootprint {
    pub(super) fn of_base(parameters: u64, source: SourceBits) -> Self {
        Self::new(parameters, None, source.all, source.all)
    }

    pub(super) fn of_cell(parameters: u64, source: SourceBits, compressed: &Footprint) -> Self {
        let untouched = source.untouched.saturating_sub(compressed.saved_at_ends);
        let whole = |bits: u64| untouched.saturating_add(bits);
        let (stored, packed) = (whole(compressed.stored_bits), whole(compressed.packed_bits));
        Self::new(parameters.saturating_sub(compressed.removed), Some(compressed.zeros), stored, packed)
    }

    fn new(parameters: u64, zeros: Option<u64>, stored_bits: u64, packed_bits: u64) -> Self {
        let per_weight = |bits: u64| bits as f64 / (parameters as f64).max(1.0);
        Self {
            parameters,
            zeros,
            size_bytes: stored_bits.div_ceil(8),
            packed_size_bytes: packed_bits.div_ceil(8),
            bits_per_weight: per_weight(stored_bits),
            packed_bits_per_weight: per_weight(packed_bits),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "exact values are meant")]

    use super::*;

    /// 1000 weights in modules and 400 elsewhere, of two bytes each.
    const SOURCE: SourceBits = SourceBits { all: 1400 * 16, untouched: 400 * 16 };

    #[test]
    fn zeros_that_no_format_leaves_out_save_nothing() {
        let half = Footprint {
            weights: 1000,
            zeros: 500,
            stored_bits: 16_000,
            packed_bits: 1000 + 500 * 16,
            ..Footprint::default()
        };
        let (base, cell) =
            (ModelFootprint::of_base(1400, SOURCE), ModelFootprint::of_cell(1400, SOURCE, &half));
        assert_eq!((base.size_bytes, base.bits_per_weight, base.zeros), (2800, 16.0, None));
        assert_eq!((cell.size_bytes, cell.bits_per_weight, cell.zeros), (2800, 16.0, Some(500)));
        assert_eq!((cell.packed_size_bytes, cell.packed_bits_per_weight), (800 + 1125, 15_400.0 / 1400.0));
    }

    #[test]
    fn what_is_not_compressed_keeps_its_bits() {
        // Four bits a weight, and a scale of 16 bits for every 100.
        let codes = Footprint {
            weights: 1000,
            zeros: 0,
            stored_bits: 4160,
            packed_bits: 4160,
            ..Footprint::default()
        };
        let cell = ModelFootprint::of_cell(1400, SOURCE, &codes);
        assert_eq!((cell.size_bytes, cell.packed_size_bytes), (800 + 520, 800 + 520));
        assert_eq!(cell.bits_per_weight, (400.0 * 16.0 + 4160.0) / 1400.0);
        // Where half of the modules' weights are gone, with 10 of what is beside them.
        let removed = Footprint { weights: 500, stored_bits: 500 * 16, removed: 510, ..Footprint::default() };
        let cell = ModelFootprint::of_cell(1400, SOURCE, &Footprint { saved_at_ends: 10 * 16, ..removed });
        assert_eq!((cell.parameters, cell.size_bytes, cell.bits_per_weight), (890, 890 * 2, 16.0));
        // What a recipe saves at the ends comes off the rest.
        let cell = ModelFootprint::of_cell(1400, SOURCE, &Footprint { saved_at_ends: 1600, ..codes });
        assert_eq!(cell.size_bytes, 800 - 200 + 520);
        assert_eq!(cell.bits_per_weight, (400.0 * 16.0 - 1600.0 + 4160.0) / 1400.0);
    }
}
