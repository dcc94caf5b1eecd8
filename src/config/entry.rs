//! How entries of the table are written: what kind of setting it is, then what else there is to say.

use super::draft::SettingsDraft;
use super::setting::{FormField, Setting, SettingKind, Text};
use super::value::{SettingName, SettingValue};
use crate::error::Result;
use crate::number::MOST_COUNTED;
use crate::study::StudySpec;

/// A setting that is being written down.
pub(super) struct SettingEntry(Setting);

impl From<SettingEntry> for Setting {
    fn from(entry: SettingEntry) -> Self {
        entry.0
    }
}

impl SettingEntry {
    fn new(flag: impl Into<Text>, key: &'static str, default: Vec<String>, kind: SettingKind) -> Self {
        let (flag, (section, key)) = (flag.into(), key.split_once('.').unwrap_or(("", key)));
        let variable = format!("SECATEUR_{}", flag.replace('-', "_").to_ascii_uppercase());
        Self(Setting {
            name: SettingName { flag, variable, section, key: key.into() },
            value_name: "",
            default,
            choices: Vec::new(),
            about: "".into(),
            detail: "".into(),
            unset: None,
            of_machine: false,
            in_fingerprint: false,
            holds_options: false,
            form: None,
            example: "".into(),
            kind,
        })
    }

    /// A text; an empty one means: not set.
    pub fn text<F>(flag: impl Into<Text>, key: &'static str, default: &str, set: F) -> Self
    where
        F: Fn(&mut SettingsDraft, &SettingValue<String>) -> Result<()> + Send + Sync + 'static,
    {
        Self::new(flag, key, vec![default.to_owned()], SettingKind::Text(Box::new(set)))
    }

    /// A list of texts; empty ones do not count.
    pub fn list<F>(flag: impl Into<Text>, key: &'static str, default: &[&str], set: F) -> Self
    where
        F: Fn(&mut SettingsDraft, &SettingValue<Vec<String>>) -> Result<()> + Send + Sync + 'static,
    {
        let default = default.iter().map(|&word| word.to_owned()).collect();
        Self::new(flag, key, default, SettingKind::List(Box::new(set)))
    }

    /// A whole number, `least` or more.
    pub fn whole<F>(flag: impl Into<Text>, key: &'static str, default: u64, least: u64, set: F) -> Self
    where
        F: Fn(&mut SettingsDraft, u64) + Send + Sync + 'static,
    {
        let set = move |draft: &mut SettingsDraft, found: &SettingValue<u64>| {
            set(draft, found.value);
            Ok(())
        };
        let kind = SettingKind::Whole { least, most: u64::MAX, set: Box::new(set) };
        Self::new(flag, key, vec![default.to_string()], kind)
    }

    /// A whole number that counts something, `least` or more.
    pub fn count<F>(flag: impl Into<Text>, key: &'static str, default: u64, least: u64, set: F) -> Self
    where
        F: Fn(&mut SettingsDraft, usize) + Send + Sync + 'static,
    {
        // Products of two of them are a usize.
        Self::whole(flag, key, default, least, move |draft, n| set(draft, n as usize)).at_most(MOST_COUNTED)
    }

    /// A number; `accepted` says which, `fits` whether one is.
    pub fn number<F>(
        flag: impl Into<Text>,
        key: &'static str,
        default: f64,
        (accepted, fits): (&'static str, fn(f64) -> bool),
        set: F,
    ) -> Self
    where
        F: Fn(&mut SettingsDraft, f64) + Send + Sync + 'static,
    {
        let set = move |draft: &mut SettingsDraft, found: &SettingValue<f64>| {
            if !fits(found.value) {
                return Err(found.refuse(found.value, accepted));
            }
            set(draft, found.value);
            Ok(())
        };
        let kind = SettingKind::Number { accepted: accepted.into(), set: Box::new(set) };
        Self::new(flag, key, vec![default.to_string()], kind)
    }

    /// Yes or no.
    pub fn switch<F>(flag: impl Into<Text>, key: &'static str, default: bool, set: F) -> Self
    where
        F: Fn(&mut SettingsDraft, bool) + Send + Sync + 'static,
    {
        let set = move |draft: &mut SettingsDraft, found: &SettingValue<bool>| {
            set(draft, found.value);
            Ok(())
        };
        Self::new(flag, key, vec![default.to_string()], SettingKind::Switch(Box::new(set)))
    }

    /// One line of help, without a full stop.
    pub fn about(mut self, about: impl Into<Text>) -> Self {
        self.0.about = about.into();
        self
    }

    /// Whole sentences that follow it where there is room.
    pub fn detail(mut self, detail: impl Into<Text>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// How help calls its value: `N`, `FILE`.
    pub fn value_name(mut self, name: &'static str) -> Self {
        self.0.value_name = name;
        self
    }

    /// What an empty default comes to.
    pub fn unset(mut self, meaning: &'static str) -> Self {
        self.0.unset = Some(meaning);
        self
    }

    /// Values to offer; others may be accepted too.
    pub fn choices(mut self, choices: &[&'static str]) -> Self {
        self.0.choices = choices.to_vec();
        self
    }

    /// The largest number that is accepted.
    pub fn at_most(mut self, limit: u64) -> Self {
        if let SettingKind::Whole { most, .. } = &mut self.0.kind {
            *most = limit;
        }
        self
    }

    /// It says something about the machine, which every command may need to know.
    pub fn of_machine(mut self) -> Self {
        self.0.of_machine = true;
        self
    }

    /// Studies that differ in it are different studies: neither resumes the other.
    pub fn in_fingerprint(mut self) -> Self {
        self.0.in_fingerprint = true;
        self
    }

    /// Its value is options of another program, which begin with a dash.
    pub fn options_of_another_program(mut self) -> Self {
        self.0.holds_options = true;
        self
    }

    /// The dashboard's form has a field for it.
    pub fn in_form(
        mut self,
        label: &'static str,
        hint: &'static str,
        show: fn(&StudySpec) -> String,
    ) -> Self {
        self.0.form = Some(FormField { label, hint, show });
        self
    }

    /// A value that is accepted and is not the default, for the tests that go through the table.
    pub fn example(mut self, example: impl Into<Text>) -> Self {
        self.0.example = example.into();
        self
    }
}
