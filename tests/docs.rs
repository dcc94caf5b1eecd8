//! The documents keep up with the program: flags, keys, defaults, version.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// What `secateur COMMAND --help` says.
fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_secateur")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Flags that a help page lists: `--seq-len`.
fn flags(help: &str) -> BTreeSet<String> {
    let listed = |line: &str| {
        let line = line.trim_start();
        let long =
            line.split_once("--").filter(|(before, _)| before.is_empty() || before.starts_with('-'))?.1;
        let end = long.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(long.len());
        Some(format!("--{}", &long[..end])).filter(|_| line.starts_with('-'))
    };
    help.lines().filter_map(listed).collect()
}

/// Rows of the README's tables whose first column is a flag: the flag, the key and the default beside it.
fn rows(readme: &str) -> Vec<[String; 3]> {
    let row = |line: &str| {
        let columns: Vec<&str> =
            line.trim_matches('|').split(" | ").map(|c| c.trim().trim_matches('`')).collect();
        let flag = columns.first()?.strip_prefix("--")?.split([' ', '`']).next()?;
        Some([
            format!("--{flag}"),
            (*columns.get(1)?).to_owned(),
            columns.get(2).copied().unwrap_or("").to_owned(),
        ])
    };
    readme.lines().filter(|line| line.starts_with("| `--")).filter_map(row).collect()
}

/// A value as the README writes it; a text or list of nothing is `none`.
fn shown(value: &Value) -> String {
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    if shown.is_empty() { "none".to_owned() } else { shown }
}

#[test]
fn the_readme_has_a_row_for_every_flag_of_run_and_no_other() {
    let mut known = flags(&help(&["run"]));
    assert!(known.len() > 30, "{known:?}");
    let rows: Vec<String> = rows(&read("README.md")).into_iter().map(|[flag, ..]| flag).collect();
    for flag in &rows {
        assert!(known.remove(flag), "the README's `{flag}` is no flag of `secateur run`, or has two rows");
    }
    assert!(known.is_empty(), "the README has no row for {known:?}");
}

#[test]
fn the_readme_names_every_command_and_its_flags() {
    let readme = read("README.md");
    for command in ["run", "doctor", "export", "list", "show"] {
        assert!(help(&[]).contains(&format!("\n  {command} ")), "`{command}` is no command");
        assert!(readme.contains(&format!("`secateur {command}")), "the README lacks `secateur {command}`");
        for flag in flags(&help(&[command])) {
            assert!(readme.contains(&format!("`{flag}")), "the README lacks {flag} of `secateur {command}`");
        }
    }
}

#[test]
fn the_readme_has_the_keys_of_the_config_file_with_their_defaults() {
    let config: Table = read("config.toml").parse().unwrap();
    let mut keys = BTreeSet::new();
    for (section, values) in &config {
        for (key, value) in values.as_table().unwrap() {
            keys.insert((format!("{section}.{key}"), shown(value)));
        }
    }
    let rows = rows(&read("README.md"));
    let listed = rows
        .into_iter()
        .filter(|[_, key, _]| key.split_once('.').is_some_and(|(s, _)| config.contains_key(s)));
    let listed: BTreeSet<_> = listed.map(|[_, key, default]| (key, default)).collect();
    assert_eq!(listed, keys);
}

#[test]
fn the_changelog_has_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading), "no{heading}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        for target in read(document).split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = target.0;
            let exists = || Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists();
            assert!(
                target.starts_with("https://") || exists(),
                "{document} links to {target}, which is not there"
            );
        }
    }
}

#[test]
fn the_readme_lists_the_keys_as_the_dashboard_has_them() {
    let keys = secateur::tui::keymap::markdown();
    assert!(read("README.md").contains(keys.trim()), "the README's list of keys should be:\n{keys}");
}
