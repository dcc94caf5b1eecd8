//! Transposition of parts of matrices, eight by eight elements at a time.

/// Side of the squares that are turned in registers.
const SIDE: usize = 8;

type Square = [[f32; SIDE]; SIDE];

/// What becomes of the elements that are written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are replaced.
    Replace,
    /// They are added to.
    Add,
}

/// A matrix, or a part of one, that is turned: `to[j · to_stride + i] = from[i · from_stride + j]` for `i < rows` and
/// `j < columns`.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// Where the columns of `from` become rows.
    pub to: &'a mut [f32],
    /// Elements from one row of `to` to the next.
    pub to_stride: usize,
    /// Row-major elements.
    pub from: &'a [f32],
    /// Elements from one row of `from` to the next.
    pub from_stride: usize,
    /// Rows of `from`.
    pub rows: usize,
    /// Columns of `from`.
    pub columns: usize,
}

impl Turn<'_> {
    /// Does it.
    pub fn run(self, into: Into) {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            simd.vectorize(
                #[inline(always)]
                || self.by_squares(into, |square| x86::turn(simd, square)),
            );
            return;
        }
        self.by_squares(into, |a| std::array::from_fn(|j| std::array::from_fn(|i| a[i][j])));
    }

    #[inline(always)]
    fn by_squares(self, into: Into, turn: impl Fn(Square) -> Square) {
        let Self { to, to_stride, from, from_stride, rows, columns } = self;
        let (square_rows, square_columns) = (rows / SIDE * SIDE, columns / SIDE * SIDE);
        for i in (0..square_rows).step_by(SIDE) {
            let line = |r: usize| from[(i + r) * from_stride..][..columns].as_chunks::<SIDE>().0;
            let lines: [&[[f32; SIDE]]; SIDE] = std::array::from_fn(line);
            for j in 0..square_columns / SIDE {
                let turned = turn(std::array::from_fn(|r| lines[r][j]));
                for (c, turned) in turned.iter().enumerate() {
                    let to = &mut to[(j * SIDE + c) * to_stride + i..][..SIDE];
                    match into {
                        Into::Replace => to.copy_from_slice(turned),
                        Into::Add => to.iter_mut().zip(turned).for_each(|(to, v)| *to += v),
                    }
                }
            }
        }
        for i in 0..rows {
            let first = if i < square_rows { square_columns } else { 0 };
            for j in first..columns {
                let (to, v) = (&mut to[j * to_stride + i], from[i * from_stride + j]);
                *to = if into == Into::Add { *to + v } else { v };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::__m256;

    use pulp::cast;
    use pulp::x86::V3;

    use super::Square;

    /// A square transposed by shuffles: pairs of rows, then pairs of pairs within each half of a register, then the
    /// halves. Left to the compiler it takes nearly three times as long.
    #[inline(always)]
    pub(super) fn turn(simd: V3, square: Square) -> Square {
        let avx = simd.avx;
        let r: [__m256; 8] = square.map(cast);
        let low = |i: usize| avx._mm256_unpacklo_ps(r[i], r[i + 1]);
        let high = |i: usize| avx._mm256_unpackhi_ps(r[i], r[i + 1]);
        let quads =
            |a: __m256, b: __m256| (avx._mm256_shuffle_ps::<0x44>(a, b), avx._mm256_shuffle_ps::<0xee>(a, b));
        let halves = |a: __m256, b: __m256| {
            (avx._mm256_permute2f128_ps::<0x20>(a, b), avx._mm256_permute2f128_ps::<0x31>(a, b))
        };
        let ((a0, a1), (a2, a3)) = (quads(low(0), low(2)), quads(high(0), high(2)));
        let ((b0, b1), (b2, b3)) = (quads(low(4), low(6)), quads(high(4), high(6)));
        let ((c0, c4), (c1, c5)) = (halves(a0, b0), halves(a1, b1));
        let ((c2, c6), (c3, c7)) = (halves(a2, b2), halves(a3, b3));
        [c0, c1, c2, c3, c4, c5, c6, c7].map(cast)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the numbers are copies or small integers")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_become_columns(rows in 0usize..40, columns in 0usize..40, more in 0usize..3, add in any::<bool>()) {
            let (from_stride, to_stride) = (columns + more, rows + more);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let mut to = vec![0.5f32; columns * to_stride];
            let turn = Turn { to: &mut to, to_stride, from: &from, from_stride, rows, columns };
            turn.run(if add { Into::Add } else { Into::Replace });
            for (at, got) in to.iter().enumerate() {
                let (j, i) = (at / to_stride, at % to_stride);
                let moved = if i < rows { Some((i * from_stride + j) as f32) } else { None };
                let want = moved.map_or(0.5, |v| if add { v + 0.5 } else { v });
                prop_assert_eq!(*got, want);
            }
        }
    }
}
