//! What a study's files hold, as digests: the same model and data are the same study wherever they lie.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::choice_requests::PreparedChoices;
use super::evaluate::Corpus;
use super::prompts::PreparedTask;
use crate::error::{Error, Result};
use crate::interrupt::GoOn;
use crate::model::config::ModelConfig;
use crate::model::{ModelFolder, Weights};

/// Pieces of a tensor that are looked at, evenly spread over it, and bytes of each. All of a tensor would be all of a
/// model read once more before a study begins; another training, pruning or rounding changes every piece of a matrix.
const PIECES: usize = 16;
const PIECE_BYTES: usize = 4096;

/// Keys of `config.json` that say where a model comes from, not what it is.
const ORIGIN_KEYS: [&str; 3] = ["_name_or_path", "_commit_hash", "transformers_version"];

/// A digest of parts whose borders count: `ab`, `c` is not `a`, `bc`.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, part: &[u8]) -> &mut Self {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    fn tokens(&mut self, tokens: &[u32]) -> &mut Self {
        self.0.update((tokens.len() as u64).to_le_bytes());
        for token in tokens {
            self.0.update(token.to_le_bytes());
        }
        self
    }

    /// The first half of the digest in hexadecimal.
    fn finish(self) -> String {
        self.0.finalize()[..16].iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Configuration and weights of a model.
///
/// # Errors
/// Files that cannot be read; what `go_on` says, which is asked before each tensor.
pub(crate) fn of_model(folder: &ModelFolder, go_on: &mut GoOn<'_>) -> Result<String> {
    let path = folder.root.join("config.json");
    let text = fs::read(&path).map_err(|e| Error::io("cannot read", &path, e))?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|e| Error::mistake(format!("{}: {e}", path.display())))?;
    if let Some(config) = config.as_object_mut() {
        config.retain(|key, _| !ORIGIN_KEYS.contains(&key.as_str()));
    }
    config.sort_all_objects();
    let mut parts = Parts::default();
    parts.add(config.to_string().as_bytes());
    for name in folder.weights.names() {
        go_on()?;
        add_tensor(&mut parts, &folder.weights, name)?;
    }
    Ok(parts.finish())
}

fn add_tensor(parts: &mut Parts, weights: &Weights, name: &str) -> Result<()> {
    // Tensors of types that no model here reads decide on nothing.
    let Some(info) = weights.info(name) else { return Ok(()) };
    parts.add(name.as_bytes()).add(format!("{:?} {:?}", info.dtype, info.shape).as_bytes());
    weights.bytes(name, |bytes| {
        if bytes.len() <= PIECES * PIECE_BYTES {
            parts.add(bytes);
            return;
        }
        for piece in 0..PIECES {
            let start = (bytes.len() - PIECE_BYTES) / (PIECES - 1) * piece;
            parts.add(&bytes[start..start + PIECE_BYTES]);
        }
    })
}

/// The windows of a text.
pub(super) fn of_windows(windows: &[Vec<u32>]) -> String {
    let mut parts = Parts::default();
    for window in windows {
        parts.tokens(window);
    }
    parts.finish()
}

/// The windows of every corpus, by its name.
pub(super) fn of_corpora(corpora: &[Corpus]) -> Vec<(String, String)> {
    corpora.iter().map(|corpus| (corpus.name.clone(), of_windows(&corpus.windows))).collect()
}

/// Prompts, accepted answers and their longest lengths of every task, by its name, and what ends an answer; of those with
/// choices what is read and scored.
pub(super) fn of_tasks(
    tasks: &[PreparedTask],
    choices: &[PreparedChoices],
    config: &ModelConfig,
) -> Vec<(String, String)> {
    let digest = |task: &PreparedTask| {
        let mut parts = Parts::default();
        // The others are part of the configuration.
        if !config.generation_eos.is_empty() {
            parts.tokens(&config.generation_eos);
        }
        for ((prompt, record), limit) in task.prompts.iter().zip(&task.records).zip(&task.limits) {
            parts.tokens(prompt).add(&limit.to_le_bytes());
            parts.add(&record.references.len().to_le_bytes());
            for reference in &record.references {
                parts.add(reference.as_bytes());
            }
        }
        parts.finish()
    };
    let questions = tasks.iter().map(|task| (task.name.clone(), digest(task)));
    questions.chain(choices.iter().map(|task| (task.name.clone(), of_choices(task)))).collect()
}

fn of_choices(task: &PreparedChoices) -> String {
    let mut parts = Parts::default();
    for ((tree, requests), record) in task.trees.iter().zip(&task.requests).zip(&task.records) {
        parts.tokens(&tree.tokens()).add(&record.gold.to_le_bytes());
        for request in requests {
            parts.add(&request.context.to_le_bytes()).tokens(&request.continuation);
        }
    }
    parts.finish()
}

/// A file as a whole.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn of_file(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
    let mut parts = Parts::default();
    parts.add(&bytes);
    Ok(parts.finish())
}
