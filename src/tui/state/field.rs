//! The fields of the form.

use crate::config::{FormField, Setting, setting};

/// A field of the form; each is also a flag of `secateur run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the flags are")]
pub(crate) enum Field {
    Model,
    Device,
    Dtype,
    Calibration,
    Samples,
    Sampling,
    SeqLen,
    Corpora,
    MaxWindows,
    Score,
    Tasks,
    TaskLimit,
    Shots,
    MaxNewTokens,
    Seed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// A text or a list with commas.
    Text,
    Choice(&'static [&'static str]),
}

impl Field {
    /// All fields, in the order of the form.
    pub(crate) const ALL: [Self; 15] = [
        Self::Model,
        Self::Device,
        Self::Dtype,
        Self::Calibration,
        Self::Samples,
        Self::Sampling,
        Self::SeqLen,
        Self::Corpora,
        Self::MaxWindows,
        Self::Score,
        Self::Tasks,
        Self::TaskLimit,
        Self::Shots,
        Self::MaxNewTokens,
        Self::Seed,
    ];

    pub(crate) fn setting(self) -> Option<&'static Setting> {
        setting(&self.flag()[2..])
    }

    /// How the form shows that setting.
    pub(crate) fn shown(self) -> Option<&'static FormField> {
        self.setting().and_then(Setting::form)
    }

    pub(crate) fn label(self) -> &'static str {
        self.shown().map_or("", |field| field.label)
    }

    pub(crate) fn hint(self) -> &'static str {
        self.shown().map_or("", |field| field.hint)
    }

    /// The flag of the command line, as mistakes name it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Model => "--model",
            Self::Device => "--device",
            Self::Dtype => "--dtype",
            Self::Calibration => "--calibration",
            Self::Samples => "--calibration-samples",
            Self::Sampling => "--sampling",
            Self::SeqLen => "--seq-len",
            Self::Corpora => "--corpus",
            Self::MaxWindows => "--max-windows",
            Self::Score => "--score",
            Self::Tasks => "--tasks",
            Self::TaskLimit => "--task-limit",
            Self::Shots => "--shots",
            Self::MaxNewTokens => "--max-new-tokens",
            Self::Seed => "--seed",
        }
    }

    /// The field of a flag, which is given without its dashes.
    pub(crate) fn of_flag(flag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| &field.flag()[2..] == flag)
    }

    pub(crate) fn kind(self) -> FieldKind {
        match self.setting().map_or(&[][..], Setting::choices) {
            [] => FieldKind::Text,
            choices => FieldKind::Choice(choices),
        }
    }
}
