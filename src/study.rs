//! What a user asks for: studies, cells, methods, sparsities. Plain data without any I/O.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A pruning method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Removes the smallest weights; needs no data.
    Magnitude,
    /// Weight times input norm, per output row (Sun et al., arXiv 2306.11695).
    Wanda,
    /// Second-order pruning with weight update (Frantar & Alistarh, arXiv 2301.00774).
    SparseGpt,
}

impl Method {
    /// Every method, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Magnitude, Self::Wanda, Self::SparseGpt];

    /// The name used on the command line, in files and on screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::SparseGpt => "sparsegpt",
        }
    }

    /// Whether the method looks at activations, so that a calibration set matters.
    pub fn needs_calibration(self) -> bool {
        self != Self::Magnitude
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|m| m.name() == s.trim().to_ascii_lowercase()).ok_or_else(|| {
            Error::mistake(format!("unknown method `{s}`: accepted are magnitude, wanda, sparsegpt"))
        })
    }
}

/// How much of every prunable matrix is removed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sparsity {
    /// A fraction `0 ≤ s < 1` of the weights.
    Fraction(f64),
    /// `n` zeroes in every `m` consecutive weights of a row.
    NOfM {
        /// Zeroes in a group.
        n: usize,
        /// Weights in a group.
        m: usize,
    },
}

impl Sparsity {
    /// The fraction of weights removed, `0 … 1`.
    pub fn fraction(self) -> f64 {
        match self {
            Self::Fraction(s) => s,
            Self::NOfM { n, m } => n as f64 / m as f64,
        }
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fraction(s) => f.pad(&s.to_string()),
            Self::NOfM { n, m } => f.pad(&format!("{n}:{m}")),
        }
    }
}

impl FromStr for Sparsity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let accepted = "accepted are a fraction 0 <= s < 1 (0.5 or 50%) or N:M with N < M (2:4)";
        let wrong = || Error::mistake(format!("sparsity `{text}`: {accepted}"));
        let s = text.trim();
        if let Some((n, m)) = s.split_once(':') {
            let n: usize = n.trim().parse().map_err(|_| wrong())?;
            let m: usize = m.trim().parse().map_err(|_| wrong())?;
            return if n < m { Ok(Self::NOfM { n, m }) } else { Err(wrong()) };
        }
        let value = match s.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0,
            None => s.parse().map_err(|_| wrong())?,
        };
        if (0.0..1.0).contains(&value) { Ok(Self::Fraction(value)) } else { Err(wrong()) }
    }
}

impl Serialize for Sparsity {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sparsity {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One compressed variant of the base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellSpec {
    /// How it is pruned.
    pub method: Method,
    /// How much is removed.
    pub sparsity: Sparsity,
    /// The calibration set (a name or a path, as the user gave it); `None` for a method without data.
    pub calibration: Option<String>,
    /// Seed of the calibration sampling.
    pub seed: u64,
}

impl CellSpec {
    /// A name that is unique within a study and safe as a file name: `wanda-0.5-c4_sample-s0`.
    pub fn id(&self) -> String {
        let sparsity = self.sparsity.to_string().replace(':', "of");
        match &self.calibration {
            None => format!("{}-{sparsity}", self.method),
            Some(set) => format!("{}-{sparsity}-{}-s{}", self.method, short_name(set), self.seed),
        }
    }

    /// The name people read: `wanda 50% c4_sample`.
    pub fn label(&self) -> String {
        let sparsity = match self.sparsity {
            Sparsity::Fraction(s) => format!("{}%", (s * 1e6).round() / 1e4),
            nm @ Sparsity::NOfM { .. } => nm.to_string(),
        };
        match &self.calibration {
            None => format!("{} {sparsity}", self.method),
            Some(set) => format!("{} {sparsity} {}", self.method, short_name(set)),
        }
    }
}

/// The name of a data set without folders and extensions: `../data/c4_sample.txt` is `c4_sample`.
/// Only characters that are safe in file names are kept.
pub fn short_name(set: &str) -> String {
    let file = set.rsplit(['/', '\\']).next().unwrap_or(set);
    let mut stem = file;
    for extension in [".gz", ".txt", ".jsonl", ".json", ".parquet"] {
        stem = stem.strip_suffix(extension).unwrap_or(stem);
    }
    let safe: String =
        stem.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    if safe.is_empty() { "data".into() } else { safe }
}

/// How calibration windows are drawn from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// As the references do: random documents longer than a window at a random offset; or random windows of one text.
    #[default]
    Random,
    /// Consecutive windows from the start of the text.
    Head,
}

impl FromStr for Sampling {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "random" => Ok(Self::Random),
            "head" => Ok(Self::Head),
            _ => Err(Error::mistake(format!("unknown sampling `{s}`: accepted are random, head"))),
        }
    }
}

/// Which token windows the activation statistics come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSpec {
    /// Data sets: names that resolve on the hub, or files.
    pub sets: Vec<String>,
    /// Windows drawn from each.
    pub samples: usize,
    /// How they are drawn.
    pub sampling: Sampling,
}

/// What base and cells are measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationSpec {
    /// Texts for perplexity and divergence.
    pub corpora: Vec<String>,
    /// At most so many windows of each text.
    pub max_windows: Option<usize>,
    /// Task files.
    pub tasks: Vec<String>,
    /// At most so many records of each task file.
    pub task_limit: Option<usize>,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// A prompt template of the study's own, with `{instruction}` and `{input}`; overrides the model's.
    pub prompt: Option<String>,
    /// Whether to measure how far base and cell disagree at each token of the cell's answers.
    #[serde(default = "yes")]
    pub disagreement: bool,
}

/// Studies of before that choice are gone on with as new ones are.
fn yes() -> bool {
    true
}

/// The pattern of all modules, whatever they are called.
pub const ALL_MODULES: &str = "*";

/// How the methods are to work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruneSpec {
    /// Which modules are pruned: names, paths or patterns of the model's layout, such as `q_proj` and `mlp.*`.
    pub modules: Vec<String>,
    /// First and one past the last block that is pruned; `None` is all of them.
    pub blocks: Option<(usize, usize)>,
    /// SparseGPT: share of the Hessian's mean diagonal that is added to its diagonal.
    pub damping: f64,
    /// SparseGPT: columns solved together.
    pub block_size: usize,
    /// One factor per block by which a cell's fraction is multiplied (a file of numbers).
    pub profile: Option<PathBuf>,
}

impl Default for PruneSpec {
    fn default() -> Self {
        Self {
            modules: vec![ALL_MODULES.to_owned()],
            blocks: None,
            damping: 0.01,
            block_size: 128,
            profile: None,
        }
    }
}

/// Where tensors live and what they are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeSpec {
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// `auto`, `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// Tokens that go through a block at once; bounds the memory for activations.
    pub batch_tokens: usize,
    /// Prompts answered together.
    pub batch_prompts: usize,
}

/// A study: one base model, one set of evaluation data, a list of cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudySpec {
    /// Folder or hub id, as the user gave it.
    pub model: String,
    /// The grid, already multiplied out.
    pub cells: Vec<CellSpec>,
    /// Length of calibration and evaluation windows, in tokens.
    pub seq_len: usize,
    /// Calibration data.
    pub calibration: CalibrationSpec,
    /// Evaluation data.
    pub evaluation: EvaluationSpec,
    /// Choices of the methods.
    pub prune: PruneSpec,
    /// Device and precision.
    pub compute: ComputeSpec,
    /// Seed of every random choice.
    pub seed: u64,
}

/// Multiplies a grid out: every method at every sparsity, methods that need data once per calibration set.
pub fn grid(methods: &[Method], sparsities: &[Sparsity], sets: &[String], seed: u64) -> Vec<CellSpec> {
    let mut cells: Vec<CellSpec> = Vec::new();
    for &method in methods {
        let sets: Vec<Option<String>> =
            if method.needs_calibration() { sets.iter().cloned().map(Some).collect() } else { vec![None] };
        for calibration in sets {
            for &sparsity in sparsities {
                let cell = CellSpec { method, sparsity, calibration: calibration.clone(), seed };
                if !cells.iter().any(|c| c.id() == cell.id()) {
                    cells.push(cell);
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparsities_that_make_sense_are_accepted_and_shown_as_given() {
        for (text, shown, fraction) in [
            ("0.5", "0.5", 0.5),
            ("50%", "0.5", 0.5),
            ("0", "0", 0.0),
            ("2:4", "2:4", 0.5),
            ("3:4", "3:4", 0.75),
        ] {
            let s: Sparsity = text.parse().unwrap();
            assert_eq!(s.to_string(), shown);
            assert!((s.fraction() - fraction).abs() < 1e-12);
        }
    }

    #[test]
    fn sparsities_that_make_none_name_themselves_and_what_is_accepted() {
        for text in ["1.0", "-0.1", "4:2", "4:4", "nan", "inf", "half", ":", "2:", "100%", ""] {
            let message = text.parse::<Sparsity>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{text}`")) && message.contains("2:4"), "{message}");
        }
    }

    #[test]
    fn a_grid_repeats_only_methods_that_look_at_data() {
        let sets = ["x/c4.txt".to_string(), "alpaca".to_string()];
        let cells = grid(&Method::ALL, &[Sparsity::Fraction(0.5), Sparsity::NOfM { n: 2, m: 4 }], &sets, 7);
        assert_eq!(cells.len(), 2 + 4 + 4);
        assert_eq!(cells[0].id(), "magnitude-0.5");
        assert_eq!(cells[2].id(), "wanda-0.5-c4-s7");
        assert_eq!(cells[3].label(), "wanda 2:4 c4");
    }

    #[test]
    fn names_of_data_sets_lose_folders_and_extensions() {
        assert_eq!(short_name("../shared/data/text/c4_sample.txt"), "c4_sample");
        assert_eq!(short_name("a/b.jsonl.gz"), "b");
        assert_eq!(short_name("wikitext2"), "wikitext2");
        assert_eq!(short_name("my file?.txt"), "my_file_");
    }
}
