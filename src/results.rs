//! What a study finds out: metrics of the base and of every cell, the figures of every module, the answers.
//! Plain data; the JSON that the command line prints is these types as serde writes them.

mod experts;
mod footprint;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::experts::ModuleKind;
pub use self::footprint::{Footprint, ModelFootprint, SourceBits};
use crate::number::{self, NamedNumbers};
use crate::study::{CellSpec, Contamination};

/// Version of the JSON report.
pub const REPORT_VERSION: u32 = 2;

/// A mean with its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    #[serde(with = "number")]
    pub value: f64,
    /// Lower and upper end of the 95% interval.
    #[serde(with = "number::pair")]
    pub ci95: [f64; 2],
}

/// The value of a score on a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Id of the score.
    pub score: String,
    /// Short name of the corpus or task.
    pub data_set: String,
    /// The value.
    #[serde(with = "number")]
    pub value: f64,
    /// Lower and upper end of its 95% interval.
    #[serde(with = "number::pair")]
    pub ci95: [f64; 2],
    /// Windows of the corpus, or records of the task.
    pub n: usize,
    /// What else the score says, by name.
    pub details: NamedNumbers,
}

impl Measurement {
    /// The value with its interval.
    pub fn estimate(&self) -> Estimate {
        Estimate { value: self.value, ci95: self.ci95 }
    }
}

/// A corpus or task of a study: its short name, and which of those that have this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSetName {
    /// The short name.
    pub name: String,
    /// Which of those that have it, from 0.
    pub nth: usize,
}

/// `wikitext2`, `news#2`.
impl fmt::Display for DataSetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            0 => f.write_str(&self.name),
            nth => write!(f, "{}#{}", self.name, nth + 1),
        }
    }
}

/// Everything measured on one model, data set by data set; the base has no scores that compare with the base.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics {
    /// The values. Those of one score stand in the order of the study's data sets.
    pub values: Vec<Measurement>,
}

impl Metrics {
    /// The values of one score, one for each data set.
    pub fn of(&self, score: impl AsRef<str>) -> impl Iterator<Item = &Measurement> {
        self.values.iter().filter(move |value| value.score == score.as_ref())
    }

    /// The value of a score on the first data set that it was measured on.
    pub fn first(&self, score: impl AsRef<str>) -> Option<&Measurement> {
        self.of(score).next()
    }

    /// The value of a score on a data set.
    pub fn find(&self, score: impl AsRef<str>, data_set: &DataSetName) -> Option<&Measurement> {
        self.of(score).filter(|value| value.data_set == data_set.name).nth(data_set.nth)
    }
}

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
    /// The whole model with them: [`StudyResult::new`] works it out, nothing stores it.
    pub whole_model: Option<ModelFootprint>,
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
            whole_model: None,
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
    /// What the tensors take in the model's files; `None` in a study of a version that did not record it.
    #[serde(default)]
    pub source_bits: Option<SourceBits>,
}

impl ModelInfo {
    /// The modules of a Llama: of every model of version 0.1, which did not store them.
    pub fn llama_modules() -> Vec<String> {
        let attention = ["q", "k", "v", "o"].map(|name| format!("self_attn.{name}_proj"));
        let mlp = ["gate", "up", "down"].map(|name| format!("mlp.{name}_proj"));
        attention.into_iter().chain(mlp).collect()
    }

    /// A made-up Llama of two blocks: a thousand weights of 16 bits, 900 of them in modules.
    #[cfg(test)]
    pub(crate) fn of_two_blocks() -> Self {
        Self {
            source: "m".into(),
            architecture: "LlamaForCausalLM".into(),
            parameters: 1000,
            prunable_parameters: 900,
            modules: Self::llama_modules(),
            blocks: 2,
            vocabulary: 16,
            dtype: "BF16".into(),
            source_bits: Some(SourceBits { all: 16_000, untouched: 1600 }),
        }
    }

    /// The base as a whole; `None` where the study did not record what its tensors take.
    pub fn base_footprint(&self) -> Option<ModelFootprint> {
        Some(ModelFootprint::of_base(self.parameters, self.source_bits?))
    }

    /// A cell as a whole, given what became of its compressed modules; `None` as for the base.
    pub fn cell_footprint(&self, compressed: &Footprint) -> Option<ModelFootprint> {
        Some(ModelFootprint::of_cell(self.parameters, self.source_bits?, compressed))
    }
}

/// The base model's measurements.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BaseResult {
    /// The whole model: [`StudyResult::new`] works it out, nothing stores it.
    pub whole_model: Option<ModelFootprint>,
    /// What was measured; nothing that compares with the base.
    pub metrics: Metrics,
    /// Where the time went.
    pub seconds: Seconds,
}

/// Which score on texts ranks the cells as the tasks do.
///
/// Everything enters as damage, the more the worse: what a score of texts says is lost, what a task no longer retains of
/// the base's score, how many answers flipped. A score that tells the truth has a rank correlation near +1 with the tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RankCorrelations {
    /// Cells that entered: those with all headline scores of texts and all scores of tasks.
    pub cells: usize,
    /// What the tasks say of a cell, in the order of [`TextScoreRanks::by_task`].
    pub tasks: Vec<TaskScore>,
    /// One for each score of texts but the perplexity ratio, which ranks as perplexity does.
    pub texts: Vec<TextScoreRanks>,
}

/// A score of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskScore {
    /// Short name of the task, as the results have it.
    pub task: String,
    /// Id of the score.
    pub score: String,
}

/// How the cells' ranks by a score of texts go together with those by what the tasks say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextScoreRanks {
    /// Id of the score.
    pub score: String,
    /// Mean of its rank correlations with the task scores, −1 … 1; `None` where there is none.
    pub mean: Option<Estimate>,
    /// Spearman's rank correlation with each task score; `None` under three cells, and where all cells have the same
    /// value.
    pub by_task: Vec<Option<Estimate>>,
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
    pub rank_correlations: RankCorrelations,
    /// How much of every corpus and task stands in every calibration set; nothing of those that were last read by a
    /// version that did not look.
    #[serde(default)]
    pub contamination: Vec<Contamination>,
}

impl StudyResult {
    /// A report of what is known, with the footprints of the whole models; nothing of contamination.
    pub fn new(
        study: i64,
        model: ModelInfo,
        environment: Environment,
        mut base: BaseResult,
        mut cells: Vec<CellResult>,
        rank_correlations: RankCorrelations,
    ) -> Self {
        base.whole_model = model.base_footprint();
        for cell in &mut cells {
            cell.whole_model = cell.footprint.as_ref().and_then(|found| model.cell_footprint(found));
        }
        let contamination = Vec::new();
        Self {
            version: REPORT_VERSION,
            study,
            model,
            environment,
            base,
            cells,
            rank_correlations,
            contamination,
        }
    }
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
    /// Of a question with choices, how likely the model finds each; `text` is the most likely one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<ChoiceLikelihood>,
    /// How good it is, by every score that applies to it.
    pub scores: NamedNumbers,
}

/// How likely a model finds a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceLikelihood {
    /// The choice.
    pub text: String,
    /// `Σ ln p(token | before)` over its tokens, in nats.
    #[serde(with = "number")]
    pub log_likelihood: f64,
    /// Greedy decoding gives it.
    pub is_greedy: bool,
}
