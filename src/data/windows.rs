//! Token windows: non-overlapping ones to measure on, sampled ones to calibrate with.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenizers::Tokenizer;

use super::text::{Content, Text};
use crate::error::{Error, Result};
use crate::study::Sampling;

/// The non-overlapping windows of `seq_len` tokens of a text, at most `max_windows` of them: the text (documents joined
/// by an empty line) is tokenised whole, with the special tokens that the tokenizer adds, and its tail is dropped.
///
/// # Errors
/// A mistake if the text is too short for one window, with both lengths, or if a length or limit is 0.
pub fn evaluation_windows(
    text: &Text,
    tokenizer: &Tokenizer,
    seq_len: usize,
    max_windows: Option<usize>,
) -> Result<Vec<Vec<u32>>> {
    at_least_one("the length of a window", seq_len)?;
    at_least_one("the number of windows", max_windows.unwrap_or(1))?;
    let most = max_windows.unwrap_or(usize::MAX);
    let tokens = Encoder::new(tokenizer)?.beginning(&text.content.joined(), seq_len.saturating_mul(most))?;
    long_enough(text, &tokens, seq_len)?;
    Ok(consecutive(&tokens, seq_len, most))
}

/// `samples` windows of `seq_len` tokens to calibrate with. The same text, tokenizer and seed give the same windows.
///
/// - [`Sampling::Head`]: consecutive windows from the start of the whole text.
/// - [`Sampling::Random`]: of documents, random ones until one is longer than a window, and of that a window at a
///   random offset, again for each sample. Of one text, windows at random offsets. Where no document is longer than a
///   window (instruction data mostly), windows at random offsets of the documents joined by an empty line.
///
/// # Errors
/// A mistake if the text is too short for one window, with both lengths; if it has fewer windows than `samples` to give
/// from its head; or if a length or number is 0.
pub fn calibration_windows(
    text: &Text,
    tokenizer: &Tokenizer,
    samples: usize,
    seq_len: usize,
    sampling: Sampling,
    seed: u64,
) -> Result<Vec<Vec<u32>>> {
    at_least_one("the length of a window", seq_len)?;
    at_least_one("the number of calibration samples", samples)?;
    let encoder = Encoder::new(tokenizer)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    if let (Sampling::Random, Content::Documents(documents)) = (sampling, &text.content)
        && let Some(windows) = from_documents(documents, &encoder, samples, seq_len, &mut rng)?
    {
        return Ok(windows);
    }
    let needed = match sampling {
        Sampling::Random => usize::MAX,
        Sampling::Head => seq_len.saturating_mul(samples),
    };
    let tokens = encoder.beginning(&text.content.joined(), needed)?;
    long_enough(text, &tokens, seq_len)?;
    match sampling {
        Sampling::Random => Ok((0..samples).map(|_| random_window(&tokens, seq_len, &mut rng)).collect()),
        Sampling::Head => {
            let windows = consecutive(&tokens, seq_len, samples);
            if windows.len() < samples {
                return Err(Error::mistake(format!(
                    "`{}` has {} windows of {seq_len} tokens, fewer than the {samples} calibration samples asked for: \
                     ask for fewer or shorter ones, or take random ones",
                    text.name,
                    windows.len()
                )));
            }
            Ok(windows)
        }
    }
}

/// A window each of random documents that are longer than one; `None` if there is no such document.
fn from_documents(
    documents: &[String],
    encoder: &Encoder<'_>,
    samples: usize,
    seq_len: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Option<Vec<Vec<u32>>>> {
    // What is known of the documents drawn so far: their tokens, or nothing if they are too short. Draws are
    // independent and end once a long one turns up, or every document has turned up and is short.
    let mut drawn: HashMap<usize, Option<Vec<u32>>> = HashMap::new();
    let mut short = 0;
    let mut windows = Vec::with_capacity(samples);
    while windows.len() < samples {
        if short == documents.len() {
            return Ok(None);
        }
        let index = rng.random_range(0..documents.len());
        let tokens = match drawn.entry(index) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let tokens = longer_than(&documents[index], encoder, seq_len)?;
                short += usize::from(tokens.is_none());
                new.insert(tokens)
            }
        };
        if let Some(tokens) = tokens {
            windows.push(random_window(tokens, seq_len, rng));
        }
    }
    Ok(Some(windows))
}

/// The tokens of a document if there are more than `seq_len`.
fn longer_than(document: &str, encoder: &Encoder<'_>, seq_len: usize) -> Result<Option<Vec<u32>>> {
    // A token stands for a byte at least (special ones, of which a tokenizer adds few, apart): most short documents
    // need not be tokenised to be known as short.
    const SPECIAL_TOKENS: usize = 16;
    if document.len() + SPECIAL_TOKENS <= seq_len {
        return Ok(None);
    }
    let tokens = encoder.encode(document)?;
    Ok((tokens.len() > seq_len).then_some(tokens))
}

/// A window at a random offset. As in the references, the very last offset is never drawn if there is another.
fn random_window(tokens: &[u32], seq_len: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let offsets = (tokens.len() - seq_len).max(1);
    let start = rng.random_range(0..offsets);
    tokens[start..start + seq_len].to_vec()
}

fn consecutive(tokens: &[u32], seq_len: usize, most: usize) -> Vec<Vec<u32>> {
    tokens.chunks_exact(seq_len).take(most).map(<[u32]>::to_vec).collect()
}

fn at_least_one(what: &str, number: usize) -> Result<()> {
    if number == 0 { Err(Error::mistake(format!("{what} is 0: at least 1 is needed"))) } else { Ok(()) }
}

fn long_enough(text: &Text, tokens: &[u32], seq_len: usize) -> Result<()> {
    if tokens.len() >= seq_len {
        return Ok(());
    }
    Err(Error::mistake(format!(
        "`{}` is too short: it has {} tokens, and one window takes {seq_len}",
        text.name,
        tokens.len()
    )))
}

/// A tokenizer that neither cuts nor pads: some models ship one that stops at their context's length.
struct Encoder<'a>(Cow<'a, Tokenizer>);

impl<'a> Encoder<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Result<Self> {
        if tokenizer.get_truncation().is_none() && tokenizer.get_padding().is_none() {
            return Ok(Self(Cow::Borrowed(tokenizer)));
        }
        let mut plain = tokenizer.clone();
        plain.with_padding(None);
        plain.with_truncation(None).map_err(|e| Error::failure(format!("tokenizer: {e}")))?;
        Ok(Self(Cow::Owned(plain)))
    }

    /// The first `count` tokens of a text, or all if it has fewer, as tokenising the whole gives them.
    ///
    /// Of a long text only a beginning is tokenised. No tokenizer says how far behind a token it looks (those of this family
    /// look a word ahead), so one beginning is believed when it goes on well behind these tokens and a longer one has the
    /// same.
    fn beginning(&self, text: &str, count: usize) -> Result<Vec<u32>> {
        /// Bytes of a token, more than most have.
        const BYTES: usize = 6;
        /// Tokens behind the last that is asked for.
        const BEHIND: usize = 512;
        let mut shorter: Option<Vec<u32>> = None;
        let mut size = count.saturating_add(BEHIND).saturating_mul(BYTES);
        while size < text.len() / 2 {
            let mut tokens = self.encode(&text[..text.floor_char_boundary(size)])?;
            let same = |shorter: &Vec<u32>| {
                shorter.len() >= count + BEHIND && shorter.get(..count) == tokens.get(..count)
            };
            if shorter.as_ref().is_some_and(same) {
                tokens.truncate(count);
                return Ok(tokens);
            }
            shorter = Some(tokens);
            size += size / 4;
        }
        self.encode(text)
    }

    /// Token ids with the special tokens that the tokenizer adds.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // The fast variant gives the same ids and spares the offsets, which nobody reads.
        let encoding =
            self.0.encode_fast(text, true).map_err(|e| Error::failure(format!("cannot tokenise: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}
