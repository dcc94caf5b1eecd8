//! Products with a matrix of which many weights are zero.
//!
//! The matrix is packed once: four rows at a time, and of those [`COLUMNS`] columns at a time, columns are sorted by
//! which of the four weights are there (one of sixteen patterns), and only weights that are there are kept. Tokens go
//! in tiles of a few vector registers, with features as rows: a column of weights meets one row of the tile, which is
//! read once for up to four outputs, and every pattern is a loop of its own whose body has no branches. The stretch of
//! the tile that [`COLUMNS`] features take stays in the first cache.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::scratch::Buffer;
use super::turn::{Into, Turn};

/// Columns that are packed together; with the widest tile their features take 32 KiB.
const COLUMNS: usize = 128;
/// Rows that share what they read.
const GROUP: usize = 4;
/// Which of a group's weights are there.
const PATTERNS: usize = 1 << GROUP;
/// Rows whose packed weights stay in the second cache from one tile to the next.
const CHUNK: usize = 128;
/// Tiles that a task takes at most, one after the other for every chunk of rows.
const TILES: usize = 4;
/// Elements that a cache line holds.
const LINE: usize = 16;

/// A matrix `[rows, columns]` without its zeroes.
#[derive(Debug, Clone)]
pub struct Packed {
    rows: usize,
    columns: usize,
    chunks: Vec<Chunk>,
}

/// Up to [`CHUNK`] rows.
#[derive(Debug, Clone)]
struct Chunk {
    rows: usize,
    blocks: Vec<ColumnBlock>,
}

/// Up to [`COLUMNS`] columns of a chunk.
#[derive(Debug, Clone, Default)]
struct ColumnBlock {
    /// For every group of rows, how many columns have which pattern.
    counts: Vec<[u8; PATTERNS]>,
    /// For every group and pattern but the empty one, its columns.
    columns: Vec<u8>,
    /// For every one of these columns, the weights that are there.
    values: Vec<f32>,
}

impl Packed {
    /// Packs a row-major matrix, `columns` wide.
    pub fn new(w: &[f32], columns: usize) -> Self {
        let chunk = |w: &[f32]| Chunk {
            rows: w.len() / columns,
            blocks: (0..columns).step_by(COLUMNS).map(|first| ColumnBlock::new(w, columns, first)).collect(),
        };
        let chunks = w.par_chunks(CHUNK * columns.max(1)).map(chunk).collect();
        Self { rows: w.len() / columns.max(1), columns, chunks }
    }

    /// Packs a matrix if it has enough zeroes for that to pay.
    pub fn if_worthwhile(w: &[f32], columns: usize) -> Option<Self> {
        let zeroes: usize = w.par_chunks(1 << 16).map(|w| w.iter().filter(|v| **v == 0.0).count()).sum();
        let worthwhile = Arch::new().dispatch(Worthwhile);
        (zeroes as f64 >= worthwhile * w.len() as f64).then(|| Self::new(w, columns))
    }

    /// Rows of the matrix: outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl ColumnBlock {
    fn new(w: &[f32], total: usize, first: usize) -> Self {
        let width = COLUMNS.min(total - first);
        let mut block = Self::default();
        for rows in w.chunks(GROUP * total) {
            let line = |r: usize| rows.get(r * total + first..r * total + first + width).unwrap_or(&[]);
            block.push(std::array::from_fn(line));
        }
        block
    }

    /// Packs one group; rows behind the matrix's last are empty.
    fn push(&mut self, lines: [&[f32]; GROUP]) {
        let width = lines[0].len();
        let mut patterns = [0u8; COLUMNS];
        for (r, line) in lines.iter().enumerate() {
            for (pattern, v) in patterns.iter_mut().zip(*line) {
                *pattern |= u8::from(*v != 0.0) << r;
            }
        }
        let patterns = &patterns[..width];
        let mut counts = [0u8; PATTERNS];
        for &pattern in patterns {
            counts[usize::from(pattern)] += 1;
        }
        // Where the next column of every pattern goes; those of the empty one go to the front and are left out.
        let mut next = [0usize; PATTERNS];
        for pattern in 1..PATTERNS {
            next[pattern] = next[pattern - 1] + usize::from(counts[pattern - 1]);
        }
        let mut order = [0u8; COLUMNS];
        for (j, &pattern) in patterns.iter().enumerate() {
            let next = &mut next[usize::from(pattern)];
            order[*next] = j as u8;
            *next += 1;
        }
        let order = &order[usize::from(counts[0])..width];
        self.columns.extend_from_slice(order);
        // All four are written and the place moves on by one where there is a weight: no branches.
        let mut end = self.values.len();
        self.values.resize(end + GROUP * (order.len() + 1), 0.0);
        for &j in order {
            let j = usize::from(j);
            for (r, line) in lines.iter().enumerate() {
                self.values[end] = line.get(j).copied().unwrap_or(0.0);
                end += usize::from(patterns[j] >> r & 1);
            }
        }
        self.values.truncate(end);
        self.counts.push(counts);
    }
}

/// `out = x · wᵀ` or `out += x · wᵀ`: `x` is `[n, columns]`, `out` is `[n, rows]`.
///
/// Every row of `out` is computed alike whatever the others are and however many threads there are.
///
/// # Panics
/// If `out` has another length.
pub fn linear(out: &mut [f32], x: &[f32], w: &Packed, accumulate: bool) {
    linear_on(Arch::new(), out, x, w, accumulate);
}

fn linear_on(arch: Arch, out: &mut [f32], x: &[f32], w: &Packed, accumulate: bool) {
    let (inner, outer) = (w.columns, w.rows);
    if x.is_empty() || inner == 0 || outer == 0 {
        return;
    }
    let n = x.len() / inner;
    assert!(out.len() == n * outer, "{} outputs for a product of {n} by {outer}", out.len());
    let tokens = arch.dispatch(TileWidth);
    let tiles = TILES.min(n.div_ceil(tokens).div_ceil(rayon::current_num_threads()));
    let task = tiles * tokens;
    let tile = inner.next_multiple_of(COLUMNS) * tokens;
    let into = if accumulate { Into::Add } else { Into::Replace };
    out.par_chunks_mut(task * outer).zip(x.par_chunks(task * inner)).for_each_init(
        || (Aligned::take(tiles * tile), Aligned::take(tiles * CHUNK * tokens)),
        |(xs, ys), (out, x)| {
            let xs = xs.elements();
            for (xs, x) in xs.chunks_exact_mut(tile).zip(x.chunks(tokens * inner)) {
                features_first(xs, x, inner, tokens);
            }
            let used = x.len().div_ceil(tokens * inner);
            let mut row = 0;
            for chunk in &w.chunks {
                let part = chunk.rows.next_multiple_of(GROUP) * tokens;
                let ys = &mut ys.elements()[..used * part];
                for (k, block) in chunk.blocks.iter().enumerate() {
                    for (y, xs) in ys.chunks_exact_mut(part).zip(xs.chunks_exact(tile)) {
                        let x = &xs[k * COLUMNS * tokens..(k + 1) * COLUMNS * tokens];
                        arch.dispatch(Multiply { block, x, y, first: k == 0 });
                    }
                }
                for (from, out) in ys.chunks_exact(part).zip(out.chunks_mut(tokens * outer)) {
                    let columns = out.len() / outer;
                    let to = &mut out[row..];
                    let turn =
                        Turn { to, to_stride: outer, from, from_stride: tokens, rows: chunk.rows, columns };
                    turn.run(into);
                }
                row += chunk.rows;
            }
        },
    );
}

/// Turns up to `tokens` rows of `x` so that every feature is a row of `tokens` elements.
fn features_first(xs: &mut [f32], x: &[f32], inner: usize, tokens: usize) {
    let rows = x.len() / inner;
    for (k, to) in xs.chunks_exact_mut(COLUMNS * tokens).enumerate() {
        let first = k * COLUMNS;
        let columns = COLUMNS.min(inner - first);
        Turn { to, to_stride: tokens, from: &x[first..], from_stride: inner, rows, columns }
            .run(Into::Replace);
    }
}

/// A buffer that begins with a cache line: registers that are loaded across two lines cost two loads.
struct Aligned {
    buffer: Buffer,
    skip: usize,
    len: usize,
}

impl Aligned {
    fn take(len: usize) -> Self {
        let buffer = Buffer::take(len + LINE);
        let skip = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { buffer, skip, len }
    }

    fn elements(&mut self) -> &mut [f32] {
        &mut self.buffer[self.skip..self.skip + self.len]
    }
}

/// Whether the registers hold four outputs of four vectors of tokens, rather than of two.
const fn is_wide<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32
}

/// Time of a product with a matrix of such a share of zeroes against that with a dense one, as measured with AVX-512 and
/// with AVX2: 1 where it is not packed.
pub(crate) fn relative_time(zeroes: f64) -> f64 {
    if zeroes < Arch::new().dispatch(Worthwhile) {
        return 1.0;
    }
    let (least, each) = if Arch::new().dispatch(Wide) { (0.1, 0.9) } else { (0.42, 0.97) };
    (least + each * (1.0 - zeroes)).min(1.0)
}

/// Whether the registers are those of AVX-512.
struct Wide;

impl WithSimd for Wide {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        is_wide::<S>()
    }
}

/// Share of zeroes from which on the packed product is faster than the dense one, with a margin: measured with AVX-512
/// and with AVX2.
struct Worthwhile;

impl WithSimd for Worthwhile {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        if is_wide::<S>() { 0.15 } else { 0.45 }
    }
}

/// Tokens of a tile.
struct TileWidth;

impl WithSimd for TileWidth {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES * if is_wide::<S>() { 4 } else { 2 }
    }
}

/// One block's share of one tile's outputs.
struct Multiply<'a> {
    block: &'a ColumnBlock,
    /// `[COLUMNS, tokens]`
    x: &'a [f32],
    /// `[rows of the chunk, tokens]`
    y: &'a mut [f32],
    /// Whether `y` has no share in it yet.
    first: bool,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if is_wide::<S>() { self.run::<S, 4>(simd) } else { self.run::<S, 2>(simd) }
    }
}

/// Runs the loops of some patterns, each with the number of weights in it.
macro_rules! patterns {
    ($simd:ident $sums:ident $x:ident $columns:ident $values:ident $counts:ident; $($pattern:literal $weights:literal),*) => {
        $(
            let (columns, rest) = $columns.split_at(usize::from($counts[$pattern]));
            $columns = rest;
            let (values, rest) = $values.split_at(columns.len() * $weights);
            $values = rest;
            add::<S, V, $pattern, $weights>($simd, &mut $sums, $x, columns, values.as_chunks().0);
        )*
    };
}

impl Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Some(x) = S::as_simd_f32s(self.x).0.as_chunks::<V>().0.first_chunk::<COLUMNS>() else { return };
        let y = S::as_mut_simd_f32s(self.y).0.as_chunks_mut::<V>().0.as_chunks_mut::<GROUP>().0;
        let (mut columns, mut values) = (&self.block.columns[..], &self.block.values[..]);
        for (counts, y) in self.block.counts.iter().zip(y) {
            let mut sums = if self.first { [[simd.splat_f32s(0.0); V]; GROUP] } else { *y };
            patterns!(simd sums x columns values counts;
                1 1, 2 1, 3 2, 4 1, 5 2, 6 2, 7 3, 8 1, 9 2, 10 2, 11 3, 12 2, 13 3, 14 3, 15 4);
            *y = sums;
        }
    }
}

/// Adds the columns of one pattern to the sums of a group.
#[inline(always)]
fn add<S: Simd, const V: usize, const PATTERN: usize, const WEIGHTS: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; GROUP],
    x: &[[S::f32s; V]; COLUMNS],
    columns: &[u8],
    values: &[[f32; WEIGHTS]],
) {
    for (&column, values) in columns.iter().zip(values) {
        let x = &x[usize::from(column) % COLUMNS];
        let mut values = values.iter();
        for (r, sums) in sums.iter_mut().enumerate() {
            if PATTERN >> r & 1 == 1
                && let Some(&w) = values.next()
            {
                let w = simd.splat_f32s(w);
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = simd.mul_add_e_f32s(w, *x, *sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// All instruction sets of this machine.
    fn archs() -> Vec<Arch> {
        let mut archs = vec![Arch::new(), Arch::Scalar];
        #[cfg(target_arch = "x86_64")]
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
        archs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn packed_products_are_dense_ones(
            n in 1usize..150, inner in 1usize..300, outer in 1usize..300, density in 0f64..1.0,
            accumulate in any::<bool>(), seed in any::<u64>(),
        ) {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let w: Vec<f32> = (0..outer * inner)
                .map(|_| if rng.random_bool(density) { rng.random_range(-1f32..1.0) } else { 0.0 })
                .collect();
            let x: Vec<f32> = (0..n * inner).map(|_| rng.random_range(-2f32..2.0)).collect();
            let packed = Packed::new(&w, inner);
            prop_assert_eq!(packed.rows(), outer);
            for arch in archs() {
                let mut out = vec![3f32; n * outer];
                linear_on(arch, &mut out, &x, &packed, accumulate);
                for (i, out) in out.chunks(outer).enumerate() {
                    for (o, got) in out.iter().enumerate() {
                        let pairs = x[i * inner..][..inner].iter().zip(&w[o * inner..][..inner]);
                        let sum: f64 = pairs.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                        let want = sum + if accumulate { 3.0 } else { 0.0 };
                        prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{:?}: {} {}", arch, got, want);
                    }
                }
            }
        }

        #[test]
        fn a_row_does_not_depend_on_the_others(n in 1usize..200, first in 0usize..200, seed in any::<u64>()) {
            let (inner, outer) = (150, 9);
            let first = first.min(n - 1);
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let w: Vec<f32> = (0..outer * inner).map(|i| if i % 3 == 0 { 0.0 } else { rng.random() }).collect();
            let x: Vec<f32> = (0..n * inner).map(|_| rng.random()).collect();
            let packed = Packed::new(&w, inner);
            let (mut all, mut some) = (vec![0f32; n * outer], vec![0f32; (n - first) * outer]);
            linear(&mut all, &x, &packed, false);
            linear(&mut some, &x[first * inner..], &packed, false);
            prop_assert_eq!(&all[first * outer..], &some[..]);
        }
    }

    #[test]
    fn more_zeroes_take_less_time() {
        assert!((relative_time(0.0) - 1.0).abs() < 1e-12);
        let times: Vec<f64> = (0..=20).map(|s| relative_time(f64::from(s) / 20.0)).collect();
        assert!(times.windows(2).all(|pair| pair[1] <= pair[0]), "{times:?}");
        assert!(times[20] > 0.0);
    }

    #[test]
    fn matrices_of_few_zeroes_are_not_packed() {
        let with =
            |zeroes: usize| -> Vec<f32> { (0..100).map(|i| f32::from(u8::from(i >= zeroes))).collect() };
        assert!(Packed::if_worthwhile(&with(0), 10).is_none());
        assert!(Packed::if_worthwhile(&with(10), 10).is_none());
        assert!(Packed::if_worthwhile(&with(50), 10).is_some());
        assert!(Packed::if_worthwhile(&with(100), 10).is_some());
    }

    #[test]
    fn a_matrix_of_zeroes_gives_zeroes_and_no_rows_are_no_work() {
        let packed = Packed::new(&[0.0; 6 * 5], 5);
        let mut out = [7f32; 12];
        linear(&mut out, &[1.0; 10], &packed, false);
        assert!(out.iter().all(|v| v.to_bits() == 0));
        linear(&mut [], &[], &packed, false);
    }
}
