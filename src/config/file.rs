//! `config.toml`: which file is read, what may stand in it, and messages that name the line.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::places;
use super::setting::{SECTIONS, Setting, SettingKind};
use super::table::settings;
use crate::error::{Error, Result};
use crate::paths;

/// A config file that was read and understood.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    pub path: PathBuf,
    values: Vec<Written>,
}

/// What a file says about a setting.
#[derive(Debug, Clone)]
pub(super) struct Written {
    setting: &'static Setting,
    pub line: usize,
    pub words: Vec<String>,
}

impl ConfigFile {
    /// The file that `--config` names, else the first there is of the usual places; `None` where there is none.
    pub fn find(named: Option<&Path>) -> Result<Option<Self>> {
        if let Some(path) = named {
            let expanded = path.to_str().map(|path| PathBuf::from(paths::expand(path)));
            return Self::read(expanded.as_deref().unwrap_or(path), "").map(Some);
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
            let offset = e.utf8_error().valid_up_to();
            Error::mistake(format!(
                "the config file {} is not UTF-8 text (byte {offset}); accepted is TOML{hint}",
                path.display()
            ))
        })?;
        Self::parse(path, &text, hint)
    }

    /// Reads `text`; messages name `path` and end with `hint`.
    fn parse(path: &Path, text: &str, hint: &str) -> Result<Self> {
        let values = values(text).map_err(|Fault { span, message }| {
            Error::mistake(format!("{}:{}: {message}{hint}", path.display(), line_of(text, &span)))
        })?;
        Ok(Self { path: path.to_owned(), values })
    }

    /// What it says about a setting.
    pub fn get(&self, setting: &Setting) -> Option<&Written> {
        self.values.iter().find(|value| value.setting.flag() == setting.flag())
    }
}

/// What is wrong with a file, and where.
struct Fault {
    span: Range<usize>,
    message: String,
}

/// The settings in a file's text.
fn values(text: &str) -> Result<Vec<Written>, Fault> {
    let sections = DeTable::parse(text).map_err(|e| Fault {
        span: e.span().unwrap_or_default(),
        message: format!("not understood as TOML: {}", e.message().replace('\n', " ")),
    })?;
    let mut values = Vec::new();
    for (section, keys) in sections.get_ref() {
        let name = section.get_ref().as_ref();
        if !SECTIONS.iter().any(|(known, _)| *known == name) {
            return Err(unknown(section, SECTIONS.iter().map(|(known, _)| *known)));
        }
        let DeValue::Table(keys) = keys.get_ref() else {
            return Err(wrong(name, keys, &format!("a section: [{name}]")));
        };
        let known = || settings().iter().filter(|setting| setting.section() == name);
        for (key, value) in keys {
            let setting = known()
                .find(|setting| setting.key() == key.get_ref())
                .ok_or_else(|| unknown(key, known().map(Setting::key)))?;
            let line = line_of(text, &value.span());
            values.push(Written { setting, line, words: words(setting, value)? });
        }
    }
    Ok(values)
}

/// A value as the words that a flag would have.
fn words(setting: &Setting, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Fault> {
    let word = match (setting.kind(), value.get_ref()) {
        (SettingKind::List(_), DeValue::Array(items)) => {
            // Numbers (`sparsity = [0.5, "2:4"]`) count as they are written.
            let item = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => Ok(text.clone().into_owned()),
                DeValue::Integer(_) | DeValue::Float(_) => Ok(written(item.get_ref()).into_owned()),
                _ => Err(wrong(setting.key(), item, "a string")),
            };
            return items.iter().map(item).collect();
        }
        (SettingKind::Text(_), DeValue::String(text)) => text.clone(),
        (SettingKind::Switch(_), DeValue::Boolean(yes)) => yes.to_string().into(),
        (SettingKind::Number { .. }, DeValue::Float(_) | DeValue::Integer(_))
        | (SettingKind::Whole { .. }, DeValue::Integer(_)) => written(value.get_ref()),
        _ => return Err(wrong(setting.key(), value, &setting.accepted())),
    };
    Ok(vec![word.into_owned()])
}

/// A number in decimal, whatever it is written in; other values as their kind.
fn written<'a>(value: &'a DeValue<'_>) -> Cow<'a, str> {
    match value {
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(decimal) => decimal.to_string().into(),
            Err(_) => number.as_str().into(),
        },
        DeValue::Float(number) => number.as_str().into(),
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(yes) => yes.to_string().into(),
        DeValue::Datetime(moment) => moment.to_string().into(),
        DeValue::Array(_) | DeValue::Table(_) => value.type_str().into(),
    }
}

/// A value of the wrong kind.
fn wrong(key: &str, value: &Spanned<DeValue<'_>>, accepted: &str) -> Fault {
    let kind = value.get_ref().type_str();
    let found = match value.get_ref() {
        DeValue::Array(_) => format!("an {kind}"),
        DeValue::Table(_) => format!("a {kind}"),
        DeValue::String(text) => format!("{kind} {text:?}"),
        other => format!("{kind} `{}`", written(other)),
    };
    Fault { span: value.span(), message: format!("`{key}`: found {found}; accepted is {accepted}") }
}

/// A key that is none.
fn unknown<'a>(key: &Spanned<Cow<'_, str>>, accepted: impl Iterator<Item = &'a str>) -> Fault {
    let accepted: Vec<String> = accepted.map(|key| format!("`{key}`")).collect();
    let message = format!("unknown key `{}`; accepted are {}", key.get_ref(), accepted.join(", "));
    Fault { span: key.span(), message }
}

/// Line number, from 1, of a span's start.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ConfigFile::parse(Path::new("c.toml"), text, "").unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_accepted_ones() {
        let message = refused("[study]\nmodel = \"x\"\nseqlen = 3\n");
        assert_eq!(
            message,
            "c.toml:3: unknown key `seqlen`; accepted are `model`, `methods`, `sparsity`, `bits`, `group_size`, `formats`, `structure`, `recipes`, `seq_len`, `seed`"
        );
        let message = refused("[studi]\n");
        assert!(message.starts_with("c.toml:1: unknown key `studi`; accepted are `study`, "), "{message}");
    }

    #[test]
    fn a_wrong_type_names_the_key_even_in_a_list_over_several_lines() {
        assert_eq!(
            refused("[study]\nseq_len = \"long\"\n"),
            "c.toml:2: `seq_len`: found string \"long\"; accepted is a whole number, 2 or more, up to 1000000000"
        );
        assert_eq!(
            refused("[evaluation]\ncorpora = [\n  \"a\",\n  true,\n]\n"),
            "c.toml:4: `corpora`: found boolean `true`; accepted is a string"
        );
        assert_eq!(
            refused("[evaluation]\ncorpora = \"a\"\n"),
            "c.toml:2: `corpora`: found string \"a\"; accepted is a list such as [\"a\", \"b\"]"
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
    fn numbers_in_a_list_of_sparsities_stay_as_written_and_others_become_decimal() {
        let text = "[study]\nsparsity = [0.5, \"2:4\", 0]\nseed = 0xff\n[compute]\nthreads = 1_000\n";
        let file = ConfigFile::parse(Path::new("c.toml"), text, "").unwrap();
        let words: Vec<&[String]> = file.values.iter().map(|value| &value.words[..]).collect();
        let seed = file.values.iter().find(|value| value.setting.flag() == "seed").unwrap();
        assert!(words.iter().any(|words| *words == ["0.5", "2:4", "0"]), "{words:?}");
        assert!(words.iter().any(|words| *words == ["1000"]), "{words:?}");
        assert_eq!((seed.words[0].as_str(), seed.line), ("255", 3));
    }
}
