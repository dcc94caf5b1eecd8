//! What a format has to say of itself.

use std::fmt;
use std::path::{Path, PathBuf};

use super::model::ExportModel;
use super::part::{self, PartialExport, TargetKind};
use super::verify::Passage;
use crate::error::Result;
use crate::kernels::ggml::GgmlMixture;
use crate::model::ModelFolder;
use crate::study::Recipe;

/// What can be chosen about an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportOptions {
    /// The types of the matrices; `None` is what the format takes by itself.
    pub quantize: Option<GgmlMixture>,
}

/// A form that other programs load. A new one is a file in this folder and a line in its registry.
pub trait Exporter: Send + Sync {
    /// What `--as` calls it.
    fn name(&self) -> &'static str;

    /// One line for help and documents, without a full stop.
    fn about(&self) -> &'static str;

    /// The ending of the file that it writes; `None` when it writes a folder.
    fn extension(&self) -> Option<&'static str>;

    /// Whether it takes `--quantize`.
    fn quantises(&self) -> bool {
        false
    }

    /// Why it cannot write the model that a recipe makes (`None` is the base). This looks at the configuration and never
    /// at weights, so that it can be asked before hours are spent.
    fn refuses(
        &self,
        folder: &ModelFolder,
        recipe: Option<&Recipe>,
        options: &ExportOptions,
    ) -> Option<String>;

    /// Writes a model. What it puts into `out` gets its name later.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another model, a full disk.
    fn write(&self, model: &ExportModel<'_>, options: &ExportOptions, out: &PartialExport) -> Result<()>;

    /// The longest text, in tokens, for which what it writes stands for the model.
    fn longest_text(&self, _folder: &ModelFolder) -> usize {
        usize::MAX
    }

    /// How many tokens at the end of every window are compared when an export is opened again.
    fn compared_tokens(&self) -> usize {
        usize::MAX
    }

    /// The mean negative log-likelihood of passages, in nats, by what was written to `path`, read by other code than
    /// wrote it. `model` is what it should be.
    ///
    /// # Errors
    /// Anything that is wrong with what was written.
    fn read_back(
        &self,
        model: &ExportModel<'_>,
        options: &ExportOptions,
        path: &Path,
        passages: &[Passage],
    ) -> Result<f64>;

    /// The same by the model in memory, with everything that the format does to its weights.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn in_memory(
        &self,
        model: &ExportModel<'_>,
        options: &ExportOptions,
        passages: &[Passage],
    ) -> Result<f64>;

    /// How far the two perplexities may be apart, as a fraction of the second.
    fn tolerance(&self, model: &ExportModel<'_>, options: &ExportOptions) -> f64;
}

impl dyn Exporter + '_ {
    /// Why it cannot write a model with these options, as [`Exporter::refuses`].
    pub(crate) fn refuses_with(
        &self,
        folder: &ModelFolder,
        recipe: Option<&Recipe>,
        options: &ExportOptions,
    ) -> Option<String> {
        match options.quantize {
            Some(mixture) if !self.quantises() => Some(format!(
                "it keeps the source's precision, and --quantize {mixture} (--save-quantized for a study) asks for \
                     another"
            )),
            _ => self.refuses(folder, recipe, options),
        }
    }

    /// Where a cell goes below a folder of models.
    pub fn path_in(&self, folder: &Path, cell: &str) -> PathBuf {
        folder.join(self.extension().map_or_else(|| cell.to_owned(), |ending| format!("{cell}.{ending}")))
    }

    /// Whether a model can be written to `out`, so that a caller can refuse before hours are spent. Changes nothing.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] when `out` is anything but a new name (or an empty folder, where a folder is written),
    /// or lies where nothing can be written; [`crate::Error::Failure`] when the disk has no room for even an empty file.
    pub fn check_target(&self, out: &Path) -> Result<()> {
        part::resolve(out, self.kind()).map(drop)
    }

    pub(super) fn kind(&self) -> TargetKind {
        if self.extension().is_some() { TargetKind::File } else { TargetKind::Folder }
    }
}

impl fmt::Debug for dyn Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Exporter {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}
