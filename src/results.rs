//! What a study finds out: metrics of the base and of every cell, the figures of every module, the answers.
//! Plain data; the JSON that the command line prints is these types as serde writes them.

use serde::{Deserialize, Serialize};

use crate::number::{self, NamedNumbers};
pub use crate::scores::{Correlation, Estimate, Insight, Measurement, Metrics};
use crate::study::CellSpec;

/// Version of the JSON report.
pub const REPORT_VERSION: u32 = 2;

/// What a module's reconstruction error was measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorBasis {
    /// `‖ΔW·X‖²/‖W·X‖²` with the full Hessian of the calibration inputs.
    Hessian,
    /// The same with the Hessian's diagonal only (all that Wanda collects).
    ColumnNorms,
    /// `‖ΔW‖²/‖W‖²`, for a method without data.
    Weights,
}

/// What became of weights: how many there are, how many are zero, how many bits they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Footprint {
    /// Weights in all, zeros among them.
    pub weights: u64,
    /// Weights that are zero, counted.
    pub zeros: u64,
    /// Bits, as the best export of this program stores them.
    pub stored_bits: u64,
    /// Bits with one a weight that says whether it is zero, and nothing else for those that are. No runtime reaches
    /// this bound for unstructured zeros.
    pub packed_bits: u64,
}

impl Footprint {
    /// The share of zeros, `0 … 1`; 0 where there are no weights.
    pub fn sparsity(&self) -> f64 {
        self.zeros as f64 / (self.weights as f64).max(1.0)
    }

    /// Stored bits a weight.
    pub fn bits_per_weight(&self) -> f64 {
        self.stored_bits as f64 / (self.weights as f64).max(1.0)
    }
}

impl std::iter::Sum for Footprint {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |a, b| Self {
            weights: a.weights + b.weights,
            zeros: a.zeros + b.zeros,
            stored_bits: a.stored_bits + b.stored_bits,
            packed_bits: a.packed_bits + b.packed_bits,
        })
    }
}

/// What pruning did to one module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleResult {
    /// Block number, from 0.
    pub block: usize,
    /// Full name: `model.layers.3.mlp.up_proj`.
    pub name: String,
    /// What became of the matrix.
    pub footprint: Footprint,
    /// Relative squared error of the module's output; see `error_basis`.
    #[serde(with = "number")]
    pub reconstruction_error: f64,
    /// What the error was measured with.
    pub error_basis: ErrorBasis,
    /// Input features that were zero in every calibration token.
    pub dead_columns: usize,
    /// Numbers that only the method has, by name: `damping`.
    #[serde(default)]
    pub details: NamedNumbers,
    /// Seconds spent on the module.
    pub seconds: f64,
}

impl ModuleResult {
    /// The module's path within its block: `mlp.up_proj`.
    pub fn path(&self) -> &str {
        self.name.split_once(&format!(".{}.", self.block)).map_or(self.name.as_str(), |(_, path)| path)
    }
}

/// Where a cell's time went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// Reading weights.
    pub load: f64,
    /// Forward passes over the calibration windows, with their statistics.
    pub calibrate: f64,
    /// Choosing and updating weights.
    pub prune: f64,
    /// Perplexity and divergences.
    pub evaluate: f64,
    /// Task answers.
    pub answer: f64,
}

impl Seconds {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.load + self.calibrate + self.prune + self.evaluate + self.answer
    }
}

/// How far a cell has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellState {
    /// Waiting for its turn.
    Queued,
    /// Being worked on.
    Running,
    /// Complete.
    Done,
    /// Stopped by the user; can be resumed.
    Cancelled,
    /// Stopped by an error.
    Failed,
}

impl CellState {
    /// The word for it, for people and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// One cell with all that was found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// Name that is unique within the study.
    pub id: String,
    /// What was asked for.
    #[serde(flatten)]
    pub spec: CellSpec,
    /// How far it has come.
    pub state: CellState,
    /// What became of all compressed modules together.
    pub footprint: Option<Footprint>,
    /// Measurements so far.
    pub metrics: Metrics,
    /// Where the time went.
    pub seconds: Seconds,
    /// Highest resident memory of the process up to the cell's end, in bytes.
    pub peak_rss_bytes: u64,
    /// What a person should know about this cell.
    pub warnings: Vec<String>,
    /// Every pruned module.
    pub modules: Vec<ModuleResult>,
}

impl CellResult {
    /// A cell nothing is known about yet.
    pub fn queued(spec: &CellSpec) -> Self {
        Self {
            id: spec.id(),
            spec: spec.clone(),
            state: CellState::Queued,
            footprint: None,
            metrics: Metrics::default(),
            seconds: Seconds::default(),
            peak_rss_bytes: 0,
            warnings: Vec::new(),
            modules: Vec::new(),
        }
    }
}

/// The model a study is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Folder or hub id, as given.
    pub source: String,
    /// `LlamaForCausalLM`, …
    pub architecture: String,
    /// All parameters; a tied head counts once.
    pub parameters: u64,
    /// Parameters of the modules that can be pruned.
    pub prunable_parameters: u64,
    /// Paths of these modules within a block, in the order in which a pass reaches them: `self_attn.q_proj`.
    #[serde(default = "ModelInfo::llama_modules")]
    pub modules: Vec<String>,
    /// Decoder blocks.
    pub blocks: usize,
    /// Vocabulary size.
    pub vocabulary: usize,
    /// Precision of the weights on disk: `BF16`, `F16`, `F32`.
    pub dtype: String,
}

impl ModelInfo {
    /// The modules of a Llama: of every model of version 0.1, which did not store them.
    pub fn llama_modules() -> Vec<String> {
        let attention = ["q", "k", "v", "o"].map(|name| format!("self_attn.{name}_proj"));
        let mlp = ["gate", "up", "down"].map(|name| format!("mlp.{name}_proj"));
        attention.into_iter().chain(mlp).collect()
    }
}

/// The base model's measurements.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BaseResult {
    /// What was measured; nothing that compares with the base.
    pub metrics: Metrics,
    /// Where the time went.
    pub seconds: Seconds,
}

/// The machine and build that a study ran on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this program.
    pub version: String,
    /// `cpu`, `cuda:0`, …
    pub device: String,
    /// What tensors are made of while computing.
    pub compute_dtype: String,
    /// Worker threads.
    pub threads: usize,
    /// Operating system and architecture.
    pub platform: String,
}

/// A whole study: the JSON report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyResult {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Number of the study in its store.
    pub study: i64,
    /// The model.
    pub model: ModelInfo,
    /// The machine.
    pub environment: Environment,
    /// The base.
    pub base: BaseResult,
    /// Every cell, in the order of the grid.
    pub cells: Vec<CellResult>,
    /// Which metric tells the truth.
    pub insight: Insight,
}

/// One model's answer to one task record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Short name of the task file.
    pub task: String,
    /// Record number in the task file, from 0.
    pub record: usize,
    /// Record's instruction and input, as shown to people.
    pub prompt: String,
    /// Accepted answers.
    pub references: Vec<String>,
    /// What the model said, trimmed.
    pub text: String,
    /// Tokens it said, without the end-of-sequence token.
    pub tokens: Vec<u32>,
    /// The text of each token, as many as there are tokens. Put together they are what the model said, before it was
    /// trimmed: a token that ends within a character has none, and the one that completes the character has all of it.
    pub pieces: Vec<String>,
    /// How far base and cell disagreed on each token: the JS divergence of their next-token distributions where it was
    /// chosen, in bits, `0 … 1`. Empty where that was not measured, as for the base's own answers.
    #[serde(with = "number::list")]
    pub disagreement_bits: Vec<f32>,
    /// How good it is, by every score of answers: `0 … 1`, each the best over the references.
    pub scores: NamedNumbers,
}
