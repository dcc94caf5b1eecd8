//! `config.toml`: which file is read, what may stand in it, and messages that name the line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::places;
use crate::error::{Error, Result};

/// The committed `config.toml`: every key with its default.
pub const BUILT_IN: &str = include_str!("../../config.toml");

type Key<T> = Option<Spanned<T>>;

/// What may stand in a config file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "sections of settings")]
pub(super) struct Keys {
    pub study: Study,
    pub calibration: Calibration,
    pub evaluation: Evaluation,
    pub prune: Prune,
    pub compute: Compute,
    pub output: Output,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section: [study]")]
pub(super) struct Study {
    pub model: Key<String>,
    pub methods: Key<Words>,
    pub sparsity: Key<Words>,
    pub seq_len: Key<usize>,
    pub seed: Key<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section: [calibration]")]
pub(super) struct Calibration {
    pub sets: Key<Words>,
    pub samples: Key<usize>,
    pub sampling: Key<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section: [evaluation]")]
pub(super) struct Evaluation {
    pub corpora: Key<Words>,
    pub max_windows: Key<usize>,
    pub tasks: Key<Words>,
    pub task_limit: Key<usize>,
    pub max_new_tokens: Key<usize>,
    pub prompt: Key<String>,
    pub disagreement: Key<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section: [prune]")]
pub(super) struct Prune {
    pub modules: Key<Words>,
    pub blocks: Key<String>,
    pub damping: Key<f64>,
    pub block_size: Key<usize>,
    pub profile: Key<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section: [compute]")]
pub(super) struct Compute {
    pub device: Key<String>,
    pub dtype: Key<String>,
    pub threads: Key<usize>,
    pub batch_tokens: Key<usize>,
    pub batch_prompts: Key<usize>,
    pub offline: Key<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section: [output]")]
pub(super) struct Output {
    pub store: Key<String>,
    pub save_models: Key<String>,
    pub format: Key<String>,
}

/// A list of strings; numbers in it (`sparsity = [0.5, "2:4"]`) are taken as they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Words(Vec<String>);

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Self {
        words.0
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Words;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list such as [\"a\", \"b\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(Word(word)) = items.next_element()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Item;
        impl Visitor<'_> for Item {
            type Value = Word;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(Item)
    }
}

/// A config file that was read and understood.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    /// Where it lies; `None` is the one inside the program.
    pub path: Option<PathBuf>,
    pub keys: Keys,
    text: String,
}

impl ConfigFile {
    /// The defaults inside the program.
    pub fn built_in() -> Result<Self> {
        Self::parse(None, BUILT_IN.to_owned(), "")
    }

    /// The file that `--config` names, else the first there is of the usual places; `None` where there is none.
    pub fn find(named: Option<&Path>) -> Result<Option<Self>> {
        if let Some(path) = named {
            return Self::read(path, "").map(Some);
        }
        let elsewhere = "; --config FILE reads another file than this one";
        let usual = std::iter::once(PathBuf::from("config.toml"))
            .chain(places::config_folder().map(|folder| folder.join("config.toml")));
        for path in usual {
            if path.try_exists().unwrap_or(true) {
                return Self::read(&path, elsewhere).map(Some);
            }
        }
        Ok(None)
    }

    fn read(path: &Path, hint: &str) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| {
            Error::mistake(format!("cannot read the config file {}: {e}{hint}", path.display()))
        })?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            Error::mistake(format!(
                "the config file {} is not UTF-8 text (byte {at}); accepted is TOML{hint}",
                path.display()
            ))
        })?;
        Self::parse(Some(path.to_owned()), text, hint)
    }

    /// Reads `text`; messages name `path` and end with `hint`.
    pub fn parse(path: Option<PathBuf>, text: String, hint: &str) -> Result<Self> {
        match toml::from_str::<Keys>(&text) {
            Ok(keys) => Ok(Self { path, keys, text }),
            Err(error) => {
                let file = path.as_deref().map_or_else(|| "built-in config".into(), Path::to_string_lossy);
                let span = error.span().unwrap_or(0..0);
                let line = line_of(&text, &span);
                let message = explain(error.message(), key_at(&text, line));
                Err(Error::mistake(format!("{file}:{line}: {message}{hint}")))
            }
        }
    }

    /// How messages name a key of this file: `config.toml:12: seq_len`.
    pub fn name_of(&self, key: &str, span: &Range<usize>) -> String {
        match &self.path {
            None => format!("`{key}` in the built-in config"),
            Some(path) => format!("{}:{}: `{key}`", path.display(), line_of(&self.text, span)),
        }
    }

    /// The folder that relative paths in the file start from.
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref().map(|path| path.parent().unwrap_or(Path::new("")))
    }
}

/// Line number, from 1, of a span's start.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|&b| b == b'\n').count()
}

/// The key that a value on this line belongs to: a list may begin some lines above.
fn key_at(text: &str, line: usize) -> Option<&str> {
    let above: Vec<&str> = text.lines().take(line).collect();
    above.iter().rev().find_map(|line| {
        let (key, _) = line.split_once('=')?;
        let key = key.trim();
        let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
        plain.then_some(key)
    })
}

/// serde's message in the words of a person who edits the file.
fn explain(message: &str, key: Option<&str>) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let rest = rest.replacen(", expected one of ", "; accepted are ", 1);
        return format!("unknown key {}", rest.replacen(", expected ", "; accepted is ", 1));
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong.and_then(|rest| rest.split_once(", expected ")) {
        let accepted = match expected {
            "usize" | "u64" => "a whole number, 0 or more",
            "f64" => "a number",
            "a boolean" => "true or false",
            other => other,
        };
        let key = key.map(|key| format!("`{key}`: ")).unwrap_or_default();
        return format!("{key}found {found}; accepted is {accepted}");
    }
    format!("not understood as TOML: {}", message.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ConfigFile::parse(Some("c.toml".into()), text.to_owned(), "").unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_accepted_ones() {
        let message = refused("[study]\nmodel = \"x\"\nseqlen = 3\n");
        assert_eq!(
            message,
            "c.toml:3: unknown key `seqlen`; accepted are `model`, `methods`, `sparsity`, `seq_len`, `seed`"
        );
        let message = refused("[studi]\n");
        assert!(message.starts_with("c.toml:1: unknown key `studi`; accepted are `study`, "), "{message}");
    }

    #[test]
    fn a_wrong_type_names_the_key_even_in_a_list_over_several_lines() {
        assert_eq!(
            refused("[study]\nseq_len = \"long\"\n"),
            "c.toml:2: `seq_len`: found string \"long\"; accepted is a whole number, 0 or more"
        );
        assert_eq!(
            refused("[study]\nseed = -1\n"),
            "c.toml:2: `seed`: found integer `-1`; accepted is a whole number, 0 or more"
        );
        assert_eq!(
            refused("[evaluation]\ncorpora = [\n  \"a\",\n  true,\n]\n"),
            "c.toml:4: `corpora`: found boolean `true`; accepted is a string"
        );
        assert_eq!(
            refused("[compute]\noffline = \"no\"\n"),
            "c.toml:2: `offline`: found string \"no\"; accepted is true or false"
        );
        assert_eq!(
            refused("study = 3\n"),
            "c.toml:1: `study`: found integer `3`; accepted is a section: [study]"
        );
    }

    #[test]
    fn what_is_no_toml_names_the_line() {
        let message = refused("[study]\nmodel = \n");
        assert!(message.starts_with("c.toml:2: not understood as TOML: "), "{message}");
    }

    #[test]
    fn numbers_in_a_list_of_sparsities_stay_as_written() {
        let file = ConfigFile::parse(None, "[study]\nsparsity = [0.5, \"2:4\", 0]\n".into(), "").unwrap();
        let words: Vec<String> = file.keys.study.sparsity.unwrap().into_inner().into();
        assert_eq!(words, ["0.5", "2:4", "0"]);
    }
}
