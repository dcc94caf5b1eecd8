//! Questions with choices as sequences: tokenised, and cut into a trunk, which all choices of a question begin with, and
//! branches, so that what they share is computed once.

use std::collections::BTreeMap;

use tokenizers::Tokenizer;

use crate::data::{ChoiceRecord, Encoder};
use crate::error::{Error, Result};
use crate::interrupt::GoOn;
use crate::model::Tree;

/// A task with choices, tokenised.
#[derive(Debug)]
pub(super) struct PreparedChoices {
    pub name: String,
    pub records: Vec<ChoiceRecord>,
    /// What goes through the blocks, a tree for each record.
    pub trees: Vec<Tree<Vec<u32>>>,
    /// Where the continuation of every choice of every record is read off.
    pub requests: Vec<Vec<Request>>,
    /// Records whose context was cut at its beginning, since the model has positions for no more.
    pub cut: usize,
}

/// A continuation, and how many tokens stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub context: usize,
    pub continuation: Vec<u32>,
}

impl PreparedChoices {
    /// Tokenises records for a model of so many positions; `start` is what stands for an empty context. `go_on` is asked
    /// before each.
    pub fn new(
        (name, records): (String, Vec<ChoiceRecord>),
        tokenizer: &Tokenizer,
        (positions, start): (usize, Option<u32>),
        go_on: &mut GoOn<'_>,
    ) -> Result<Self> {
        let pairs = Pairs::new(tokenizer, positions, start)?;
        let mut prepared = Self { name, records, trees: Vec::new(), requests: Vec::new(), cut: 0 };
        for record in &prepared.records {
            go_on()?;
            let (mut sequences, mut requests, mut is_cut) = (Vec::new(), Vec::new(), false);
            for (context, continuation) in record.requests() {
                let (context, continuation, cut) = pairs.tokens(&context, &continuation)?;
                is_cut |= cut;
                requests.push(Request { context: context.len(), continuation: continuation.clone() });
                let mut sequence = [context, continuation].concat();
                // Nothing is asked of what follows the last token.
                sequence.pop();
                sequences.push(sequence);
            }
            prepared.trees.push(tree(&sequences));
            prepared.requests.push(requests);
            prepared.cut += usize::from(is_cut);
        }
        Ok(prepared)
    }

    /// What to say of records that a model has not positions enough for.
    pub fn warning(&self, positions: usize) -> Option<String> {
        (self.cut > 0).then(|| {
            format!(
                "task {}: of {} of {} records the beginning is not read: the model was made for {positions} positions",
                self.name,
                self.cut,
                self.records.len()
            )
        })
    }

    /// Rows of logits that are looked at.
    pub fn scored_rows(&self) -> usize {
        (0..self.trees.len()).map(|record| self.asked(record).len()).sum()
    }

    /// The rows of a record's tree that are looked at, with the tokens that are asked of each: place of the choice among
    /// the record's, and token.
    pub fn asked(&self, record: usize) -> BTreeMap<usize, Vec<(usize, u32)>> {
        let shape = self.trees[record].shape();
        let mut asked: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
        let mut branch = shape.trunk;
        for (choice, request) in self.requests[record].iter().enumerate() {
            for (position, &token) in (request.context - 1..).zip(&request.continuation) {
                let row = if position < shape.trunk { position } else { branch + position - shape.trunk };
                asked.entry(row).or_default().push((choice, token));
            }
            branch += shape.branches.get(choice).copied().unwrap_or(0);
        }
        asked
    }
}

/// Sequences as a trunk, which is what all begin with, and a branch for each.
fn tree(sequences: &[Vec<u32>]) -> Tree<Vec<u32>> {
    let Some((first, others)) = sequences.split_first() else { return Tree::alone(Vec::new()) };
    let same = |other: &Vec<u32>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    let shared = others.iter().map(same).min().unwrap_or(first.len());
    let branches: Vec<Vec<u32>> = sequences.iter().map(|s| s[shared..].to_vec()).collect();
    let trunk = first[..shared].to_vec();
    if branches.iter().all(Vec::is_empty) { Tree::alone(trunk) } else { Tree { trunk, branches } }
}

/// Tokenises pairs of a context and its continuation as lm-evaluation-harness does.
struct Pairs<'a> {
    encoder: Encoder<'a>,
    /// Special tokens that the tokenizer puts before a text.
    before: Vec<u32>,
    start: Option<u32>,
    positions: usize,
}

impl<'a> Pairs<'a> {
    fn new(tokenizer: &'a Tokenizer, positions: usize, start: Option<u32>) -> Result<Self> {
        let encoder = Encoder::new(tokenizer)?;
        let (plain, whole) = (encoder.encode_plain("a")?, encoder.encode("a")?);
        let at = whole.windows(plain.len().max(1)).position(|window| window == plain).unwrap_or(0);
        Ok(Self { encoder, before: whole[..at].to_vec(), start, positions })
    }

    /// Tokens of context and continuation, written together and split where the tokens of the context alone end; and
    /// whether the context was cut.
    fn tokens(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>, bool)> {
        let with_specials = |text: &str| -> Result<Vec<u32>> {
            Ok([self.before.clone(), self.encoder.encode_plain(text)?].concat())
        };
        let mut before = with_specials(context)?;
        let mut behind = if before.is_empty() {
            let none = || {
                Error::mistake("a question has no context, and the tokenizer no token that stands for none")
            };
            before = vec![self.start.ok_or_else(none)?];
            self.encoder.encode_plain(continuation)?
        } else {
            let whole = with_specials(&format!("{context}{continuation}"))?;
            whole.get(before.len()..).unwrap_or_default().to_vec()
        };
        if behind.is_empty() {
            // Its letters joined the context's last token: it is scored as it stands alone.
            behind = self.encoder.encode_plain(continuation)?;
        }
        // The last token is predicted, but not read. One token at least is read before the continuation.
        let room = self.positions + 1;
        behind.drain(..behind.len().saturating_sub(room - 1));
        let over = (before.len() + behind.len()).saturating_sub(room);
        before.drain(..over);
        Ok((before, behind, over > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_share_what_they_begin_with() {
        let made = tree(&[vec![1, 2, 3, 4], vec![1, 2, 5], vec![1, 2]]);
        assert_eq!(made, Tree { trunk: vec![1, 2], branches: vec![vec![3, 4], vec![5], vec![]] });
        assert_eq!(tree(&[vec![1, 2]]), Tree::alone(vec![1, 2]));
        assert_eq!(tree(&[vec![1, 2], vec![1, 2]]), Tree::alone(vec![1, 2]));
    }

    #[test]
    fn every_token_is_asked_of_the_row_before_it() {
        let request =
            |context, continuation: &[u32]| Request { context, continuation: continuation.to_vec() };
        let task = PreparedChoices {
            name: "t".into(),
            records: Vec::new(),
            trees: vec![Tree { trunk: vec![1, 2], branches: vec![vec![3, 4], vec![], vec![3]] }],
            // The third context has a token more than the others.
            requests: vec![vec![request(2, &[3, 4, 5]), request(2, &[9]), request(3, &[6])]],
            cut: 0,
        };
        let asked = task.asked(0);
        let expected = [(1, vec![(0, 3), (1, 9)]), (2, vec![(0, 4)]), (3, vec![(0, 5)]), (4, vec![(2, 6)])];
        assert_eq!(asked, expected.into_iter().collect());
        assert_eq!(task.scored_rows(), 4);
    }
}
