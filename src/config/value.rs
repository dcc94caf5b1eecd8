//! One setting with the place it came from: messages name that place, relative paths start there.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::file::{ConfigFile, Keys};
use super::places;
use crate::cli::SettingsArgs;
use crate::error::{Error, Result};

/// A value and where it was said.
#[derive(Debug, Clone)]
pub(super) struct Sourced<T> {
    pub value: T,
    /// How messages name the place: `--seq-len`, `SECATEUR_SEQ_LEN`, ``config.toml:12: `seq_len` ``.
    origin: String,
    /// The config file's folder, where the value came from one.
    folder: Option<PathBuf>,
}

impl<T> Sourced<T> {
    /// The mistake that `found` is not among what is `accepted`.
    pub fn refuse(&self, found: impl Display, accepted: &str) -> Error {
        Error::mistake(format!("{}: found `{found}`; accepted is {accepted}", self.origin))
    }

    /// A mistake of this value's in words.
    pub fn mistake(&self, message: impl Display) -> Error {
        Error::mistake(format!("{}: {message}", self.origin))
    }
}

impl Sourced<usize> {
    /// The number, unless it is smaller than `least`.
    pub fn at_least(&self, least: usize) -> Result<usize> {
        if self.value >= least {
            return Ok(self.value);
        }
        Err(self.refuse(self.value, &format!("a whole number, {least} or more")))
    }

    /// The number, where 0 stands for none.
    pub fn nonzero(&self) -> Option<usize> {
        (self.value > 0).then_some(self.value)
    }
}

impl Sourced<String> {
    /// The text; `None` where it is empty.
    pub fn text(&self) -> Option<&str> {
        Some(self.value.trim()).filter(|text| !text.is_empty())
    }

    /// The text as what it stands for; the type's own message with the place before it.
    pub fn parse<T: std::str::FromStr<Err = Error>>(&self) -> Result<T> {
        self.value.trim().parse().map_err(|e: Error| self.mistake(e))
    }

    /// The text as a path; one from a config file starts at the file's folder.
    pub fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        Some(match &self.folder {
            Some(folder) => from_folder(folder, text),
            None => PathBuf::from(text),
        })
    }

    /// The text as a folder or a hub id: `org/name` is a folder only where there is one.
    pub fn model(&self) -> Option<String> {
        let text = self.text()?;
        let looks_like_hub_id = text.split('/').filter(|part| !part.is_empty()).count() <= 2
            && !text.starts_with(['/', '.', '~'])
            && !text.ends_with('/');
        Some(self.name_or_path(text, looks_like_hub_id))
    }

    fn name_or_path(&self, text: &str, may_be_name: bool) -> String {
        let Some(folder) = &self.folder else { return text.to_owned() };
        let path = from_folder(folder, text);
        if may_be_name && !path.exists() { text.to_owned() } else { path.to_string_lossy().into_owned() }
    }
}

impl Sourced<Vec<String>> {
    /// The list's words without blanks; a list of nothing but `""` is empty.
    pub fn words(&self) -> Vec<&str> {
        self.value.iter().map(|word| word.trim()).filter(|word| !word.is_empty()).collect()
    }

    /// The words as what they stand for, each once.
    pub fn parse_all<T: std::str::FromStr<Err = Error> + PartialEq>(&self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for word in self.words() {
            let item = word.parse().map_err(|e: Error| self.mistake(e))?;
            if !all.contains(&item) {
                all.push(item);
            }
        }
        Ok(all)
    }

    /// The words as data sets: names (`c4`) or paths, no two of which may have one short name.
    pub fn data_sets(&self) -> Result<Vec<String>> {
        let mut sets: Vec<String> = Vec::new();
        for word in self.words() {
            let may_be_name = !word.contains(['/', '\\', '.']) && !word.starts_with('~');
            let one = Sourced { value: word.to_owned(), origin: String::new(), folder: self.folder.clone() };
            let set = one.name_or_path(word, may_be_name);
            let name = crate::study::short_name(&set);
            if let Some(other) = sets.iter().find(|other| crate::study::short_name(other) == name) {
                return Err(self.mistake(format!(
                    "`{other}` and `{set}` have the same short name `{name}`; \
                     accepted are data sets whose file names differ"
                )));
            }
            sets.push(set);
        }
        Ok(sets)
    }
}

/// `text` as a path from `folder`; `~/` is the home folder.
fn from_folder(folder: &Path, text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), places::home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => folder.join(text),
    }
}

/// Where settings come from, the strongest first: flags and variables, a config file, the built-in one.
pub(super) struct Layers<'a> {
    pub args: &'a SettingsArgs,
    pub file: Option<ConfigFile>,
    pub built_in: ConfigFile,
}

impl Layers<'_> {
    /// The strongest word on one setting: `typed` is its flag's or variable's value, `field` the flag's field,
    /// `key` and `get` its place in a file.
    pub fn pick<T, F>(
        &self,
        field: &str,
        typed: Option<T>,
        key: &str,
        get: impl Fn(&Keys) -> Option<&Spanned<F>>,
    ) -> Result<Sourced<T>>
    where
        F: Clone + Into<T>,
    {
        if let Some(value) = typed {
            let origin = if self.args.from_variables.iter().any(|name| name == field) {
                format!("SECATEUR_{}", field.to_ascii_uppercase())
            } else {
                format!("--{}", field.replace('_', "-"))
            };
            return Ok(Sourced { value, origin, folder: None });
        }
        for file in self.file.iter().chain([&self.built_in]) {
            if let Some(value) = get(&file.keys) {
                return Ok(Sourced {
                    value: value.get_ref().clone().into(),
                    origin: file.name_of(key, &value.span()),
                    folder: file.folder().map(Path::to_owned),
                });
            }
        }
        Err(Error::failure(format!("the built-in config lacks `{key}`")))
    }
}
