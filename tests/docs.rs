//! The documents keep up with the program: commands, flags, keys, defaults, version, links.
//!
//! Parts that the program can write itself stand between `<!-- NAME -->` and `<!-- /NAME -->`. To bring them up to date:
//! `UPDATE_DOCS=1 cargo test --release --test docs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use secateur::methods::METHODS;
use secateur::scores::{Better, SCORES, Subject};
use toml::{Table, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Every document for people, relative to the repository's root.
fn documents() -> Vec<String> {
    let mut documents: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "assets/demo/MODEL_CARD.md"]
            .map(str::to_owned)
            .into();
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        documents.push(format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    }
    documents.sort();
    documents
}

/// What `secateur COMMAND --help` says.
fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_secateur")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
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

/// Commands that the program's own help page lists.
fn commands() -> Vec<String> {
    let help = help(&[]);
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next()
    });
    let names: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(names.len() >= 7, "{names:?}");
    names
}

/// The part of a document below a heading, up to the next heading of the same level.
fn chapter<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, text) = document.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let level = heading.split(' ').next().unwrap();
    text.find(&format!("\n{level} ")).map_or(text, |end| &text[..end])
}

/// Rows of tables whose first column is a flag: the flag, and the two columns beside it.
fn rows(document: &str) -> Vec<[String; 3]> {
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
    document.lines().filter(|line| line.starts_with("| `--")).filter_map(row).collect()
}

/// A value as the documents write it; a text or list of nothing is `none`.
fn shown(value: &Value) -> String {
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    if shown.is_empty() { "none".to_owned() } else { shown }
}

/// Compares the part of a document that the program writes with what it should be; with `UPDATE_DOCS` set it writes it.
fn assert_generated(document: &str, name: &str, expected: &str) {
    assert_section(document, name, expected, |found| found.trim() == expected.trim());
}

/// The same, where `is_current` says whether what the document has will do.
fn assert_section(document: &str, name: &str, expected: &str, is_current: impl FnOnce(&str) -> bool) {
    // Tests run at once, and two of them may write parts of one document.
    static WRITING: Mutex<()> = Mutex::new(());
    let writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let (start, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let text = read(document);
    let (before, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{document} lacks {start}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{document} lacks {end}"));
    if is_current(found) {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "{document}: the part `{name}` is out of date; UPDATE_DOCS=1 cargo test --release --test docs writes:\n{expected}"
    );
    let body = expected.trim_matches('\n');
    std::fs::write(root().join(document), format!("{before}{start}\n\n{body}\n\n{end}{after}")).unwrap();
    drop(writing);
}

const SETTINGS: &str = "docs/settings.md";

#[test]
fn every_flag_of_run_has_one_row() {
    let mut known = flags(&help(&["run"]));
    assert!(known.len() > 30, "{known:?}");
    let settings = read(SETTINGS);
    for [flag, ..] in rows(chapter(&settings, "## Flags of `secateur run`")) {
        assert!(known.remove(&flag), "{SETTINGS}: `{flag}` is no flag of `secateur run`, or has two rows");
    }
    assert!(known.is_empty(), "{SETTINGS} has no row for {known:?}");
}

#[test]
fn every_flag_of_the_dashboard_has_one_row() {
    let run = flags(&help(&["run"]));
    let mut own: BTreeSet<String> = flags(&help(&["tui"]));
    own.retain(|flag| ["--force", "--demo", "--quick"].contains(&flag.as_str()) || !run.contains(flag));
    assert!(own.len() > 5, "{own:?}");
    for [flag, ..] in rows(chapter(&read("docs/dashboard.md"), "## Flags")) {
        assert!(
            own.remove(&flag),
            "docs/dashboard.md: `{flag}` is no flag of the dashboard, or has two rows"
        );
    }
    assert!(own.is_empty(), "docs/dashboard.md has no row for {own:?}");
}

#[test]
fn every_command_is_described_with_its_flags() {
    let documents = read(SETTINGS) + &read("docs/dashboard.md");
    let listed = chapter(&documents, "## Commands");
    for command in commands() {
        assert!(listed.contains(&format!("`secateur {command}")), "{SETTINGS} lacks `secateur {command}`");
        for flag in flags(&help(&[&command])) {
            assert!(
                documents.contains(&format!("`{flag}")),
                "no document has {flag} of `secateur {command}`"
            );
        }
    }
}

#[test]
fn every_key_of_the_config_file_is_listed_with_its_default() {
    let config: Table = read("config.toml").parse().unwrap();
    let mut keys = BTreeSet::new();
    for (section, values) in &config {
        for (key, value) in values.as_table().unwrap() {
            keys.insert((format!("{section}.{key}"), shown(value)));
        }
    }
    let settings = read(SETTINGS);
    let listed = rows(&settings)
        .into_iter()
        .filter(|[_, key, _]| key.split_once('.').is_some_and(|(s, _)| config.contains_key(s)));
    let listed: BTreeSet<_> = listed.map(|[_, key, default]| (key, default)).collect();
    assert_eq!(listed, keys);
}

#[test]
fn the_keys_of_the_dashboard_are_listed() {
    assert_generated("docs/dashboard.md", "keys", &secateur::tui::keymap::markdown());
}

#[test]
fn the_settings_are_listed() {
    assert_generated(SETTINGS, "settings", &secateur::config::markdown());
}

#[test]
fn the_methods_are_listed_with_their_parameters() {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut table = "| method | what it does | calibration data | other weights change |\n\
                     | --- | --- | --- | --- |\n"
        .to_owned();
    let mut short = "| method | what it does | calibration data |\n| --- | --- | --- |\n".to_owned();
    let mut parameters =
        "| method | parameter | default | accepted | meaning |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for method in METHODS {
        let (name, about) = (method.name(), method.about());
        let (needs, updates) = (yes(method.needs_calibration()), yes(method.updates_weights()));
        table += &format!("| `{name}` | {about} | {needs} | {updates} |\n");
        short += &format!("| `{name}` | {about} | {needs} |\n");
        for parameter in method.parameters() {
            let (default, accepted) = (parameter.default(), parameter.accepted());
            parameters += &format!(
                "| `{name}` | `{}` | `{default}` | {accepted} | {} |\n",
                parameter.name, parameter.about
            );
        }
    }
    assert_generated("docs/methods.md", "methods", &table);
    assert_generated("docs/methods.md", "parameters", &parameters);
    assert_generated("README.md", "methods", &short);
}

/// The program with a home of its own and no settings but those of the command line.
fn program(home: &Path, line: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_secateur"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("SECATEUR_") || name.starts_with("XDG_") || name.starts_with("HF_") {
            program.env_remove(&*name);
        }
    }
    program.env("HOME", home).env("SECATEUR_DEVICE", "cpu").current_dir(home).args(line);
    program
}

/// What the program says that it accepts when it refuses a command line.
fn accepted(line: &[&str]) -> BTreeSet<String> {
    let home = tempfile::tempdir().unwrap();
    let output = program(home.path(), line).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line:?}: {message}");
    let list = ["accepted are ", "known by name: "].iter().find_map(|lead| message.split_once(lead));
    let list = list.unwrap_or_else(|| panic!("{line:?} names nothing that is accepted: {message}")).1;
    let list = list.split([';', '\n']).next().unwrap_or(list).replace(" and ", ", ");
    list.split(", ").map(|name| name.trim_matches([' ', '`', '.']).to_owned()).collect()
}

/// Names in backquotes in the first column of the tables of a text.
fn first_column(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_architecture_has_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let demo = root().join("assets/demo/model");
    for entry in std::fs::read_dir(demo).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let other = config.replace("LlamaForCausalLM", "NonsenseForCausalLM");
    assert_ne!(config, other);
    std::fs::write(folder.path().join("config.json"), other).unwrap();
    let line = ["run", "--demo", "--dry-run", "--model", folder.path().to_str().unwrap()];
    assert_eq!(first_column(&read("docs/models.md")), accepted(&line));
}

#[test]
fn every_name_of_a_data_set_has_its_row() {
    let known =
        ["--corpus", "--tasks"].map(|flag| accepted(&["run", "--demo", "--dry-run", flag, "nonsense"]));
    let data = read("docs/data.md");
    assert_eq!(first_column(chapter(&data, "## Names")), known.into_iter().flatten().collect());
}

/// A number as a table prints it, and by how much it may differ from one machine to another.
fn number(word: &str) -> Option<(f64, f64)> {
    let word = word.trim_end_matches(['.', ',', ')', 's']);
    if let Some(percent) = word.strip_suffix('%') {
        return Some((percent.parse().ok()?, 3.0));
    }
    let value: f64 = word.parse().ok()?;
    Some((value, 0.05 * value.abs().max(0.1)))
}

/// Whether two outputs have the same words in the same places, and numbers that differ by no more than rounding can do.
fn same_but_for_rounding(found: &str, expected: &str) -> bool {
    let same_word = |(a, b): (&str, &str)| match (number(a), number(b)) {
        (Some((a, most)), Some((b, _))) => (a - b).abs() <= most,
        _ => a == b,
    };
    let (found, expected): (Vec<&str>, Vec<&str>) =
        (found.split_whitespace().collect(), expected.split_whitespace().collect());
    found.len() == expected.len() && found.into_iter().zip(expected).all(same_word)
}

#[test]
fn the_scores_are_listed() {
    let mut table = "| column | score | measured on | values |\n| --- | --- | --- | --- |\n".to_owned();
    for score in SCORES {
        let on = match score.subject() {
            Subject::Corpus => "texts",
            Subject::Task => "answers to tasks",
        };
        let end = |end: f64| if end.is_infinite() { "∞".to_owned() } else { end.to_string() };
        let [low, high] = score.range.map(end);
        let better = match score.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
        };
        let about = score.about.replace("||", "\\|\\|");
        let row = format!(
            "| `{}` | `{}`: {about} | {on} | {low} to {high}, {better} is better |\n",
            score.short_head(),
            score.id
        );
        table += &row;
    }
    assert_generated("docs/metrics.md", "scores", &table);
}

#[test]
fn the_session_of_the_readme_prints_what_it_shows() {
    let readme = read("README.md");
    let typed = readme.lines().find_map(|line| line.strip_prefix("    $ secateur "));
    let typed = typed.expect("a session in the README");
    let home = tempfile::tempdir().unwrap();
    let output = program(home.path(), &typed.split(' ').collect::<Vec<_>>()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed = printed.replace(&*home.path().to_string_lossy(), "~");
    let mut session = format!("    $ secateur {typed}\n");
    for line in printed.trim_end().lines() {
        let indent = if line.is_empty() { "" } else { "    " };
        session += &format!("{indent}{line}\n");
    }
    assert_section("README.md", "session", &session, |found| same_but_for_rounding(found, &session));
}

#[test]
fn the_changelog_has_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading), "no{heading}");
}

/// The anchor that a heading gets: lower case, blanks as hyphens, most other signs dropped.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = root().join(&document).parent().map(Path::to_path_buf).unwrap_or_default();
        for (target, _) in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, section) = target.split_once('#').map_or((target, None), |(f, s)| (f, Some(s)));
            let path: PathBuf = if file.is_empty() { root().join(&document) } else { folder.join(file) };
            assert!(path.exists(), "{document} links to {target}, which does not exist");
            if let Some(section) = section {
                let headings = std::fs::read_to_string(&path).unwrap();
                let mut headings = headings.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|heading| anchor(heading) == section),
                    "{document}: {target} has no such heading"
                );
            }
        }
    }
}

/// Command lines of `secateur` in indented code, continued lines joined.
fn command_lines(document: &str) -> Vec<String> {
    let joined = document.replace("\\\n", " ");
    let code = joined.lines().filter_map(|line| line.strip_prefix("    "));
    let typed = code.filter_map(|line| {
        let line = line.trim_start_matches("$ ");
        line.strip_prefix("secateur").or_else(|| line.strip_prefix("cargo run --release --"))
    });
    let typed = typed.filter(|rest| rest.is_empty() || rest.starts_with(' '));
    let end = |rest: &str| rest.find(" > ").or_else(|| rest.find(" #")).unwrap_or(rest.len());
    typed.map(|rest| rest[..end(rest)].trim().to_owned()).collect()
}

#[test]
fn commands_in_the_documents_are_understood() {
    let mut count = 0;
    for document in documents() {
        for line in command_lines(&read(&document)) {
            // Whatever the program does not know it refuses before it prints its help.
            let words: Vec<&str> = line.split_whitespace().collect();
            help(&words);
            count += 1;
        }
    }
    assert!(count >= 6, "{count} command lines");
}

#[test]
fn files_that_the_documents_name_exist() {
    let folders = ["", "src", "tests", "benches", "docs"].map(|folder| root().join(folder));
    let extensions = ["rs", "py", "toml", "json", "md"];
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for name in read(document).split('`').skip(1).step_by(2) {
            // `NAME` stands for a name to choose.
            let is_path = name.contains('/') && !name.contains("NAME");
            let named = Path::new(name).extension().and_then(|e| e.to_str());
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && plain && named.is_some_and(|e| extensions.contains(&e)) && !name.starts_with('.') {
                let exists = folders.iter().any(|folder| folder.join(name).exists());
                assert!(exists, "{document} names `{name}`, which does not exist");
            }
        }
    }
}

/// All source of the program.
fn source(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            *text += &std::fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn names_in_the_glossary_are_in_the_code() {
    let mut text = String::new();
    source(&root().join("src"), &mut text);
    let contributing = read("CONTRIBUTING.md");
    let names = first_column(chapter(&contributing, "## Glossary"));
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let kinds = ["struct", "enum", "trait", "type", "fn"].map(|kind| format!("{kind} {name}"));
        let is_item = kinds.iter().any(|item| text.contains(item));
        let is_variant = text.contains(&format!("    {name} {{")) || text.contains(&format!("    {name}("));
        assert!(is_item || is_variant, "CONTRIBUTING.md: the glossary's `{name}` is not in the code");
    }
}

#[test]
fn the_readme_is_short() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= 1_800, "{words} words; what is longer belongs in docs/");
}

#[test]
fn the_documents_are_in_everyday_english() {
    // Words that make a sentence hard to read, with what to write.
    const AVOID: [(&str, &str); 12] = [
        ("anew", "again"),
        ("in hand", "current"),
        ("gone on with", "resumed"),
        ("goes on where", "resumes where"),
        ("go on where", "resume where"),
        ("held against", "compared with"),
        ("hold against", "compare with"),
        ("holds against", "compares with"),
        ("where room lacks", "without enough memory"),
        ("so has it", "this is what … does"),
        ("so have the", "and the … do too"),
        ("unless told", "default:"),
    ];
    for document in documents().into_iter().filter(|document| document != "CHANGELOG.md") {
        let text = read(&document).to_lowercase();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let has = |word: &str| {
            text.match_indices(word).any(|(at, _)| {
                let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
                edge(text[..at].chars().next_back()) && edge(text[at + word.len()..].chars().next())
            })
        };
        for (word, better) in AVOID {
            assert!(!has(word), "{document}: “{word}”; write “{better}”");
        }
    }
}
