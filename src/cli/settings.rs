//! Settings on the command line: their flags and variables come from the table.

use std::any::Any;
use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint};

use crate::config::{Given, Means, Setting, settings};

/// Which settings a command takes.
pub(crate) trait Selection: Any + Clone + Default + Send + Sync {
    /// Whether this is one of them.
    fn takes(setting: &Setting) -> bool;
}

/// Every setting: commands that define a study.
#[derive(Debug, Clone, Copy, Default)]
pub struct All;

impl Selection for All {
    fn takes(_: &Setting) -> bool {
        true
    }
}

/// Every setting but those that say which cells there are: commands that choose their cells themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllButCells;

impl Selection for AllButCells {
    fn takes(setting: &Setting) -> bool {
        !["methods", "sparsity", "bits", "group-size", "formats", "structure", "recipe"]
            .contains(&setting.flag())
    }
}

/// What says something about the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct OfMachine;

impl Selection for OfMachine {
    fn takes(setting: &Setting) -> bool {
        setting.is_of_machine()
    }
}

/// `--store`: commands that look into one.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOnly;

impl Selection for StoreOnly {
    fn takes(setting: &Setting) -> bool {
        setting.flag() == "store"
    }
}

/// The settings that were given by flags and variables, of those that a command takes.
#[derive(Clone, Default)]
pub struct SettingsArgs<S> {
    /// What was given.
    pub given: Given,
    selection: PhantomData<S>,
}

impl<S> fmt::Debug for SettingsArgs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.given.fmt(f)
    }
}

impl<S: Selection> Args for SettingsArgs<S> {
    fn augment_args(command: Command) -> Command {
        command.args(settings().iter().filter(|setting| S::takes(setting)).map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Selection> FromArgMatches for SettingsArgs<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in settings().iter().filter(|setting| S::takes(setting)) {
            let Some(words) = matches.get_many::<String>(setting.flag()) else { continue };
            let means = match matches.value_source(setting.flag()) {
                Some(ValueSource::EnvVariable) => Means::Variable,
                _ => Means::Flag,
            };
            self.given.set_all(setting, means, words.map(String::as_str));
        }
        Ok(())
    }
}

/// A setting as clap has it. Values stay text, so that every mistake is told in one way, wherever it was made.
fn arg(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.flag())
        .long(setting.flag())
        .env(setting.variable())
        .value_name(setting.value_name())
        .help_heading(setting.heading())
        .help(help(setting.about(), setting, " "))
        .long_help(help(&setting.explanation(), setting, "\n\n"))
        .value_hint(hint(setting.value_name()))
        .value_parser(Offer(setting.choices()));
    let arg = if setting.choices().is_empty() { arg } else { arg.hide_possible_values(true) };
    if setting.is_list() {
        arg.num_args(1..).allow_negative_numbers(true).action(clap::ArgAction::Append)
    } else if setting.is_switch() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg.allow_negative_numbers(setting.is_number()).allow_hyphen_values(setting.holds_options())
    }
}

fn help(text: &str, setting: &Setting, gap: &str) -> String {
    match setting.default_shown() {
        Some(default) => format!("{text}{gap}[default: {default}]"),
        None => text.to_owned(),
    }
}

/// What a shell completes a value with.
fn hint(value_name: &str) -> ValueHint {
    match value_name {
        "FILE" => ValueHint::FilePath,
        "DIR" => ValueHint::DirPath,
        name if name.contains("DIR") || name.contains("FILE") => ValueHint::AnyPath,
        _ => ValueHint::Other,
    }
}

/// Takes any text, and offers these to shells that complete.
#[derive(Clone, Copy)]
struct Offer(&'static [&'static str]);

impl TypedValueParser for Offer {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        if self.0.is_empty() {
            None
        } else {
            Some(Box::new(self.0.iter().map(|&value| PossibleValue::new(value))))
        }
    }
}
