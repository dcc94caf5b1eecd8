//! Ragged batches: sequences of different lengths, one after the other in the rows of one matrix.

use std::ops::Range;

use crate::kernels::attention::Segment;

/// Which rows of a hidden state belong to which sequence, and where in it they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    sequences: Vec<Sequence>,
    positions: Vec<u32>,
    /// Of every sequence that continues another one of the batch, the row at which that one begins; empty where none does.
    trunks: Vec<Option<usize>>,
}

/// Tokens of one sequence, or of several that begin alike and are computed alike up to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree<T> {
    /// What all have in common, or the only sequence.
    pub trunk: T,
    /// What each has behind that.
    pub branches: Vec<T>,
}

impl<T> Tree<T> {
    /// A sequence that shares nothing.
    pub fn alone(trunk: T) -> Self {
        Self { trunk, branches: Vec::new() }
    }
}

impl Tree<usize> {
    /// Rows that it takes.
    pub fn rows(&self) -> usize {
        self.trunk + self.branches.iter().sum::<usize>()
    }
}

impl Tree<Vec<u32>> {
    /// Its tokens: the trunk's, then those of one branch after the other.
    pub fn tokens(&self) -> Vec<u32> {
        self.branches.iter().fold(self.trunk.clone(), |mut tokens, branch| {
            tokens.extend(branch);
            tokens
        })
    }

    /// Tokens of the longest sequence.
    pub fn length(&self) -> usize {
        self.trunk.len() + self.branches.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// How many tokens each part has.
    pub fn shape(&self) -> Tree<usize> {
        Tree { trunk: self.trunk.len(), branches: self.branches.iter().map(Vec::len).collect() }
    }
}

/// One sequence of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Its place in a cache.
    pub slot: usize,
    /// Tokens of it that the cache holds.
    pub past: usize,
    /// Tokens that are new.
    pub new: usize,
}

/// The rows of a sequence, for what reads them one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SequenceRun {
    /// The sequence's place in a cache.
    pub slot: usize,
    /// Tokens before the first row.
    pub past: usize,
    pub row: usize,
    pub rows: usize,
    /// The number of the run that this one continues, where it does.
    pub trunk: Option<usize>,
}

impl Batch {
    /// A batch of sequences, in the order of their rows.
    pub fn new(sequences: Vec<Sequence>) -> Self {
        let positions = sequences.iter().flat_map(|s| (s.past..s.past + s.new).map(|p| p as u32)).collect();
        Self { sequences, positions, trunks: Vec::new() }
    }

    /// Whole sequences of these lengths.
    pub fn of_lengths(lengths: &[usize]) -> Self {
        Self::new(lengths.iter().enumerate().map(|(slot, &new)| Sequence { slot, past: 0, new }).collect())
    }

    /// A batch of trees: of each the trunk and then the branches that have tokens. There is no cache for it.
    pub fn trees(trees: &[Tree<usize>]) -> Self {
        let (mut sequences, mut trunks, mut row) = (Vec::new(), Vec::new(), 0);
        for (slot, tree) in trees.iter().enumerate() {
            sequences.push(Sequence { slot, past: 0, new: tree.trunk });
            trunks.push(None);
            for &new in tree.branches.iter().filter(|new| **new > 0) {
                sequences.push(Sequence { slot, past: tree.trunk, new });
                trunks.push(Some(row));
            }
            row += tree.rows();
        }
        if trunks.iter().all(Option::is_none) {
            trunks.clear();
        }
        Self { trunks, ..Self::new(sequences) }
    }

    /// `count` windows of `length` tokens each.
    pub fn windows(count: usize, length: usize) -> Self {
        Self::new((0..count).map(|slot| Sequence { slot, past: 0, new: length }).collect())
    }

    /// Which trees go into which batch: whole ones in their order, of at most `most` rows together; a larger one is a batch
    /// of its own.
    pub fn grouped(trees: &[Tree<usize>], most: usize) -> Vec<Range<usize>> {
        let mut rows = 0;
        let mut groups: Vec<Range<usize>> = Vec::new();
        for (index, tree) in trees.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if rows + tree.rows() <= most => group.end = index + 1,
                _ => {
                    groups.push(index..index + 1);
                    rows = 0;
                }
            }
            rows += tree.rows();
        }
        groups
    }

    pub(crate) fn len(&self) -> usize {
        self.sequences.len()
    }

    /// The same sequences in batches of at most `most` rows, in their order; one that is longer is cut.
    pub fn pieces(&self, most: usize) -> Vec<Self> {
        let most = most.max(1);
        let (mut pieces, mut piece, mut room) = (Vec::new(), Vec::new(), most);
        for sequence in &self.sequences {
            let mut left = *sequence;
            if left.new > room && !piece.is_empty() {
                pieces.push(Self::new(std::mem::take(&mut piece)));
                room = most;
            }
            while left.new > room {
                pieces.push(Self::new(vec![Sequence { new: room, ..left }]));
                left = Sequence { past: left.past + room, new: left.new - room, ..left };
            }
            room -= left.new;
            piece.push(left);
        }
        if !piece.is_empty() {
            pieces.push(Self::new(piece));
        }
        pieces
    }

    /// Rows of the hidden state: new tokens of all sequences.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// Position in its sequence of every row.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Where sequences continue others of the batch: the rows of keys and values that they attend to, one sequence after the
    /// other, and what lies where among these. `None` where every sequence has its own.
    pub(super) fn continued(&self) -> Option<(Vec<u32>, Vec<Segment>)> {
        if self.trunks.is_empty() {
            return None;
        }
        let (mut rows, mut segments) = (Vec::new(), Vec::new());
        for ((query_row, s), trunk) in self.spans().zip(&self.trunks) {
            let (key_row, queries, keys) = (rows.len(), s.new, s.past + s.new);
            rows.extend(trunk.iter().flat_map(|&trunk| trunk..trunk + s.past).map(|row| row as u32));
            rows.extend((query_row..query_row + s.new).map(|row| row as u32));
            segments.push(Segment { query_row, queries, key_row, keys });
        }
        Some((rows, segments))
    }

    /// The sequences in the order of their rows.
    pub(super) fn runs(&self) -> Vec<SequenceRun> {
        let mut runs: Vec<SequenceRun> = Vec::with_capacity(self.len());
        for (number, (row, s)) in self.spans().enumerate() {
            let first = self.trunks.get(number).copied().flatten();
            let trunk =
                first.and_then(|first| runs.iter().position(|run| run.trunk.is_none() && run.row == first));
            runs.push(SequenceRun { slot: s.slot, past: s.past, row, rows: s.new, trunk });
        }
        runs
    }

    /// Queries and keys of every sequence; keys lie `capacity` rows apart in a cache, or as the queries do.
    pub(super) fn segments(&self, capacity: Option<usize>) -> Vec<Segment> {
        let segment = |(query_row, s): (usize, &Sequence)| Segment {
            query_row,
            queries: s.new,
            key_row: capacity.map_or(query_row, |c| s.slot * c),
            keys: s.past + s.new,
        };
        self.spans().map(segment).collect()
    }

    /// Sequences, each with its first row.
    pub(super) fn spans(&self) -> impl Iterator<Item = (usize, &Sequence)> {
        self.sequences.iter().scan(0, |row, sequence| {
            let first = *row;
            *row += sequence.new;
            Some((first, sequence))
        })
    }

    /// The last row of every sequence.
    pub fn last_rows(&self) -> Vec<u32> {
        self.spans().map(|(row, s)| (row + s.new - 1) as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_their_sequence_and_position() {
        let batch = Batch::new(vec![
            Sequence { slot: 2, past: 3, new: 2 },
            Sequence { slot: 0, past: 0, new: 3 },
            Sequence { slot: 1, past: 9, new: 1 },
        ]);
        assert_eq!((batch.len(), batch.rows()), (3, 6));
        assert_eq!(batch.positions(), [3, 4, 0, 1, 2, 9]);
        assert_eq!(batch.last_rows(), [1, 4, 5]);
        let segment = |query_row, queries, key_row, keys| Segment { query_row, queries, key_row, keys };
        let cached = [segment(0, 2, 40, 5), segment(2, 3, 0, 3), segment(5, 1, 20, 10)];
        assert_eq!(batch.segments(Some(20)), cached);
        let windows = Batch::windows(2, 3);
        assert_eq!(windows.positions(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(windows.segments(None), [segment(0, 3, 0, 3), segment(3, 3, 3, 3)]);
        assert_eq!(Batch::windows(0, 5).len(), 0);
    }

    #[test]
    fn groups_hold_whole_trees_and_at_least_one() {
        let trees = [3, 9, 1, 4, 4, 30].map(Tree::alone).into_iter();
        let trees: Vec<_> = trees.chain([Tree { trunk: 1, branches: vec![0, 1] }]).collect();
        assert_eq!(Batch::grouped(&trees, 10), [0..1, 1..3, 3..5, 5..6, 6..7]);
        assert_eq!(Batch::grouped(&trees, 0).len(), 7);
        assert_eq!(Batch::grouped(&trees, 53).len(), 1);
        assert!(Batch::grouped(&[], 10).is_empty());
        // Windows of one length: as many as fit, at least one.
        assert_eq!(Batch::grouped(&[8; 5].map(Tree::alone), 20), [0..2, 2..4, 4..5]);
    }

    #[test]
    fn branches_stand_behind_their_trunk_and_attend_to_it() {
        let trees = [Tree { trunk: 3, branches: vec![2, 0, 1] }, Tree::alone(2)];
        let batch = Batch::trees(&trees);
        assert_eq!((batch.len(), batch.rows()), (4, 8));
        assert_eq!(batch.positions(), [0, 1, 2, 3, 4, 3, 0, 1]);
        let (rows, segments) = batch.continued().unwrap();
        assert_eq!(rows, [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7]);
        let segment = |query_row, queries, key_row, keys| Segment { query_row, queries, key_row, keys };
        let expected = [segment(0, 3, 0, 3), segment(3, 2, 3, 5), segment(5, 1, 8, 4), segment(6, 2, 12, 2)];
        assert_eq!(segments, expected);
        assert_eq!(Batch::trees(&[4, 2].map(Tree::alone)), Batch::of_lengths(&[4, 2]));
        assert_eq!(Batch::of_lengths(&[4, 2]).continued(), None);
        let tokens = Tree { trunk: vec![7, 8], branches: vec![vec![9], vec![], vec![1, 2]] };
        assert_eq!((tokens.tokens(), tokens.shape().rows()), (vec![7, 8, 9, 1, 2], 5));
    }

    #[test]
    fn pieces_are_whole_sequences_where_they_fit() {
        let sequence = |slot, past, new| Sequence { slot, past, new };
        let batch =
            Batch::new(vec![sequence(2, 3, 2), sequence(0, 0, 7), sequence(1, 9, 1), sequence(3, 0, 3)]);
        let pieces = |most| batch.pieces(most).into_iter().map(|piece| piece.sequences).collect::<Vec<_>>();
        assert_eq!(pieces(100), std::slice::from_ref(&batch.sequences));
        let in_threes = [
            vec![sequence(2, 3, 2)],
            vec![sequence(0, 0, 3)],
            vec![sequence(0, 3, 3)],
            vec![sequence(0, 6, 1), sequence(1, 9, 1)],
            vec![sequence(3, 0, 3)],
        ];
        assert_eq!(pieces(3), in_threes);
        assert_eq!(pieces(1).len(), 13);
        assert_eq!(pieces(0), pieces(1));
        assert!(Batch::new(Vec::new()).pieces(5).is_empty());
    }
}
