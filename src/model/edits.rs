//! Tensors that are read otherwise than they lie in the files: some rows and columns only, or values that no file has.

use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

/// What is read of a tensor.
#[derive(Debug, Clone)]
pub(super) enum TensorEdit {
    /// A part of it.
    Cut(TensorCut),
    /// These little-endian bytes, in the place of those of the files if they have it at all.
    Values(Arc<[u8]>),
}

/// Rows and columns of a matrix that are read; a vector is a matrix of one column.
#[derive(Debug, Clone)]
pub(super) struct TensorCut {
    /// Columns in the files.
    pub width: usize,
    /// `None` is all of them.
    pub rows: Option<Arc<[usize]>>,
    /// `None` is all of them.
    pub columns: Option<Arc<[usize]>>,
}

impl TensorCut {
    /// The bytes that stay of those of a whole tensor, whose elements have `size` bytes.
    fn of(&self, whole: &[u8], size: usize) -> Vec<u8> {
        let stride = (self.width * size).max(1);
        let all = |count: usize| std::iter::once(0..count).collect();
        let rows: Vec<Range<usize>> = self.rows.as_deref().map_or_else(|| all(whole.len() / stride), runs);
        let columns: Vec<Range<usize>> = self.columns.as_deref().map_or_else(|| all(self.width), runs);
        let count = |runs: &[Range<usize>]| runs.iter().map(Range::len).sum::<usize>();
        let mut kept = Vec::with_capacity(count(&rows) * count(&columns) * size);
        for row in rows.into_iter().flatten() {
            let row = &whole[row * stride..][..stride];
            for run in &columns {
                kept.extend_from_slice(&row[run.start * size..run.end * size]);
            }
        }
        kept
    }
}

/// Places in ascending order as runs of neighbours: most stay, so that these are long.
fn runs(places: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &place in places {
        match runs.last_mut() {
            Some(run) if run.end == place => run.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}

/// Edits by the names that the files have.
pub(super) type TensorEdits = BTreeMap<String, TensorEdit>;

/// The bytes of a tensor.
pub(super) enum TensorBytes {
    Mapped(Mmap),
    Made(Vec<u8>),
    Given(Arc<[u8]>),
}

impl TensorBytes {
    /// What is read of a tensor, whose elements have `size` bytes; `map` gives those of the files.
    pub fn of<E>(
        edit: Option<&TensorEdit>,
        size: usize,
        map: impl FnOnce() -> Result<Mmap, E>,
    ) -> Result<Self, E> {
        Ok(match edit {
            None => Self::Mapped(map()?),
            Some(TensorEdit::Cut(cut)) => Self::Made(cut.of(&map()?, size)),
            Some(TensorEdit::Values(bytes)) => Self::Given(bytes.clone()),
        })
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Made(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_takes_rows_and_columns_element_by_element() {
        // Three rows of two columns, of two bytes each.
        let whole: Vec<u8> = (0..12).collect();
        let cut = |rows: Option<&[usize]>, columns: Option<&[usize]>| {
            TensorCut { width: 2, rows: rows.map(Into::into), columns: columns.map(Into::into) }.of(&whole, 2)
        };
        assert_eq!(cut(None, None), whole);
        assert_eq!(cut(Some(&[0, 2]), None), [0, 1, 2, 3, 8, 9, 10, 11]);
        assert_eq!(cut(None, Some(&[1])), [2, 3, 6, 7, 10, 11]);
        assert_eq!(cut(Some(&[1]), Some(&[0])), [4, 5]);
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [0..3, 5..6, 7..9]);
    }
}
