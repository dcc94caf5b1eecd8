//! The commands that look into a store: `list`, `show`, `export`.

use std::path::Path;

use crate::cli::{ExportArgs, ListArgs, ShowArgs, ShowFormat};
use crate::config::{Basics, Given};
use crate::demo;
use crate::error::{Error, Result};
use crate::hub;
use crate::human::date;
use crate::model::ModelFolder;
use crate::report;
use crate::results::{CellResult, CellState, Insight};
use crate::scores;
use crate::store::{Store, StudyRecord, export};
use crate::text::{escape, pad, width};

/// The studies of a store, one a line.
///
/// # Errors
/// [`Error::Mistake`] where there is no store.
pub fn list(config: Option<&Path>, args: &ListArgs) -> Result<String> {
    let store = open(config, &args.settings.given)?.0;
    let mut rows = vec![["study", "created (UTC)", "cells", "state", "model"].map(str::to_owned)];
    for study in store.studies()? {
        rows.push([
            study.id.to_string(),
            date(study.created_at),
            format!("{}/{}", study.cells_done, study.cells),
            study.state.name().to_owned(),
            escape(&study.model).into_owned(),
        ]);
    }
    if rows.len() == 1 {
        return Ok(format!("no studies in {}", store.path().display()));
    }
    Ok(aligned(&rows))
}

/// A stored study as a table (as wide as `width` columns), JSON, CSV or Markdown.
///
/// # Errors
/// [`Error::Mistake`] where there is no store or no such study.
pub fn show(config: Option<&Path>, args: &ShowArgs, width: usize) -> Result<String> {
    let store = open(config, &args.settings.given)?.0;
    let id = match args.study {
        Some(id) => id,
        None => newest(&store)?,
    };
    let record = store.study(id)?;
    let result = record.result(insight(&record));
    Ok(match args.format {
        ShowFormat::Table => report::table(&result, width),
        ShowFormat::Json => report::json(&result),
        ShowFormat::Csv => report::csv(&result),
        ShowFormat::Markdown => report::markdown(&result),
    })
}

/// Writes a finished cell as a model folder; returns what to say about it.
///
/// # Errors
/// [`Error::Mistake`] for a cell that is not there or not finished, a model that is gone, a folder that is in use.
pub fn export(config: Option<&Path>, args: &ExportArgs) -> Result<String> {
    export::check_target(&args.dir)?;
    let (store, basics) = open(config, &args.settings.given)?;
    let record = match args.study {
        Some(id) => store.study(id)?,
        None => newest_with(&store, &args.cell)?,
    };
    export_cell(&store, &record, &args.cell, basics.offline, &args.dir)?;
    Ok(format!("{} of study {} written to {}", args.cell, record.id, args.dir.display()))
}

/// Writes a finished cell of a study into a new folder, as a model.
///
/// # Errors
/// As [`export`].
pub(crate) fn export_cell(
    store: &Store,
    record: &StudyRecord,
    cell: &str,
    offline: bool,
    target: &Path,
) -> Result<()> {
    let cell = finished_cell(record, cell)?;
    let mut spec = record.spec.clone();
    demo::find_files(&mut spec)?;
    let model = ModelFolder::open(&hub::model_folder(&spec.model, offline)?)?;
    export::write(&model, &store.folder(record.id, Some(&cell.id)), cell, target)
}

fn open(config: Option<&Path>, given: &Given) -> Result<(Store, Basics)> {
    let basics = Basics::load(config, given)?;
    Ok((Store::open_read_only(&basics.store)?, basics))
}

/// The newest study of a store.
///
/// # Errors
/// [`Error::Mistake`] where there is none.
pub(crate) fn newest(store: &Store) -> Result<i64> {
    let newest = store.studies()?.last().map(|study| study.id);
    newest.ok_or_else(|| Error::mistake(format!("no studies in {}", store.path().display())))
}

/// The newest study that has the cell, rather one in which it is done.
fn newest_with(store: &Store, cell: &str) -> Result<StudyRecord> {
    let mut unfinished = None;
    let mut known = Vec::new();
    for summary in store.studies()?.iter().rev() {
        let record = store.study(summary.id)?;
        match record.cells.iter().find(|c| c.id == cell) {
            Some(found) if found.state == CellState::Done => return Ok(record),
            Some(_) if unfinished.is_none() => unfinished = Some(record),
            Some(_) => {}
            None => known.extend(record.cells.into_iter().map(|c| c.id)),
        }
    }
    unfinished.ok_or_else(|| no_cell(cell, &format!("any study of {}", store.path().display()), known))
}

fn finished_cell<'a>(record: &'a StudyRecord, cell: &str) -> Result<&'a CellResult> {
    let found = record.cells.iter().find(|c| c.id == cell).ok_or_else(|| {
        let known = record.cells.iter().map(|c| c.id.clone()).collect();
        no_cell(cell, &format!("study {}", record.id), known)
    })?;
    if found.state == CellState::Done {
        return Ok(found);
    }
    Err(Error::mistake(format!(
        "cell `{cell}` of study {} is {}; only a cell that is done can be exported (finish the study with --resume)",
        record.id,
        found.state.name()
    )))
}

fn no_cell(cell: &str, place: &str, mut known: Vec<String>) -> Error {
    known.sort_unstable();
    known.dedup();
    let known =
        if known.is_empty() { "there are none".into() } else { format!("there are {}", known.join(", ")) };
    Error::mistake(format!("no cell `{cell}` in {place}; {known}"))
}

fn insight(record: &StudyRecord) -> Insight {
    let done = record.cells.iter().filter(|cell| cell.state == CellState::Done);
    let metrics: Vec<_> = done.map(|cell| &cell.metrics).collect();
    scores::insight(&record.base.metrics, &metrics)
}

/// Rows with columns as wide as their widest entry; the last column is left as it is.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widest = |column: usize| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(|column| if column + 1 < N { widest(column) } else { 0 }).collect();
    let line = |row: &[String; N]| {
        let entries = row.iter().zip(&widths).map(|(entry, &width)| pad(entry, width, false));
        entries.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
