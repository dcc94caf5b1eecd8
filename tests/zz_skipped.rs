//! Says which tests skipped themselves. It has this name because cargo runs the files of `tests/` in the order of their
//! names, and a `main` of its own because nothing that it prints may be hidden.

#[path = "common/skip.rs"]
mod skip;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;

fn main() {
    // Tools that list tests call every test program.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let file = skip::skipped_file();
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.unwrap(),
    };
    let report = report(&text);
    print!("\n{report}");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(skip::report_file(), report).unwrap();
    // The next run counts from zero.
    if !text.is_empty() {
        fs::remove_file(file).unwrap();
    }
}

fn report(text: &str) -> String {
    // A test may lack several things, and may have run twice.
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (test, reason) = line.split_once('\t').unwrap();
        reasons.entry(test).or_default().insert(reason);
    }
    let mut report = match reasons.len() {
        0 => "no test skipped itself".to_owned(),
        1 => "1 test skipped itself:".to_owned(),
        n => format!("{n} tests skipped themselves:"),
    };
    for (test, reasons) in reasons {
        report += &format!("\n  {test}: {}", Vec::from_iter(reasons).join("; "));
    }
    report + "\n"
}
