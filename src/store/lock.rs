//! One process writes a store.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::atomic::cannot_place;
use crate::error::{Error, Result};

/// How often a lock that is held is asked for before it is believed to be.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(4);

/// An exclusive lock on `STORE.lock`, which the operating system lets go when the process ends, however it ends.
/// The file stays: removing it would let two processes lock two files of the same name.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Who holds a lock, as far as the lock file tells.
#[derive(Debug, Default)]
pub(super) struct Holder {
    process: Option<u32>,
    /// The study that it works on.
    pub study: Option<i64>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) if process == std::process::id() => f.write_str("this process"),
            Some(process) => write!(f, "process {process}"),
            None => f.write_str("another process"),
        }
    }
}

impl Lock {
    /// Takes the lock of a store, or says who has it.
    pub(super) fn attempt(store: &Path) -> Result<Result<Self, Holder>> {
        let mut path = store.to_owned();
        path.as_mut_os_string().push(".lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|e| cannot_place(store, e))?;
        for look in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                // It may be somebody who asks whether it is held.
                Err(TryLockError::WouldBlock) if look < LOOKS => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Ok(Err(holder(&mut file))),
                Err(TryLockError::Error(e)) => return Err(Error::io("cannot lock", &path, e)),
            }
        }
        let lock = Self { file };
        lock.write(None).map_err(|e| cannot_place(store, e))?;
        Ok(Ok(lock))
    }

    /// Who holds the lock of a store, if somebody does.
    pub(super) fn holder(store: &Path) -> Option<Holder> {
        let mut path = store.to_owned();
        path.as_mut_os_string().push(".lock");
        let mut file = File::open(path).ok()?;
        match file.try_lock_shared() {
            // It is let go with the file.
            Ok(()) => None,
            Err(_) => Some(holder(&mut file)),
        }
    }

    pub(super) fn acquire(store: &Path) -> Result<Self> {
        Self::attempt(store)?.map_err(|holder| {
            Error::mistake(format!(
                "the store {} is in use by {holder}: wait until it has ended, or name another with --store \
                 (`secateur list`, `secateur show` and the dashboard with --readonly read this one meanwhile)",
                store.display()
            ))
        })
    }

    /// Says which study is worked on, for those who ask the lock file.
    pub(super) fn write(&self, study: Option<i64>) -> std::io::Result<()> {
        let study = study.map_or(String::new(), |study| format!("study {study}\n"));
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n{study}", std::process::id()).as_bytes())
    }
}

fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    // Another system may refuse to read what is locked; nothing is known of the holder then.
    let _ = file.read_to_string(&mut text);
    let mut lines = text.lines();
    Holder {
        process: lines.next().and_then(|line| line.trim().parse().ok()),
        study: lines.next().and_then(|line| line.strip_prefix("study ")?.trim().parse().ok()),
    }
}
