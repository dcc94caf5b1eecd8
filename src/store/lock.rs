//! One process writes a store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use super::cannot_place;
use crate::error::{Error, Result};

/// An exclusive lock on `STORE.lock`, which the operating system lets go when the process ends, however it ends.
/// The file stays: removing it would let two processes lock two files of the same name.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a store.
    pub(super) fn acquire(store: &Path) -> Result<Self> {
        let mut path = store.to_owned();
        path.as_mut_os_string().push(".lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|e| cannot_place(store, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(store, &mut file)),
            Err(TryLockError::Error(e)) => return Err(Error::io("cannot lock", &path, e)),
        }
        // The number is only there to be read by people, and written over by the next holder.
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|e| cannot_place(store, e))?;
        Ok(Self { _file: file })
    }
}

fn taken(store: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    // Another system may refuse to read what is locked; the message then does without the number.
    let _ = file.read_to_string(&mut text);
    let holder = match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".into(),
    };
    Error::mistake(format!(
        "the store {} is in use by {holder}: wait until it has ended, or name another with --store \
         (`secateur list` and `secateur show` read this one meanwhile)",
        store.display()
    ))
}
