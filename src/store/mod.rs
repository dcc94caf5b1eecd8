//! The store: results and history in `SQLite`, checkpoints in a folder beside it.
//!
//! `studies.db` holds what was asked and found out (the tables are described in `schema.sql` and the steps after it), `studies.d` the
//! pruned blocks of every cell (see [`checkpoint`]). One process writes at a time, held to that by a lock on
//! `studies.db.lock`; any number may read meanwhile. Every change is one transaction, on the disk before the call
//! returns.

mod atomic;
pub mod checkpoint;
mod container;
mod convert;
mod database;
mod fingerprint;
mod json;
mod lock;
pub(crate) mod profile;
mod read;
pub mod stored;
pub(crate) mod survey;
pub(crate) mod trials;
mod versions;
pub(crate) mod width;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};

use self::atomic::cannot_place;
pub(crate) use self::atomic::{name_writer, remove_unfinished, sync_folder, write_failed};
use self::lock::{Holder, Lock};
pub(crate) use self::read::{StudyRecord, StudySummary};
use crate::error::{Error, Result};

/// An open store. Shared between threads by reference; calls wait for one another.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Held by a store that writes. Comes after the connection, so that it is let go last.
    lock: Option<Lock>,
}

impl Store {
    /// Opens a store to read and write, making it (and the folders above it) where there is none.
    ///
    /// # Errors
    /// [`Error::Mistake`] when another process has it open to write, when the file is not a store or from a newer
    /// version, or when the place cannot be written. [`Error::Failure`] when the disk is full.
    pub fn open(path: &Path) -> Result<Self> {
        let path = real_path(path)?;
        database::inspect(&path)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| cannot_place(&path, e))?;
        }
        let lock = Lock::acquire(&path)?;
        let connection = database::open(&path).map_err(|e| explain_opening(&path, e))?;
        Ok(Self { path, connection: Mutex::new(connection), lock: Some(lock) })
    }

    /// Opens the store if there is one, as [`Self::open`] does; `None` where there is none but one can be made, of which
    /// nothing is left behind.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_existing(path: &Path) -> Result<Option<Self>> {
        let real = real_path(path)?;
        if database::inspect(&real)? == database::Found::Database {
            return Self::open(path).map(Some);
        }
        let folder = real.parent().and_then(crate::sysinfo::nearest_existing);
        // What can be made in the nearest folder can be made below it. The file has no name, or is gone at once.
        match folder.map(tempfile::tempfile_in) {
            Some(Err(e)) => Err(cannot_place(&real, e)),
            _ => Ok(None),
        }
    }

    /// Whether nobody works on a study, whatever its states say: who is killed cannot take them back.
    fn stands_still(&self, study: i64) -> bool {
        self.lock.is_none()
            && Lock::holder(&self.path).is_none_or(|holder| holder.study.is_some_and(|other| other != study))
    }

    /// Says in the store's lock which study is worked on, so that others leave that one alone.
    ///
    /// # Errors
    /// [`Error::Io`] when the lock file cannot be written.
    pub fn hold(&self, study: i64) -> Result<()> {
        let Some(lock) = &self.lock else { return Ok(()) };
        lock.write(Some(study)).map_err(|e| Error::io("cannot write the lock of", &self.path, e))
    }

    /// Deletes a study, its rows and its files, also while another handle or process works on another study of the
    /// store. Not for a store that the caller holds and works on: there [`Self::delete_study`] does it.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the study is the one that is worked on, when there is no such store or study;
    /// [`Error::Io`] when files cannot be removed.
    pub fn delete(path: &Path, study: i64) -> Result<()> {
        let path = real_path(path)?;
        if database::inspect(&path)? == database::Found::Nothing {
            return Err(no_store(&path));
        }
        let lock = match Lock::attempt(&path)? {
            Ok(lock) => Some(lock),
            Err(Holder { study: Some(other), .. }) if other != study => None,
            Err(holder) => {
                return Err(Error::mistake(format!(
                    "study {study} of {} cannot be deleted: {holder} works on it; stop that first",
                    path.display()
                )));
            }
        };
        let opened = if lock.is_some() { database::open(&path) } else { database::open_beside_writer(&path) };
        let connection = opened.map_err(|e| explain_opening(&path, e))?;
        Self { path, connection: Mutex::new(connection), lock }.delete_study(study)
    }

    /// Opens a store to read, also while another process writes it. Calls that change something are mistakes then.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such file, or when it is not a store or from a newer version.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let path = real_path(path)?;
        if database::inspect(&path)? == database::Found::Nothing {
            return Err(no_store(&path));
        }
        let connection = database::open_read_only(&path).map_err(|e| explain_opening(&path, e))?;
        Ok(Self { path, connection: Mutex::new(connection), lock: None })
    }

    /// The database file, with its folders spelt out.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the checkpoints of a cell (or of the base: `None`) belong. The folder need not exist yet.
    pub fn folder(&self, study: i64, cell: Option<&str>) -> PathBuf {
        self.study_folder(study).join(cell.unwrap_or("base"))
    }

    /// Where everything of a study belongs that is not in the database.
    pub(crate) fn study_folder(&self, study: i64) -> PathBuf {
        let mut folder = self.path.with_extension("d");
        if folder == self.path {
            folder.as_mut_os_string().push(".d");
        }
        folder.join(format!("study-{study}"))
    }

    /// Runs `f` on one unchanging view of the database.
    fn read<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.transact(TransactionBehavior::Deferred, f)
    }

    /// Runs `f` as one change: all of it happens or nothing.
    fn write<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.transact(TransactionBehavior::Immediate, f)
    }

    /// Makes one change of all that this process does from here on: one flush of the disk in place of many.
    /// [`Self::end_together`] has to follow, whatever happens in between.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub(crate) fn begin_together(&self) -> Result<()> {
        // As every other change, it finds a store of the version that is known here.
        self.write(|_| Ok(()))?;
        self.execute("BEGIN IMMEDIATE")
    }

    /// Keeps all of it, or nothing.
    ///
    /// # Errors
    /// A store that cannot be written; then nothing of it is kept.
    pub(crate) fn end_together(&self, keep: bool) -> Result<()> {
        let ended = self.execute(if keep { "COMMIT" } else { "ROLLBACK" });
        if ended.is_err() && keep {
            let _ = self.execute("ROLLBACK");
        }
        ended
    }

    fn execute(&self, sql: &str) -> Result<()> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.execute_batch(sql).map_err(|e| explain(&self.path, e.into()))
    }

    fn transact<T>(
        &self,
        behavior: TransactionBehavior,
        f: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        // A panic elsewhere rolled its transaction back, so the connection is sound.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let run = || {
            if !connection.is_autocommit() {
                // A part of one change, see `begin_together`.
                let part = connection.savepoint()?;
                let value = f(&part)?;
                part.commit()?;
                return Ok(value);
            }
            let transaction = connection.transaction_with_behavior(behavior)?;
            versions::adapt(&transaction)?;
            let value = f(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|e| explain(&self.path, e))
    }
}

/// The path with its folders spelt out and a link followed, so that a store has one lock whatever it is called,
/// and `SQLite` takes no name for something special.
fn real_path(path: &Path) -> Result<PathBuf> {
    let wrong = |e| Error::mistake(format!("the store `{}` cannot be used: {e}", path.display()));
    if path.is_symlink() && path.exists() {
        return path.canonicalize().map_err(wrong);
    }
    std::path::absolute(path).map_err(wrong)
}

fn no_store(path: &Path) -> Error {
    Error::mistake(format!(
        "there is no store at {}: run a study first, or name another file with --store",
        path.display()
    ))
}

/// What `SQLite` says when opening fails, put so that people know what to do.
fn explain_opening(path: &Path, error: Error) -> Error {
    match &error {
        Error::Store(rusqlite::Error::SqliteFailure(e, _))
            if matches!(
                e.code,
                ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied
            ) =>
        {
            Error::mistake(format!(
                "the store {} cannot be opened: {error}; see to its permissions or name another with --store",
                path.display()
            ))
        }
        _ => explain(path, error),
    }
}

/// What `SQLite` says, put so that people know what happened.
fn explain(path: &Path, error: Error) -> Error {
    let Error::Store(rusqlite::Error::SqliteFailure(e, _)) = &error else { return error };
    let is_full = e.code == ErrorCode::DiskFull || e.extended_code == ffi::SQLITE_IOERR_SHMSIZE;
    if is_full {
        return Error::DiskFull(path.to_path_buf());
    }
    let path = path.display();
    match e.code {
        ErrorCode::ReadOnly => Error::mistake(format!(
            "the store {path} was opened only to be read: nothing in it can be changed"
        )),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Error::StoreUnusable(format!("the store {path} is busy: another program holds it"))
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            Error::StoreUnusable(format!("the store {path} is damaged ({error}); name another with --store"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::NamedNumbers;
    use crate::results::{Answer, Environment, ModelInfo};

    #[test]
    fn a_full_disk_is_one_clear_failure_and_the_store_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let store = Store::open(&path).unwrap();
        let spec: crate::study::StudySpec = serde_json::from_str(include_str!("test_spec.json")).unwrap();
        let model = ModelInfo {
            source: "m".into(),
            architecture: "LlamaForCausalLM".into(),
            parameters: 1,
            prunable_parameters: 1,
            modules: ModelInfo::llama_modules(),
            blocks: 1,
            vocabulary: 1,
            dtype: "F32".into(),
            source_bits: None,
        };
        let study = store.create_study(&spec, &model, &Environment::default()).unwrap();
        // SQLite answers a limit on the file's pages as it answers a full disk.
        let limit = |pages: i64| {
            let connection = store.connection.lock().unwrap();
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        };
        limit(1);
        let answer = Answer {
            task: "t".into(),
            record: 0,
            prompt: "p".repeat(1 << 20),
            references: vec![],
            text: String::new(),
            tokens: vec![],
            pieces: vec![],
            disagreement_bits: vec![],
            choices: Vec::new(),
            scores: NamedNumbers::default(),
        };
        let error = store.put_answers(study, None, std::slice::from_ref(&answer)).unwrap_err();
        assert_eq!(error.to_string(), format!("the disk that holds {} is full", path.display()));
        assert!(error.exit_code() == 1 && error.is_of_storage());
        assert!(store.answers(study, None).unwrap().is_empty());
        limit(1 << 20);
        store.put_answers(study, None, std::slice::from_ref(&answer)).unwrap();
        assert_eq!(store.answers(study, None).unwrap(), [answer]);
    }

    #[test]
    fn a_store_goes_between_threads() {
        fn is_send_and_sync<T: Send + Sync>() {}
        is_send_and_sync::<Store>();
    }

    #[test]
    fn changes_that_are_made_together_are_kept_or_undone_together() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        let make = |name: &str| store.write(|t| Ok(t.execute_batch(&format!("CREATE TABLE {name} (a)"))?));
        let count = || {
            let sql = "SELECT count(*) FROM sqlite_master WHERE name IN ('one', 'two')";
            store.read(|t| Ok(t.query_row(sql, [], |row| row.get::<_, i64>(0))?)).unwrap()
        };
        for (keep, kept) in [(false, 0), (true, 2)] {
            store.begin_together().unwrap();
            make("one").unwrap();
            make("two").unwrap();
            assert!(make("two").is_err(), "it is there already");
            assert_eq!(count(), 2, "what is written can be read");
            store.end_together(keep).unwrap();
            assert_eq!(count(), kept);
        }
    }
}
