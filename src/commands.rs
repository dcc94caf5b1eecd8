//! The commands that look into a store: `list`, `show`, `compare`, `export`.

mod compare;
mod imatrix;
mod survey;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use self::compare::compare;
pub(crate) use self::compare::compare_models;
use crate::cli::{ExportArgs, ListArgs, ShowArgs, ShowFormat, TableFormat};
use crate::config::{Basics, Given};
use crate::data::{self, Fetch, FieldNames};
use crate::demo;
use crate::engine;
use crate::error::{Error, Result};
use crate::export::{
    self, ExportFormat, ExportModel, ExportOptions, ExportedForm, Verification, stored_model,
};
use crate::hub::{self, Hub};
use crate::human::date;
use crate::methods::Procedure;
use crate::model::{ModelFolder, load_tokenizer};
use crate::report;
use crate::results::{CellResult, CellState};
use crate::scores::{self, BASE};
use crate::store::{Store, StudyRecord, StudySummary, profile};
use crate::study::StudySpec;
use crate::text::{aligned, escape};

/// The studies of a store, one a line, or as a JSON list.
///
/// # Errors
/// [`Error::Mistake`] where there is no store.
pub fn list(config: Option<&Path>, args: &ListArgs) -> Result<String> {
    let store = open(config, &args.settings.given)?.0;
    let studies = store.studies()?;
    if args.format == TableFormat::Json {
        let line = |study: &StudySummary| {
            json!({
                "study": study.id,
                "created_at": study.created_at,
                "cells": study.cells,
                "cells_done": study.cells_done,
                "state": StudySummary::word(study.state),
                "model": study.model,
            })
        };
        return Ok(format!("{:#}", Value::Array(studies.iter().map(line).collect())));
    }
    let mut rows = vec![["study", "created (UTC)", "cells", "state", "model"].map(str::to_owned)];
    for study in studies {
        rows.push([
            study.id.to_string(),
            date(study.created_at),
            format!("{}/{}", study.cells_done, study.cells),
            StudySummary::word(study.state).to_owned(),
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
    if args.survey {
        return survey::show(&store, &record, args.format);
    }
    if let Some(cell) = &args.profile {
        return profile_of(&store, &record, cell);
    }
    let result = record.result(scores::rank_done_cells(&record.base.metrics, &record.cells));
    Ok(match args.format {
        ShowFormat::Table => report::table(&result, width),
        ShowFormat::Json => report::json(&result),
        ShowFormat::Csv => report::csv(&result),
        ShowFormat::Markdown => report::markdown(&result),
    })
}

/// The profile that an allocation chose for a cell, as a study reads one.
fn profile_of(store: &Store, record: &StudyRecord, cell: &str) -> Result<String> {
    if !record.cells.iter().any(|found| found.id == cell) {
        let known = record.cells.iter().map(|found| found.id.clone()).collect();
        return Err(no_cell(cell, &format!("study {}", record.id), known));
    }
    let text = profile::text(&store.folder(record.id, Some(cell)))?;
    text.map(|text| text.trim_end().to_owned()).ok_or_else(|| {
        Error::mistake(format!(
            "cell `{cell}` of study {} has no profile: one is chosen for a cell with `allocation` when it runs",
            record.id
        ))
    })
}

/// Writes a finished cell, or the base, in a form that other programs load; returns what to say about it.
///
/// # Errors
/// [`Error::Mistake`] for a cell that is not there or not finished, a model that is gone, a place that is in use, or what
/// the format cannot write; [`Error::Failure`] for an export that is not what it should be.
pub fn export(config: Option<&Path>, args: &ExportArgs) -> Result<String> {
    let format = match args.format {
        ExportedForm::Model(_) if args.calibration.is_some() => {
            return Err(Error::mistake("--calibration is for importance matrices (--as imatrix)"));
        }
        ExportedForm::Model(format) => Some(format),
        ExportedForm::ImportanceMatrix if args.cell == BASE => None,
        ExportedForm::ImportanceMatrix => {
            return Err(Error::mistake(format!(
                "an importance matrix is of the model as it came: name `{BASE}` in place of `{}`",
                args.cell
            )));
        }
    };
    export::check_target(format, &args.out)?;
    let (store, basics) = open(config, &args.settings.given)?;
    let record = match args.study {
        Some(id) => store.study(id)?,
        None if args.cell == BASE => store.study(newest(&store)?)?,
        None => newest_with(&store, &args.cell)?,
    };
    let Some(format) = format else {
        return imatrix::write(&record, args, basics.offline, &mut DataSets { offline: basics.offline });
    };
    let request = ExportRequest {
        cell: &args.cell,
        format,
        options: ExportOptions { quantize: args.quantize },
        verify: !args.no_verify,
        offline: basics.offline,
    };
    let verification = export_cell(&store, &record, &request, &args.out)?;
    Ok(format!(
        "{} of study {} written to {} as {}\n{}",
        args.cell,
        record.id,
        args.out.display(),
        format.0.name(),
        verification.map_or_else(|| "not verified: --no-verify".to_owned(), told)
    ))
}

fn told(found: Verification) -> String {
    format!(
        "verified: opened again, perplexity {:.4} where the model in memory has {:.4} ({:+.3}%, {} tokens)",
        found.read_back,
        found.in_memory,
        100.0 * found.difference(),
        found.tokens
    )
}

/// What is to be exported and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExportRequest<'a> {
    /// The cell's id, or `base`.
    pub cell: &'a str,
    pub format: ExportFormat,
    pub options: ExportOptions,
    /// Whether the export is opened again.
    pub verify: bool,
    pub offline: bool,
}

/// Writes a finished cell of a study, or its base, to a new place.
///
/// # Errors
/// As [`export`].
pub(crate) fn export_cell(
    store: &Store,
    record: &StudyRecord,
    request: &ExportRequest<'_>,
    target: &Path,
) -> Result<Option<Verification>> {
    let cell =
        if request.cell == BASE { None } else { Some(finished_cell(record, request.cell, "exported")?) };
    let mut spec = record.spec.clone();
    demo::find_files(&mut spec)?;
    let folder = ModelFolder::open(&hub::model_folder(&spec.model, request.offline)?)?;
    check_model(store, record, &folder)?;
    let texts = request.verify.then(|| verification_texts(&spec, &folder, request.offline)).transpose()?;
    let checkpoints = cell.map(|cell| store.folder(record.id, Some(&cell.id)));
    let model;
    let exported = match (&checkpoints, cell) {
        (Some(checkpoints), Some(cell)) => {
            let procedure = Procedure::of(&cell.spec.recipe, &spec.prune.parameters())?;
            model = stored_model(&folder, &procedure, checkpoints)?;
            ExportModel::cell(&model, checkpoints, cell)
        }
        _ => ExportModel::base(&folder),
    };
    export::export(request.format.0, &exported, &request.options, target, texts.as_deref())
}

/// Refuses a model that is not what it was when the study began: masks and codes belong to those weights.
fn check_model(store: &Store, record: &StudyRecord, folder: &ModelFolder) -> Result<()> {
    let Some(before) = store.content(record.id)? else { return Ok(()) };
    if before.model == engine::model_digest(folder, &mut || Ok(()))? {
        return Ok(());
    }
    Err(Error::mistake(format!(
        "the model {} is not what it was when study {} began; accepted are the same files, or a new study",
        folder.root.display(),
        record.id
    )))
}

/// Data sets of the hub.
struct DataSets {
    offline: bool,
}

impl Fetch for DataSets {
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf> {
        Hub::new(self.offline)?.dataset_file(repo, file, &mut |_| ())
    }
}

/// The texts that an export is compared on: the first windows of the study's first corpus.
fn verification_texts(spec: &StudySpec, folder: &ModelFolder, offline: bool) -> Result<Vec<Vec<u32>>> {
    let tokenizer = || load_tokenizer(&folder.tokenizer);
    let windows = match spec.evaluation.corpora.first() {
        None => Vec::new(),
        Some(source) => {
            let read = || {
                let text =
                    data::load_text(source, &FieldNames::new(&spec.fields)?, &mut DataSets { offline })?;
                data::evaluation_windows(&text, &tokenizer()?, spec.seq_len, Some(2))
            };
            read().map_err(|e| {
                Error::mistake(format!(
                    "the study's text, on which the export is to be verified, cannot be read ({e}); --no-verify does \
                     without"
                ))
            })?
        }
    };
    export::passages(&windows, &tokenizer)
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

/// A cell that is done, for what is to be done with it: `exported`.
fn finished_cell<'a>(record: &'a StudyRecord, cell: &str, what: &str) -> Result<&'a CellResult> {
    let found = record.cells.iter().find(|c| c.id == cell).ok_or_else(|| {
        let known = record.cells.iter().map(|c| c.id.clone()).collect();
        no_cell(cell, &format!("study {}", record.id), known)
    })?;
    if found.state == CellState::Done {
        return Ok(found);
    }
    Err(Error::mistake(format!(
        "cell `{cell}` of study {} is {}; only a cell that is done can be {what} (finish the study with --resume)",
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
