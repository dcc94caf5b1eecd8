//! Which version a store has, and what makes an older one look like the newest.
//!
//! Everything that reads or writes a store knows the newest version only. Readers do not change a store, so in front of
//! an older one they put views of the newest shape, on their own connection and in memory; a writer copies the same
//! views into new tables.

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{FromSql, ValueRef};

use super::convert::Real;
use crate::error::{Error, Result};
use crate::number;

/// The steps from an empty file to the newest version; a file's `user_version` is the number of steps taken.
const STEPS: [&str; 4] = [
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    concat!(include_str!("views-2.sql"), include_str!("views-3.sql"), include_str!("schema-3.sql")),
    include_str!("schema-4.sql"),
];

/// The newest version.
pub(super) const VERSION: i32 = STEPS.len() as i32;

/// The views for readers of each older version, the first one first.
const VIEWS: [&str; STEPS.len() - 1] = [
    concat!(include_str!("views-1.sql"), include_str!("views-3.sql"), include_str!("views-4.sql")),
    concat!(include_str!("views-2.sql"), include_str!("views-3.sql"), include_str!("views-4.sql")),
    include_str!("views-4.sql"),
];

/// Brings a store of this version (0 is an empty file) up to date, within the caller's transaction. Foreign keys must
/// not be watched meanwhile: a table that makes room for its successor would take all with it that refers to it.
pub(super) fn upgrade(t: &Connection, version: i32) -> Result<()> {
    for step in STEPS.iter().skip(version as usize) {
        t.execute_batch(step)?;
    }
    if version < VERSION {
        t.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(())
}

/// Makes a store look like one of the newest version to whoever reads on this connection. Again for every transaction: in
/// between, a writer may have brought the store up to date.
///
/// # Errors
/// [`Error::Mistake`] when a newer secateur has brought it to a version that is not known here.
pub(super) fn adapt(t: &Connection) -> Result<()> {
    let number = |sql: &str| t.query_row(sql, [], |row| row.get::<_, i32>(0));
    let version = number("PRAGMA main.user_version")?;
    // The views are there for the version that the connection's own, temporary part says.
    let adapted = number("PRAGMA temp.user_version")?;
    let wanted = if version < VERSION { version } else { 0 };
    if version > VERSION {
        return Err(Error::mistake(format!(
            "a newer secateur has brought the store to version {version}; this one knows version {VERSION}: update secateur"
        )));
    }
    if adapted == wanted {
        return Ok(());
    }
    let mut views = t.prepare("SELECT name FROM temp.sqlite_schema WHERE type = 'view'")?;
    let views: Vec<String> = views.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for view in views {
        t.execute_batch(&format!("DROP VIEW temp.{view}"))?;
    }
    if let Some(views) = VIEWS.get((wanted - 1) as usize) {
        t.execute_batch(views)?;
    }
    t.pragma_update(Some("temp"), "user_version", wanted)?;
    Ok(())
}

/// Gives a connection the function that views need.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("exact_json", 1, flags, |context| exact_json(context))?;
    // Views of readers leave no file behind, anywhere.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// A REAL as a number of JSON that comes back as it was, or the name of one that JSON does not have.
fn exact_json(context: &Context<'_>) -> rusqlite::Result<Option<String>> {
    let value = context.get_raw(0);
    if value == ValueRef::Null {
        return Ok(None);
    }
    let Real(value) = Real::column_result(value)?;
    Ok(Some(number::json(value)))
}
