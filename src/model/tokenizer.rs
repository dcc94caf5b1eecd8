//! Texts to tokens.

use std::path::Path;

use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// Loads a model's `tokenizer.json`. What it says of truncation and padding is dropped: texts are tokenised whole.
///
/// # Errors
/// [`Error::Mistake`] when the file is not a tokenizer.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer> {
    let broken = |why: &str| {
        Error::mistake(format!(
            "{}: not a usable tokenizer ({why}): accepted is the file that a fast Hugging Face tokenizer saves",
            path.display()
        ))
    };
    let mut tokenizer = Tokenizer::from_file(path).map_err(|e| broken(&e.to_string()))?;
    tokenizer.with_truncation(None).map_err(|e| broken(&e.to_string()))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}
