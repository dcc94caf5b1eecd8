//! Token windows without overlap, to measure on; what all windows are cut with.

use std::borrow::Cow;

use tokenizers::Tokenizer;

use super::text::Text;
use crate::error::{Error, Result};

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

pub(super) fn consecutive(tokens: &[u32], seq_len: usize, most: usize) -> Vec<Vec<u32>> {
    tokens.chunks_exact(seq_len).take(most).map(<[u32]>::to_vec).collect()
}

pub(super) fn at_least_one(what: &str, number: usize) -> Result<()> {
    if number == 0 { Err(Error::mistake(format!("{what} is 0: at least 1 is needed"))) } else { Ok(()) }
}

pub(super) fn long_enough(text: &Text, tokens: &[u32], seq_len: usize) -> Result<()> {
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
pub(crate) struct Encoder<'a>(Cow<'a, Tokenizer>);

impl<'a> Encoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Result<Self> {
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
    /// look a word ahead), so one beginning is accepted when it continues well behind these tokens and a longer one has the
    /// same.
    pub fn beginning(&self, text: &str, count: usize) -> Result<Vec<u32>> {
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
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    /// Token ids of the text alone.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    fn ids(&self, text: &str, with_specials: bool) -> Result<Vec<u32>> {
        // The fast variant gives the same ids and spares the offsets, which nobody reads.
        let encoding = self.0.encode_fast(text, with_specials);
        let encoding = encoding.map_err(|e| Error::failure(format!("cannot tokenise: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}
