//! The fields of the form.

/// A field of the form; each is also a flag of `secateur run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the flags are")]
pub enum Field {
    Model,
    Device,
    Dtype,
    Calibration,
    Samples,
    Sampling,
    SeqLen,
    Corpora,
    MaxWindows,
    Tasks,
    TaskLimit,
    MaxNewTokens,
    Seed,
}

/// How a field is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A text or a list with commas.
    Text,
    /// One of these.
    Choice(&'static [&'static str]),
}

impl Field {
    /// All fields, in the order of the form.
    pub const ALL: [Self; 13] = [
        Self::Model,
        Self::Device,
        Self::Dtype,
        Self::Calibration,
        Self::Samples,
        Self::Sampling,
        Self::SeqLen,
        Self::Corpora,
        Self::MaxWindows,
        Self::Tasks,
        Self::TaskLimit,
        Self::MaxNewTokens,
        Self::Seed,
    ];

    /// What stands before it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Device => "device",
            Self::Dtype => "precision",
            Self::Calibration => "calibration",
            Self::Samples => "samples",
            Self::Sampling => "sampling",
            Self::SeqLen => "window",
            Self::Corpora => "texts",
            Self::MaxWindows => "max windows",
            Self::Tasks => "tasks",
            Self::TaskLimit => "task limit",
            Self::MaxNewTokens => "answer tokens",
            Self::Seed => "seed",
        }
    }

    /// A word on what goes in.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Model => "Hugging Face folder or hub id",
            Self::Device => "auto, cpu, cuda or cuda:N",
            Self::Dtype => "auto: f32 on cpu, bf16 on cuda",
            Self::Calibration => "c4, wikitext2, alpaca or files, with commas",
            Self::Samples => "windows drawn from each calibration set",
            Self::Sampling => "random, or head: from the start",
            Self::SeqLen => "tokens of a window",
            Self::Corpora => "texts for perplexity and JS, with commas",
            Self::MaxWindows => "windows of each text; 0 is all",
            Self::Tasks => "task files, with commas; empty: none",
            Self::TaskLimit => "records of each task; 0 is all",
            Self::MaxNewTokens => "longest answer",
            Self::Seed => "of every random choice",
        }
    }

    /// The flag of the command line, as mistakes name it.
    pub fn flag(self) -> &'static str {
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
            Self::Tasks => "--tasks",
            Self::TaskLimit => "--task-limit",
            Self::MaxNewTokens => "--max-new-tokens",
            Self::Seed => "--seed",
        }
    }

    /// How it is filled in.
    pub fn kind(self) -> FieldKind {
        match self {
            Self::Device => FieldKind::Choice(&["auto", "cpu", "cuda"]),
            Self::Dtype => FieldKind::Choice(&["auto", "f32", "bf16", "f16"]),
            Self::Sampling => FieldKind::Choice(&["random", "head"]),
            _ => FieldKind::Text,
        }
    }
}
