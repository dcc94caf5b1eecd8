//! The one way in which a test skips itself: it says so in a file, since cargo hides what a passing test prints.
//!
//! `tests/zz_skipped.rs` runs last and prints what the file says. `tests/house.rs` keeps other ways out of the tests.

#![allow(dead_code, reason = "every test program uses its own part")]

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file in which the tests that run say that they skip themselves, one line each.
pub fn skipped_file() -> PathBuf {
    folder().join("skipped.txt")
}

/// The file with what was printed of them in the end.
pub fn report_file() -> PathBuf {
    folder().join("skipped-report.txt")
}

fn folder() -> PathBuf {
    // Unit tests are not told cargo's own folder for such files.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp")
}

/// Says that the running test skips itself, and why. The test has to return after it.
pub fn skip(reason: impl Display) {
    // A test's thread has its name.
    let thread = std::thread::current();
    let program = std::env::current_exe().unwrap();
    let program = program.file_stem().unwrap().to_string_lossy();
    // Cargo appends a hash to the name.
    let program = program.rsplit_once('-').map_or(&*program, |(name, _)| name);
    let line = format!("{program} {}\t{reason}\n", thread.name().unwrap_or("?"));
    fs::create_dir_all(folder()).unwrap();
    // One write: tests of several threads and programs append at once.
    let mut file = OpenOptions::new().create(true).append(true).open(skipped_file()).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// A file or folder of `../shared`; if it is missing, the test skips itself.
pub fn shared(path: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if file.exists() {
        return Some(file);
    }
    skip(format_args!("../shared/{path} is missing"));
    None
}

/// The folder of the real model that `../shared/models/smollm2.py` writes; if it is missing, the test skips itself.
pub fn smollm2() -> Option<PathBuf> {
    const FOLDER: &str = ".cache/secateur-test-models/smollm2-135m-instruct";
    let folder = std::env::var_os("HOME").map(|home| Path::new(&home).join(FOLDER));
    let found = folder.filter(|folder| folder.join("model.safetensors").exists());
    if found.is_none() {
        skip(format_args!("~/{FOLDER} is missing; ../shared/models/smollm2.py writes it"));
    }
    found
}
