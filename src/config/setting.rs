//! What a setting is: one entry of the table says everything about it.

use std::borrow::Cow;

use super::draft::SettingsDraft;
use super::list::join_list;
use super::value::{Layer, SettingName, SettingValue};
use crate::error::Result;
use crate::number::MOST_COUNTED;
use crate::study::StudySpec;

/// Sections of `config.toml` in their order, with the headings that `--help` and the documents give them.
pub(crate) const SECTIONS: [(&str, &str); 6] = [
    ("study", "Study"),
    ("calibration", "Calibration"),
    ("evaluation", "Evaluation"),
    ("prune", "Pruning"),
    ("compute", "Compute"),
    ("output", "Output"),
];

pub(super) type Text = Cow<'static, str>;
pub(super) type Set<T> = Box<dyn Fn(&mut SettingsDraft, &SettingValue<T>) -> Result<()> + Send + Sync>;

/// What may be written, and where it goes once it is understood.
pub(super) enum SettingKind {
    Text(Set<String>),
    List(Set<Vec<String>>),
    Whole { least: u64, most: u64, set: Set<u64> },
    Number { accepted: Text, set: Set<f64> },
    Switch(Set<bool>),
}

/// How the dashboard's form shows a setting.
#[derive(Debug, Clone, Copy)]
pub struct FormField {
    /// Stands before the value.
    pub label: &'static str,
    /// Says in a few words what goes in.
    pub hint: &'static str,
    /// The value that a study has, as it would be typed.
    pub show: fn(&StudySpec) -> String,
}

/// One setting: flag of `secateur run`, variable, key of `config.toml`, perhaps a field of the form.
pub struct Setting {
    pub(super) name: SettingName,
    pub(super) value_name: &'static str,
    pub(super) default: Vec<String>,
    pub(super) choices: Vec<&'static str>,
    pub(super) about: Text,
    pub(super) detail: Text,
    pub(super) unset: Option<&'static str>,
    pub(super) of_machine: bool,
    pub(super) in_fingerprint: bool,
    pub(super) holds_options: bool,
    pub(super) form: Option<FormField>,
    pub(super) example: Text,
    pub(super) kind: SettingKind,
}

impl Setting {
    /// The flag without its dashes: `seq-len`.
    pub fn flag(&self) -> &str {
        &self.name.flag
    }

    /// Whether its value is options of another program, which begin with a dash.
    pub fn holds_options(&self) -> bool {
        self.holds_options
    }

    /// The environment variable: `SECATEUR_SEQ_LEN`.
    pub fn variable(&self) -> &str {
        &self.name.variable
    }

    /// The section of `config.toml`.
    pub fn section(&self) -> &'static str {
        self.name.section
    }

    /// The key in that section.
    pub fn key(&self) -> &str {
        &self.name.key
    }

    /// The heading that it stands under in help and documents.
    pub fn heading(&self) -> &'static str {
        SECTIONS.iter().find(|(section, _)| *section == self.name.section).map_or("", |(_, heading)| heading)
    }

    /// How help calls its value; nothing for a switch.
    pub fn value_name(&self) -> &'static str {
        self.value_name
    }

    /// One line of help, without a full stop.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The whole help: sentences.
    pub fn explanation(&self) -> String {
        format!("{}. {}", self.about, self.detail).trim_end().to_owned()
    }

    /// Values to offer; others may be accepted too.
    pub fn choices(&self) -> &[&'static str] {
        &self.choices
    }

    /// How the dashboard's form shows it, where it does.
    pub fn form(&self) -> Option<&FormField> {
        self.form.as_ref()
    }

    /// Whether it says something about the machine, which every command may need to know.
    pub fn is_of_machine(&self) -> bool {
        self.of_machine
    }

    /// Whether studies that differ in it are different studies.
    pub fn is_in_fingerprint(&self) -> bool {
        self.in_fingerprint
    }

    /// A value that is accepted and is not the default.
    pub fn example(&self) -> &str {
        &self.example
    }

    /// Whether it takes several values.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, SettingKind::List(_))
    }

    /// Whether it is yes or no.
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, SettingKind::Switch(_))
    }

    /// Whether it is a number, which may be typed with a minus (and is refused with what is accepted).
    pub fn is_number(&self) -> bool {
        matches!(self.kind, SettingKind::Whole { .. } | SettingKind::Number { .. })
    }

    /// The default as it would be typed: `2048`, `c4`; nothing where it is not set.
    pub fn default_text(&self) -> String {
        if self.is_list() { join_list(&self.default).replace(", ", ",") } else { self.default.concat() }
    }

    /// The default as help shows it; `None` where there is none to speak of.
    pub fn default_shown(&self) -> Option<String> {
        if !self.choices.is_empty() && self.default == self.choices {
            return Some("all".into());
        }
        let text = self.default_text();
        if text.is_empty() { self.unset.map(str::to_owned) } else { Some(text) }
    }

    /// The default as `config.toml` has it: `2048`, `["c4"]`.
    pub fn default_toml(&self) -> String {
        let quoted = |word: &String| toml::Value::from(word.as_str()).to_string();
        match &self.kind {
            SettingKind::Text(_) => self.default.iter().map(quoted).collect(),
            SettingKind::List(_) => {
                let item = |word: &String| {
                    if word.parse::<f64>().is_ok() { word.clone() } else { quoted(word) }
                };
                format!("[{}]", self.default.iter().map(item).collect::<Vec<_>>().join(", "))
            }
            SettingKind::Whole { .. } | SettingKind::Number { .. } | SettingKind::Switch(_) => {
                self.default.concat()
            }
        }
    }

    /// Writes a value into the draft, given as words that come from a layer.
    pub(super) fn apply(
        &'static self,
        layer: Layer,
        words: &[String],
        draft: &mut SettingsDraft,
    ) -> Result<()> {
        let found = SettingValue { value: words, name: &self.name, layer };
        let accepted = self.accepted();
        match &self.kind {
            SettingKind::List(set) => set(draft, &found.with(words.to_vec())),
            SettingKind::Text(set) => set(draft, &found.with(words.concat())),
            SettingKind::Whole { least, most, set } => set(draft, &found.whole(*least..=*most, &accepted)?),
            SettingKind::Number { set, .. } => set(draft, &found.number(&accepted)?),
            SettingKind::Switch(set) => set(draft, &found.switch(&accepted)?),
        }
    }

    /// Why a text that was typed into the form cannot be this setting's, as far as the text alone tells.
    pub fn refusal(&'static self, text: &str) -> Option<String> {
        let words = [text.to_owned()];
        let found = SettingValue { value: &words[..], name: &self.name, layer: Layer::Flag };
        let accepted = self.accepted();
        let refused = match &self.kind {
            SettingKind::List(_) | SettingKind::Text(_) => None,
            SettingKind::Whole { least, most, .. } => found.whole(*least..=*most, &accepted).err(),
            SettingKind::Number { .. } => found.number(&accepted).err(),
            SettingKind::Switch(_) => found.switch(&accepted).err(),
        };
        refused.map(|error| error.to_string())
    }

    pub(super) fn kind(&self) -> &SettingKind {
        &self.kind
    }

    pub(super) fn default(&self) -> &[String] {
        &self.default
    }

    /// What may be written, in words.
    pub(super) fn accepted(&self) -> Cow<'_, str> {
        match &self.kind {
            SettingKind::Text(_) => "a string".into(),
            SettingKind::List(_) => "a list such as [\"a\", \"b\"]".into(),
            SettingKind::Whole { least, most: u64::MAX, .. } => {
                format!("a whole number, {least} or more").into()
            }
            SettingKind::Whole { least, most: MOST_COUNTED, .. } => {
                format!("a whole number, {least} or more, up to {MOST_COUNTED}").into()
            }
            SettingKind::Whole { least, most, .. } => format!("a whole number from {least} to {most}").into(),
            SettingKind::Number { accepted, .. } => accepted.as_ref().into(),
            SettingKind::Switch(_) => "true or false".into(),
        }
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Setting(--{})", self.name.flag)
    }
}
