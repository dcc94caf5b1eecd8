//! Rust values as columns, so that they come back exactly.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A float. `SQLite` has infinities but turns NaN into NULL, so NaN is the text `nan`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Real(pub f64);

impl ToSql for Real {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(if self.0.is_nan() { "nan".into() } else { self.0.into() })
    }
}

impl FromSql for Real {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(b"nan") => Ok(Self(f64::NAN)),
            other => f64::column_result(other).map(Self),
        }
    }
}

/// An unsigned number that may use all 64 bits (a seed): `SQLite`'s integers are signed, so the largest are shown
/// as negative ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsigned(pub u64);

impl From<usize> for Unsigned {
    fn from(value: usize) -> Self {
        Self(value as u64)
    }
}

impl From<Unsigned> for usize {
    fn from(value: Unsigned) -> Self {
        value.0 as Self
    }
}

impl ToSql for Unsigned {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.cast_signed().into())
    }
}

impl FromSql for Unsigned {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(|v| Self(v.cast_unsigned()))
    }
}

/// Anything serde knows, as JSON text.
#[derive(Debug)]
pub(super) struct Json<T>(pub T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0);
        text.map(Into::into).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

/// Floats of a list, where JSON has no number for some by their names.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Floats(#[serde(with = "crate::number::list")] pub Vec<f32>);

/// A choice's likelihood without its text, which is kept once a study.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Likelihood {
    #[serde(with = "crate::number")]
    pub log_likelihood: f64,
    pub is_greedy: bool,
}

/// Anything that serde writes as a string, as that string without quotes.
#[derive(Debug)]
pub(super) struct Word<T>(pub T);

impl<T: Serialize> ToSql for Word<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match serde_json::to_value(&self.0) {
            Ok(serde_json::Value::String(word)) => Ok(word.into()),
            other => {
                Err(rusqlite::Error::ToSqlConversionFailure(format!("{other:?} is not one word").into()))
            }
        }
    }
}

impl<T: DeserializeOwned> FromSql for Word<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = serde_json::Value::String(value.as_str()?.to_owned());
        serde_json::from_value(word).map(Self).map_err(FromSqlError::other)
    }
}
