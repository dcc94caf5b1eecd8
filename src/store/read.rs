//! Getting things out of a store.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Store;
use super::convert::{Floats, Json, Likelihood, Real, Unsigned, Word};
use super::fingerprint::Fingerprint;
use crate::error::{Error, Result};
use crate::results::{
    Answer, BaseResult, CellResult, CellState, ChoiceLikelihood, Environment, Footprint, Measurement,
    Metrics, ModelInfo, ModuleResult, RankCorrelations, Seconds, StudyResult,
};
use crate::study::{CellSpec, Contamination, StudyContent, StudySpec};

/// A study as it is in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyRecord {
    /// Its number.
    pub id: i64,
    /// When it was made, in seconds since 1970 (UTC).
    pub created_at: i64,
    /// What was asked.
    pub spec: StudySpec,
    pub(crate) model: ModelInfo,
    pub(crate) environment: Environment,
    /// What is known of the base.
    pub base: BaseResult,
    /// How far the base has come.
    pub base_state: CellState,
    /// Every cell with its modules, in the order of the grid.
    pub cells: Vec<CellResult>,
    /// How much of every corpus and task stands in every calibration set, as far as that is known.
    pub contamination: Vec<Contamination>,
}

/// What a study's fingerprint has of it; nothing where an earlier version wrote it.
fn contamination(fingerprint: &str) -> Vec<Contamination> {
    let content = Fingerprint::parse(fingerprint).ok().and_then(|fingerprint| fingerprint.content);
    content.map(|content| content.contamination).unwrap_or_default()
}

impl StudyRecord {
    /// The study as it is reported; which metric tells the truth is for the caller to find out.
    pub fn result(&self, rank_correlations: RankCorrelations) -> StudyResult {
        let (model, environment) = (self.model.clone(), self.environment.clone());
        let (base, cells) = (self.base.clone(), self.cells.clone());
        let result = StudyResult::new(self.id, model, environment, base, cells, rank_correlations);
        StudyResult { contamination: self.contamination.clone(), ..result }
    }
}

/// A line in the list of studies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudySummary {
    /// Number of the study.
    pub id: i64,
    /// When it was made, in seconds since 1970 (UTC).
    pub created_at: i64,
    /// Folder or hub id of the model, as given.
    pub model: String,
    /// Its cells.
    pub cells: usize,
    /// Those that are done.
    pub cells_done: usize,
    /// How far it has come as a whole: done when the base and every cell are; running while one of them is; failed when
    /// nothing runs and one has failed; queued when nothing has begun; else cancelled, which is to say that it can be
    /// resumed.
    pub state: CellState,
}

impl StudySummary {
    /// The word for a study's state. One that was stopped can be resumed: "cancelled", as of a cell, would mislead.
    pub fn word(state: CellState) -> &'static str {
        match state {
            CellState::Cancelled => "unfinished",
            other => other.name(),
        }
    }
}

impl Store {
    /// The newest study that can be resumed as `spec`, finished or not: all that changes numbers is the same. Its list of
    /// cells, batch sizes and threads may differ, and so may the paths of its files where `content` says what they hold.
    /// `None` when there is none.
    pub fn resumable(&self, spec: &StudySpec, content: Option<&StudyContent>) -> Result<Option<i64>> {
        let wanted = Fingerprint::new(spec, content);
        self.read(|t| {
            let mut query = t.prepare_cached("SELECT id, spec, fingerprint FROM studies ORDER BY id DESC")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                // What cannot be read is no study of this one's kind.
                let text: String = row.get(2)?;
                let Ok(found) = Fingerprint::parse(&text) else { continue };
                if wanted.same_study(&found) {
                    let Json(spec_of_found): Json<StudySpec> = row.get(1)?;
                    if wanted.same_cells(&spec.cells, &found, &spec_of_found.cells) {
                        return Ok(Some(row.get(0)?));
                    }
                }
            }
            Ok(None)
        })
    }

    /// What the files of a study held when it was last worked on; `None` where its version of the program did not look.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such study.
    pub fn content(&self, study: i64) -> Result<Option<StudyContent>> {
        self.read(|t| {
            let sql = "SELECT fingerprint FROM studies WHERE id = ?1";
            let found: Option<String> = t.query_row(sql, [study], |row| row.get(0)).optional()?;
            let found = found.ok_or_else(|| self.no_study(t, study))?;
            Ok(Fingerprint::parse(&found).ok().and_then(|fingerprint| fingerprint.content))
        })
    }

    /// All that is known of a study.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such study; it names those that there are.
    pub fn study(&self, id: i64) -> Result<StudyRecord> {
        self.read(|t| {
            let sql = "SELECT s.created_at, s.spec, s.model, s.environment, b.state, s.fingerprint
                       FROM studies AS s JOIN base AS b ON b.study = s.id WHERE s.id = ?1";
            let found = t.query_row(sql, [id], |row| {
                Ok(StudyRecord {
                    id,
                    created_at: row.get(0)?,
                    spec: row.get::<_, Json<_>>(1)?.0,
                    model: row.get::<_, Json<_>>(2)?.0,
                    environment: row.get::<_, Json<_>>(3)?.0,
                    base: BaseResult::default(),
                    base_state: row.get::<_, Word<_>>(4)?.0,
                    cells: Vec::new(),
                    contamination: contamination(&row.get::<_, String>(5)?),
                })
            });
            let mut record = found.optional()?.ok_or_else(|| self.no_study(t, id))?;
            record.base.metrics = metrics(t, id, None)?;
            record.base.seconds = seconds(t, id, None)?;
            record.cells = cells(t, id)?;
            if self.stands_still(id) {
                let states = record.cells.iter_mut().map(|cell| &mut cell.state);
                let running = |state: &&mut CellState| **state == CellState::Running;
                states.chain([&mut record.base_state]).filter(running).for_each(|s| *s = CellState::Queued);
            }
            Ok(record)
        })
    }

    /// Every study, the oldest first.
    pub fn studies(&self) -> Result<Vec<StudySummary>> {
        self.read(|t| {
            let mut query = t.prepare_cached(
                "SELECT s.id, s.created_at, s.model ->> 'source', b.state, count(c.id),
                        count(c.id) FILTER (WHERE c.state = 'done'),
                        count(c.id) FILTER (WHERE c.state = 'running'),
                        count(c.id) FILTER (WHERE c.state = 'failed'),
                        count(c.id) FILTER (WHERE c.state = 'queued')
                 FROM studies AS s JOIN base AS b ON b.study = s.id LEFT JOIN cells AS c ON c.study = s.id
                 GROUP BY s.id ORDER BY s.id",
            )?;
            let rows = query.query_map([], |row| {
                let Word(base): Word<CellState> = row.get(3)?;
                let count = |column| row.get::<_, Unsigned>(column).map(usize::from);
                let (cells, done, running) = (count(4)?, count(5)?, count(6)?);
                let (failed, queued) = (count(7)?, count(8)?);
                let state = if base == CellState::Done && done == cells {
                    CellState::Done
                } else if base == CellState::Running || running > 0 {
                    CellState::Running
                } else if base == CellState::Failed || failed > 0 {
                    CellState::Failed
                } else if base == CellState::Queued && queued == cells {
                    CellState::Queued
                } else {
                    CellState::Cancelled
                };
                Ok(StudySummary {
                    id: row.get(0)?,
                    created_at: row.get(1)?,
                    model: row.get(2)?,
                    cells,
                    cells_done: done,
                    state,
                })
            })?;
            let mut studies: Vec<StudySummary> = rows.collect::<rusqlite::Result<_>>()?;
            for study in studies.iter_mut().filter(|study| study.state == CellState::Running) {
                if self.stands_still(study.id) {
                    study.state = CellState::Cancelled;
                }
            }
            Ok(studies)
        })
    }

    /// The models that studies are about, folders and hub ids as they were given, each once, the latest first.
    pub fn recent_models(&self) -> Result<Vec<String>> {
        self.read(|t| {
            let mut query = t.prepare_cached(
                "SELECT model ->> 'source' AS source FROM studies GROUP BY source ORDER BY max(id) DESC",
            )?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// A number that differs from the one before when another process or handle has changed the store in between; costs
    /// next to nothing. What this handle itself writes does not change it.
    pub fn generation(&self) -> Result<i64> {
        let connection = self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let generation = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
        generation.map_err(|e| super::explain(&self.path, e.into()))
    }

    /// The answers of a cell (or of the base: `None`), by task and record.
    pub fn answers(&self, study: i64, cell: Option<&str>) -> Result<Vec<Answer>> {
        self.read(|t| {
            let mut query = t.prepare_cached(
                "SELECT a.task, a.record, q.prompt, q.reference_answers, a.text, a.tokens, a.scores, a.pieces,
                        a.disagreement_bits, c.texts, l.choices
                 FROM answers AS a JOIN questions AS q USING (study, task, record)
                 LEFT JOIN likelihoods AS l ON l.study = a.study AND ifnull(l.cell, '') = ifnull(a.cell, '')
                     AND l.task = a.task AND l.record = a.record
                 LEFT JOIN choice_texts AS c ON c.study = a.study AND c.task = a.task AND c.record = a.record
                 WHERE a.study = ?1 AND ifnull(a.cell, '') = ifnull(?2, '')
                 ORDER BY a.task, a.record",
            )?;
            let rows = query.query_map(params![study, cell], |row| {
                Ok(Answer {
                    task: row.get(0)?,
                    record: count(row, 1)?,
                    prompt: row.get(2)?,
                    references: row.get::<_, Json<_>>(3)?.0,
                    text: row.get(4)?,
                    tokens: row.get::<_, Json<_>>(5)?.0,
                    scores: row.get::<_, Json<_>>(6)?.0,
                    pieces: row.get::<_, Json<_>>(7)?.0,
                    disagreement_bits: row.get::<_, Json<Floats>>(8)?.0.0,
                    choices: choices(row)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The mistake of naming a study that is not there.
    pub(super) fn no_study(&self, t: &Connection, id: i64) -> Error {
        let known: rusqlite::Result<Vec<i64>> =
            t.prepare("SELECT id FROM studies ORDER BY id").and_then(|mut query| {
                let rows = query.query_map([], |row| row.get(0))?;
                rows.collect()
            });
        let known = match known {
            Ok(known) if known.is_empty() => "it has none".to_owned(),
            Ok(known) => {
                let known: Vec<_> = known.iter().map(i64::to_string).collect();
                format!("it has {}", known.join(", "))
            }
            Err(e) => return e.into(),
        };
        Error::mistake(format!("there is no study {id} in {}: {known}", self.path.display()))
    }
}

/// The choices of a row of answers; none where the question has none.
fn choices(row: &Row<'_>) -> rusqlite::Result<Vec<ChoiceLikelihood>> {
    let Some(Json(texts)) = row.get::<_, Option<Json<Vec<String>>>>(9)? else { return Ok(Vec::new()) };
    let Some(Json(found)) = row.get::<_, Option<Json<Vec<Likelihood>>>>(10)? else { return Ok(Vec::new()) };
    let choice = |(text, Likelihood { log_likelihood, is_greedy })| ChoiceLikelihood {
        text,
        log_likelihood,
        is_greedy,
    };
    Ok(texts.into_iter().zip(found).map(choice).collect())
}

fn real(row: &Row<'_>, column: usize) -> rusqlite::Result<f64> {
    Ok(row.get::<_, Real>(column)?.0)
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<usize> {
    Ok(row.get::<_, Unsigned>(column)?.into())
}

fn cells(t: &Connection, study: i64) -> Result<Vec<CellResult>> {
    let mut query = t.prepare_cached(
        "SELECT id, recipe, calibration, seed, state, footprint, peak_rss_bytes, warnings
         FROM cells WHERE study = ?1 ORDER BY position, id",
    )?;
    let rows = query.query_map([study], |row| {
        Ok(CellResult {
            id: row.get(0)?,
            spec: CellSpec {
                recipe: row.get::<_, Word<_>>(1)?.0,
                calibration: row.get(2)?,
                seed: row.get::<_, Unsigned>(3)?.0,
            },
            state: row.get::<_, Word<_>>(4)?.0,
            footprint: row.get::<_, Option<Json<_>>>(5)?.map(|json| json.0),
            whole_model: None,
            metrics: Metrics::default(),
            seconds: Seconds::default(),
            peak_rss_bytes: row.get::<_, Unsigned>(6)?.0,
            warnings: row.get::<_, Json<_>>(7)?.0,
            modules: Vec::new(),
        })
    })?;
    let mut cells: Vec<CellResult> = rows.collect::<rusqlite::Result<_>>()?;
    for cell in &mut cells {
        cell.metrics = metrics(t, study, Some(&cell.id))?;
        cell.seconds = seconds(t, study, Some(&cell.id))?;
        cell.modules = modules(t, study, &cell.id)?;
    }
    Ok(cells)
}

fn modules(t: &Connection, study: i64, cell: &str) -> Result<Vec<ModuleResult>> {
    let mut query = t.prepare_cached(
        "SELECT block, name, weights, zeros, stored_bits, packed_bits, reconstruction_error, error_basis,
                dead_columns, details, seconds
         FROM modules WHERE study = ?1 AND cell = ?2 ORDER BY block, place",
    )?;
    let rows = query.query_map(params![study, cell], |row| {
        Ok(ModuleResult {
            block: count(row, 0)?,
            name: row.get(1)?,
            footprint: Footprint {
                saved_at_ends: 0,
                removed: 0,
                weights: row.get::<_, Unsigned>(2)?.0,
                zeros: row.get::<_, Unsigned>(3)?.0,
                stored_bits: row.get::<_, Unsigned>(4)?.0,
                packed_bits: row.get::<_, Unsigned>(5)?.0,
            },
            reconstruction_error: real(row, 6)?,
            error_basis: row.get::<_, Word<_>>(7)?.0,
            dead_columns: count(row, 8)?,
            details: row.get::<_, Json<_>>(9)?.0,
            seconds: real(row, 10)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn seconds(t: &Connection, study: i64, cell: Option<&str>) -> Result<Seconds> {
    let mut query = t.prepare_cached(
        "SELECT phase, seconds FROM timings WHERE study = ?1 AND ifnull(cell, '') = ifnull(?2, '')",
    )?;
    let mut rows = query.query(params![study, cell])?;
    let mut seconds = Seconds::default();
    while let Some(row) = rows.next()? {
        let phase: String = row.get(0)?;
        let value = real(row, 1)?;
        match phase.as_str() {
            "load" => seconds.load = value,
            "calibrate" => seconds.calibrate = value,
            "prune" => seconds.prune = value,
            "evaluate" => seconds.evaluate = value,
            "answer" => seconds.answer = value,
            // What a later version spent time on.
            _ => {}
        }
    }
    Ok(seconds)
}

fn metrics(t: &Connection, study: i64, cell: Option<&str>) -> Result<Metrics> {
    let mut query = t.prepare_cached(
        "SELECT score, data_set, value, lo, hi, n, details
         FROM metrics WHERE study = ?1 AND ifnull(cell, '') = ifnull(?2, '') ORDER BY position",
    )?;
    let rows = query.query_map(params![study, cell], |row| {
        Ok(Measurement {
            score: row.get(0)?,
            data_set: row.get(1)?,
            value: real(row, 2)?,
            ci95: [real(row, 3)?, real(row, 4)?],
            n: count(row, 5)?,
            details: row.get::<_, Json<_>>(6)?.0,
        })
    })?;
    Ok(Metrics { values: rows.collect::<rusqlite::Result<_>>()? })
}
