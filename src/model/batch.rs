//! Ragged batches: sequences of different lengths, one after the other in the rows of one matrix.

use crate::kernels::attention::Segment;

/// Which rows of a hidden state belong to which sequence, and where in it they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    sequences: Vec<Sequence>,
    positions: Vec<u32>,
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

impl Batch {
    /// A batch of sequences, in the order of their rows.
    pub fn new(sequences: Vec<Sequence>) -> Self {
        let positions = sequences.iter().flat_map(|s| (s.past..s.past + s.new).map(|p| p as u32)).collect();
        Self { sequences, positions }
    }

    /// `count` windows of `length` tokens each.
    pub fn windows(count: usize, length: usize) -> Self {
        Self::new((0..count).map(|slot| Sequence { slot, past: 0, new: length }).collect())
    }

    /// Whole sequences of these lengths in batches of at most `most` rows, in their order; a longer one is a batch of its
    /// own.
    pub fn grouped(lengths: &[usize], most: usize) -> Vec<Self> {
        let mut rows = 0;
        let mut groups: Vec<Vec<Sequence>> = Vec::new();
        for &new in lengths {
            match groups.last_mut() {
                Some(group) if rows + new <= most => {
                    group.push(Sequence { slot: group.len(), past: 0, new });
                    rows += new;
                }
                _ => {
                    groups.push(vec![Sequence { slot: 0, past: 0, new }]);
                    rows = new;
                }
            }
        }
        groups.into_iter().map(Self::new).collect()
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
    fn groups_hold_whole_sequences_and_at_least_one() {
        let lengths = |most| -> Vec<Vec<usize>> {
            let groups = Batch::grouped(&[3, 9, 1, 4, 4, 30, 2], most);
            assert!(
                groups.iter().all(|g| g
                    .sequences
                    .iter()
                    .enumerate()
                    .all(|(i, s)| (s.slot, s.past) == (i, 0)))
            );
            groups.iter().map(|group| group.sequences.iter().map(|s| s.new).collect()).collect()
        };
        assert_eq!(lengths(10), [vec![3], vec![9, 1], vec![4, 4], vec![30], vec![2]]);
        assert_eq!(lengths(0).len(), 7);
        assert_eq!(lengths(53), [vec![3, 9, 1, 4, 4, 30, 2]]);
        assert!(Batch::grouped(&[], 10).is_empty());
        // Windows of one length: as many as fit, at least one.
        assert_eq!(Batch::grouped(&[8; 5], 20), [2, 2, 1].map(|count| Batch::windows(count, 8)));
        assert_eq!(Batch::grouped(&[8; 2], 5), [1, 1].map(|count| Batch::windows(count, 8)));
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
