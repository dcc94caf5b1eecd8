//! What the columns of a matrix are projected to, and the pieces in which it is solved.

use candle_core::Tensor;

use super::grid::Grids;
use crate::kernels::codes::Grid;

/// Columns that are solved one by one before what they cost is passed on to all later ones as a product.
const TILE: usize = 128;

/// Which weights the loop zeroes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Zeros {
    /// None but those that are rounded to zero.
    None,
    /// Those that are zero in the matrix as it came.
    Kept,
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
/// A column's projection depends only on its weights at the time and on what was fixed at the start of its block.
#[derive(Debug, Clone)]
pub(crate) struct Projection<'a> {
    /// Which weights become zero.
    pub zeros: Zeros,
    /// Columns whose scores are compared with each other.
    pub block_size: usize,
    /// The grid that the weights go on; else those that stay keep their value.
    pub grid: Option<GridTarget<'a>>,
}

/// How weights get on a grid while they are solved.
#[derive(Debug, Clone)]
pub(crate) struct GridTarget<'a> {
    /// The grid.
    pub grid: Grid,
    /// Grids of all groups that are there already. Else those of a group are found when the loop reaches the block of
    /// columns that the group begins in.
    pub fitted: Option<Grids>,
    /// The columns of the matrix as it came, where they were put into another order. Groups are those of that order.
    pub order: Option<&'a [usize]>,
}

impl GridTarget<'_> {
    /// The group of a column.
    pub(super) fn group_of(&self, column: usize) -> usize {
        self.order.map_or(column, |order| order[column]) / self.grid.group
    }

    /// The groups whose grids have to be found where a tile begins: those that begin in its block.
    pub(super) fn groups_to_fit(&self, tile: Tile) -> std::ops::Range<usize> {
        if self.fitted.is_some() || tile.in_block > 0 {
            return 0..0;
        }
        tile.first.div_ceil(self.grid.group)..(tile.first + tile.block).div_ceil(self.grid.group)
    }
}

impl Projection<'_> {
    /// Columns of a tile: as many as [`TILE`], but a group never lies in two.
    pub(super) fn tile(&self) -> usize {
        match self.zeros {
            Zeros::OfGroups { m, .. } => (TILE / m).max(1) * m,
            _ => TILE.min(self.block_size),
        }
    }

    /// Columns of a block: a whole number of groups.
    fn block(&self) -> usize {
        match self.zeros {
            Zeros::OfGroups { m, .. } => self.block_size.next_multiple_of(m),
            _ => self.block_size,
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
    /// The codes of the weights, `[rows, columns]`, and their grids, where they went on one.
    pub codes: Option<(Tensor, Grids)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_column_once_and_split_no_group() {
        let cases = [
            (Zeros::None, 128),
            (Zeros::Kept, 300),
            (Zeros::Share(0.5), 128),
            (Zeros::Share(0.5), 300),
            (Zeros::Share(0.1), 7),
            (Zeros::OfGroups { n: 2, m: 4 }, 128),
            (Zeros::OfGroups { n: 1, m: 5 }, 128),
            (Zeros::OfGroups { n: 1, m: 160 }, 50),
        ];
        for (zeros, block_size) in cases {
            let projection = Projection { zeros, block_size, grid: None };
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

    #[test]
    fn the_grid_of_every_group_is_found_once_where_its_block_begins() {
        for (group, block_size) in [(64, 128), (128, 128), (32, 300), (128, 7), (640, 128)] {
            let grid = Grid { bits: 4, group, symmetric: false, scale_dtype: candle_core::DType::F32 };
            let target = GridTarget { grid, fitted: None, order: None };
            let projection = Projection { zeros: Zeros::None, block_size, grid: Some(target.clone()) };
            let mut next = 0;
            for tile in projection.tiles(640) {
                for found in target.groups_to_fit(tile) {
                    assert_eq!(found, next);
                    let begins = found * group;
                    assert!(
                        (tile.first..tile.first + tile.block).contains(&begins),
                        "{group}, {block_size}: {tile:?}"
                    );
                    next += 1;
                }
                let last = target.group_of(tile.first + tile.width - 1);
                assert!(last < next, "{group}, {block_size}: {tile:?} needs group {last}");
            }
            assert_eq!(next, 640 / group);
        }
    }
}
