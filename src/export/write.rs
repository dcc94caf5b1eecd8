//! The way of an export: refused or written, opened again, named.

use std::path::Path;

use super::exporter::{ExportOptions, Exporter};
use super::model::ExportModel;
use super::part::{self, PartialExport, TargetKind};
use super::registry::ExportFormat;
use super::verify::Passage;
use crate::error::{Error, Result};
use crate::panics;

/// What an export that was opened again gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verification {
    /// Perplexity of the model in memory, with everything that the format does to its weights.
    pub in_memory: f64,
    /// Perplexity of what was written.
    pub read_back: f64,
    /// Tokens that both are about.
    pub tokens: usize,
}

impl Verification {
    /// How far the second is from the first, as a fraction of the first.
    pub fn difference(&self) -> f64 {
        (self.read_back - self.in_memory) / self.in_memory
    }

    fn is_within(&self, tolerance: f64) -> bool {
        // Two perplexities beyond all numbers are of the same model.
        self.difference().abs() <= tolerance || (!self.in_memory.is_finite() && !self.read_back.is_finite())
    }
}

/// Whether a format, or an importance matrix where there is `None`, can be written to `out`. Changes nothing.
///
/// # Errors
/// As [`Exporter::check_target`](dyn Exporter).
pub(crate) fn check_target(format: Option<ExportFormat>, out: &Path) -> Result<()> {
    format.map_or_else(|| part::resolve(out, TargetKind::File).map(drop), |format| format.0.check_target(out))
}

/// Writes a model to `out`, which is there whole or not at all; folders above it are made. With `texts` it is opened
/// again and has to give the perplexity of the model in memory: one that does not is kept as `OUT.unverified`.
///
/// # Errors
/// [`Error::Mistake`] for what the format cannot write, a place that is taken, a cell that is not finished, or
/// checkpoints of another model. [`Error::Failure`] when the disk is full, a checkpoint is damaged, or what was written
/// is not the model in memory; [`Error::Io`] when reading or writing fails otherwise.
pub fn export(
    format: &dyn Exporter,
    model: &ExportModel<'_>,
    options: &ExportOptions,
    out: &Path,
    texts: Option<&[Vec<u32>]>,
) -> Result<Option<Verification>> {
    format.check_target(out)?;
    let recipe = model.cell.map(|cell| &cell.result.spec.recipe);
    if let Some(why) = format.refuses_with(model.folder, recipe, options) {
        return Err(Error::mistake(format!(
            "{} cannot be exported as {}: {why}",
            model.name(),
            format.name()
        )));
    }
    model.check_finished()?;
    let part = PartialExport::create(out, format.kind())?;
    format.write(model, options, &part)?;
    let Some(texts) = texts else {
        part.finish()?;
        return Ok(None);
    };
    let passages = passages_of(texts, format.compared_tokens(), format.longest_text(model.folder));
    let in_memory = format.in_memory(model, options, &passages)?.exp();
    let read_back = panics::catch(|| format.read_back(model, options, part.path(), &passages));
    let why = match read_back {
        Ok(nll) => {
            let tokens = passages.iter().map(|passage| passage.predicted().len()).sum();
            let verification = Verification { in_memory, read_back: nll.exp(), tokens };
            if verification.is_within(format.tolerance(model, options)) {
                part.finish()?;
                return Ok(Some(verification));
            }
            format!(
                "its perplexity is {:.4} and that of the model in memory {in_memory:.4}, {:+.2}%; accepted is {}%",
                verification.read_back,
                100.0 * verification.difference(),
                100.0 * format.tolerance(model, options)
            )
        }
        Err(why) => format!("it cannot be opened again: {why}"),
    };
    let name = part.finish_unverified()?;
    Err(Error::failure(format!(
        "{} was written but is not what it should be: {why}; it is kept as {}",
        model.name(),
        name.display()
    )))
}

/// The last tokens of every text, at most `most`, with all that is before them; texts are cut to `longest` tokens.
fn passages_of(texts: &[Vec<u32>], most: usize, longest: usize) -> Vec<Passage> {
    let passage = |tokens: &Vec<u32>| {
        let tokens = &tokens[..tokens.len().min(longest)];
        let first = tokens.len().saturating_sub(most).max(1);
        (tokens.len() > first).then(|| Passage { tokens: tokens.to_vec(), first })
    };
    texts.iter().filter_map(passage).collect()
}
