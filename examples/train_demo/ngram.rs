//! The baseline: a 5-gram model, interpolated as Witten and Bell do, of the same tokens on the same windows.

use std::collections::HashMap;

use secateur::Result;
use tokenizers::Tokenizer;

use super::data::encode;
use super::world::{self, BETWEEN, Split};

/// Tokens that a prediction looks back on, and one.
const ORDER: usize = 5;
/// Bits of a token id in a key: five make less than 64.
const BITS: u32 = 12;

/// Counts of all n-grams up to [`ORDER`].
pub struct NGrams {
    vocabulary: usize,
    counts: HashMap<(usize, u64), u32>,
    /// Of every context: how often it was seen, and with how many different tokens behind it.
    contexts: HashMap<(usize, u64), (u32, u32)>,
}

fn key(tokens: &[u32]) -> (usize, u64) {
    (tokens.len(), tokens.iter().fold(0, |key, &token| key << BITS | u64::from(token)))
}

impl NGrams {
    /// Counts the n-grams of `stories` plain training stories.
    pub fn count(tokenizer: &Tokenizer, stories: usize, seed: u64) -> Result<Self> {
        let text = world::stories(Split::Train, stories, seed).join(BETWEEN);
        let tokens = encode(tokenizer, &text, true)?;
        let (mut counts, mut contexts) = (HashMap::new(), HashMap::new());
        for end in 1..=tokens.len() {
            for order in 1..=ORDER.min(end) {
                let gram = &tokens[end - order..end];
                let seen = counts.entry(key(gram)).or_insert(0u32);
                *seen += 1;
                let context = contexts.entry(key(&gram[..order - 1])).or_insert((0u32, 0u32));
                context.0 += 1;
                context.1 += u32::from(*seen == 1);
            }
        }
        Ok(Self { vocabulary: tokenizer.get_vocab_size(true), counts, contexts })
    }

    /// Probability of the last token of `gram` behind the others: the share it was seen with there, mixed with its
    /// probability behind one token less, the more so the more different tokens were seen.
    pub fn probability(&self, gram: &[u32]) -> f64 {
        let Some((_, shorter)) = gram.split_first() else { return 1.0 / self.vocabulary as f64 };
        let lower = self.probability(shorter);
        let Some(&(total, different)) = self.contexts.get(&key(&gram[..gram.len() - 1])) else {
            return lower;
        };
        let count = self.counts.get(&key(gram)).copied().unwrap_or(0);
        (f64::from(count) + f64::from(different) * lower) / f64::from(total + different)
    }

    /// Perplexity over windows, all tokens but each window's first.
    pub fn perplexity(&self, windows: &[Vec<u32>]) -> f64 {
        let mut sum = 0.0;
        let mut count = 0;
        for window in windows {
            for end in 2..=window.len() {
                sum -= self.probability(&window[end.saturating_sub(ORDER)..end]).ln();
                count += 1;
            }
        }
        (sum / f64::from(count)).exp()
    }
}
