//! What SparseGPT's columns are projected to, and the pieces in which a matrix is solved.

use candle_core::Tensor;

/// Columns that are solved one by one before what they cost is passed on to all later ones as a product.
const TILE: usize = 128;

/// Which weights the loop zeroes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Zeros {
    /// Of every block of columns those whose score is at most the one at this share of the block's, ties included.
    Share(f64),
    /// The `n` lowest of every `m` neighbours of a row, chosen when the loop reaches the first of them.
    OfGroups {
        /// How many go.
        n: usize,
        /// Of how many.
        m: usize,
    },
}

/// What the columns of a matrix are projected to.
///
/// A column's projection depends only on its weights at the time and on what was fixed at the start of its block. (A
/// grid, for quantising, is one more thing that is fixed there: it would be applied to the weights that stay.)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Projection {
    /// Which weights become zero; the others keep their value.
    pub zeros: Zeros,
    /// Columns whose scores are compared with each other.
    pub block_size: usize,
}

impl Projection {
    /// Columns of a tile: as many as [`TILE`], but a group never lies in two.
    pub(super) fn tile(&self) -> usize {
        match self.zeros {
            Zeros::Share(_) => TILE.min(self.block_size),
            Zeros::OfGroups { m, .. } => (TILE / m).max(1) * m,
        }
    }

    /// Columns of a block: a whole number of groups.
    fn block(&self) -> usize {
        match self.zeros {
            Zeros::Share(_) => self.block_size,
            Zeros::OfGroups { m, .. } => self.block_size.next_multiple_of(m),
        }
    }

    /// The tiles of a matrix: first column, width, and the columns of the block where one begins there.
    pub(super) fn tiles(&self, columns: usize) -> Vec<Tile> {
        let (block, tile) = (self.block(), self.tile());
        let mut tiles = Vec::new();
        for begin in (0..columns).step_by(block) {
            let end = columns.min(begin + block);
            for first in (begin..end).step_by(tile) {
                tiles.push(Tile {
                    first,
                    width: tile.min(end - first),
                    in_block: first - begin,
                    block: end - begin,
                });
            }
        }
        tiles
    }
}

/// Columns that are solved together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// The first of them.
    pub first: usize,
    /// How many.
    pub width: usize,
    /// Columns of the block before the first.
    pub in_block: usize,
    /// Columns of the whole block.
    pub block: usize,
}

/// What the loop made of a matrix.
#[derive(Debug)]
pub(crate) struct Solved {
    /// The new weights.
    pub weights: Tensor,
    /// `Σ e²/2`, where `e = (w − q)/U_ii` of every weight.
    pub loss: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_column_once_and_split_no_group() {
        let cases = [
            (Zeros::Share(0.5), 128),
            (Zeros::Share(0.5), 300),
            (Zeros::Share(0.1), 7),
            (Zeros::OfGroups { n: 2, m: 4 }, 128),
            (Zeros::OfGroups { n: 1, m: 5 }, 128),
            (Zeros::OfGroups { n: 1, m: 160 }, 50),
        ];
        for (zeros, block_size) in cases {
            let projection = Projection { zeros, block_size };
            let tiles = projection.tiles(640);
            let mut next = 0;
            for tile in &tiles {
                assert_eq!(tile.first, next);
                next += tile.width;
                if let Zeros::OfGroups { m, .. } = zeros {
                    assert!(tile.first % m == 0 && tile.width % m == 0, "{zeros:?}: {tile:?}");
                }
            }
            assert_eq!(next, 640);
        }
    }
}
