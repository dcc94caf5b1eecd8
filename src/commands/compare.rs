//! `secateur compare`: two models of a stored study, record by record.

use std::path::Path;

use super::{finished_cell, newest, newest_with, open};
use crate::cli::{CompareArgs, CompareFormat};
use crate::error::{Error, Result};
use crate::report;
use crate::results::{Answer, Metrics};
use crate::scores::BASE;
use crate::scores::TextWindows;
use crate::scores::comparison::{ComparedModel, ModelComparison};
use crate::store::checkpoint::positions;
use crate::store::{Store, StudyRecord};

/// Two models side by side: every score with its paired difference, flips, and the records on which they differ most.
///
/// # Errors
/// [`Error::Mistake`] where there is no store, no such study, or a cell is not there or not finished.
pub fn compare(config: Option<&Path>, args: &CompareArgs, width: usize) -> Result<String> {
    let store = open(config, &args.settings.given)?.0;
    let named = [&args.a, &args.b].into_iter().find(|name| *name != BASE);
    let record = match (args.study, named) {
        (Some(id), _) => store.study(id)?,
        (None, Some(cell)) => newest_with(&store, cell)?,
        (None, None) => store.study(newest(&store)?)?,
    };
    let found = compare_models(&store, &record, &args.a, &args.b)?;
    Ok(match args.format {
        CompareFormat::Table => report::comparison(&found, width),
        CompareFormat::Json => serde_json::to_string_pretty(&found)
            .map_err(|e| Error::failure(format!("the comparison cannot be written as JSON: {e}")))?,
    })
}

/// Compares two models of a study, each the id of a cell or `base`.
///
/// # Errors
/// [`Error::Mistake`] for a cell that is not there or not finished; a store that cannot be read.
pub(crate) fn compare_models(
    store: &Store,
    record: &StudyRecord,
    a: &str,
    b: &str,
) -> Result<ModelComparison> {
    if a == b {
        return Err(Error::mistake(format!("`{a}` twice: name two cells, or a cell and `{BASE}`")));
    }
    let (of_a, of_b) = (StoredModel::read(store, record, a)?, StoredModel::read(store, record, b)?);
    Ok(ModelComparison::between(&of_a.model(a), &of_b.model(b), record.spec.seed))
}

/// What the store has of one model.
struct StoredModel<'a> {
    metrics: &'a Metrics,
    answers: Vec<Answer>,
    windows: Vec<TextWindows>,
}

impl<'a> StoredModel<'a> {
    fn read(store: &Store, record: &'a StudyRecord, name: &str) -> Result<Self> {
        let cell = if name == BASE { None } else { Some(finished_cell(record, name, "compared")?) };
        let id = cell.map(|cell| cell.id.as_str());
        Ok(Self {
            metrics: cell.map_or(&record.base.metrics, |cell| &cell.metrics),
            answers: store.answers(record.id, id)?,
            windows: windows(&store.folder(record.id, id))?,
        })
    }

    fn model<'b>(&'b self, name: &'b str) -> ComparedModel<'b> {
        ComparedModel { name, metrics: self.metrics, answers: &self.answers, windows: &self.windows }
    }
}

/// Means over the positions of every window; none where earlier versions did not keep them.
fn windows(folder: &Path) -> Result<Vec<TextWindows>> {
    let mean =
        |window: &Vec<f32>| window.iter().map(|v| f64::from(*v)).sum::<f64>() / window.len().max(1) as f64;
    let means = |windows: &[Vec<f32>]| windows.iter().map(mean).collect::<Vec<f64>>();
    let texts = positions::read(folder)?.unwrap_or_default();
    let of_text = |text: positions::TextPositions| TextWindows {
        nll: means(&text.nll),
        divergences: text.divergences.as_ref().map(|[js, kl]| [means(js), means(kl)]),
        corpus: text.corpus,
    };
    Ok(texts.into_iter().map(of_text).collect())
}
