//! The log file beside the store: what the screen has no room for, and panics.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::human;

/// Appends lines to a file; a file that cannot be written is no reason to stop.
#[derive(Debug, Clone)]
pub(crate) struct LogFile {
    path: PathBuf,
    /// Lines come from several threads.
    turn: Arc<Mutex<()>>,
}

impl LogFile {
    /// The log of a store: `studies.log` beside `studies.db`.
    pub(crate) fn beside(store: &Path) -> Self {
        Self { path: store.with_extension("log"), turn: Arc::default() }
    }

    pub(crate) fn write(&self, text: &str) {
        let _turn = self.turn.lock();
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let _ = std::fs::create_dir_all(folder);
        }
        let seconds = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() as i64);
        if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(&self.path) {
            let _ = writeln!(file, "{}:{:02} {text}", human::date(seconds), seconds.rem_euclid(60));
        }
    }
}
