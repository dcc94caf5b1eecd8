//! The one error type of the library.
//!
//! Three things can happen to a person: they made a mistake ([`Error::Mistake`], exit code 2), something
//! failed under them ([`Error::Failure`] and friends, exit code 1), or they asked to stop
//! ([`Error::Cancelled`], exit code 130). Messages of mistakes name what was found and what is accepted,
//! since they are printed as they are.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::text::escape;

/// Result of the library's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by whose doing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user's mistake: the message names the file, flag or key, what was found and what is accepted.
    #[error("{0}")]
    Mistake(String),
    /// The same where one setting is at fault.
    #[error("{message}")]
    Setting {
        /// The setting's flag, without its dashes.
        flag: &'static str,
        /// Where it was given, what was found and what is accepted.
        message: String,
    },
    /// Files are missing here, and the network must not be asked for them.
    #[error("{0}")]
    Offline(String),
    /// Something outside the user's control failed; the message says what was being done.
    #[error("{0}")]
    Failure(String),
    /// An input or output operation failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the path.
        context: String,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// No room is left where this is to be written.
    #[error("the disk that holds {} is full", .0.display())]
    DiskFull(PathBuf),
    /// A tensor operation failed: a bug, or a device out of memory.
    #[error("tensor computation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The results database failed.
    #[error("the results store failed: {0}")]
    Store(#[from] rusqlite::Error),
    /// The results database cannot be used as it is now; the message says why.
    #[error("{0}")]
    StoreUnusable(String),
    /// The work was cancelled on request.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// A mistake of the user.
    pub fn mistake(message: impl Into<String>) -> Self {
        Self::Mistake(message.into())
    }

    /// A failure that is not the user's.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::Failure(message.into())
    }

    /// An I/O failure while doing `what` (a verb phrase such as `cannot write`) to `path`.
    pub fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { context: format!("{what} {}", path.display()), source }
    }

    /// The message for a terminal: what files of others have put into it cannot steer it.
    pub fn printable(&self) -> String {
        let message = self.to_string();
        message.lines().map(escape).collect::<Vec<_>>().join("\n")
    }

    /// The same mistake, made in a setting: `flag` is its flag without dashes. To name a file that is not there, or that
    /// may not be read, is one too. Other errors stay as they are.
    #[must_use]
    pub fn at(self, flag: &'static str) -> Self {
        match self {
            Self::Mistake(message) => Self::Setting { flag, message },
            Self::Io { ref source, .. }
                if matches!(
                    source.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::PermissionDenied
                        | ErrorKind::IsADirectory
                        | ErrorKind::NotADirectory
                ) =>
            {
                Self::Setting { flag, message: self.to_string() }
            }
            other => other,
        }
    }

    /// The flag, without its dashes, of the setting at fault, where one is.
    pub fn flag(&self) -> Option<&'static str> {
        match self {
            Self::Setting { flag, .. } => Some(flag),
            _ => None,
        }
    }

    /// Whether files or the store are at fault: what else is tried there would fail alike.
    pub fn is_of_storage(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::DiskFull(_) | Self::Store(_) | Self::StoreUnusable(_))
    }

    /// The process exit code that this error deserves: 2 mistake, 130 cancelled, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Mistake(_) | Self::Setting { .. } | Self::Offline(_) => 2,
            Self::Cancelled => 130,
            _ => 1,
        }
    }
}
