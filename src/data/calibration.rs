//! Token windows to calibrate with: sampled, and counted, so that a thin set does not go unnoticed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use super::text::{Text, TextContent};
use super::windows::{Encoder, at_least_one, consecutive, long_enough};
use crate::error::{Error, Result};
use crate::study::Sampling;

/// What a text gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CalibrationWindows {
    /// The windows, as many as were asked for and all of one length.
    pub windows: Vec<Vec<u32>>,
    pub(crate) coverage: Coverage,
}

/// How much of a text the windows drawn from it show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub(crate) windows: usize,
    /// Tokens of each.
    pub seq_len: usize,
    /// Windows that differ from each other.
    pub distinct: usize,
    /// Windows that do not overlap: the most that can be chosen of those drawn.
    pub apart: usize,
    pub(crate) origin: Origin,
}

/// What windows are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Documents, each window from one of them.
    Documents {
        /// Documents that windows come from.
        drawn: usize,
        /// Documents of the set.
        of: usize,
    },
    /// So many documents joined to one text.
    Joined(usize),
    /// One text.
    Whole,
}

impl Coverage {
    /// The figures in words: `128 windows of 512 tokens from 97 of 300 documents: 128 different, 126
    /// without overlap`.
    pub fn describe(&self) -> String {
        let origin = match self.origin {
            Origin::Documents { drawn, of } => format!("{drawn} of {of} documents"),
            Origin::Joined(count) => format!("{count} documents joined"),
            Origin::Whole => "one text".to_owned(),
        };
        let Self { windows, seq_len, distinct, apart, .. } = self;
        format!(
            "{windows} windows of {seq_len} tokens from {origin}: {distinct} different, {apart} without overlap"
        )
    }

    /// What a person should know where fewer than half of the windows come from different documents or places.
    ///
    /// Places count where windows do not overlap. Documents count where most of the set is not drawn from: thirty long
    /// books are no thin set for a hundred windows, one long page among five hundred short ones is.
    pub fn warning(&self) -> Option<String> {
        let few = |number: usize| 2 * number < self.windows;
        let documents =
            matches!(self.origin, Origin::Documents { drawn, of } if few(drawn) && 2 * drawn < of);
        let what = match (documents, few(self.apart.min(self.distinct))) {
            (true, _) => "documents",
            (false, true) => "places",
            (false, false) => return None,
        };
        let remedy = if documents {
            "take shorter windows (--seq-len), fewer of them (--calibration-samples) or a set with more long documents"
        } else {
            "take fewer of them (--calibration-samples), shorter ones (--seq-len) or a longer set"
        };
        Some(format!(
            "thin calibration, {}; fewer than half come from different {what}, so that the statistics know little \
             else: {remedy}",
            self.describe()
        ))
    }
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
pub(crate) fn calibration_windows(
    text: &Text,
    tokenizer: &Tokenizer,
    samples: usize,
    seq_len: usize,
    sampling: Sampling,
    seed: u64,
) -> Result<CalibrationWindows> {
    at_least_one("the length of a window", seq_len)?;
    at_least_one("the number of calibration samples", samples)?;
    let encoder = Encoder::new(tokenizer)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let origin = match &text.content {
        TextContent::Whole(_) => Origin::Whole,
        TextContent::Documents(documents) => Origin::Joined(documents.len()),
    };
    if let (Sampling::Random, TextContent::Documents(documents)) = (sampling, &text.content)
        && let Some(drawn) = from_documents(documents, &encoder, samples, seq_len, &mut rng)?
    {
        let count = drawn.iter().map(|window| window.document).collect::<HashSet<_>>().len();
        return Ok(counted(drawn, seq_len, Origin::Documents { drawn: count, of: documents.len() }));
    }
    let needed = match sampling {
        Sampling::Random => usize::MAX,
        Sampling::Head => seq_len.saturating_mul(samples),
    };
    let tokens = encoder.beginning(&text.content.joined(), needed)?;
    long_enough(text, &tokens, seq_len)?;
    let drawn: Vec<Drawn> = match sampling {
        Sampling::Random => (0..samples).map(|_| random_window(&tokens, 0, seq_len, &mut rng)).collect(),
        Sampling::Head => {
            let windows = consecutive(&tokens, seq_len, samples).into_iter().enumerate();
            windows.map(|(n, tokens)| Drawn { document: 0, start: n * seq_len, tokens }).collect()
        }
    };
    if drawn.len() < samples {
        return Err(Error::mistake(format!(
            "`{}` has {} windows of {seq_len} tokens, fewer than the {samples} calibration samples asked for: \
             ask for fewer or shorter ones, or take random ones",
            text.name,
            drawn.len()
        )));
    }
    Ok(counted(drawn, seq_len, origin))
}

/// A window with the place it is cut from.
struct Drawn {
    document: usize,
    start: usize,
    tokens: Vec<u32>,
}

fn counted(drawn: Vec<Drawn>, seq_len: usize, origin: Origin) -> CalibrationWindows {
    let distinct = drawn.iter().map(|window| &window.tokens).collect::<HashSet<_>>().len();
    let mut places: Vec<(usize, usize)> =
        drawn.iter().map(|window| (window.document, window.start)).collect();
    places.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::new();
    for (document, start) in places {
        // In order of their starts, the first that does not overlap those taken leaves the most room to others.
        if apart.last().is_none_or(|&(last, taken)| last != document || taken + seq_len <= start) {
            apart.push((document, start));
        }
    }
    let coverage = Coverage { windows: drawn.len(), seq_len, distinct, apart: apart.len(), origin };
    CalibrationWindows { windows: drawn.into_iter().map(|window| window.tokens).collect(), coverage }
}

/// A window each of random documents that are longer than one; `None` if there is no such document.
fn from_documents(
    documents: &[String],
    encoder: &Encoder<'_>,
    samples: usize,
    seq_len: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Option<Vec<Drawn>>> {
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
            windows.push(random_window(tokens, index, seq_len, rng));
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
fn random_window(tokens: &[u32], document: usize, seq_len: usize, rng: &mut ChaCha8Rng) -> Drawn {
    let offsets = (tokens.len() - seq_len).max(1);
    let start = rng.random_range(0..offsets);
    Drawn { document, start, tokens: tokens[start..start + seq_len].to_vec() }
}
