//! How good the model is, by kind of question, asked through the project's own decoder.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::{DType, Device};
use secateur::data::evaluation_windows;
use secateur::model::{Block, Generator, LmHead, ModelFolder};
use secateur::scores::{exact_match, rouge1};
use secateur::{Error, Result, data};
use tokenizers::Tokenizer;

use super::data::encode;
use super::network::Network;
use super::world::{self, BETWEEN, QuestionKind, Split};

/// Longest answer, in tokens.
const LONGEST: usize = 64;
/// Tokens of a window that perplexity is measured on.
pub const WINDOW: usize = 128;

/// Held-out scores.
pub struct Scores {
    /// Perplexity on plain stories.
    pub perplexity: f64,
    /// Mean exact match of the short kinds, ROUGE-1 of the long ones.
    pub kinds: BTreeMap<QuestionKind, f64>,
}

impl Scores {
    fn mean(&self, kinds: &[QuestionKind]) -> f64 {
        kinds.iter().filter_map(|kind| self.kinds.get(kind)).sum::<f64>() / kinds.len() as f64
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (short, long) = (self.mean(&QuestionKind::SHORT), self.mean(&QuestionKind::LONG));
        write!(f, "ppl {:.3}, EM {short:.3}, ROUGE-1 {long:.3};", self.perplexity)?;
        for (kind, score) in &self.kinds {
            write!(f, " {kind} {score:.2}")?;
        }
        Ok(())
    }
}

/// Held-out windows of plain stories that no file of the study has.
pub fn windows(tokenizer: &Tokenizer, seed: u64) -> Result<Vec<Vec<u32>>> {
    let text = world::stories(Split::HeldOut, 60, seed).join(BETWEEN);
    let text = data::Text::new("stories", data::TextContent::Whole(text));
    evaluation_windows(&text, tokenizer, WINDOW, None)
}

/// Scores the model of a folder, whose weights are the network's.
pub fn evaluate(
    network: &Network,
    tokenizer: &Tokenizer,
    folder: &Path,
    each: usize,
    seed: u64,
) -> Result<Scores> {
    let windows = windows(tokenizer, seed)?;
    let mut sum = 0.0;
    for part in windows.chunks(8) {
        sum += f64::from(network.loss(part)?.to_scalar::<f32>()?);
    }
    let perplexity = (sum / (windows.len() * (WINDOW - 1)) as f64).exp();

    let folder = ModelFolder::open(folder)?;
    let (dtype, device) = (DType::F32, Device::Cpu);
    let load = |index| Block::load(&folder, index, dtype, &device);
    let blocks = (0..folder.config.blocks).map(load).collect::<Result<Vec<_>>>()?;
    let generator = Generator::new(
        Cow::Borrowed(&folder),
        blocks,
        LmHead::load(&folder, dtype, &device)?,
        dtype,
        &device,
        2048,
    );
    let mut kinds = BTreeMap::new();
    for kind in QuestionKind::SHORT.into_iter().chain(QuestionKind::LONG) {
        let records = world::records(&[kind], each, seed);
        let prompts = records
            .iter()
            .map(|record| encode(tokenizer, &world::prompt(&record.story, &record.question.text), false))
            .collect::<Result<Vec<_>>>()?;
        let limits = vec![LONGEST; prompts.len()];
        let answers = generator.answer(&prompts, &limits, &mut |_| Ok(()), &mut || Ok(()))?;
        let mut total = 0.0;
        for (record, answer) in records.iter().zip(answers) {
            let text = tokenizer.decode(&answer.tokens, true).map_err(|e| Error::failure(e.to_string()))?;
            let score = if QuestionKind::LONG.contains(&kind) { rouge1 } else { exact_match };
            total += score(text.trim(), &record.question.answer);
        }
        kinds.insert(kind, total / records.len() as f64);
    }
    Ok(Scores { perplexity, kinds })
}
