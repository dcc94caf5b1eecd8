//! Putting things into a store.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::atomic::cannot_place;
use super::convert::{Floats, Json, Likelihood, Real, Unsigned, Word};
use super::fingerprint::Fingerprint;
use crate::error::{Error, Result};
use crate::results::{
    Answer, BaseResult, CellResult, CellState, ChoiceLikelihood, Environment, Metrics, ModelInfo,
    ModuleResult, Seconds, SourceBits,
};
use crate::study::{StudyContent, StudySpec};

impl Store {
    /// Adds a study with its cells, all waiting, and returns its number. Its checkpoint folder is made with it; a
    /// number whose folder is there already, left by a store that is gone, is passed over.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the checkpoint folder cannot be made, or the store is read-only.
    pub fn create_study(
        &self,
        spec: &StudySpec,
        model: &ModelInfo,
        environment: &Environment,
    ) -> Result<i64> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut folder = None;
        let study = self.write(|t| {
            let last: Option<i64> = t
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'studies'", [], |row| row.get(0))
                .optional()?;
            let mut id = last.unwrap_or(0) + 1;
            // The first statement that writes: a read-only store is refused before a folder is made.
            t.execute(
                "INSERT INTO studies (id, created_at, spec, model, environment, fingerprint)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    id,
                    Unsigned(created),
                    Json(spec),
                    Json(model),
                    Json(environment),
                    Fingerprint::new(spec, None).to_json()
                ],
            )?;
            let first = id;
            while !claim(&self.study_folder(id))? {
                id += 1;
            }
            folder = Some(self.study_folder(id));
            if id != first {
                t.execute("UPDATE studies SET id = ?1 WHERE id = ?2", [id, first])?;
                t.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'studies'", [id])?;
            }
            t.execute(
                "INSERT INTO base (study, state) VALUES (?1, ?2)",
                params![id, Word(CellState::Queued)],
            )?;
            put_times(t, id, None, &Seconds::default())?;
            self.queue_cells(t, id, spec)?;
            Ok(id)
        });
        if let (Err(_), Some(folder)) = (&study, folder) {
            // Still empty; the error that undid the study is the one to report.
            let _ = fs::remove_dir(folder);
        }
        study
    }

    /// Replaces a study's definition and what its files hold; cells that are new in it are queued, cells that are not in
    /// it any more stay. Without `content` the study is known by its paths.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such study.
    pub fn put_spec(&self, study: i64, spec: &StudySpec, content: Option<&StudyContent>) -> Result<()> {
        self.write(|t| {
            let changed = t.execute(
                "UPDATE studies SET spec = ?2, fingerprint = ?3 WHERE id = ?1",
                params![study, Json(spec), Fingerprint::new(spec, content).to_json()],
            )?;
            if changed == 0 {
                return Err(self.no_study(t, study));
            }
            self.queue_cells(t, study, spec)
        })
    }

    /// Adds what the model's tensors take to a study that an earlier version began, which did not record it.
    ///
    /// # Errors
    /// [`Error::Store`] when the store cannot be written.
    pub fn put_source_bits(&self, study: i64, bits: SourceBits) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE studies SET model = json_set(model, '$.source_bits', json(?2))
                 WHERE id = ?1 AND model ->> 'source_bits' IS NULL",
                params![study, Json(bits)],
            )?;
            Ok(())
        })
    }

    /// Puts all that is known of the base in the place of what was known.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such study.
    pub fn put_base(&self, study: i64, base: &BaseResult, state: CellState) -> Result<()> {
        self.write(|t| {
            if t.execute("UPDATE base SET state = ?2 WHERE study = ?1", params![study, Word(state)])? == 0 {
                return Err(self.no_study(t, study));
            }
            put_metrics(t, study, None, &base.metrics)?;
            put_times(t, study, None, &base.seconds)
        })
    }

    /// Puts all that is known of a cell, except its modules, in the place of what was known; a cell that is not
    /// there yet is added. `position` is its place in the grid, from 0.
    ///
    /// # Errors
    /// [`Error::Store`] when there is no such study.
    pub fn put_cell(&self, study: i64, position: usize, cell: &CellResult) -> Result<()> {
        self.write(|t| {
            let mut upsert = t.prepare_cached(
                "INSERT INTO cells (study, id, position, recipe, calibration, seed, state, footprint, peak_rss_bytes,
                                    warnings)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (study, id) DO UPDATE SET
                     position = excluded.position, recipe = excluded.recipe, calibration = excluded.calibration,
                     seed = excluded.seed, state = excluded.state, footprint = excluded.footprint,
                     peak_rss_bytes = excluded.peak_rss_bytes, warnings = excluded.warnings",
            )?;
            upsert.execute(params![
                study,
                cell.id,
                Unsigned::from(position),
                Word(&cell.spec.recipe),
                cell.spec.calibration,
                Unsigned(cell.spec.seed),
                Word(cell.state),
                cell.footprint.map(Json),
                Unsigned(cell.peak_rss_bytes),
                Json(&cell.warnings),
            ])?;
            put_metrics(t, study, Some(&cell.id), &cell.metrics)?;
            put_times(t, study, Some(&cell.id), &cell.seconds)
        })
    }

    /// Puts where the time of a cell (or of the base: `None`) went so far, in the place of what was known.
    ///
    /// # Errors
    /// [`Error::Store`] when there is no such study or cell.
    pub fn put_seconds(&self, study: i64, cell: Option<&str>, seconds: &Seconds) -> Result<()> {
        self.write(|t| put_times(t, study, cell, seconds))
    }

    /// Puts what was done to one module; replaces what is there under its name.
    ///
    /// # Errors
    /// [`Error::Store`] when there is no such cell.
    pub fn put_module(&self, study: i64, cell: &str, module: &ModuleResult) -> Result<()> {
        self.write(|t| {
            let mut upsert = t.prepare_cached(
                "INSERT INTO modules (study, cell, name, block, weights, zeros, stored_bits, packed_bits,
                                      reconstruction_error, error_basis, dead_columns, details, seconds)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT (study, cell, name) DO UPDATE SET
                     block = excluded.block, weights = excluded.weights, zeros = excluded.zeros,
                     stored_bits = excluded.stored_bits, packed_bits = excluded.packed_bits,
                     reconstruction_error = excluded.reconstruction_error, error_basis = excluded.error_basis,
                     dead_columns = excluded.dead_columns, details = excluded.details,
                     seconds = excluded.seconds",
            )?;
            upsert.execute(params![
                study,
                cell,
                module.name,
                Unsigned::from(module.block),
                Unsigned(module.footprint.weights),
                Unsigned(module.footprint.zeros),
                Unsigned(module.footprint.stored_bits),
                Unsigned(module.footprint.packed_bits),
                Real(module.reconstruction_error),
                Word(module.error_basis),
                Unsigned::from(module.dead_columns),
                Json(&module.details),
                Real(module.seconds),
            ])?;
            Ok(())
        })
    }

    /// Puts answers of a cell (or of the base: `None`), all or none; replaces its answers to the same records. Prompt
    /// and references are kept once a study, since they are the same for every model.
    ///
    /// # Errors
    /// [`Error::Store`] when there is no such study or cell.
    pub fn put_answers(&self, study: i64, cell: Option<&str>, answers: &[Answer]) -> Result<()> {
        self.write(|t| {
            let mut question = t.prepare_cached(
                "INSERT INTO questions (study, task, record, prompt, reference_answers)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (study, task, record) DO UPDATE SET
                     prompt = excluded.prompt, reference_answers = excluded.reference_answers",
            )?;
            let mut upsert = t.prepare_cached(
                "INSERT INTO answers (study, cell, task, record, text, tokens, scores, pieces, disagreement_bits)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (study, ifnull(cell, ''), task, record) DO UPDATE SET
                     text = excluded.text, tokens = excluded.tokens, scores = excluded.scores,
                     pieces = excluded.pieces, disagreement_bits = excluded.disagreement_bits",
            )?;
            for answer in answers {
                let record = Unsigned::from(answer.record);
                let references = Json(&answer.references);
                question.execute(params![study, answer.task, record, answer.prompt, references])?;
                upsert.execute(params![
                    study,
                    cell,
                    answer.task,
                    record,
                    answer.text,
                    Json(&answer.tokens),
                    Json(&answer.scores),
                    Json(&answer.pieces),
                    Json(Floats(answer.disagreement_bits.clone())),
                ])?;
                if !answer.choices.is_empty() {
                    put_choices(t, study, cell, answer)?;
                }
            }
            Ok(())
        })
    }

    /// Puts how far base and cell disagreed at each token of answers that are there: task, record and bits of each.
    /// All of them are put, or none.
    ///
    /// # Errors
    /// [`Error::Failure`] when one of the answers is not there.
    pub fn put_disagreements(
        &self,
        study: i64,
        cell: &str,
        answers: &[(&str, usize, Vec<f32>)],
    ) -> Result<()> {
        self.write(|t| {
            let mut update = t.prepare_cached(
                "UPDATE answers SET disagreement_bits = ?5
                 WHERE study = ?1 AND cell = ?2 AND task = ?3 AND record = ?4",
            )?;
            for (task, record, bits) in answers {
                let bits = Json(Floats(bits.clone()));
                if update.execute(params![study, cell, task, Unsigned::from(*record), bits])? != 1 {
                    return Err(Error::failure(format!("{cell} has no answer to record {record} of {task}")));
                }
            }
            Ok(())
        })
    }

    /// Forgets all that was found out of a cell (or of the base: `None`), its checkpoints too; it is queued again.
    ///
    /// # Errors
    /// [`Error::Io`] when checkpoints cannot be removed.
    pub fn clear_cell(&self, study: i64, cell: Option<&str>) -> Result<()> {
        self.write(|t| {
            for table in ["metrics", "answers", "likelihoods"] {
                let sql =
                    format!("DELETE FROM {table} WHERE study = ?1 AND ifnull(cell, '') = ifnull(?2, '')");
                t.execute(&sql, params![study, cell])?;
            }
            t.execute("DELETE FROM modules WHERE study = ?1 AND cell = ?2", params![study, cell])?;
            put_times(t, study, cell, &Seconds::default())?;
            let queued = Word(CellState::Queued);
            match cell {
                None => t.execute("UPDATE base SET state = ?2 WHERE study = ?1", params![study, queued])?,
                Some(cell) => t.execute(
                    "UPDATE cells SET state = ?3, footprint = NULL, peak_rss_bytes = 0, warnings = '[]'
                     WHERE study = ?1 AND id = ?2",
                    params![study, cell, queued],
                )?,
            };
            // Within the transaction: a cell whose files could not be removed must not look like a fresh one.
            remove_folder(&self.folder(study, cell))
        })
    }

    /// Deletes a study: all its rows, then its folder with the checkpoints.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such study, [`Error::Io`] when files cannot be removed.
    pub fn delete_study(&self, study: i64) -> Result<()> {
        self.write(|t| {
            // Everything else of the study goes with it by the tables' foreign keys.
            if t.execute("DELETE FROM studies WHERE id = ?1", [study])? == 0 {
                return Err(self.no_study(t, study));
            }
            Ok(())
        })?;
        remove_folder(&self.study_folder(study))
    }

    /// Adds the cells of a definition that are not there yet, and gives all of them their places. Files that lie where those
    /// of a new cell will are of one that the store does not know any more, and go: what they compress has no figures here.
    fn queue_cells(&self, t: &Connection, study: i64, spec: &StudySpec) -> Result<()> {
        let mut insert = t.prepare_cached(
            "INSERT INTO cells (study, id, position, recipe, calibration, seed, state, peak_rss_bytes, warnings)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, '[]')
             ON CONFLICT (study, id) DO NOTHING",
        )?;
        let mut place = t.prepare_cached("UPDATE cells SET position = ?3 WHERE study = ?1 AND id = ?2")?;
        for (position, cell) in spec.cells.iter().enumerate() {
            let (id, position) = (cell.id(), Unsigned::from(position));
            let new = insert.execute(params![
                study,
                id,
                position,
                Word(&cell.recipe),
                cell.calibration,
                Unsigned(cell.seed),
                Word(CellState::Queued),
            ])?;
            if new == 0 {
                place.execute(params![study, id, position])?;
            } else {
                remove_folder(&self.folder(study, Some(&id)))?;
            }
        }
        Ok(())
    }
}

/// Makes a folder that must be new; `false` when it is there already.
fn claim(folder: &Path) -> Result<bool> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(|e| cannot_place(parent, e))?;
    }
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(cannot_place(folder, e)),
    }
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", folder, e)),
        _ => Ok(()),
    }
}

fn put_times(t: &Connection, study: i64, cell: Option<&str>, seconds: &Seconds) -> Result<()> {
    let Seconds { load, calibrate, prune, evaluate, answer } = *seconds;
    let mut upsert = t.prepare_cached(
        "INSERT INTO timings (study, cell, phase, seconds) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (study, ifnull(cell, ''), phase) DO UPDATE SET seconds = excluded.seconds",
    )?;
    let phases = [
        ("load", load),
        ("calibrate", calibrate),
        ("prune", prune),
        ("evaluate", evaluate),
        ("answer", answer),
    ];
    for (phase, seconds) in phases {
        upsert.execute(params![study, cell, phase, Real(seconds)])?;
    }
    Ok(())
}

fn put_metrics(t: &Connection, study: i64, cell: Option<&str>, metrics: &Metrics) -> Result<()> {
    t.prepare_cached("DELETE FROM metrics WHERE study = ?1 AND ifnull(cell, '') = ifnull(?2, '')")?
        .execute(params![study, cell])?;
    let mut insert = t.prepare_cached(
        "INSERT INTO metrics (study, cell, position, score, data_set, value, lo, hi, n, details)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for (position, found) in metrics.values.iter().enumerate() {
        insert.execute(params![
            study,
            cell,
            Unsigned::from(position),
            found.score,
            found.data_set,
            Real(found.value),
            Real(found.ci95[0]),
            Real(found.ci95[1]),
            Unsigned::from(found.n),
            Json(&found.details),
        ])?;
    }
    Ok(())
}

/// Puts the choices of a question, and how likely a model finds them.
fn put_choices(t: &Connection, study: i64, cell: Option<&str>, answer: &Answer) -> rusqlite::Result<()> {
    let record = Unsigned::from(answer.record);
    let texts: Vec<&str> = answer.choices.iter().map(|choice| choice.text.as_str()).collect();
    let mut upsert = t.prepare_cached(
        "INSERT INTO choice_texts (study, task, record, texts) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (study, task, record) DO UPDATE SET texts = excluded.texts",
    )?;
    upsert.execute(params![study, answer.task, record, Json(texts)])?;
    let mut upsert = t.prepare_cached(
        "INSERT INTO likelihoods (study, cell, task, record, choices) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (study, ifnull(cell, ''), task, record) DO UPDATE SET choices = excluded.choices",
    )?;
    let likelihood = |choice: &ChoiceLikelihood| Likelihood {
        log_likelihood: choice.log_likelihood,
        is_greedy: choice.is_greedy,
    };
    let choices: Vec<Likelihood> = answer.choices.iter().map(likelihood).collect();
    upsert.execute(params![study, cell, answer.task, record, Json(choices)])?;
    Ok(())
}
