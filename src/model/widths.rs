//! Which parts of a block can be made narrower, as data: heads of attention and neurons of an MLP.

use super::layout::{BlockLayout, ModuleId};

/// The rows of a module that make the features of one unit after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnitRows {
    /// The module.
    pub module: ModuleId,
    /// Where the rows of the first unit begin.
    pub start: usize,
    /// Rows of a unit.
    pub length: usize,
    /// Rows from the beginning of a unit to that of the next.
    pub stride: usize,
}

/// A part of a block that consists of units, each of which can go as a whole: a neuron of the MLP, or a key head with the
/// query heads that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WidthPart {
    /// How many there are.
    pub units: usize,
    /// Features of a unit: the columns of `output` that read it.
    pub features: usize,
    /// The module that reads them, and gives the part's output.
    pub output: ModuleId,
    /// The rows that make them.
    pub rows: Vec<UnitRows>,
}

impl WidthPart {
    /// Weights of matrices that go with a unit.
    pub fn weights_per_unit(&self, layout: &BlockLayout) -> usize {
        let made: usize = self.rows.iter().map(|rows| rows.length * layout.module(rows.module).shape.1).sum();
        made + self.features * layout.module(self.output).shape.0
    }

    /// The columns of the output's module that stay with these units.
    pub fn kept_columns(&self, kept: &[usize]) -> Vec<usize> {
        kept.iter().flat_map(|unit| unit * self.features..(unit + 1) * self.features).collect()
    }

    /// The modules that make the features, each once, and the rows of each that stay with these units.
    pub fn kept_rows(&self, layout: &BlockLayout, kept: &[usize]) -> Vec<(ModuleId, Vec<usize>)> {
        let mut modules: Vec<ModuleId> = self.rows.iter().map(|rows| rows.module).collect();
        modules.dedup();
        let rows = |id: ModuleId| {
            let mut stays = vec![true; layout.module(id).shape.0];
            for rows in self.rows.iter().filter(|rows| rows.module == id) {
                for unit in (0..self.units).filter(|unit| kept.binary_search(unit).is_err()) {
                    let start = rows.start + unit * rows.stride;
                    stays[start..start + rows.length].fill(false);
                }
            }
            (0..stays.len()).filter(|row| stays[*row]).collect()
        };
        modules.into_iter().map(|id| (id, rows(id))).collect()
    }
}

/// The parts of a block, or why they stay as wide as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockWidths {
    /// Key heads, each with the query heads that share it.
    pub attention: Result<WidthPart, &'static str>,
    /// Neurons of the MLP.
    pub mlp: Result<WidthPart, &'static str>,
}

impl BlockWidths {
    /// Of a block that nothing is known of.
    pub const UNKNOWN: Self = Self::none("its blocks have other parts than one attention and one MLP");

    /// Of a block that stays as wide as it is.
    pub const fn none(why: &'static str) -> Self {
        Self { attention: Err(why), mlp: Err(why) }
    }

    /// The parts that can be narrower.
    pub fn parts(&self) -> impl Iterator<Item = &WidthPart> {
        [&self.attention, &self.mlp].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::LayoutBuilder;
    use super::*;

    #[test]
    fn rows_and_columns_of_units_that_stay_are_those_of_their_layout() {
        let mut builder = LayoutBuilder::new("b".into());
        // Two key heads of two features, with two query heads each: one matrix, queries first.
        let qkv = builder.linear(6, ("qkv", 8 + 4 + 4, true));
        let output = builder.linear(8, ("o", 6, false));
        let layout = builder.finish();
        let rows = |start, length| UnitRows { module: qkv, start, length, stride: length };
        let part =
            WidthPart { units: 2, features: 4, output, rows: vec![rows(0, 4), rows(8, 2), rows(12, 2)] };
        assert_eq!(part.weights_per_unit(&layout), (4 + 2 + 2) * 6 + 4 * 6);
        assert_eq!(part.kept_columns(&[1]), [4, 5, 6, 7]);
        assert_eq!(part.kept_rows(&layout, &[1]), [(qkv, vec![4, 5, 6, 7, 10, 11, 14, 15])]);
        assert_eq!(part.kept_rows(&layout, &[0, 1]), [(qkv, (0..16).collect::<Vec<_>>())]);
    }
}
