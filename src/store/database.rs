//! The database file: whose it is, which version, how it is opened.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::atomic::cannot_place;
use super::versions::{self, VERSION};
use crate::error::{Error, Result};

/// Marks a `SQLite` file as a store of this program ("Scat").
const APPLICATION_ID: i32 = 0x5363_6174;

/// How long a reader waits for the short moments in which the writer shuts everybody out.
const PATIENCE: Duration = Duration::from_secs(10);

const ADVICE: &str = "name another file with --store";

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No file, or an empty one.
    Nothing,
    /// A `SQLite` file, as far as its first bytes tell.
    Database,
}

/// Looks at a path before anything is made there, so that a wrong `--store` leaves no traces.
pub(super) fn inspect(path: &Path) -> Result<Found> {
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(cannot_place(path, e)),
        Ok(found) if found.is_dir() => {
            return Err(Error::mistake(format!("the store {} is a folder: {ADVICE}", path.display())));
        }
        Ok(found) if !found.is_file() => {
            return Err(Error::mistake(format!("the store {} is no plain file: {ADVICE}", path.display())));
        }
        Ok(found) if found.len() == 0 => return Ok(Found::Nothing),
        Ok(_) => {}
    }
    let mut header = Vec::new();
    let file = File::open(path).map_err(|e| cannot_read(path, &e))?;
    file.take(100).read_to_end(&mut header).map_err(|e| cannot_read(path, &e))?;
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(Error::mistake(format!("{} is not a store (no SQLite file): {ADVICE}", path.display())));
    }
    // The file format keeps the application's mark at byte 68; 0 is a file that nobody has marked, to be looked
    // at more closely when it is open.
    match header.get(68..72) {
        Some(mark) if mark != [0; 4] && mark != APPLICATION_ID.to_be_bytes() => Err(foreign(path)),
        _ => Ok(Found::Database),
    }
}

fn cannot_read(path: &Path, e: &std::io::Error) -> Error {
    Error::mistake(format!("the store {} cannot be read: {e}; {ADVICE}", path.display()))
}

fn foreign(path: &Path) -> Error {
    Error::mistake(format!("{} is a SQLite file of another program: {ADVICE}", path.display()))
}

/// Opens to read and write; makes or brings up to date what is there.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let mut connection = connect_to_write(path)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&transaction, path)?;
    if version.is_none() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    versions::upgrade(&transaction, version.unwrap_or(0))?;
    transaction.commit()?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Last, so that a foreign file is refused before anything about it changes, and the mark is in the file itself.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(connection)
}

/// Opens to read and write a store that another process is at work on, and which must be left in its version.
pub(super) fn open_beside_writer(path: &Path) -> Result<Connection> {
    let connection = connect_to_write(path)?;
    match version(&connection, path)? {
        Some(VERSION) => {}
        Some(older) => {
            return Err(Error::mistake(format!(
                "the store {} is of version {older}, and an older secateur is at work on it: stop that first",
                path.display()
            )));
        }
        None => return Err(foreign(path)),
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

fn connect_to_write(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    // A checkpointed block counts, so what the database says of it must be as safe.
    connection.pragma_update(None, "synchronous", "FULL")?;
    versions::prepare(&connection)?;
    Ok(connection)
}

pub(super) fn open_read_only(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).map_err(Error::from).and_then(|connection| {
        connection.busy_timeout(PATIENCE)?;
        version(&connection, path).map(|version| (connection, version))
    });
    let (connection, version) = match opened {
        Err(Error::Store(e))
            if matches!(e.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
                && !has_log(path) =>
        {
            // In a folder that cannot be written SQLite has no place for its index of the log. Without a log,
            // nobody writes, and the file can be taken as it is.
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            let connection = Connection::open_with_flags(immutable_uri(path), flags)?;
            let version = version(&connection, path)?;
            (connection, version)
        }
        other => other?,
    };
    match version {
        // Readers know every version there was: a store is brought up to date by whoever writes it.
        Some(1..=VERSION) => {
            versions::prepare(&connection)?;
            Ok(connection)
        }
        Some(older) => Err(Error::mistake(format!(
            "the store {} is of version {older}, this program reads 1 to {VERSION}",
            path.display()
        ))),
        None => Err(foreign(path)),
    }
}

/// The version of a store; `None` for a database in which nothing is. Everything else is a mistake.
fn version(connection: &Connection, path: &Path) -> Result<Option<i32>> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    let mark = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    match mark {
        APPLICATION_ID if version > VERSION => Err(Error::mistake(format!(
            "the store {} is of version {version}, from a newer secateur; this one knows version {VERSION}: \
             update secateur or {ADVICE}",
            path.display()
        ))),
        APPLICATION_ID => Ok(Some(version)),
        0 if version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 => Ok(None),
        _ => Err(foreign(path)),
    }
}

fn has_log(path: &Path) -> bool {
    let mut log = path.to_owned();
    log.as_mut_os_string().push("-wal");
    fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// The path as `SQLite`'s URI for a file that does not change.
fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            uri.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02x}");
        }
    }
    uri + "?immutable=1"
}
