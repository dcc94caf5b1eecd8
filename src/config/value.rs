//! A setting's value with the layer it comes from: messages name that place, relative paths start there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::hub::looks_like_hub_id;
use crate::methods::Procedure;
use crate::paths;
use crate::study::{Parameters, Recipe, SetMixture, file_name};

/// What a setting is called, in each of its places.
#[derive(Debug)]
pub(super) struct SettingName {
    /// Without its dashes: `seq-len`.
    pub flag: Cow<'static, str>,
    pub variable: String,
    pub section: &'static str,
    pub key: Cow<'static, str>,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    /// The table itself.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    Variable,
    Flag,
}

impl Layer {
    /// Which word counts: that of the greater strength.
    pub fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable => 2,
            Self::Flag => 3,
        }
    }
}

/// A setting's value and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct SettingValue<T> {
    pub value: T,
    pub name: &'static SettingName,
    pub layer: Layer,
}

impl<T> SettingValue<T> {
    /// The same setting with what its value was understood as.
    pub fn with<U>(&self, value: U) -> SettingValue<U> {
        SettingValue { value, name: self.name, layer: self.layer.clone() }
    }

    /// The mistake that `found` is not among what is `accepted`.
    pub fn refuse(&self, found: impl Display, accepted: &str) -> Error {
        self.mistake(format_args!("found `{found}`; accepted is {accepted}"))
    }

    /// A mistake in this value, in words.
    pub fn mistake(&self, message: impl Display) -> Error {
        Error::Setting { flag: &self.name.flag, message: format!("{}: {message}", self.place()) }
    }

    /// How messages name the place: `--seq-len`, `SECATEUR_SEQ_LEN`, ``config.toml:12: `seq_len` ``.
    fn place(&self) -> impl Display {
        fmt::from_fn(|f| match &self.layer {
            Layer::Flag => write!(f, "--{}", self.name.flag),
            Layer::Variable => f.write_str(&self.name.variable),
            Layer::File { path, line } => write!(f, "{}:{line}: `{}`", path.display(), self.name.key),
            Layer::Default => write!(f, "the default of `{}`", self.name.key),
        })
    }

    /// The folder that relative paths start from; `None` is the working folder.
    fn folder(&self) -> Option<&Path> {
        match &self.layer {
            Layer::File { path, .. } => Some(path.parent().unwrap_or(Path::new(""))),
            _ => None,
        }
    }

    /// A path whose home folder and variables are filled in; one from a config file starts at the file's folder.
    fn path_of(&self, expanded: &str) -> PathBuf {
        self.folder().map_or_else(|| PathBuf::from(expanded), |folder| folder.join(expanded))
    }

    /// The same for what may also be a name: it is one where there is no such path.
    fn name_or_path(&self, expanded: String, may_be_name: bool) -> String {
        let path = self.path_of(&expanded);
        if may_be_name && !path.exists() { expanded } else { path.to_string_lossy().into_owned() }
    }
}

impl SettingValue<&[String]> {
    /// The words as a whole number in a range.
    pub fn whole(&self, range: RangeInclusive<u64>, accepted: &str) -> Result<SettingValue<u64>> {
        self.understood(accepted, |word| word.parse().ok().filter(|number| range.contains(number)))
    }

    /// The words as a number.
    pub fn number(&self, accepted: &str) -> Result<SettingValue<f64>> {
        self.understood(accepted, |word| word.parse().ok())
    }

    /// The words as yes or no.
    pub fn switch(&self, accepted: &str) -> Result<SettingValue<bool>> {
        self.understood(accepted, |word| match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
            "false" | "no" | "off" | "0" | "f" | "n" => Some(false),
            _ => None,
        })
    }

    fn understood<T>(&self, accepted: &str, parse: impl Fn(&str) -> Option<T>) -> Result<SettingValue<T>> {
        let word = self.value.concat();
        let value = parse(word.trim()).ok_or_else(|| self.refuse(&word, accepted))?;
        Ok(self.with(value))
    }
}

impl SettingValue<String> {
    /// The text without blanks around it; `None` where nothing is left.
    pub fn text(&self) -> Option<&str> {
        Some(self.value.trim()).filter(|text| !text.is_empty())
    }

    /// The text as what it stands for; the type's own message with the place before it.
    pub fn parse<T: FromStr<Err = Error>>(&self) -> Result<T> {
        self.value.trim().parse().map_err(|e: Error| self.mistake(e))
    }

    /// The text as a path, with its home folder and variables filled in; one from a config file starts at the file's
    /// folder.
    pub fn path(&self) -> Option<PathBuf> {
        Some(self.path_of(&paths::expand(self.text()?)))
    }

    /// The text as a folder or a hub id: `org/name` is a folder only where there is one.
    pub fn model(&self) -> Option<String> {
        let text = paths::expand(self.text()?);
        let may_be_name = looks_like_hub_id(&text);
        Some(self.name_or_path(text, may_be_name))
    }
}

impl SettingValue<Vec<String>> {
    /// The list's words without blanks; a list of nothing but `""` is empty.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.value.iter().map(|word| word.trim()).filter(|word| !word.is_empty())
    }

    /// The words as what they stand for, each once.
    pub fn parse_all<T: FromStr<Err = Error> + PartialEq>(&self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for word in self.words() {
            let item = word.parse().map_err(|e: Error| self.mistake(e))?;
            if !all.contains(&item) {
                all.push(item);
            }
        }
        Ok(all)
    }

    /// The same, where nothing at all is a mistake; `accepted` is what may stand there.
    pub fn parse_some<T: FromStr<Err = Error> + PartialEq>(&self, accepted: &str) -> Result<Vec<T>> {
        let all = self.parse_all()?;
        if all.is_empty() {
            return Err(self.mistake(format_args!("found nothing; accepted is one or more {accepted}")));
        }
        Ok(all)
    }

    /// The words as recipes. A word whose first step has no `@` begins with a parameter of the recipe before it, since lists
    /// are split at commas: `depth@25%`, `by=angular+gptq@4bit`.
    pub fn recipes(&self) -> Result<Vec<Recipe>> {
        let mut texts: Vec<String> = Vec::new();
        for word in self.words() {
            let begins = word.split('+').next().is_some_and(|step| step.contains('@'));
            match texts.last_mut().filter(|_| !begins) {
                Some(recipe) => *recipe += &format!(",{word}"),
                None => texts.push(word.to_owned()),
            }
        }
        let understood = |text: &String| {
            let recipe: Recipe = text.parse().map_err(|e| self.mistake(e))?;
            Procedure::of(&recipe, &Parameters::new()).map_err(|e| self.mistake(e))?;
            Ok(recipe)
        };
        texts.iter().map(understood).collect()
    }

    /// A word as a data set: a name (`c4`) or a path.
    fn data_set(&self, word: &str) -> String {
        let word = paths::expand(word);
        let may_be_name = !word.contains(['/', '\\', '.']) && !word.starts_with('~');
        self.name_or_path(word, may_be_name)
    }

    /// The words as data sets by the task that they are for: `arc=train.jsonl`.
    pub fn data_sets_by_task(&self) -> Result<BTreeMap<String, String>> {
        let mut sets = BTreeMap::new();
        for word in self.words() {
            let parts = word.split_once('=').map(|(task, set)| (task.trim(), set.trim()));
            let Some((task, set)) = parts.filter(|(task, set)| !task.is_empty() && !set.is_empty()) else {
                return Err(self.refuse(word, "TASK=FILE, such as arc=train.jsonl, with the name of a task"));
            };
            let set = self.data_set(set);
            if let Some(other) = sets.insert(task.to_owned(), set.clone()) {
                return Err(self.mistake(format_args!("`{task}` is both `{other}` and `{set}`")));
            }
        }
        Ok(sets)
    }

    /// The words as data sets: names (`c4`) or paths, no two of which may have one short name.
    pub fn data_sets(&self) -> Result<Vec<String>> {
        self.distinct_sets(|word| Ok(self.data_set(word)))
    }

    /// The same where a word may be several sets that are drawn from as one: `c4*3+alpaca`.
    pub fn calibration_sets(&self) -> Result<Vec<String>> {
        let is_file = |set: &str| self.path_of(&paths::expand(set)).is_file();
        self.distinct_sets(|word| {
            let mixture = SetMixture::parse(word, &is_file).map_err(|e| self.mistake(e))?;
            Ok(mixture.map(|set| Ok(self.data_set(set)))?.to_string())
        })
    }

    fn distinct_sets(&self, understand: impl Fn(&str) -> Result<String>) -> Result<Vec<String>> {
        let mut sets: Vec<String> = Vec::new();
        for word in self.words() {
            let set = understand(word)?;
            let name = file_name(&set);
            if let Some(other) = sets.iter().find(|other| file_name(other) == name) {
                return Err(self.mistake(format_args!(
                    "`{other}` and `{set}` have the same short name `{name}`; \
                     accepted are data sets whose file names differ"
                )));
            }
            sets.push(set);
        }
        Ok(sets)
    }
}
