//! Weights on a grid: whole numbers of a few bits, a scale for every group of a row, and where zero lies.
//!
//! The grid is that of GPTQ (Frantar et al., arXiv 2210.17323; `find_params` in its authors' code): with `maxq = 2^b − 1`
//! and the range widened to hold 0, `s = (max − min)/maxq` and `z = round(−min/s)`, or symmetric `s = 2·max|w|/maxq` and
//! `z = 2^(b−1)`. A weight's code is `clamp(round(w/s) + z, 0, maxq)`, ties to even, and stands for `s·(code − z)`.

use candle_core::DType;
use half::{bf16, f16};
use rayon::prelude::*;

use super::simd;
use crate::error::{Error, Result};

/// How weights are put on a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Bits of a code, 1 … 8.
    pub bits: u8,
    /// Columns of a row that share a scale.
    pub group: usize,
    /// Whether zero lies in the middle of the codes. Else every group says where it lies.
    pub symmetric: bool,
    /// What scales are rounded to before anything uses them: f32, f16 or bf16.
    pub scale_dtype: DType,
}

/// Scale and zero of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupGrid {
    /// Distance of two codes.
    pub scale: f32,
    /// The code that stands for 0.
    pub zero: u8,
}

impl Grid {
    /// The largest code.
    #[inline(always)]
    fn largest(self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    /// The grid that fits these weights. Weights that are all zero take that of −1 … 1.
    #[inline(always)]
    pub fn fit(self, weights: impl Iterator<Item = f32>) -> GroupGrid {
        let (mut low, mut high) = weights.fold((0f32, 0f32), |(low, high), w| (low.min(w), high.max(w)));
        if self.symmetric {
            high = high.max(-low);
            low = -high;
        }
        if low == 0.0 && high == 0.0 {
            (low, high) = (-1.0, 1.0);
        }
        let scale = self.round((high - low) / self.largest());
        let zero = if self.symmetric {
            1 << (self.bits - 1)
        } else {
            (-low / scale).round_ties_even().clamp(0.0, self.largest()) as u8
        };
        GroupGrid { scale, zero }
    }

    /// The scale as an export holds it; never 0, which nothing can be divided by.
    #[inline(always)]
    fn round(self, scale: f32) -> f32 {
        match self.scale_dtype {
            DType::F16 => f16::from_f32(scale).max(f16::MIN_POSITIVE_SUBNORMAL).to_f32(),
            DType::BF16 => bf16::from_f32(scale).max(bf16::MIN_POSITIVE_SUBNORMAL).to_f32(),
            _ => scale.max(f32::from_bits(1)),
        }
    }

    /// The code of a weight.
    #[inline(always)]
    pub fn code(self, weight: f32, group: GroupGrid) -> u8 {
        ((weight / group.scale).round_ties_even() + f32::from(group.zero)).clamp(0.0, self.largest()) as u8
    }

    /// Groups of a row of so many columns.
    pub fn groups(self, columns: usize) -> usize {
        columns.div_ceil(self.group)
    }
}

impl GroupGrid {
    /// What a code stands for.
    #[inline(always)]
    pub fn value(self, code: u8) -> f32 {
        self.scale * (f32::from(code) - f32::from(self.zero))
    }
}

/// A matrix on its way to a grid: every code has a byte.
#[derive(Debug, Clone)]
pub struct UnpackedCodes {
    /// `[out, in]`
    pub shape: [usize; 2],
    /// How it is made.
    pub grid: Grid,
    /// One a weight, row-major.
    pub codes: Vec<u8>,
    /// Those of every group, row-major `[out, groups]`.
    pub groups: Vec<GroupGrid>,
}

impl UnpackedCodes {
    /// A matrix of which nothing is known yet.
    pub fn empty(shape: [usize; 2], grid: Grid) -> Self {
        let none = GroupGrid { scale: 1.0, zero: 0 };
        Self {
            shape,
            grid,
            codes: vec![0; shape[0] * shape[1]],
            groups: vec![none; shape[0] * grid.groups(shape[1])],
        }
    }

    /// Finds the grid of every group.
    pub fn fit(&mut self, weights: &[f32]) {
        let (columns, grid) = (self.shape[1], self.grid);
        let rows = weights.par_chunks(columns).zip(self.groups.par_chunks_mut(grid.groups(columns)));
        rows.for_each(|(weights, groups)| {
            for (weights, group) in weights.chunks(grid.group).zip(groups) {
                *group = grid.fit(weights.iter().copied());
            }
        });
    }

    /// As it is kept.
    pub fn pack(self) -> Codes {
        Codes::of(self.shape, self.grid, &self.codes, self.groups)
    }
}

/// A matrix on a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// `[out, in]`
    pub shape: [usize; 2],
    /// How it was made.
    pub grid: Grid,
    /// As `pack-quantized` of compressed-tensors has them: every row is one string of bits, the first code in the lowest,
    /// filled up to whole words of 32.
    packed: Vec<u8>,
    /// Those of every group, row-major `[out, groups]`.
    pub groups: Vec<GroupGrid>,
}

impl Codes {
    /// Of codes with a byte each, row-major.
    pub fn of(shape: [usize; 2], grid: Grid, codes: &[u8], groups: Vec<GroupGrid>) -> Self {
        let (columns, bits) = (shape[1], usize::from(grid.bits));
        let row_bytes = packed_row_bytes(columns, bits);
        let mut packed = vec![0u8; shape[0] * row_bytes];
        let rows = packed.par_chunks_mut(row_bytes).zip(codes.par_chunks(columns));
        rows.for_each(|(packed, codes)| pack(codes, bits, packed));
        Self { shape, grid, packed, groups }
    }

    /// Of codes that are packed already.
    ///
    /// # Errors
    /// [`Error::Failure`] where the lengths do not fit each other.
    pub fn of_packed(shape: [usize; 2], grid: Grid, packed: Vec<u8>, groups: Vec<GroupGrid>) -> Result<Self> {
        let wrong = |what: &str| Error::failure(format!("{what} of a quantised matrix do not fit its shape"));
        let [rows, columns] = shape;
        if !(1..=8).contains(&grid.bits) || grid.group == 0 || columns == 0 {
            return Err(wrong("bits or groups"));
        }
        let row_bytes = packed_row_bytes(columns, usize::from(grid.bits));
        if rows.checked_mul(row_bytes) != Some(packed.len()) {
            return Err(wrong("codes"));
        }
        if rows.checked_mul(grid.groups(columns)) != Some(groups.len()) {
            return Err(wrong("scales"));
        }
        Ok(Self { shape, grid, packed, groups })
    }

    /// Puts every weight of a row-major matrix on its grid, without looking at data; `weights` become what the codes
    /// stand for.
    pub fn nearest(weights: &mut [f32], columns: usize, grid: Grid) -> Self {
        let mut codes = UnpackedCodes::empty([weights.len() / columns, columns], grid);
        let rows = weights.par_chunks_mut(columns).zip(codes.codes.par_chunks_mut(columns));
        rows.zip(codes.groups.par_chunks_mut(grid.groups(columns))).for_each(|((weights, codes), groups)| {
            let parts = weights.chunks_mut(grid.group).zip(codes.chunks_mut(grid.group));
            for ((weights, codes), group) in parts.zip(groups) {
                simd(
                    #[inline(always)]
                    || {
                        *group = grid.fit(weights.iter().copied());
                        let own = *group;
                        for (weight, code) in weights.iter_mut().zip(codes) {
                            *code = grid.code(*weight, own);
                            *weight = own.value(*code);
                        }
                    },
                );
            }
        });
        codes.pack()
    }

    /// The codes as they are kept: see the field.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// A byte for every code, row-major.
    pub fn codes(&self) -> Vec<u8> {
        let (columns, bits) = (self.shape[1], usize::from(self.grid.bits));
        let mut codes = vec![0u8; self.shape[0] * columns];
        codes.par_chunks_mut(columns).zip(self.rows()).for_each(|(codes, (packed, _))| {
            unpack(packed, bits, codes);
        });
        codes
    }

    /// What the codes stand for, row-major.
    pub fn values(&self) -> Vec<f32> {
        let columns = self.shape[1];
        let mut values = vec![0f32; self.shape[0] * columns];
        let rows = values.par_chunks_mut(columns).zip(self.rows());
        rows.for_each_init(
            || vec![0u8; columns],
            |codes, (values, (packed, groups))| {
                unpack(packed, usize::from(self.grid.bits), codes);
                let parts = values.chunks_mut(self.grid.group).zip(codes.chunks(self.grid.group));
                for ((values, codes), group) in parts.zip(groups) {
                    for (value, code) in values.iter_mut().zip(codes) {
                        *value = group.value(*code);
                    }
                }
            },
        );
        values
    }

    /// Groups whose weights are all zero.
    pub fn empty_groups(&self) -> usize {
        let of_row = |codes: &mut Vec<u8>, (packed, groups): (&[u8], &[GroupGrid])| {
            unpack(packed, usize::from(self.grid.bits), codes);
            let parts = codes.chunks(self.grid.group).zip(groups);
            parts.filter(|(codes, group)| codes.iter().all(|code| *code == group.zero)).count()
        };
        self.rows().map_init(|| vec![0u8; self.shape[1]], of_row).sum()
    }

    /// Packed codes and grids of every row.
    fn rows(&self) -> impl IndexedParallelIterator<Item = (&[u8], &[GroupGrid])> {
        let (columns, bits) = (self.shape[1], usize::from(self.grid.bits));
        let codes = self.packed.par_chunks(packed_row_bytes(columns, bits));
        codes.zip(self.groups.par_chunks(self.grid.groups(columns)))
    }

    /// Bits of codes, scales and, where they are not all the same, zeros.
    pub fn bits(&self) -> u64 {
        (self.shape[0] * self.shape[1]) as u64 * u64::from(self.grid.bits) + self.group_bits()
    }

    /// Bits of scales and zeros alone.
    pub fn group_bits(&self) -> u64 {
        let zero = if self.grid.symmetric { 0 } else { u64::from(self.grid.bits) };
        self.groups.len() as u64 * (8 * self.grid.scale_dtype.size_in_bytes() as u64 + zero)
    }
}

/// Bytes of a packed row: whole words of 32 bits.
pub(super) fn packed_row_bytes(columns: usize, bits: usize) -> usize {
    4 * (columns * bits).div_ceil(32)
}

/// Writes codes of `bits` each behind one another, the first in the lowest bits of the first byte; `packed` is zero.
pub fn pack(codes: &[u8], bits: usize, packed: &mut [u8]) {
    for (i, code) in codes.iter().enumerate() {
        let (byte, shift) = (i * bits / 8, i * bits % 8);
        let wide = u16::from(*code) << shift;
        packed[byte] |= wide as u8;
        if shift + bits > 8 {
            packed[byte + 1] |= (wide >> 8) as u8;
        }
    }
}

/// Reads what [`pack`] wrote.
pub fn unpack(packed: &[u8], bits: usize, codes: &mut [u8]) {
    let mask = ((1u16 << bits) - 1) as u8;
    for (i, code) in codes.iter_mut().enumerate() {
        let (byte, shift) = (i * bits / 8, i * bits % 8);
        let next = packed.get(byte + 1).copied().unwrap_or_default();
        *code = (u16::from_le_bytes([packed[byte], next]) >> shift) as u8 & mask;
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the numbers are copies or exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grid(bits: u8, group: usize, symmetric: bool) -> Grid {
        Grid { bits, group, symmetric, scale_dtype: DType::F32 }
    }

    #[test]
    fn grids_are_those_of_the_definition() {
        let asymmetric = grid(4, 4, false).fit([-1.0, 0.5, 2.0].into_iter());
        assert_eq!(asymmetric, GroupGrid { scale: 0.2, zero: 5 });
        let symmetric = grid(4, 4, true).fit([-1.0, 0.5, 2.0].into_iter());
        assert_eq!(symmetric, GroupGrid { scale: 4.0 / 15.0, zero: 8 });
        let nothing = grid(4, 4, false).fit([0.0, 0.0].into_iter());
        assert_eq!(nothing, GroupGrid { scale: 2.0 / 15.0, zero: 7 });
        assert_eq!(nothing.value(grid(4, 4, false).code(0.0, nothing)), 0.0);
    }

    #[test]
    fn a_scale_that_rounds_to_nothing_is_the_least_there_is() {
        let tiny = Grid { scale_dtype: DType::F16, ..grid(8, 4, false) }.fit([1e-9].into_iter());
        assert!(tiny.scale > 0.0);
    }

    proptest! {
        #[test]
        fn codes_read_back_from_their_bytes_and_stand_for_what_was_computed_with(
            bits in prop::sample::select(vec![2u8, 3, 4, 8]),
            symmetric in any::<bool>(),
            group in prop::sample::select(vec![8usize, 24]),
            weights in prop::collection::vec(-4f32..4.0, 72),
        ) {
            let mut values = weights.clone();
            let codes = Codes::nearest(&mut values, 24, grid(bits, group, symmetric));
            prop_assert_eq!(&codes.values(), &values);
            let packed = codes.packed().to_vec();
            prop_assert_eq!(packed.len(), 3 * 4 * (24 * usize::from(bits)).div_ceil(32));
            let read = Codes::of_packed([3, 24], codes.grid, packed, codes.groups.clone()).unwrap();
            prop_assert_eq!(&read, &codes);
            let again = Codes::of([3, 24], codes.grid, &codes.codes(), codes.groups.clone());
            prop_assert_eq!(&again, &codes);
            for (i, (before, after)) in weights.iter().zip(&values).enumerate() {
                let scale = codes.groups[i / 24 * (24 / group) + i % 24 / group].scale;
                // At the ends of the range the zero's own rounding comes in.
                prop_assert!((before - after).abs() <= scale * 1.01, "{before} became {after}");
            }
        }

        #[test]
        fn bytes_that_do_not_fit_are_refused(cut in 0usize..100) {
            let codes = UnpackedCodes::empty([3, 24], grid(4, 8, false)).pack();
            let packed = codes.packed().to_vec();
            let short = packed[..packed.len().saturating_sub(cut)].to_vec();
            let fits = short.len() == packed.len();
            let read = Codes::of_packed([3, 24], codes.grid, short, codes.groups.clone());
            prop_assert_eq!(read.is_ok(), fits);
            prop_assert!(Codes::of_packed([3, 24], codes.grid, packed, Vec::new()).is_err());
        }
    }
}
