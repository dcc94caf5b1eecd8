//! The table of settings, from outside: whatever a setting shows up in agrees with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use secateur::Error;
use secateur::cli::Cli;
use secateur::config::{Given, Means, Setting, Settings, documented_file, setting, settings};
use secateur::engine::RunOptions;

/// The settings of a config file with this text, and of these flags.
fn load(file: &str, flags: &[(&str, &str)]) -> Result<Settings, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, file).unwrap();
    let mut given = Given::default();
    for (flag, text) in flags {
        given.set(setting(flag).unwrap(), Means::Flag, text);
    }
    Settings::load(Some(&path), &given, RunOptions::default())
}

/// Everything that settings come to, but the config file that was read.
fn everything(settings: Settings) -> String {
    let Settings { study, run, format, mut basics } = settings;
    basics.config_file = None;
    format!("{study:?} {run:?} {format:?} {basics:?}")
}

fn defaults() -> String {
    everything(load("", &[("model", "m")]).unwrap())
}

/// A value as a config file has it, in the form of the setting's default.
fn toml(setting: &Setting, text: &str) -> String {
    let quoted = format!("{text:?}");
    let value = match setting.default_toml() {
        list if list.starts_with('[') => format!("[{quoted}]"),
        string if string.starts_with('"') => quoted,
        _ => text.to_owned(),
    };
    format!("[{}]\n{} = {value}\n", setting.section(), setting.key())
}

/// The help of `secateur run`, an entry a flag: the flag without its dashes and the text below it.
fn help() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_secateur")).args(["run", "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(flag) = line.strip_prefix("--").or_else(|| line.strip_prefix("-h, --")) {
            let flag = flag.split([' ', '[', '=']).next().unwrap();
            entries.push((flag.to_owned(), String::new()));
        } else if let Some((_, text)) = entries.last_mut() {
            text.push_str(line);
            text.push(' ');
        }
    }
    entries
}

#[test]
fn every_default_in_help_is_what_the_configuration_comes_to() {
    let help = help();
    let mut seen = 0;
    for setting in settings() {
        let (_, text) = help.iter().find(|(flag, _)| flag == setting.flag()).unwrap();
        let shown: Vec<&str> =
            text.split("[default: ").skip(1).filter_map(|rest| Some(rest.split_once(']')?.0)).collect();
        let file = everything(load(&documented_file(), &[("model", "m")]).unwrap());
        if shown.is_empty() {
            assert_eq!(setting.flag(), "model", "--{} shows no default", setting.flag());
            continue;
        }
        assert_eq!(shown.len(), 1, "--{}: {text}", setting.flag());
        seen += 1;
        let all = setting.choices().join(",");
        let typed = match shown[0] {
            "all" if setting.is_list() => &all,
            // What nothing comes to is told in words.
            words if setting.default_text().is_empty() => {
                assert!(words.contains(char::is_alphabetic) && words.parse::<f64>().is_err(), "{words}");
                ""
            }
            typed => typed,
        };
        let flags = [("model", "m"), (setting.flag(), typed)];
        assert_eq!(everything(load("", &flags).unwrap()), file, "--{} {typed}", setting.flag());
    }
    assert_eq!(seen + 1, settings().len());
}

#[test]
fn the_committed_config_file_is_what_the_table_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
    let (committed, written) = (std::fs::read_to_string(&path).unwrap(), documented_file());
    if committed != written && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &written).unwrap();
    } else {
        assert!(
            committed == written,
            "config.toml is out of date; UPDATE_DOCS=1 cargo test --release --test settings writes:\n{written}"
        );
    }
    assert_eq!(everything(load(&written, &[("model", "m")]).unwrap()), defaults());
}

#[test]
fn every_setting_is_taken_from_flag_and_file_and_changes_something() {
    for setting in settings() {
        let (flag, example) = (setting.flag(), setting.example());
        let model = [("model", "m")];
        let flags = [&model[..], &[(flag, example)]].concat();
        assert_ne!(everything(load("", &flags).unwrap()), defaults(), "--{flag} {example}");
        let file = toml(setting, example);
        let flags = if flag == "model" { &[] } else { &model[..] };
        assert_ne!(everything(load(&file, flags).unwrap()), defaults(), "{file}");
    }
}

#[test]
fn what_is_given_wins_over_the_file() {
    for setting in settings().iter().filter(|setting| setting.flag() != "model") {
        let file = toml(setting, setting.example());
        let flags = [("model", "m"), (setting.flag(), &*setting.default_text())];
        assert_eq!(everything(load(&file, &flags).unwrap()), defaults(), "{file}");
    }
}

#[test]
fn names_are_unique_and_follow_one_rule() {
    let flags: BTreeSet<&str> = settings().iter().map(Setting::flag).collect();
    let keys: BTreeSet<_> = settings().iter().map(|setting| (setting.section(), setting.key())).collect();
    assert_eq!((flags.len(), keys.len()), (settings().len(), settings().len()));
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    for setting in settings() {
        let arg = run.get_arguments().find(|arg| arg.get_long() == Some(setting.flag())).unwrap();
        assert_eq!(arg.get_env().unwrap(), setting.variable());
        assert!(!setting.heading().is_empty(), "{setting:?} stands in a section that is none");
        assert!(!setting.about().ends_with('.') && !setting.about().is_empty(), "{setting:?}");
        let explanation = setting.explanation();
        assert!(explanation.ends_with('.') && !explanation.contains(".."), "{explanation}");
        assert!(setting.value_name().chars().any(char::is_uppercase), "{setting:?}");
        assert!(!setting.example().is_empty() && setting.example() != setting.default_text(), "{setting:?}");
    }
}

#[test]
fn a_field_of_the_form_shows_what_was_given() {
    let fields = settings().iter().filter_map(|setting| Some((setting, setting.form()?)));
    let mut labels = BTreeSet::new();
    for (setting, field) in fields {
        assert!(labels.insert(field.label) && !field.hint.is_empty(), "{setting:?}");
        let flags = [("model", "m"), (setting.flag(), setting.example())];
        let study = load("", &flags[usize::from(setting.flag() == "model")..]).unwrap().study;
        assert_eq!((field.show)(&study), setting.example(), "{setting:?}");
        let default = load("", &[("model", "m")]).unwrap().study;
        let shown = (field.show)(&default);
        let expected = if setting.flag() == "model" { "m".to_owned() } else { setting.default_text() };
        assert_eq!(shown, expected, "{setting:?}");
        assert_eq!(setting.refusal(&shown), None);
    }
    assert!(labels.len() >= 13, "{labels:?}");
    let seed = setting("seed").unwrap().refusal("many").unwrap();
    assert_eq!(seed, "--seed: found `many`; accepted is a whole number, 0 or more");
}

#[test]
fn a_mistake_says_which_setting_it_is_in() {
    for (flag, text) in [("seq-len", "long"), ("dtype", "f64"), ("blocks", "3"), ("corpus", "a.txt,b/a.txt")]
    {
        match load("", &[("model", "m"), (flag, text)]).unwrap_err() {
            Error::Setting { flag: named, message } => {
                assert_eq!(named, flag);
                assert!(message.starts_with(&format!("--{flag}: ")), "{message}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_comma_can_belong_to_a_path() {
    let corpora = |text| load("", &[("model", "m"), ("corpus", text)]).unwrap().study.evaluation.corpora;
    assert_eq!(corpora("a\\,b.txt,c.txt"), ["a,b.txt", "c.txt"]);
    assert_eq!(corpora("\"a,b.txt\", c.txt"), ["a,b.txt", "c.txt"]);
    let study = load("", &[("model", "m"), ("corpus", "a\\,b.txt,c.txt")]).unwrap().study;
    let shown = (setting("corpus").unwrap().form().unwrap().show)(&study);
    assert_eq!(corpora(&shown), ["a,b.txt", "c.txt"], "{shown}");
}
